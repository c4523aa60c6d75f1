"""Loops that are compiled once and kept."""

import io
import os
import subprocess
import sys

import numpy as np
import pytest

from npde_opt import compiling
from npde_opt.errors import InputError
from npde_opt.runs.monitor import Monitor

SOURCE = """def twice(x, out):
    for i in range(x.size):
        out[i] = 2 * x[i] + math.floor(0.5)
"""
SCRIPT = """
import sys, numpy as np
from npde_opt.compiling import compiled_source
out = np.zeros(3)
twice = compiled_source(sys.stdin.read(), "twice")
twice(np.arange(3.0), out)
assert list(out) == [0, 2, 4]
stats = twice.stats
print(len(stats.cache_hits), len(stats.cache_misses))
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    return tmp_path


def run(folder):
    """What another process found in the store, and had to compile."""
    given = os.environ | {"XDG_CACHE_HOME": str(folder)}
    command = [sys.executable, "-c", SCRIPT]
    done = subprocess.run(
        command, input=SOURCE, env=given, capture_output=True, text=True, check=True
    )
    return done.stdout.split()


def test_a_second_process_finds_what_the_first_compiled(folder):
    assert run(folder) == ["0", "1"]
    assert run(folder) == ["1", "0"]
    assert len(list((folder / compiling.FOLDER).glob("*.py"))) == 1


def test_damaged_machine_code_is_made_again(folder):
    run(folder)
    for file in (folder / compiling.FOLDER / "__pycache__").glob("*.nbc"):
        file.write_bytes(b"no code")
    assert run(folder) == ["0", "1"]


def called(source):
    out = np.zeros(3)
    compiling.compiled_source(source, "twice")(np.arange(3.0), out)
    return list(out)


def test_a_folder_that_cannot_be_written_does_not_matter(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert called(SOURCE) == [0, 2, 4]


def test_a_damaged_source_is_written_again(folder):
    assert called(SOURCE) == [0, 2, 4]
    (kept,) = (folder / compiling.FOLDER).glob("*.py")
    kept.write_text("def twice(x, out):\n    out[0] = 1 / 0\n")
    assert called(SOURCE) == [0, 2, 4]


def test_a_full_disk_does_not_end_the_run(folder, monkeypatch):
    from numba.core.caching import FunctionCache

    def full(self, *given):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(FunctionCache, "save_overload", full)
    monkeypatch.setattr(FunctionCache, "load_overload", full)
    assert called(SOURCE) == [0, 2, 4]


SAYING = """
import sys, numpy as np
from npde_opt.compiling import announced_by, compiled_source
assert announced_by(print) is None and "numba" not in sys.modules
out = np.zeros(3)
source = sys.stdin.read()
for name in ("twice", "thrice"):
    compiled_source(source.replace("twice", name), name)(np.arange(3.0), out)
"""


def test_whoever_asks_is_told_once_that_loops_are_compiled(tmp_path):
    """And not where they are found."""

    def said():
        kept = {"NUMBA_CACHE_DIR": str(tmp_path / "numba")}
        given = os.environ | {"XDG_CACHE_HOME": str(tmp_path)} | kept
        command = [sys.executable, "-c", SAYING]
        done = subprocess.run(
            command, input=SOURCE, env=given, capture_output=True, text=True, check=True
        )
        return done.stdout.splitlines()

    (line,) = said()
    assert line.startswith("compiling loops for this machine, once: ")
    assert str(tmp_path / "numba") in line
    assert said() == []


def test_a_run_says_that_loops_are_compiled_in_its_own_way(monkeypatch):
    own = list[str]()
    assert compiling.announced_by(own.append) is None
    stream = io.StringIO()
    with Monitor(stream=stream, live=False):
        assert compiling._say is not None
        compiling._say("compiling")
    assert "compiling" in stream.getvalue() and not own
    assert compiling.announced_by(None) == own.append


def test_loops_that_are_not_to_be_compiled_are_an_error(folder, monkeypatch):
    monkeypatch.setattr("numba.config.DISABLE_JIT", 1)
    with pytest.raises(InputError, match="NUMBA_DISABLE_JIT: got 1; allowed: unset"):
        compiling.compiled_source(SOURCE, "twice")

"""What one process of a machine makes and the others wait for."""

import os
import subprocess
import sys
import uuid

import pytest

from npde_opt import turns

SCRIPT = """
import sys
from pathlib import Path
from npde_opt import turns
key, file = sys.argv[1], Path(sys.argv[2])
def find():
    print("looked", flush=True)
    return file.read_text() if file.exists() else None
found = turns.found_or_turn(key, find, lambda: print("waits", flush=True))
if found is None:
    print("makes", flush=True)
    if sys.stdin.readline() == "keep\\n":
        file.write_text("made")
    turns.over(key)
else:
    print(found, flush=True)
sys.stdin.readline()
"""
COMPILES = """
import sys, numpy as np
from npde_opt.compiling import compiled_source
twice = compiled_source("def twice(x, out):\\n    out[0] = 2 * x[0]\\n", "twice")
print("ready", flush=True)
sys.stdin.readline()
out = np.zeros(3)
twice(np.arange(1.0, 4.0), out)
assert out[0] == 2
print(len(twice.stats.cache_misses))
"""


class Other:
    """A process that makes something, or finds it."""

    def __init__(self, script, *given):
        self.process = subprocess.Popen(
            [sys.executable, "-c", script, *map(str, given)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def says(self):
        return self.process.stdout.readline().strip()

    def says_at_last(self):
        """Without looks."""
        said = self.says()
        while said in ("looked", "waits"):
            said = self.says()
        return said

    def hears(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()


@pytest.fixture
def starts():
    begun = []

    def start(*given):
        begun.append(Other(*given))
        return begun[-1]

    yield start
    for other in begun:
        other.process.kill()
        other.process.communicate()


@pytest.fixture
def given(tmp_path):
    """A key, and the file with what is made."""
    return uuid.uuid4().hex, tmp_path / "made"


def waiting(starts, given):
    other = starts(SCRIPT, *given)
    assert [other.says(), other.says()] == ["looked", "waits"]
    return other


def test_one_process_makes_what_two_miss(starts, given):
    first = starts(SCRIPT, *given)
    assert first.says_at_last() == "makes"
    second = waiting(starts, given)
    first.hears("keep")
    assert second.says_at_last() == "made"


def test_who_dies_ends_its_turn(starts, given):
    first = starts(SCRIPT, *given)
    assert first.says_at_last() == "makes"
    second = waiting(starts, given)
    first.process.kill()
    assert second.says_at_last() == "makes"


def test_what_cannot_be_kept_all_make_at_the_same_time(starts, given):
    first = starts(SCRIPT, *given)
    assert first.says_at_last() == "makes"
    others = [waiting(starts, given) for _ in range(2)]
    first.hears("do not")
    assert [other.says_at_last() for other in others] == ["makes", "makes"]


def test_nobody_waits_for_ever(starts, given, monkeypatch):
    assert starts(SCRIPT, *given).says_at_last() == "makes"
    monkeypatch.setattr(turns, "_waited_in_vain", False)
    monkeypatch.setattr(turns, "PATIENCE", 0.1)
    looks, waits = [], []

    def look():
        looks.append(1)

    def call():
        return turns.found_or_turn(given[0], look, lambda: waits.append(1))

    assert call() is None and len(looks) == 2 and len(waits) == 1
    # Not for the next one, either.
    assert call() is None and len(looks) == 3 and len(waits) == 1


def test_without_a_file_nobody_waits(given, monkeypatch, tmp_path):
    monkeypatch.setattr(turns, "_file", lambda: None)
    assert turns.found_or_turn(given[0], lambda: None, pytest.fail) is None
    turns.over(given[0])
    monkeypatch.undo()
    # A folder in its place.
    (tmp_path / f"npde_opt_{os.getuid()}.turns").mkdir()
    monkeypatch.setattr(turns, "MEMORY", tmp_path)
    assert turns._file.__wrapped__() is None


def test_one_of_three_processes_compiles(starts, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    others = [starts(COMPILES) for _ in range(3)]
    assert [other.says() for other in others] == ["ready"] * 3
    for other in others:
        other.hears("")
    assert sorted(other.says() for other in others) == ["0", "0", "1"]

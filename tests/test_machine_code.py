"""Loops whose machine code is loaded without numba."""

import subprocess
import sys

import numpy as np
import pytest

from npde_opt import machine_code
from npde_opt.machine_code import Kept

LOOPS = """
from npde_opt.compiling import compiled


@compiled
def scaled(x, factors, out):
    for i in range(x.shape[0]):
        for j in range(x.shape[1]):
            out[i, j] = factors[i] * x[i, j]
    return x.shape[0]
"""
AGAIN = """
import sys
import numpy as np
from npde_opt.machine_code import Kept

out = np.zeros((2, 3))
said = Kept("loops_of_a_test", "scaled", True)(np.ones((2, 3)), np.array([2, 3]), out)
assert "numba" not in sys.modules and "loops_of_a_test" not in sys.modules
print(said, out.sum())
"""


@pytest.fixture
def kept(tmp_path, monkeypatch):
    """A loop that no process has compiled, in a folder of its own."""
    (tmp_path / "loops_of_a_test.py").write_text(LOOPS)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=":")
    monkeypatch.syspath_prepend(tmp_path)
    yield Kept("loops_of_a_test", "scaled", True)
    sys.modules.pop("loops_of_a_test", None)


def scaled(loop, x):
    """What it returns and sets, of x and the factors 2 and 3."""
    out = np.zeros(x.shape)
    return loop(x, np.array([2, 3]), out), out


def test_other_processes_load_it_without_numba(kept):
    x = np.arange(6.0).reshape(2, 3)
    rows, out = scaled(kept, x)
    assert rows == 2
    np.testing.assert_array_equal(out, x * [[2], [3]])
    done = subprocess.run([sys.executable, "-c", AGAIN], capture_output=True, text=True)
    assert done.stdout == "2 15.0\n", done.stderr
    # Columns of another array lie apart: the compiled function takes them.
    _, out = scaled(kept, np.arange(12.0).reshape(2, 6)[:, ::2])
    np.testing.assert_array_equal(out, [[0, 4, 8], [18, 24, 30]])
    (path,) = machine_code.folder().glob("*.code")
    path.write_bytes(path.read_bytes()[:-9])
    again = Kept("loops_of_a_test", "scaled", True)
    assert scaled(again, x)[0] == 2  # damaged: made again
    assert machine_code._kept(path, again._place((("d", 2), ("l", 1), ("d", 2)))[1])


def test_without_numbas_insides_the_compiled_function_is_called(kept, monkeypatch):
    def changed(*given):
        raise AttributeError("_library")

    monkeypatch.setattr(Kept, "_compiled", changed)
    assert scaled(kept, np.ones((2, 3)))[0] == 2
    assert not list(machine_code.folder().glob("*.code"))

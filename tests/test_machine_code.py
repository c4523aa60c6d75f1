"""Loops whose machine code is loaded without numba."""

import gc
import subprocess
import sys
import weakref

import numpy as np
import pytest

from npde_opt import lazily, machine_code
from npde_opt.machine_code import Kept, Repeated

LOOPS = """
import numpy as np

from npde_opt.compiling import compiled


@compiled
def scaled(x, factors, out):
    for i in range(x.shape[0]):
        for j in range(x.shape[1]):
            out[i, j] = factors[i] * x[i, j]
    return x.shape[0]


@compiled
def summed(parts, weight, more, out):
    fields, (count, doubled) = parts
    total = 0.0
    for field in fields:
        for i in range(count):
            total += field[i]
    out[0] = weight
    return (2.0 if doubled else 1.0) * weight * total + more


@compiled
def allocating(x):
    return np.cumsum(x)[-1]
"""
AGAIN = """
import sys
import numpy as np
from npde_opt.machine_code import Kept

out = np.zeros((2, 3))
said = Kept("loops_of_a_test", "scaled", int)(np.ones((2, 3)), np.array([2, 3]), out)
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
    yield Kept("loops_of_a_test", "scaled", int)
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
    again = Kept("loops_of_a_test", "scaled", int)
    assert scaled(again, x)[0] == 2  # damaged: made again
    assert machine_code._kept(path, again._place((("d", 2), ("l", 1), ("d", 2)))[1])


def test_what_another_version_of_this_file_kept_is_made_again(kept, monkeypatch):
    """It reads another table."""
    x = np.ones((2, 3))
    scaled(kept, x)
    path, said = kept._place((("d", 2), ("l", 1), ("d", 2)))
    assert machine_code._kept(path, said) is not None
    monkeypatch.setattr(machine_code, "__file__", lazily.__file__)
    again, other = kept._place((("d", 2), ("l", 1), ("d", 2)))
    assert again == path and machine_code._kept(path, other) is None


def test_without_numbas_insides_the_compiled_function_is_called(kept, monkeypatch):
    def changed(*given):
        raise AttributeError("_library")

    monkeypatch.setattr(Kept, "_compiled", changed)
    assert scaled(kept, np.ones((2, 3)))[0] == 2
    assert not list(machine_code.folder().glob("*.code"))


def test_numbers_in_another_order_of_bytes_are_not_read_as_their_own(kept):
    factors, field = np.array([2, 3]), np.ones((2, 3))
    swapped = field.astype(field.dtype.newbyteorder())
    assert kept.native([field, factors, field]) is not None
    assert kept.native([swapped, factors, field]) is None


@pytest.fixture
def summed(kept):
    """Of the first numbers of two arrays, in single precision or double."""
    return Kept("loops_of_a_test", "summed", float)


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize("number", [float, np.float32])
def test_numbers_and_tuples_are_taken(summed, monkeypatch, native, number):
    if not native:
        monkeypatch.setattr(Kept, "_native", lambda self, kinds: None)
    fields = np.arange(3.0), np.array([10.0, 20.0, 30.0])
    out = np.zeros(1)
    for doubled in (False, True):
        given = (fields, (2, doubled)), number(0.1), -0.5, out
        assert summed(*given) == (1 + doubled) * float(number(0.1)) * 31 - 0.5
        assert out[0] == float(number(0.1))
    assert (summed.native(given) is not None) == native
    bound = summed.bound(*given)
    assert bound() == 2 * float(number(0.1)) * 31 - 0.5
    more = np.zeros(1)
    bound.put(3, more)
    assert bound() == 2 * float(number(0.1)) * 31 - 0.5 and more[0] == out[0]


@pytest.mark.parametrize("done", [True, False])
def test_what_a_signal_leaves_half_done_is_done_again(summed, monkeypatch, done):
    """Before an argument is in the table, or right after."""
    sums, fields = Repeated(summed), ((np.ones(2), np.ones(2)), (2, False))
    one, other = np.zeros(1), np.zeros(1)
    assert sums(fields, 1.0, 0.0, one) == 4
    put = machine_code.Table.put

    def stopped(table, k, argument):
        if done:
            put(table, k, argument)
        raise KeyboardInterrupt

    for given in (one, other):
        with monkeypatch.context() as changed:
            changed.setattr(machine_code.Table, "put", stopped)
            with pytest.raises(KeyboardInterrupt):
                sums(fields, 1.0, 0.0, other)
        given[:] = 0
        assert sums(fields, 3.0, 0.0, given) == 12 and given[0] == 3


@pytest.mark.parametrize("native", [True, False])
def test_repeated_calls_follow_what_they_are_given(summed, monkeypatch, native):
    if not native:
        monkeypatch.setattr(Kept, "_native", lambda self, kinds: None)
    sums, out = Repeated(summed), np.zeros(1)
    one, other = (np.ones(2), np.ones(2)), (np.ones(2), np.full(2, 3.0))
    here, both = (one, (2, False)), (other, (2, False))
    assert sums(here, 1.0, 0.0, out) == 4
    assert sums(here, 2.0, 0.5, out) == 8.5
    assert sums(both, 2.0, 0.5, out) == 16.5
    one[0][0] = 2.0
    assert sums(here, np.float32(0.5), 0.0, out) == 2.5
    assert sums(here, 1.0, 0.0, np.zeros(5)[::2]) == 5
    again = np.zeros(1)
    assert sums(here, 3.0, 0.0, again) == 15 and again[0] == 3 and out[0] == 0.5
    assert sums((one, (1, True)), 1.0, 0.0, again) == 6


def test_repeated_calls_keep_no_array(kept):
    x, out = np.ones((2, 2)), np.zeros((2, 2))
    again, there = Repeated(kept), weakref.ref(x)
    again(x, np.array([2, 3]), out)
    del x
    gc.collect()
    assert there() is None
    # Another array may lie where the first one lay.
    assert again(np.full((2, 2), 4.0), np.array([2, 3]), out) == 2
    np.testing.assert_array_equal(out, [[8, 8], [12, 12]])
    assert again(np.ones((1, 2)), np.array([5]), np.zeros((1, 2))) == 1


def test_what_needs_numba_is_not_kept(kept):
    loop = Kept("loops_of_a_test", "allocating", float)
    x = np.arange(4.0)
    with pytest.raises(LookupError, match="NRT_"):
        loop._compiled((("d", 1),))
    assert loop(x) == 6.0 and loop.native((x,)) is None
    assert not list(machine_code.folder().glob("allocating*"))


SOLVED = """
import sys
import numpy as np
from npde_opt.grids import Grid
from npde_opt.linear import LinearSolver
from npde_opt.regularizers import BiLaplacian

for shape in ((96, 96), (24, 24, 24)):
    grid = Grid(shape)
    matrix = BiLaplacian(grid, 1.0, correlation_length=0.2, variance=1.0).matrix
    solver = LinearSolver(matrix, grid, "a_", "planes")
    solver.update()
    b, x, left = (grid.create_scalar() for _ in range(3))
    b.setRandom()
    solver.solve(b, x)
    matrix.product(x, left)
    left.axpy(-1.0, b)
    assert left.norm() < 1e-6 * b.norm(), left.norm() / b.norm()
    assert solver.iterations > 2
print("numba" in sys.modules)
"""


def test_solves_on_planes_need_no_numba():
    for found in (None, "False\n"):
        run = subprocess.run(
            [sys.executable, "-c", SOLVED], capture_output=True, text=True
        )
        assert run.returncode == 0 and found in (None, run.stdout), (
            run.stdout + run.stderr
        )

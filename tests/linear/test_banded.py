"""Systems on a line: band matrices of several species, and their transposes."""

import numpy as np
import pytest
from mpi4py import MPI
from petsc4py import PETSc

from npde_opt.errors import SolverError
from npde_opt.grids import Grid
from npde_opt.linear.banded import Banded, is_line

N = 7


def planes(count, offsets, seed=0):
    """Random entries, also such as lead outside, and the dense matrix, species fastest."""
    rng = np.random.default_rng(seed)
    found = {
        (r, c, (o,)): rng.standard_normal(N) + 6 * (r == c and o == 0)
        for r in range(count)
        for c in range(count)
        for o in offsets
    }
    dense = np.zeros((N * count, N * count))
    for (r, c, (o,)), values in found.items():
        for i in range(N):
            if 0 <= i + o < N:
                dense[i * count + r, (i + o) * count + c] += values[i]
    return found, dense


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("offsets", [(0,), (0, -1, 1), (0, 1), (0, -2, 1, 9)])
def test_solves_are_those_of_the_dense_matrix(count, offsets):
    entries, dense = planes(count, offsets)
    banded = Banded(entries, count, "state_")
    b = np.random.default_rng(1).standard_normal((count, N))
    for transposed in (False, True):
        x = np.linalg.solve(dense.T if transposed else dense, b.T.ravel())
        found = banded.solve(b, transposed)
        np.testing.assert_allclose(found.T.ravel(), x, rtol=1e-10, atol=1e-12)
    assert banded.largest == pytest.approx(np.abs(dense).sum(axis=1).max(), rel=1e-13)
    assert 0 <= banded.residual < 1e-12
    np.testing.assert_array_equal(banded.solve(0 * b), 0)


def test_pivots_are_looked_for():
    """[[0, 1], [1, 0]] in every cell."""
    off = {
        (0, 1, (0,)): np.ones(N),
        (1, 0, (0,)): np.ones(N),
        (0, 0, (0,)): np.zeros(N),
    }
    b = np.arange(2.0 * N).reshape(2, N)
    np.testing.assert_array_equal(Banded(off, 2, "state_").solve(b), b[::-1])


def test_a_singular_matrix_is_told():
    entries, _ = planes(1, (0, -1, 1))
    for values in entries.values():
        values[3] = 0.0
    with pytest.raises(SolverError, match="line is singular"):
        Banded(entries, 1, "state_")


def test_which_grids_are_lines():
    one = MPI.COMM_SELF
    assert is_line(Grid((8,), comm=one), "state_", "auto")
    assert not is_line(Grid((8,), comm=one), "state_", "geometric")
    assert not is_line(Grid((8, 1), comm=one), "state_", "auto")
    ring = Grid((8,), boundaries={"x-": "periodic", "x+": "periodic"}, comm=one)
    assert not is_line(ring, "state_", "auto")
    PETSc.Options().setValue("state_ksp_type", "gmres")
    try:
        assert not is_line(Grid((8,), comm=one), "state_", "auto")
    finally:
        PETSc.Options().delValue("state_ksp_type")

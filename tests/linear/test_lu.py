"""PETSc's LU whose factors stay."""

import numpy as np
import pytest
from petsc4py import PETSc

from npde_opt.errors import SolverError
from npde_opt.linear.lu import Lu, Ordering
from npde_opt.linear.measured import measured


def matrix(n, seed=0):
    """Not symmetric, with a pattern of neighbours."""
    rng, A = np.random.default_rng(seed), 4 * np.eye(n)
    i = np.arange(n - 1)
    A[i, i + 1], A[i + 1, i] = rng.uniform(-1, 0, (2, n - 1))
    return A, sparse(A)


def sparse(A):
    starts = np.arange(0, A.size + 1, len(A), dtype=PETSc.IntType)
    columns = np.tile(np.arange(len(A), dtype=PETSc.IntType), len(A))
    found = PETSc.Mat().createAIJ(
        A.shape, csr=(starts, columns, A.ravel()), comm=PETSc.COMM_SELF
    )
    found.assemble()
    return found


def test_both_systems_are_solved_and_factors_stay():
    (A, given), (B, other) = matrix(9), matrix(9, 1)
    ordering = Ordering()
    factors, more = (Lu(m, ordering, "state_", 2) for m in (given, other))
    b = given.createVecLeft()
    b.setArray(np.cos(np.arange(9.0)))
    given.zeroEntries()
    for of, M in ((factors, A), (more, B)):
        for transposed, whole in ((False, M), (True, M.T)):
            wanted = np.linalg.solve(whole, b.getArray())
            np.testing.assert_allclose(of.solve(b, transposed), wanted, rtol=1e-12)
        assert 0 < of.true_residual < 1e-14
        assert of.bytes >= 2 * 12 * 81
    with measured() as found:
        more.solve(b, kind="newton")
    assert found["newton"].count == 1
    for item in (factors, more, given, other, b):
        item.destroy()


def test_a_singular_matrix_is_told():
    A, _ = matrix(5)
    A[2], A[:, 2] = 0.0, 0.0
    b = PETSc.Vec().createWithArray(np.ones(5), comm=PETSc.COMM_SELF)
    with pytest.raises(SolverError, match="-state_recipe"):
        Lu(sparse(A), Ordering(), "state_").solve(b)

"""LSQR on Mats of PETSc: scipy's W, with a ridge, of least norm, sooner with R."""

import numpy as np
import pytest
from least_squares import folded, reference, with_condition
from mpi4py import MPI
from petsc4py import PETSc

from npde_opt.errors import InputError, NpdeError, SolverError
from npde_opt.pseudoinverse import iterate
from npde_opt.pseudoinverse.sample import keys_of
from npde_opt.pseudoinverse.subset import subset_triangle

WORLD = MPI.COMM_WORLD


def as_mat(H):
    """A sparse Mat, rows over all ranks."""
    mat = PETSc.Mat().createAIJ(H.shape, comm=WORLD)
    mat.setUp()
    start, end = mat.getOwnershipRange()
    for i in range(start, end):
        mat.setValues(i, range(H.shape[1]), H[i])
    mat.assemble()
    return mat, slice(start, end), slice(*mat.getOwnershipRangeColumn())


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.parametrize("ridge", [0.0, 0.4])
@pytest.mark.parametrize("rank", [None, 6])
def test_w_is_scipys(ridge, rank):
    rng = np.random.default_rng(0)
    H = with_condition(rng, 70, 10, 10.0, rank)
    T = rng.standard_normal((70, 2))
    mat, rows, columns = as_mat(H)
    found = iterate(mat, T[rows], ridge, rtol=1e-13)
    stacked = np.concatenate([H, np.sqrt(ridge) * np.eye(10)])
    wanted = reference(stacked, np.concatenate([T, np.zeros((10, 2))]))[0]
    np.testing.assert_allclose(found.W, wanted[columns], atol=1e-8)
    mat.destroy()


@pytest.mark.parallel([1, 2])
@pytest.mark.parametrize("ridge", [0.0, 1e-6])
def test_the_triangle_of_some_rows_makes_it_fast(ridge):
    rng = np.random.default_rng(1)
    H = with_condition(rng, 200, 12, 1e4)
    T = rng.standard_normal((200, 1))
    some = folded(H[::2], T[::2]).solve()
    mat, rows, columns = as_mat(H)
    slow = iterate(mat, T[rows], ridge)
    fast = iterate(
        mat, T[rows], ridge, some.problem.R if WORLD.rank == 0 else None, rtol=1e-12
    )
    wanted = folded(H, T).solve(ridge=ridge).W
    np.testing.assert_allclose(
        fast.W, wanted[columns], atol=1e-6 * np.abs(wanted).max()
    )
    assert 3 * fast.iterations[0] < 2 * slow.iterations[0]
    mat.destroy()


class Implicit:
    """Products with a Mat, and nothing else."""

    def __init__(self, mat):
        self.mat = mat

    def mult(self, _, x, y):
        self.mat.mult(x, y)

    def multTranspose(self, _, x, y):  # noqa: N802
        self.mat.multTranspose(x, y)


def implicit(mat):
    return PETSc.Mat().createPython(mat.getSizes(), Implicit(mat), WORLD)


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.parametrize("ridge", [0.0, 1e-6])
def test_a_triangle_is_made_of_rows_that_are_the_same_on_any_ranks(ridge):
    rng = np.random.default_rng(3)
    H = with_condition(rng, 300, 12, 1e6)
    T = rng.standard_normal((300, 2))
    mat, rows, columns = as_mat(H)
    wanted = folded(H, T).solve(ridge=ridge).W[columns]
    drawn = np.sort(np.argsort(keys_of(0, 0, 300))[:60])
    R = folded(H[drawn], T[drawn]).solve().problem.R * np.sqrt(5)
    for of in (mat, implicit(mat)):
        made = subset_triangle(of, 60)
        if WORLD.rank == 0:
            np.testing.assert_allclose(made.T @ made, R.T @ R, atol=1e-13)
        found = iterate(of, T[rows], ridge, precondition_rows=60, rtol=1e-13)
        np.testing.assert_allclose(found.W, wanted, atol=1e-6 * np.abs(wanted).max())
        # Without it as many as 10 times the columns are not enough.
        assert max(found.iterations) < 40
    mat.destroy()


@pytest.mark.parallel([1, 2])
def test_rows_that_miss_columns_still_make_a_triangle_of_full_rank():
    rng = np.random.default_rng(4)
    H = rng.standard_normal((200, 9))
    drawn = np.argsort(keys_of(0, 0, 200))[:30]
    H[drawn, 4] = 0
    H[:, 7] = H[:, 2]
    T = rng.standard_normal((200, 1))
    mat, rows, columns = as_mat(H)
    found = iterate(mat, T[rows], precondition_rows=30, rtol=1e-13)
    np.testing.assert_allclose(found.W, reference(H, T)[0][columns], atol=1e-8)
    assert found.iterations[0] < 30
    mat.destroy()


@pytest.mark.parallel([1, 2])
def test_what_cannot_precondition_is_told_on_all_ranks():
    rng = np.random.default_rng(5)
    H = rng.standard_normal((30, 4))
    mat, rows, _ = as_mat(H)
    T = np.zeros((len(H[rows]), 1))
    for count in (3, 31, 8.5):
        with pytest.raises(InputError, match="from 4, the columns of H, to 30"):
            iterate(mat, T, precondition_rows=count)
    with pytest.raises(InputError, match="one of both"):
        iterate(mat, T, R=np.eye(4), precondition_rows=8)
    with pytest.raises(InputError, match="ridge"):
        iterate(mat, T, -1.0)
    for R in (np.eye(3), np.zeros((4, 4)), np.full((4, 4), np.nan)):
        with pytest.raises(InputError, match="R: got shape"):
            iterate(mat, T, R=R)
    with pytest.raises(InputError, match="T: got shape"):
        iterate(mat, T[:, :0])
    if WORLD.size > 1:
        with pytest.raises(NpdeError, match="targets and ridge differs"):
            iterate(mat, np.tile(T, 1 + WORLD.rank))
    if WORLD.rank == WORLD.size - 1:
        T[-1] = np.inf
    with pytest.raises(InputError, match="finite"):
        iterate(mat, T)
    mat.destroy()


def test_other_types_come_from_options():
    rng = np.random.default_rng(2)
    H, T = rng.standard_normal((30, 4)), rng.standard_normal((30, 1))
    mat, _, _ = as_mat(H)
    options = PETSc.Options()
    options["mine_ksp_type"] = "cgls"
    np.testing.assert_allclose(
        iterate(mat, T, prefix="mine_", rtol=1e-14).W, reference(H, T)[0], atol=1e-8
    )
    options["mine_ksp_type"], options["mine_ksp_max_it"] = "lsqr", 1
    with pytest.raises(SolverError, match="'mine_'.*DIVERGED_MAX_IT"):
        iterate(mat, T, prefix="mine_")
    for name in ("mine_ksp_type", "mine_ksp_max_it"):
        options.delValue(name)
    with pytest.raises(InputError, match="30 rows"):
        iterate(mat, T[:3])
    mat.destroy()

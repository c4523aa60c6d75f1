"""Wide H by the dual form: scipy's W of least norm, whatever the ranks that have the columns."""

import numpy as np
import pytest
from least_squares import own_rows, reference, with_condition
from mpi4py import MPI

from npde_opt.errors import InputError, NpdeError
from npde_opt.pseudoinverse import dual

WORLD = MPI.COMM_WORLD


def blocks(H, comm=MPI.COMM_SELF, empty=()):
    own = H[:, own_rows(comm, H.shape[1], empty)]
    return own, lambda: [own[:, at : at + 11] for at in range(0, own.shape[1], 11)]


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.parametrize(("condition", "rank"), [(10.0, None), (1e6, None), (10.0, 8)])
def test_w_is_scipys(condition, rank):
    rng = np.random.default_rng(0)
    H = with_condition(rng, 20, 90, condition, rank)
    T = H @ rng.standard_normal((90, 2))
    wanted = reference(H, T, 1e-12)[0][own_rows(WORLD, 90)]
    found = dual(blocks(H, WORLD)[1], T, WORLD, tolerance=1e-12)
    assert found.rank == (rank or 20)
    np.testing.assert_allclose(found.W, wanted, atol=1e-8)


@pytest.mark.parallel([1, 2])
def test_a_ridge_is_that_of_the_normal_equations_and_ranks_may_be_empty():
    rng = np.random.default_rng(1)
    H, T = rng.standard_normal((12, 40)), rng.standard_normal((12, 3))
    empty = (1,) if WORLD.size > 1 else ()
    found = dual(blocks(H, WORLD, empty)[1], T, WORLD, ridge=0.7)
    wanted = np.linalg.solve(H.T @ H + 0.7 * np.eye(40), H.T @ T)
    np.testing.assert_allclose(found.W, wanted[own_rows(WORLD, 40, empty)], atol=1e-12)


def without_row(H, T, ridge, row):
    """Squared errors of a row by the W of the others."""
    K, t = np.delete(H, row, 0), np.delete(T, row, 0)
    a = np.linalg.solve(K @ K.T + ridge * np.eye(len(K)), t)
    return (H[row] @ K.T @ a - T[row]) ** 2


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.parametrize("each", ["", "-each"])
@pytest.mark.parametrize("name", ["gcv", "loo"])
def test_a_ridge_is_chosen_by_rows_that_are_left_out(name, each):
    rng = np.random.default_rng(2)
    H = with_condition(rng, 16, 50, 30.0)
    noise = np.array([0.02, 0.3])
    T = H @ rng.standard_normal((50, 2)) + noise * rng.standard_normal((16, 2))
    found = dual(blocks(H, WORLD)[1], T, WORLD, ridge=name + each)
    assert (len(set(found.ridge)) == 2) == bool(each)

    def score(ridge):
        if name == "loo":
            return sum(without_row(H, T, ridge, row) for row in range(16))
        left = ridge * np.linalg.inv(H @ H.T + ridge * np.eye(16))
        return ((left @ T) ** 2).sum(axis=0) / np.trace(left) ** 2

    for target, ridge in enumerate(found.ridge):
        here, less, more = (score(ridge * x) for x in (1, 0.8, 1.25))
        some = target if each else slice(None)
        assert here[some].sum() <= min(less[some].sum(), more[some].sum())
        wanted = np.linalg.solve(H.T @ H + ridge * np.eye(50), H.T @ T[:, target])
        own = wanted[own_rows(WORLD, 50)]
        np.testing.assert_allclose(found.W[:, target], own, atol=1e-9)


@pytest.mark.parallel([2])
def test_a_rank_with_wrong_columns_is_told_on_all():
    H = np.ones((3, 5))
    if WORLD.rank == 1:
        H[1, 1] = np.nan
    with pytest.raises(InputError, match="finite"):
        dual(lambda: [H], np.ones((3, 1)), WORLD)
    # T is that of all ranks.
    for T in (np.full((3, 1), WORLD.rank), np.ones((3 + WORLD.rank, 1))):
        with pytest.raises(NpdeError, match="differs between ranks"):
            dual(lambda T=T: [np.ones((len(T), 5))], T, WORLD)


def test_what_cannot_be_is_told():
    H = np.ones((3, 5))
    for columns, T, told in (
        ([H], np.ones(3), "T: got shape"),
        ([H], [["a"]], "T: got <U1"),
        ([H * 1j], np.ones((3, 1)), "columns: got complex"),
        ([H], np.full((3, 1), np.nan), "finite"),
        ([H[:2]], np.ones((3, 1)), "columns: got shape"),
    ):
        with pytest.raises(InputError, match=told):
            dual(lambda columns=columns: columns, T)
    with pytest.raises(InputError, match="ridge: got -1"):
        dual(lambda: [H], np.ones((3, 1)), ridge=-1.0)


@pytest.mark.parametrize("size", [1e160, 1e-160])
def test_squares_that_are_no_numbers_are_told(size):
    H = size * np.random.default_rng(0).standard_normal((2, 5))
    with pytest.raises(InputError, match="largest singular value"):
        dual(blocks(H)[1], np.ones((2, 1)))

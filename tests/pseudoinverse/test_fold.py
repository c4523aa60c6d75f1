"""W = H^+ T against scipy's least squares, over shapes, conditions, ranks, orders and updates."""

import numpy as np
import pytest
import scipy.linalg
from mpi4py import MPI

from npde_opt.errors import InputError
from npde_opt.pseudoinverse import Fold

EPS = np.finfo(float).eps


def with_condition(rng, rows, columns, condition, rank=None):
    """A matrix with singular values from 1 to 1/condition, of a rank."""
    least = min(rows, columns)
    U = np.linalg.qr(rng.standard_normal((rows, least)))[0]
    V = np.linalg.qr(rng.standard_normal((columns, least)))[0]
    s = np.logspace(0, -np.log10(condition), least)
    s[least if rank is None else rank :] = 0
    return (U * s) @ V.T


def reference(H, T, tolerance=None):
    """scipy's, with the same cut."""
    cut = H.shape[1] * EPS if tolerance is None else tolerance
    return scipy.linalg.lstsq(H, T, cond=cut, lapack_driver="gelsd")


def own_rows(comm, rows, empty=()):
    """Of this rank, an uneven share; ranks in `empty` have none."""
    filled = [r for r in range(comm.size) if r not in empty]
    if comm.rank in empty:
        return slice(0, 0)
    at, parts = filled.index(comm.rank), len(filled)
    ends = [int(rows * (k / parts) ** 1.3) for k in range(parts + 1)]
    return slice(ends[at], ends[at + 1])


def folded(H, T, comm=MPI.COMM_SELF, empty=(), **settings):
    fit = Fold(H.shape[1], T.shape[1], comm=comm, **settings)
    rows = own_rows(comm, len(H), empty)
    fit.add(H[rows], T[rows])
    return fit


@pytest.mark.parametrize("targets", [1, 7])
@pytest.mark.parametrize("shape", [(60, 12), (12, 60), (20, 20), (1, 5), (30, 1), (1, 1)])
def test_all_shapes_give_scipys_answer(shape, targets):
    rng = np.random.default_rng(0)
    H, T = rng.standard_normal(shape), rng.standard_normal((shape[0], targets))
    found = folded(H, T, block=7).solve()
    wanted, _, rank, s = reference(H, T)
    np.testing.assert_allclose(found.W, wanted, atol=1e-11 * np.abs(wanted).max())
    assert found.rank == rank
    np.testing.assert_allclose(found.singular_values[: s.size], s, rtol=1e-10, atol=1e-13)
    misfit = np.sqrt(((H @ wanted - T) ** 2).mean(axis=0))
    np.testing.assert_allclose(found.residual, misfit, atol=1e-12)


@pytest.mark.parametrize("condition", [1e2, 1e6, 1e9, 1e12, 1e14])
def test_accuracy_is_scipys_at_every_condition(condition):
    rng = np.random.default_rng(1)
    H = with_condition(rng, 200, 30, condition)
    W = rng.standard_normal((30, 2))
    wrong = np.abs(folded(H, H @ W, block=50).solve(tolerance=1e-15).W - W).max()
    theirs = scipy.linalg.lstsq(H, H @ W, cond=1e-15)[0]
    assert wrong <= 10 * np.abs(theirs - W).max() + 1e-13


@pytest.mark.parametrize(("noise", "tolerance"), [(0.0, None), (1e-10, 1e-8)])
def test_lost_rank_is_found_and_the_norm_is_least(noise, tolerance):
    rng = np.random.default_rng(2)
    H = with_condition(rng, 300, 40, 10.0, rank=25)
    H += noise * rng.standard_normal(H.shape)
    T = rng.standard_normal((300, 3))
    found = folded(H, T, block=64).solve(tolerance)
    wanted, _, rank, _ = reference(H, T, tolerance)
    assert found.rank == rank == 25
    np.testing.assert_allclose(found.W, wanted, atol=1e-9)
    assert np.linalg.norm(found.W) <= np.linalg.norm(wanted) * (1 + 1e-9)


def test_duplicated_and_empty_columns_share_what_they_explain():
    rng = np.random.default_rng(3)
    H = rng.standard_normal((50, 6))
    H[:, 3], H[:, 5] = H[:, 0], 0.0
    found = folded(H, rng.standard_normal((50, 1))).solve()
    assert found.rank == 4
    np.testing.assert_allclose(found.W[3], found.W[0], atol=1e-12)
    assert abs(found.W[5, 0]) < 1e-12


def test_nothing_but_zeros():
    found = folded(np.zeros((9, 4)), np.ones((9, 2))).solve()
    assert found.rank == 0
    assert not found.W.any()


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.parametrize("empty", [(), (0,), (1,)])
@pytest.mark.parametrize("rank", [None, 9])
def test_all_ranks_and_orders_give_one_answer(empty, rank):
    comm = MPI.COMM_WORLD
    if len(empty) >= comm.size:
        empty = ()
    rng = np.random.default_rng(4)
    H = with_condition(rng, 90, 15, 1e3, rank)
    T = rng.standard_normal((90, 2))
    order = rng.permutation(90)
    for intercept in (False, True):
        alone = folded(H, T, intercept=intercept).solve()
        found = folded(H[order], T[order], comm, empty, intercept=intercept, block=11).solve()
        assert found.rank == alone.rank
        np.testing.assert_allclose(found.W, alone.W, atol=1e-9)
        np.testing.assert_allclose(found.intercept, alone.intercept, atol=1e-9)
        np.testing.assert_allclose(found.residual, alone.residual, atol=1e-12)


@pytest.mark.parallel([2, 3])
def test_the_tree_sends_one_triangle_a_rank(monkeypatch):
    comm, sent = MPI.COMM_WORLD, []

    class Counting(MPI.Intracomm):
        def Send(self, numbers, dest):  # noqa: N802
            sent.append(numbers.size)
            return super().Send(numbers, dest=dest)

    fit = Fold(6, 2, comm=Counting(comm))
    rng = np.random.default_rng(comm.rank)
    fit.add(rng.standard_normal((9, 6)), rng.standard_normal((9, 2)))
    fit.solve()
    assert sent == ([] if comm.rank == 0 else [8 * 9 // 2])


def test_an_intercept_is_a_column_of_ones_without_ridge():
    rng = np.random.default_rng(5)
    H, T = rng.standard_normal((40, 5)) + 3, rng.standard_normal((40, 2)) - 7
    found = folded(H, T, intercept=True).solve()
    wanted = reference(np.column_stack([H, np.ones(40)]), T)[0]
    np.testing.assert_allclose(found.W, wanted[:-1], atol=1e-12)
    np.testing.assert_allclose(found.intercept, wanted[-1], atol=1e-11)
    flat = folded(H, T, intercept=True).solve(ridge=1e12)
    np.testing.assert_allclose(flat.intercept, T.mean(axis=0), rtol=1e-6)


def test_weights_count_rows_as_often():
    rng = np.random.default_rng(6)
    H, T = rng.standard_normal((12, 4)), rng.standard_normal((12, 1))
    often = rng.integers(0, 4, 12)
    fit = Fold(4, 1)
    fit.add(H, T, often)
    wanted = reference(np.repeat(H, often, axis=0), np.repeat(T, often, axis=0))[0]
    np.testing.assert_allclose(fit.solve().W, wanted, atol=1e-12)


@pytest.mark.parametrize("ridge", [0.3, np.array([0.0, 2.0])])
def test_a_ridge_is_that_of_the_normal_equations(ridge):
    rng = np.random.default_rng(7)
    H, T = rng.standard_normal((30, 6)), rng.standard_normal((30, 2))
    found = folded(H, T).solve(ridge=ridge)
    for k, weight in enumerate(np.broadcast_to(ridge, 2)):
        wanted = np.linalg.solve(H.T @ H + weight * np.eye(6), H.T @ T[:, k])
        np.testing.assert_allclose(found.W[:, k], wanted, atol=1e-12)


def test_cross_validation_finds_the_least_score_of_all_ridges():
    rng = np.random.default_rng(8)
    H = with_condition(rng, 80, 20, 1e4)
    T = H @ rng.standard_normal((20, 2)) + 0.02 * rng.standard_normal((80, 2))

    def score(ridge, t):
        hat = H @ np.linalg.solve(H.T @ H + ridge * np.eye(20), H.T)
        missed = T[:, t] - hat @ T[:, t]
        return 80 * (missed @ missed) / (80 - np.trace(hat)) ** 2

    ridges = np.logspace(-12, 0, 241)
    together = folded(H, T).solve(ridge="gcv").ridge
    best = min(sum(score(r, t) for t in range(2)) for r in ridges)
    assert sum(score(together[0], t) for t in range(2)) <= best * (1 + 1e-9)
    each = folded(H, T).solve(ridge="gcv-each").ridge
    for t in range(2):
        assert score(each[t], t) <= min(score(r, t) for r in ridges) * (1 + 1e-9)


def test_rows_that_are_taken_out_leave_the_others():
    rng = np.random.default_rng(9)
    H, T = rng.standard_normal((70, 8)), rng.standard_normal((70, 2))
    fit = folded(H, T, intercept=True)
    fit.remove(H[20:45], T[20:45])
    rest = np.r_[0:20, 45:70]
    wanted = folded(H[rest], T[rest], intercept=True).solve()
    found = fit.solve()
    np.testing.assert_allclose(found.W, wanted.W, atol=1e-10)
    np.testing.assert_allclose(found.intercept, wanted.intercept, atol=1e-10)
    with pytest.raises(InputError, match="rows to take out"):
        fit.remove(100 * H[:1], T[:1])


def test_a_stream_that_was_killed_goes_on_from_its_file(tmp_path):
    rng = np.random.default_rng(10)
    H, T = rng.standard_normal((50, 5)), rng.standard_normal((50, 1))
    whole = folded(H, T, intercept=True, block=10)
    half = folded(H[:20], T[:20], intercept=True, block=10)
    half.save(tmp_path / "fold.npz")
    again = Fold.load(tmp_path / "fold.npz")
    again.add(H[20:], T[20:])
    np.testing.assert_array_equal(again.R, whole.R)
    np.testing.assert_array_equal(again.solve().W, whole.solve().W)
    (tmp_path / "other").write_text("no fold")
    with pytest.raises(InputError, match="Fold.save"):
        Fold.load(tmp_path / "other")


@pytest.mark.parametrize(
    ("H", "T", "told"),
    [
        (np.ones((3, 4)), np.ones((3, 1)), r"H: got shape \(3, 4\)"),
        (np.ones((3, 2)), np.ones((2, 1)), "3 rows of 1"),
        (np.array([[1.0, 2.0], [np.nan, 1.0]]), np.ones(2), "the first is row 1"),
        (np.ones((2, 2)), np.array([np.inf, 1.0]), "T: got 1 rows"),
    ],
)
def test_rows_that_cannot_be_are_told(H, T, told):
    with pytest.raises(InputError, match=told):
        Fold(2, 1).add(H, T)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"tolerance": 2.0}, "tolerance"),
        ({"ridge": -1.0}, "ridge"),
        ({"ridge": "best"}, "'gcv'"),
        ({"ridge": np.ones(3)}, "one a target"),
    ],
)
def test_settings_that_cannot_be_are_told(settings, told):
    fit = folded(np.eye(2), np.ones((2, 1)))
    with pytest.raises(InputError, match=told):
        fit.solve(**settings)


def test_no_rows_are_told():
    with pytest.raises(InputError, match="no rows"):
        Fold(2, 1).solve()
    with pytest.raises(InputError, match="features"):
        Fold(0, 1)

"""W = H^+ T against scipy's least squares, over shapes, conditions, ranks, orders and updates."""

import re

import numpy as np
import pytest
import scipy.linalg
from least_squares import folded, reference, with_condition
from mpi4py import MPI

from npde_opt import capacity
from npde_opt.errors import InputError
from npde_opt.pseudoinverse import METHODS, Fold


@pytest.mark.parametrize("targets", [1, 7])
@pytest.mark.parametrize(
    "shape", [(60, 12), (12, 60), (20, 20), (1, 5), (30, 1), (1, 1)]
)
def test_all_shapes_give_scipys_answer(shape, targets):
    rng = np.random.default_rng(0)
    H, T = rng.standard_normal(shape), rng.standard_normal((shape[0], targets))
    found = folded(H, T, block=7).solve()
    wanted, _, rank, s = reference(H, T)
    np.testing.assert_allclose(found.W, wanted, atol=1e-11 * np.abs(wanted).max())
    assert found.rank == rank
    np.testing.assert_allclose(
        found.singular_values[: s.size], s, rtol=1e-10, atol=1e-13
    )
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
        found = folded(
            H[order], T[order], comm, empty, intercept=intercept, block=11
        ).solve()
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


@pytest.mark.parametrize("intercept", [False, True])
@pytest.mark.parametrize("weights", [None, np.linspace(0.5, 2, 60)])
def test_leave_one_out_is_that_of_one_fit_a_row(intercept, weights):
    rng = np.random.default_rng(11)
    H = with_condition(rng, 60, 8, 1e3) + 0.3
    T = H @ rng.standard_normal((8, 2)) + 0.05 * rng.standard_normal((60, 2)) + 2
    w = np.ones(60) if weights is None else weights

    def score(ridge, t):
        total = 0.0
        for i in range(60):
            rest = np.delete(np.arange(60), i)
            fit = Fold(8, 1, intercept)
            fit.add(H[rest], T[rest, t], w[rest])
            without = fit.solve(ridge=ridge)
            total += (
                w[i] * (T[i, t] - H[i] @ without.W[:, 0] - without.intercept[0]) ** 2
            )
        return total / 60

    fit = Fold(8, 2, intercept, sampled=100, block=7)
    fit.add(H, T, weights)
    found = fit.solve(ridge="loo-each")
    problem = found.problem
    for t in range(2):
        np.testing.assert_allclose(problem.left_out(0.02)[t], score(0.02, t), rtol=1e-8)
        best = problem.left_out(found.ridge[t])[t]
        assert best <= min(problem.left_out(r)[t] for r in np.logspace(-10, 1, 100)) * (
            1 + 1e-6
        )
    together = fit.solve(ridge="loo").ridge
    assert together[0] == together[1]


@pytest.mark.parallel([1, 2])
def test_a_sample_stands_for_all_rows():
    comm, rng = MPI.COMM_WORLD, np.random.default_rng(12)
    H = rng.standard_normal((3000, 20))
    T = H @ rng.standard_normal((20, 1)) + rng.standard_normal((3000, 1))
    whole = folded(H, T, comm, sampled=3000).solve(ridge="loo")
    some = folded(H, T, comm, sampled=500, block=77).solve(ridge="loo")
    if comm.rank == 0:
        np.testing.assert_allclose(
            some.problem.left_out(10.0), whole.problem.left_out(10.0), rtol=0.2
        )
    with pytest.raises(InputError, match="sampled"):
        folded(H, T, comm).solve(ridge="loo")


def test_a_sample_does_not_depend_on_blocks():
    H = np.arange(90.0)[:, None]
    parts = [folded(H, H, sampled=10, block=block).sample.rows for block in (7, 90)]
    np.testing.assert_array_equal(np.sort(parts[0][:, 0]), np.sort(parts[1][:, 0]))


@pytest.mark.parametrize("method", METHODS.values())
def test_a_stream_that_was_killed_goes_on_from_its_file(tmp_path, method):
    rng = np.random.default_rng(10)
    H, T = rng.standard_normal((50, 5)), rng.standard_normal((50, 1))
    blocks = [(H[at : at + 10], T[at : at + 10]) for at in range(0, 50, 10)]
    read = []

    def stream(killed):
        for at, block in enumerate(blocks):
            if at == killed:
                raise KeyboardInterrupt
            read.append(at)
            yield block

    def started():
        return method(5, 1, intercept=True, sampled=20)

    whole = started()
    whole.add_all(blocks, tmp_path / "whole.npz", every=2)
    with pytest.raises(KeyboardInterrupt):
        started().add_all(stream(3), tmp_path / "kept.npz", every=2)
    again = started()
    again.add_all(stream(9), tmp_path / "kept.npz", every=2)
    assert again.count == 50
    np.testing.assert_array_equal(again.kept, whole.kept)
    np.testing.assert_array_equal(
        again.solve(ridge="loo").W, whole.solve(ridge="loo").W
    )
    third = started()
    third.add_all(stream(9), tmp_path / "kept.npz")
    assert third.count == 50
    with pytest.raises(InputError, match="sizes"):
        method(4, 1).add_all(blocks, tmp_path / "kept.npz")
    content, other = (tmp_path / "kept.npz").read_bytes(), tmp_path / "other"
    half = len(content) // 2
    for damaged in (
        b"",
        b"no fold",
        content[:half],
        content[:half] + content[half + 9 :],
    ):
        other.write_bytes(damaged)
        with pytest.raises(InputError, match=f"{method.__name__}.save"):
            method.load(other)
    with np.load(tmp_path / "kept.npz") as file:
        arrays = dict(file)
    for name in ("kept", "rows"):
        with other.open("wb") as opened:
            np.savez(opened, **arrays | {name: arrays[name][1:] * np.nan})
        with pytest.raises(InputError, match=f"{method.__name__}.save"):
            method.load(other)


@pytest.mark.parametrize("method", METHODS.values())
def test_as_many_columns_as_are_said_to_fit_do(monkeypatch, method):
    monkeypatch.setattr(capacity, "memory_available", lambda: 1e7)
    with pytest.raises(InputError, match="5,000 columns.*at most") as refused:
        method(5000, 3, intercept=True, sampled=7)
    most = int(re.findall(r"at most (\d+) columns", str(refused.value))[0])
    assert 300 < most < 600
    method(most, 3, intercept=True, sampled=7)
    with pytest.raises(InputError, match=f"at most {most} columns"):
        method(most + 1, 3, intercept=True, sampled=7)


def test_more_columns_than_memory_are_refused():
    with pytest.raises(InputError, match=r"features: got 3,000,000 columns"):
        Fold(3_000_000, 1)


@pytest.mark.parametrize(
    ("H", "T", "told"),
    [
        (np.ones((3, 4)), np.ones((3, 1)), r"H: got shape \(3, 4\)"),
        (np.ones((3, 2)), np.ones((2, 1)), "3 rows of 1"),
        (np.array([[1.0, 2.0], [np.nan, 1.0]]), np.ones(2), "the first is row 1"),
        (np.ones((2, 2)), np.array([np.inf, 1.0]), "T: got 1 rows"),
        (np.ones(2), np.ones(2), r"H: got shape \(2,\)"),
        (3.0, np.ones(2), r"H: got shape \(\); allowed: any rows"),
        (np.ones((2, 2)) * 1j, np.ones(2), "H: got complex128.*real numbers"),
        (np.full((2, 2), "a"), np.ones(2), "H: got <U1"),
        ([[1, 2], [3]], np.ones(2), "H: got .*inhomogeneous"),
        (np.ma.masked_less(np.eye(2), 0.5), np.ones(2), "H: got 2 rows"),
    ],
)
@pytest.mark.parametrize("method", METHODS.values())
def test_rows_that_cannot_be_are_told(method, H, T, told):
    with pytest.raises(InputError, match=told):
        method(2, 1).add(H, T)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"features": 2.0}, "features: got 2.0; allowed: a positive integer"),
        ({"targets": "1"}, "targets"),
        ({"block": 2.5}, "block"),
        ({"intercept": 3}, "intercept: got 3; allowed: True or False"),
        ({"sampled": -1}, "sampled: got -1; allowed: an integer from 0 on"),
    ],
)
def test_sizes_that_cannot_be_are_told(settings, told):
    with pytest.raises(InputError, match=told):
        Fold(**{"features": 2, "targets": 1, **settings})


@pytest.mark.parametrize("method", METHODS.values())
@pytest.mark.parametrize(
    ("H", "T", "weights", "told"),
    [
        (np.eye(2), np.ones(2), np.zeros(2), "weights: got 0 for each row"),
        (
            np.eye(2) * 1e-200,
            np.full(2, 1e200),
            None,
            "got an overflow|no full rank",
        ),
        (np.eye(2), np.array([1e300, -1e300]), None, "residual: got an overflow"),
    ],
)
def test_answers_that_are_no_numbers_are_told(method, H, T, weights, told):
    fit = method(2, 1, intercept=True)
    fit.add(H, T, weights)
    with pytest.raises(InputError, match=told):
        fit.solve(ridge=1e-320)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"tolerance": 2.0}, "tolerance"),
        ({"tolerance": "small"}, "tolerance"),
        ({"ridge": ["a"]}, "ridge"),
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


@pytest.mark.parametrize("size", [1e-6, 1.0, 1e6])
def test_the_last_row_of_a_direction_is_taken_out(size):
    """Of features and targets together, at any ratio of their units."""
    H, T = np.eye(4)[[1, 0, 1, 2, 3]] * size, np.array([[0.0], [0], [1], [0], [0]])
    fit = Fold(4, 1)
    fit.add(H, T)
    fit.remove(H[:1], T[:1])
    np.testing.assert_allclose(fit.solve().W * size, T[[1, 2, 3, 4]], atol=1e-12)
    with pytest.raises(InputError, match="rows to take out"):
        fit.remove(H[:1], T[:1])


def test_a_ridge_acts_on_features_of_any_size():
    rng = np.random.default_rng(6)
    H, T = rng.standard_normal((20, 3)), rng.standard_normal((20, 1))
    large = Fold(3, 1)
    large.add(1e160 * H, T)
    wanted = scipy.linalg.lstsq(H, T)[0]
    np.testing.assert_allclose(1e160 * large.solve(ridge=1.0).W, wanted, rtol=1e-12)
    with pytest.raises(InputError, match="largest singular value"):
        large.solve(ridge="gcv")


def test_a_checkpoint_is_written_after_a_number_of_blocks(tmp_path):
    with pytest.raises(InputError, match="every: got 0"):
        Fold(1, 1).add_all([], tmp_path / "kept.npz", every=0)

"""Normal equations: the same W up to a condition, refusals above it, and what refinement gives."""

import numpy as np
import pytest
from least_squares import folded, with_condition
from mpi4py import MPI

from npde_opt.errors import InputError
from npde_opt.pseudoinverse import METHODS, Fold, Gram


def products(*arguments, **settings):
    return folded(*arguments, method=Gram, **settings)


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.parametrize(
    "ridge", [0.0, 0.5, np.array([0.1, 3.0]), "gcv", "gcv-each", "loo"]
)
def test_answers_are_those_of_a_qr(ridge):
    rng = np.random.default_rng(0)
    H = with_condition(rng, 120, 12, 1e3) + 1
    T = rng.standard_normal((120, 2)) + 5
    settings = {"intercept": True, "block": 17, "sampled": 200}
    wanted = folded(H, T, MPI.COMM_WORLD, **settings).solve(ridge=ridge)
    found = products(H, T, MPI.COMM_WORLD, **settings).solve(ridge=ridge)
    np.testing.assert_allclose(found.ridge, wanted.ridge, rtol=1e-3)
    np.testing.assert_allclose(found.W, wanted.W, atol=1e-4 * np.abs(wanted.W).max())
    np.testing.assert_allclose(found.intercept, wanted.intercept, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(found.residual, wanted.residual, rtol=1e-6)
    if MPI.COMM_WORLD.rank == 0:
        np.testing.assert_allclose(
            found.singular_values[:6], wanted.singular_values[:6], rtol=1e-9
        )


@pytest.mark.parametrize("order", ["rows", "columns", "every second", "the same"])
@pytest.mark.parametrize("single", [False, True])
def test_products_are_those_of_rows_in_any_order_in_memory(order, single):
    whole = np.random.default_rng(6).standard_normal((20, 22))
    H = {
        "rows": np.ascontiguousarray(whole[:, :11]),
        "columns": np.asfortranarray(whole[:, :11]),
        "every second": whole[:, ::2],
        "the same": np.broadcast_to(whole[0, :11], (20, 11)),
    }[order]
    T = whole[:, 1:3]
    fit = products(H, T, intercept=True, block=7, single=single)
    X = np.column_stack([np.ones(20), H, T])
    np.testing.assert_allclose(
        fit.kept, np.triu(X.T @ X), atol=1e-4 if single else 1e-13
    )


@pytest.mark.parametrize(
    ("condition", "error", "refined"), [(1e5, 1e-5, 1e-11), (4e5, 1e-4, 1e-9)]
)
def test_a_refinement_gives_the_digits_back(condition, error, refined):
    rng = np.random.default_rng(1)
    H = with_condition(rng, 200, 30, condition)
    W = rng.standard_normal((30, 2))
    T = H @ W
    fit = products(H, T, block=50)
    rough = np.abs(fit.solve().W - W).max()
    fine = np.abs(fit.solve(again=lambda: [(H, T)]).W - W).max()
    assert rough < error * np.abs(W).max()
    assert fine < refined < rough


def test_rows_are_left_out_one_by_one_also_without_an_intercept():
    rng = np.random.default_rng(9)
    H, T = rng.standard_normal((12, 3)), rng.standard_normal((12, 2))
    found = [
        folded(H, T, method=method, sampled=12).solve(ridge="loo").W
        for method in METHODS.values()
    ]
    np.testing.assert_allclose(*found, rtol=1e-6)


def test_products_that_overflow_are_refused():
    H = np.full((2, 1), 1e200)
    with pytest.raises(InputError, match="Fold"):
        products(H, np.ones((2, 1))).solve()


@pytest.mark.parametrize("ridge", [1e-300, 1e300])
def test_a_condition_overflows_at_no_ridge(ridge):
    H = np.eye(4) * np.sqrt(ridge)
    fit = products(H, np.ones((4, 1)))
    assert fit.solve(ridge=ridge).condition == pytest.approx(1.0)


def test_what_a_solution_tells_does_not_change_with_rows_that_come_later():
    rng = np.random.default_rng(3)
    H, T = rng.standard_normal((40, 6)), rng.standard_normal((40, 2))
    fit = products(H[:20], T[:20])
    first = fit.solve()
    fit.add(H[20:], T[20:])
    s = np.linalg.svd(H[:20], compute_uv=False)
    np.testing.assert_allclose(first.singular_values, s, rtol=1e-9)
    W = np.linalg.lstsq(H, T, rcond=None)[0]
    np.testing.assert_allclose(fit.solve().W, W, rtol=1e-9)


def test_conditions_that_cost_too_many_digits_are_refused():
    rng = np.random.default_rng(2)
    T = rng.standard_normal((200, 1))
    H = with_condition(rng, 200, 30, 3e6)
    with pytest.raises(InputError, match=r"up to 1e\+06.*Fold"):
        products(H, T).solve()
    wanted = folded(H, T).solve().W
    refined = products(H, T).solve(again=lambda: [(H, T)]).W
    np.testing.assert_allclose(
        refined, wanted, rtol=1e-4, atol=1e-5 * np.abs(wanted).max()
    )
    H = with_condition(rng, 200, 30, 1.0, rank=20)
    for ridge in (0.0, np.zeros(1)):
        with pytest.raises(InputError, match="features"):
            products(H, T).solve(ridge=ridge)
    assert products(H, T).solve(ridge=1e-3).condition < 100


def test_single_precision_is_near_with_a_ridge_and_refused_sooner():
    rng = np.random.default_rng(3)
    H = rng.standard_normal((300, 10)).astype(np.float32)
    T = H @ rng.standard_normal((10, 2)) + 0.1 * rng.standard_normal((300, 2))
    found = products(H, T, single=True, block=64).solve(ridge=1.0)
    np.testing.assert_allclose(found.W, folded(H, T).solve(ridge=1.0).W, atol=1e-5)
    with pytest.raises(InputError, match=r"1e\+04"):
        products(
            with_condition(rng, 200, 30, 1e5), np.ones((200, 1)), single=True
        ).solve(0.0, 1e-9)


@pytest.mark.parametrize("order", "CF")
@pytest.mark.parametrize("single", [False, True])
@pytest.mark.parametrize("wrong", [np.nan, np.inf])
@pytest.mark.parametrize("name", ["H", "T", "H, of weight 0"])
def test_rows_that_are_not_finite_leave_what_is_kept_alone(order, single, wrong, name):
    """Also where their targets are 0, which hides nothing, and late in the block."""
    rng = np.random.default_rng(7)
    H, T = rng.standard_normal((9, 3)), np.zeros((9, 1))
    fit = products(H, T, block=2, single=single)
    before = fit.kept
    (T if name == "T" else H)[8, -1] = wrong
    weights = np.arange(8.0, -1.0, -1.0) if "weight" in name else None
    with pytest.raises(InputError, match=f"{name[0]}: got 1 rows.*row 17"):
        fit.add(np.asarray(H, order=order), T, weights)
    np.testing.assert_array_equal(fit.kept, before)
    assert fit.count == 9


def test_rows_that_are_taken_out_leave_the_others():
    rng = np.random.default_rng(4)
    H, T = rng.standard_normal((40, 5)), rng.standard_normal((40, 1))
    fit = products(H, T)
    fit.remove(H[:10], T[:10])
    assert fit.count == 30
    before = fit.kept
    wrong = np.full((1, 5), np.nan)
    for rows, told in (
        (wrong, "finite"),
        (10 * H[:5], "added"),
        (H[[0] * 31], "added"),
    ):
        with pytest.raises(InputError, match=told):
            fit.remove(rows, np.zeros((len(rows), 1)))
        np.testing.assert_array_equal(fit.kept, before)
    with pytest.raises(InputError, match="sampled=0"):
        products(H, T, sampled=3).remove(H[:1], T[:1])
    np.testing.assert_allclose(
        fit.solve().W, products(H[10:], T[10:]).solve().W, atol=1e-12
    )


def test_files_tell_methods_apart(tmp_path):
    rng = np.random.default_rng(5)
    H, T = rng.standard_normal((40, 5)), rng.standard_normal((40, 1))
    fit = products(H, T)
    fit.save(tmp_path / "kept.npz")
    np.testing.assert_array_equal(
        Gram.load(tmp_path / "kept.npz").solve().W, fit.solve().W
    )
    with pytest.raises(InputError, match="Fold.save"):
        Fold.load(tmp_path / "kept.npz")

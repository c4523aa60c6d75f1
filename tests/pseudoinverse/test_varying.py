"""Coefficient fields from states: pieces and fields on the grid, with and without noise."""

import numpy as np
import pytest
from scipy.integrate import solve_ivp

from npde_opt.errors import InputError
from npde_opt.pseudoinverse.equation_error import Observed, Term
from npde_opt.pseudoinverse.varying import basis, fit_fields, pieces
from npde_opt.pseudoinverse.weak import Weak

N = 80
X = (np.arange(N) + 0.5) / N
T = np.linspace(0, 0.5, 101)


def smooth(x):
    return 0.02 * (1 + 0.5 * np.sin(2 * np.pi * x))


def layered(x):
    return np.where(x < 0.5, 0.02, 0.05)


SMOOTH, PIECES = smooth(X), layered(X)


def states(of):
    """u_t = (D u_x)_x + u (1 - u), no flux, on cells of a third."""
    n = 3 * N
    x = (np.arange(n) + 0.5) / n
    D = of(x)
    face = 2 * D[1:] * D[:-1] / (D[1:] + D[:-1])

    def rate(_, u):
        flux = np.concatenate([[0], face * np.diff(u) * n, [0]])
        return np.diff(flux) * n + u * (1 - u)

    start = 0.5 + 0.4 * np.sin(6 * x) * np.cos(17 * x)
    settings = {"rtol": 1e-7, "atol": 1e-9, "lband": 1, "uband": 1}
    solved = solve_ivp(rate, (0, T[-1]), start, "LSODA", T, **settings)
    return Observed(T, X, solved.y[1::3].T)


TERMS = [Term("u"), Term("u^2", 0, 2), Term("u_xx", 2)]
WINDOWS = (24, 24)


@pytest.mark.parametrize(
    ("noise", "seed", "most"), [(0.0, 0, 0.03), (0.005, 2, 0.04), (0.005, 5, 0.04)]
)
def test_a_field_on_the_grid_is_recovered(noise, seed, most):
    found = fit_fields(states(smooth).with_noise(noise, seed), TERMS, WINDOWS, [2])
    inner = slice(8, -8)
    assert abs(found.coefficients[2] / SMOOTH - 1)[inner].mean() < most
    assert abs(found.constants[2] / SMOOTH - 1)[inner].mean() > 0.25
    np.testing.assert_allclose(
        [found.coefficients[0][0], found.coefficients[1][0]], [1, -1], rtol=0.1
    )
    assert np.ptp(found.coefficients[0]) == 0


def test_pieces_are_recovered_and_their_errors_told():
    regions = pieces(X, 4)
    found = fit_fields(
        states(layered).with_noise(0.005, 2), TERMS, WINDOWS, [2], regions
    )
    D, error = found.coefficients[2], found.errors[2]
    np.testing.assert_allclose(D, PIECES, rtol=0.2)
    assert (abs(D - PIECES) < 4 * error + 0.03 * PIECES).all()
    assert len(np.unique(D)) == 4
    assert found.ridge == 0


def test_a_sum_of_functions_is_a_constant():
    seen = states(smooth)
    weak = Weak(seen, TERMS, WINDOWS)
    fields = Weak(seen, TERMS, WINDOWS, {2: basis(X, None)})
    for c in (None, np.array([1.0, -1.0, 0.02])):
        own = None if c is None else np.concatenate([c[:2], np.full(N, c[2])])
        G, b = weak.rows(c, fine=True)
        H, right = fields.rows(own, fine=True)
        np.testing.assert_allclose(right, b, atol=1e-12)
        np.testing.assert_allclose(
            H[:, 2:].sum(axis=1), G[:, 2], atol=1e-9 * abs(G).max()
        )


@pytest.mark.parametrize("count", [0, 21])
def test_pieces_that_cannot_be_are_told(count):
    with pytest.raises(InputError, match="1 to 20"):
        pieces(X, count)


def test_a_third_derivative_has_no_field():
    with pytest.raises(InputError, match="up to two derivatives"):
        fit_fields(states(smooth), [Term("u_xxx", 3)], WINDOWS, [0])


def waves(arrival):
    """Of u_t = -c u_x, where c is the reciprocal slope of the time at which a wave arrives."""
    t, x = np.linspace(0, 4, 121), np.linspace(0, 6, 101)
    s = t[:, None] - arrival(x)
    return Observed(t, x, 2 + np.sin(2 * s) + 0.5 * np.cos(3 * s))


def test_the_speed_of_a_wave_is_what_multiplies_its_slope():
    x = np.linspace(0, 6, 101)
    speed = 1 / (1 + 0.5 * np.cos(x))
    term, inner = [Term("u_x", 1)], slice(10, -10)
    seen = waves(lambda x: x + 0.5 * np.sin(x))
    found = fit_fields(seen, term, (20, 12), [0]).coefficients[0]
    assert abs(found / -speed - 1)[inner].mean() < 0.25
    assert np.median((found / -speed)[inner]) == pytest.approx(1, abs=0.05)
    slow = waves(lambda x: np.where(x < 3, x, 2 * x - 3))
    halves = fit_fields(slow, term, (20, 12), [0], pieces(x, 2)).coefficients[0]
    np.testing.assert_allclose(halves[[0, -1]], [-1, -0.5], rtol=0.03)

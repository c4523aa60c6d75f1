"""Equations from data: rows against integrals, terms that are found, none missed or invented."""

import numpy as np
import pytest

from npde_opt.errors import InputError
from npde_opt.pseudoinverse.equation_error import Differences, Observed, Term, library
from npde_opt.pseudoinverse.selection import FORMS, select
from npde_opt.pseudoinverse.weak import Weak

N, TIMES = 128, 101
X = np.linspace(-np.pi, np.pi, N, endpoint=False)
T = np.linspace(0.0, 1.0, TIMES)
K2 = np.fft.fftfreq(N, 1 / N) ** 2


def stepped(u, half, reacted):
    """Strang's splitting, 10 steps from each time to the next: linear part in Fourier's basis."""
    found, dt = [u], (T[1] - T[0]) / 10
    for _ in range(10 * (TIMES - 1)):
        u = reacted(np.fft.ifft(half(dt) * np.fft.fft(reacted(u, dt / 2))), dt / 2)
        found.append(u)
    return np.array(found[::10])


def reaction():
    """u_t = 0.05 u_xx + 2 u - 2 u^3."""

    def reacted(u, dt):
        grown = u**2 * np.exp(4 * dt)
        return np.sign(u.real) * np.sqrt(grown / (1 - u**2 + grown))

    start = 0.4 * np.sin(X) + 0.3 * np.cos(2 * X + 1) + 0.1 * np.sin(3 * X)
    return stepped(start, lambda dt: np.exp(-0.05 * K2 * dt), reacted).real


def packets():
    """u_t = i/2 u_xx + i |u|^2 u."""
    start = 1.5 / np.cosh(2 * (X + 1)) * np.exp(1j * X) + 1 / np.cosh(1.5 * (X - 1))
    return stepped(
        start.astype(complex),
        lambda dt: np.exp(-0.5j * K2 * dt),
        lambda u, dt: u * np.exp(1j * abs(u) ** 2 * dt),
    )


@pytest.fixture(scope="module")
def states():
    return {"reaction": reaction(), "packets": packets()}


@pytest.mark.parametrize(("noise", "exact"), [(0.0, 1e-3), (0.01, 0.05)])
@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("reaction", {"u": 2.0, "u^3": -2.0, "u_xx": 0.05}),
        ("packets", {"i |u|^2 u": 1.0, "i u_xx": 0.5}),
    ],
)
def test_no_term_is_missed_or_invented(states, name, wanted, noise, exact):
    observed = Observed(T, X, states[name])
    if noise:
        observed = observed.with_noise(noise, 3)
    terms = library(np.iscomplexobj(observed.u))
    selected = select(Weak(observed, terms, (25, 20)))
    names = [terms[j].name for j in selected.terms]
    assert set(names) == set(wanted)
    values = np.array([wanted[n] for n in names])
    np.testing.assert_allclose(selected.coefficients, values, rtol=exact)
    if noise:
        assert (abs(selected.coefficients - values) < 5 * selected.errors).all()


def test_a_wave_of_one_shape_obeys_the_shortest_equation():
    u = np.exp(-((X[None, :] - T[:, None]) ** 2))
    terms = library(False)
    selected = select(Weak(Observed(T, X, u), terms, (25, 20)))
    assert [terms[j].name for j in selected.terms] == ["u_x"]
    np.testing.assert_allclose(selected.coefficients, [-1.0], rtol=1e-6)


def test_rows_of_the_weak_form_hold_for_smooth_states():
    u = np.exp(-0.3 * T[:, None]) * np.sin(2 * X[None, :])
    terms = [Term("u"), Term("u_xx", 2), Term("x u", place=1), Term("(u^2)_x", 1, 2)]
    G, b = Weak(Observed(T, X, u), terms, (20, 20)).rows()
    np.testing.assert_allclose(b, -0.3 * G[:, 0], atol=1e-9)
    np.testing.assert_allclose(G[:, 1], -4 * G[:, 0], atol=1e-8)
    place, _ = Weak(Observed(T, X, X * u), [Term("u")], (20, 20)).rows()
    np.testing.assert_allclose(G[:, 2], place[:, 0], atol=1e-12)
    slope = np.exp(-0.6 * T[:, None]) * 2 * np.sin(4 * X[None, :])
    steep, _ = Weak(Observed(T, X, slope), [Term("u")], (20, 20)).rows()
    np.testing.assert_allclose(G[:, 3], steep[:, 0], atol=1e-8)


def test_differences_are_derivatives():
    u = np.exp(-0.3 * T[:, None]) * np.sin(2 * X[None, :])
    rows = Differences(Observed(T, X, u), [Term("u"), Term("u_xxx", 3)], (5, 5))
    inner = u[10:-10:5, 10:-10:5]
    np.testing.assert_allclose(rows.b, -0.3 * inner.ravel(), atol=1e-5)
    wanted = (np.exp(-0.3 * T[:, None]) * -8 * np.cos(2 * X[None, :]))[
        10:-10:5, 10:-10:5
    ]
    np.testing.assert_allclose(rows.G[:, 1], wanted.ravel(), atol=1e-2)


@pytest.mark.parametrize(
    "u", [np.array([0.3, -1.2, 0.0]), np.array([0.4 - 0.8j, 1j, 0])]
)
@pytest.mark.parametrize("power", [1, 2, 3])
def test_noise_adds_nothing_to_the_mean_of_a_term(u, power):
    """By a rule of 8 x 8 points, exact for these powers; those of complex states are odd."""
    nodes, shares = np.polynomial.hermite_e.hermegauss(8)
    shares = shares / shares.sum()
    is_complex, size, term = np.iscomplexobj(u), 0.3, Term("f", 0, power, 1)
    if is_complex and power == 2:
        power, term = 5, Term("f", 0, 5, 1)
    noise, weights = size * nodes[:, None], shares[:, None]
    if is_complex:
        noise = size / np.sqrt(2) * (nodes[:, None] + 1j * nodes).reshape(-1, 1)
        weights = np.outer(shares, shares).reshape(-1, 1)
    x = np.array([1.0, 2.0, 3.0])
    mean = (weights * term.value(u + noise, x, size**2)).sum(axis=0)
    # Of the fifth power the variance's square is left: 3 a^2 u is added, 6 a^2 u subtracted.
    left = -6 * size**4 * x * u if power == 5 else 0.0
    np.testing.assert_allclose(mean, term.value(u, x) + left, atol=1e-12)


@pytest.mark.parametrize(
    ("name", "terms", "c"),
    [
        (
            "reaction",
            [Term("u"), Term("u^3", 0, 3), Term("u_xx", 2)],
            np.array([2.0, -2.0, 0.05]),
        ),
        (
            "packets",
            [Term("i |u|^2 u", 0, 3, imaginary=True), Term("", 2, imaginary=True)],
            np.array([1.0, 0.5]),
        ),
    ],
)
def test_errors_of_rows_are_those_of_drawn_noise(states, name, terms, c):
    observed = Observed(T[:31], X, states[name][:31])
    draws = []
    for seed in range(12):
        G, b = Weak(observed.with_noise(0.02, seed), terms, (15, 30)).rows(c, fine=True)
        draws.append(G @ c - b)
    size = 0.02 * np.sqrt((abs(observed.u) ** 2).mean())
    size /= np.sqrt(2) if name == "packets" else 1
    np.testing.assert_allclose(np.std(draws, axis=0, ddof=1).mean(), size, rtol=0.03)
    correlation = np.corrcoef(np.array(draws).T)
    off = correlation[~np.eye(len(correlation), dtype=bool)]
    assert abs(off.mean()) < 0.01


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda t, x, u: (t, x, u.T), "u: got shape"),
        (lambda t, x, u: (t**2, x, u), "t: got 101 values"),
        (lambda t, x, u: (t, 1e-12 * x**3, u), "x: got"),
        (lambda t, x, u: (t, x, u / np.where(u == u[3, 4], 0, 1)), "not finite"),
    ],
)
def test_observations_that_cannot_be_are_told(change, told):
    u = np.cos(T[:, None] + X[None, :])
    with pytest.raises(InputError, match=told), np.errstate(divide="ignore"):
        Observed(*change(T, X, u))


def test_windows_and_states_that_say_nothing_are_told():
    terms = library(False)
    for form in FORMS.values():
        with pytest.raises(InputError, match="half window along x"):
            form(Observed(T, X, T[:, None] * np.ones(N)), terms, (20, 90))
        for u, told in (
            (np.zeros((TIMES, N)), "change in time"),
            (np.tile(np.cos(3 * X), (TIMES, 1)), "change in time"),
            (1e40 * np.cos(T[:, None] + X), "other units"),
            (1e-40 * np.cos(T[:, None] + X), "other units"),
        ):
            with pytest.raises(InputError, match=told):
                form(Observed(T, X, u), terms, (20, 20))


def test_no_more_rows_than_terms_are_refused():
    t, x = np.linspace(0, 1, 31), np.linspace(0, 1, 31)
    seen = Observed(t, x, np.exp(-t)[:, None] * np.cos(np.pi * x))
    with pytest.raises(InputError, match="1 rows for 12 terms"):
        select(Weak(seen, library(False), (15, 15)))

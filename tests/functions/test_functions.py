"""Splines and perceptrons: what they are, what they keep, and their derivatives."""

import numpy as np
import pytest

from npde_opt.errors import InputError
from npde_opt.functions import Perceptron, Spline, link, spline
from npde_opt.functions.shapes import Monotone, Squares

RNG = np.random.default_rng(3)
ONE = [(-1.0, 2.0)]
TWO = [(-1.0, 2.0), (0.0, 4.0)]
FUNCTIONS = {
    "spline": Spline(ONE, [6]),
    "two knots": Spline(ONE, [2]),
    "constant outside": Spline(ONE, [5], outside="constant"),
    "rising": Spline(ONE, [6], "rising"),
    "falling, positive": Spline(ONE, [6], "falling", link("positive")),
    "spline of two": Spline(TWO, [4, 3]),
    "perceptron": Perceptron(ONE, 4),
    "rising perceptron": Perceptron(ONE, 4, "rising"),
    "perceptron of two": Perceptron(TWO, 5),
}
POINTS = [RNG.uniform(-1.5, 2.5, 7), RNG.uniform(-0.5, 4.5, 7)]


def numbers(f, seed=0):
    rng = np.random.default_rng(seed)
    return (
        rng.uniform(0.4, 1.5, f.count)
        if f.shape.transform == "log"
        else rng.normal(size=f.count)
    )


def orders_of(f):
    return (
        [(0,), (1,), (2,)]
        if f.variables == 1
        else [(0, 0), (1, 0), (0, 1), (1, 1), (2, 0)]
    )


@pytest.mark.parametrize("name", FUNCTIONS)
def test_derivatives_in_the_variables(name):
    f = FUNCTIONS[name]
    theta, v, h = numbers(f), POINTS[: f.variables], 1e-5
    for orders in orders_of(f):
        if sum(orders) == 2:
            continue
        for d in range(f.variables):
            step = [h * (d == e) for e in range(f.variables)]
            ahead = f.at(*[x + s for x, s in zip(v, step, strict=True)]).value(
                theta, orders
            )
            behind = f.at(*[x - s for x, s in zip(v, step, strict=True)]).value(
                theta, orders
            )
            higher = tuple(n + (d == e) for e, n in enumerate(orders))
            exact = f.at(*v).value(theta, higher)
            np.testing.assert_allclose(
                (ahead - behind) / (2 * h), exact, rtol=1e-5, atol=1e-5
            )


@pytest.mark.parametrize("name", FUNCTIONS)
def test_derivatives_in_the_numbers(name):
    """push against differences, pull against push, second against differences of pull, jacobian
    against push."""
    f = FUNCTIONS[name]
    theta, d, at, h = numbers(f), numbers(f, 5), f.at(*POINTS[: f.variables]), 1e-6
    w = RNG.normal(size=7)
    for orders in orders_of(f):
        ahead, behind = (at.value(theta + s * d, orders) for s in (h, -h))
        pushed = at.push(theta, d, orders)
        np.testing.assert_allclose(
            pushed, (ahead - behind) / (2 * h), rtol=1e-6, atol=1e-6
        )
        pulled = at.pull(theta, w, orders)
        assert pulled @ d == pytest.approx(w @ pushed, rel=1e-11, abs=1e-11)
        up, down = (at.pull(theta + s * d, w, orders) for s in (h, -h))
        found = at.second(theta, d, w, orders)
        np.testing.assert_allclose(found, (up - down) / (2 * h), rtol=1e-6, atol=1e-6)
    none = (0,) * f.variables
    np.testing.assert_allclose(
        at.jacobian(theta).T @ d, at.push(theta, d, none), atol=1e-12
    )


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_variable_that_is_one_number(name):
    """As the time is: multipliers of all cells belong to it."""
    f = FUNCTIONS[name]
    theta, v, w = numbers(f), [0.3] * f.variables, RNG.normal(size=(2, 3))
    none = (0,) * f.variables
    whole = f.at(*[np.full((2, 3), x) for x in v])
    np.testing.assert_allclose(
        f.at(*v).value(theta, none), whole.value(theta, none)[0, 0]
    )
    one = f.at(*v).pull(theta, w, none)
    np.testing.assert_allclose(one, whole.pull(theta, w, none), atol=1e-13)


def test_a_spline_is_smooth_and_holds_lines():
    f = Spline([(0.0, 5.0)], [6])
    v = np.linspace(-2, 7, 19)
    line = f.near(lambda x: 3 - 2 * x)
    np.testing.assert_allclose(f.evaluate(line, v), 3 - 2 * v, atol=1e-13)
    theta = RNG.normal(size=6)
    for knot in range(6):
        for orders in ((0,), (1,), (2,)):
            below, above = f.at(np.array([knot - 1e-9, knot + 1e-9])).value(
                theta, orders
            )
            assert above == pytest.approx(below, abs=1e-6)
    still = Spline([(0.0, 5.0)], [6], outside="constant")
    np.testing.assert_allclose(
        still.evaluate(theta, np.array([-3.0, 9.0])), theta[[0, -1]]
    )


def test_what_a_spline_keeps():
    v = np.linspace(-2, 4, 200)
    for word, sign in (("rising", 1), ("falling", -1)):
        for given in (
            link(),
            link("positive"),
            link("negative"),
            link(bounds=(1.0, 3.0)),
        ):
            f = Spline(ONE, [7], word, given)
            theta = np.exp(2 * RNG.normal(size=7))
            values = f.evaluate(theta, v)
            assert np.all(sign * np.diff(values) >= 0) and np.ptp(values) > 0
            assert np.all(given.reaches(f.evaluate(theta, np.linspace(0.5, 1.5, 20))))
    f = Spline(ONE, [7])
    theta = RNG.random(7)
    inside = f.evaluate(theta, np.linspace(-1, 2, 200))
    assert inside.min() >= theta.min() and inside.max() <= theta.max()


def test_a_monotone_perceptron():
    for word, sign in (("rising", 1), ("falling", -1)):
        f = Perceptron(TWO, 6, word, link("negative"))
        theta = RNG.normal(size=f.count)
        slopes = [np.diff(f.evaluate(theta, np.linspace(-2, 3, 50), 1.0)), np.diff(
            f.evaluate(theta, 0.0, np.linspace(-1, 5, 50)))]  # fmt: skip
        assert all(np.all(sign * s > 0) for s in slopes)


@pytest.mark.parametrize(
    "f, exact, error",
    [
        (Spline(ONE, [31]), lambda x: np.sin(2 * x), 0.02),
        (Spline(ONE, [31], "rising", link("positive")), lambda x: np.exp(x), 0.02),
        (Spline(TWO, [21, 21]), lambda x, y: np.sin(x) * np.cos(y), 0.02),
        (Perceptron(ONE, 12), lambda x: np.sin(2 * x), 0.02),
        (Perceptron(ONE, 12, "falling", link("negative")), lambda x: -np.exp(x), 0.2),
        (Perceptron(TWO, 60), lambda x, y: np.sin(x) * np.cos(y), 0.05),
    ],
)
def test_numbers_near_another_function(f, exact, error):
    theta = f.near(exact)
    lines = [np.linspace(*ends, 40) for ends in TWO[: f.variables]]
    grid = np.meshgrid(*lines, indexing="ij")
    wrong = f.evaluate(theta, *grid) - exact(*grid)
    assert np.abs(wrong).max() < error * np.abs(exact(*grid)).max()


@pytest.mark.parametrize(
    "shape", [Monotone(5, -1.0), Squares(np.array([0.0, 1, -1, 0, 1]))]
)
def test_the_inverse_of_a_shape(shape):
    theta = RNG.uniform(0.5, 2.0, 5)
    np.testing.assert_allclose(shape.inverse(shape.value(theta)), theta, rtol=1e-12)


@pytest.mark.parametrize(
    "made, said",
    [
        (lambda: Spline(ONE, [1]), "knots: got 1; allowed: at least 2"),
        (lambda: Spline([(1.0, 1.0)], [3]), r"range: got \[1.0, 1.0\]"),
        (lambda: Spline(TWO, [3]), "one number a variable"),
        (lambda: Spline(TWO, [3, 3], "rising"), "none with several variables"),
        (lambda: Spline(ONE, [3], "upwards"), "rising, falling"),
        (lambda: Spline(ONE, [3], outside="zero"), "linear, constant"),
        (lambda: Perceptron(ONE, 0), "at least 1"),
        (lambda: link("odd"), "positive, negative"),
        (lambda: link(bounds=(2.0, 1.0)), "lower < upper"),
        (lambda: link("positive", (1.0, 2.0)), "not both"),
        (
            lambda: Spline(ONE, [3], "rising").near(lambda x: 1.0 + 0 * x),
            "strictly rising",
        ),
        (
            lambda: Spline(ONE, [3], None, link("positive")).near(lambda x: x),
            "positive values",
        ),
    ],
)
def test_what_cannot_be(made, said):
    with pytest.raises(InputError, match=said):
        made()


def test_points_are_kept_by_what_they_are():
    """Not by the array that holds them."""
    f, v = Spline(ONE, [4]), np.linspace(-1.0, 2.0, 5)
    theta = np.array([1.0, -2.0, 0.5, 3.0])
    first = f.evaluate(theta, v)
    v[:] = v[::-1].copy()
    np.testing.assert_array_equal(f.evaluate(theta, v), first[::-1])
    assert f.evaluate(theta, v[None]).shape == (1, 5)
    for shift in range(40):
        f.evaluate(theta, v + shift)
    np.testing.assert_array_equal(f.evaluate(theta, v), first[::-1])


def test_a_spline_keeps_sets_of_points_up_to_a_size(monkeypatch):
    f, c = Spline([(0.0, 1.0)], [6]), np.arange(6.0) ** 2
    one = f.points(np.linspace(0, 1, 50))
    monkeypatch.setattr(spline, "SETS", spline.Sets())
    monkeypatch.setattr(spline, "KEPT", 3 * one.bytes)
    sets = [np.linspace(0, 1, 50) ** p for p in range(2, 7)]
    wanted = [f.points(v).value(c, (0,)).copy() for v in sets]
    assert len(spline.SETS.kept) == 3 and spline.SETS.bytes == 3 * one.bytes
    assert f.points(sets[-1]) is f.points(sets[-1].copy())
    for v, values in zip(sets, wanted, strict=True):
        np.testing.assert_array_equal(f.points(v).value(c, (0,)), values)
    with pytest.raises(ValueError, match="read-only"):
        f.points(sets[0]).value(c, (0,))[0] = 1.0

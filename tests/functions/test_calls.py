"""Texts that call functions with numbers: values and all derivatives against differences."""

import numpy as np
import pytest

from npde_opt.errors import InputError
from npde_opt.functions import Expressions, Perceptron, Spline, link
from npde_opt.functions.calls import Spread

RNG = np.random.default_rng(1)
FUNCTIONS = {
    "D": Spline([(0.0, 2.0)], [5], "rising", link("positive")),
    "E": Perceptron([(0.0, 2.0), (-1.0, 1.0)], 3),
    "T": Spline([(0.0, 1.0)], [4], link=link(bounds=(0.5, 3.0))),
}
TEXTS = {
    "one": ["a*D(u)*u"],
    "twice": ["D(u)*v - D(v**2)", "u/(1 + D(v))"],
    "nested": ["D(1 + 0.3*E(u, v))*u"],
    "in time": ["a*u*(1 - u)*T(0.3)", "T(0.3)*D(u)"],
}
CELLS = 6


def arguments(e):
    given = []
    for name in e.arguments:
        if name in e.functions:
            given.append(RNG.uniform(0.4, 1.2, e.functions[name].count))
        else:
            given.append(
                RNG.uniform(0.4, 1.2) if name == "a" else RNG.uniform(0.2, 1.6, CELLS)
            )
    return given


def moved(given, directions, h):
    return [x + h * d for x, d in zip(given, directions, strict=True)]


def summed(parts, directions):
    """sum over arguments of a cotangent times a direction."""
    total = 0.0
    for part, d in zip(parts, directions, strict=True):
        whole = part.total(lambda x: x) if isinstance(part, Spread) else part
        total += np.sum(np.broadcast_to(whole, np.shape(whole) or (CELLS,)) * d)
    return total


@pytest.mark.parametrize("name", TEXTS)
def test_derivatives(name):
    e, h = Expressions(TEXTS[name], ("u", "v"), functions=FUNCTIONS), 1e-6
    a, d, other = arguments(e), arguments(e), arguments(e)
    w = [RNG.normal(size=CELLS) for _ in e.texts]
    ahead, behind = (e.value(*moved(a, d, s)) for s in (h, -h))
    pushed = e.push(*a, *d)
    for up, down, slope in zip(ahead, behind, pushed, strict=True):
        np.testing.assert_allclose(slope, (up - down) / (2 * h), rtol=1e-6, atol=1e-7)
    parts = e.cotangents(*a, *w)
    assert len(parts) == len(e.arguments)
    weighted = sum(np.sum(x * y) for x, y in zip(w, pushed, strict=True))
    assert summed(parts, d) == pytest.approx(weighted, rel=1e-11)
    found = summed(e.cotangent_changes(*a, *w, *d), other)
    up, down = (summed(e.cotangents(*moved(a, d, s), *w), other) for s in (h, -h))
    assert found == pytest.approx((up - down) / (2 * h), rel=1e-6)
    rows = e.jacobian(*a)
    alone = [1.0] + [0.0 * x for x in a[1:]]
    np.testing.assert_allclose(rows[0], np.asarray(e.push(*a, *alone)[0]), rtol=1e-12)


def test_numbers_that_do_not_change_cost_nothing():
    e = Expressions(["D(u)*v"], ("u", "v"), functions=FUNCTIONS)
    u, v, theta = arguments(e)
    still = e.push(u, v, theta, 0.0 * u, v, 0.0)[0]
    np.testing.assert_allclose(still, e.value(u, v, theta)[0])
    (part,) = [
        p
        for p in e.cotangent_changes(u, v, theta, u, u, v, 0.0)
        if isinstance(p, Spread)
    ]
    assert all(share.direction is None for share in part.shares)


def test_weights_of_cells():
    """A cell that does not count may have a rate that is not finite."""
    e = Expressions(["D(u)*v"], ("u", "v"), functions=FUNCTIONS)
    u, v, theta = arguments(e)
    w = RNG.normal(size=CELLS)
    (part,) = [p for p in e.cotangents(u, v, theta, w) if isinstance(p, Spread)]
    v[2] = np.inf
    (broken,) = [p for p in e.cotangents(u, v, theta, w) if isinstance(p, Spread)]
    on = np.arange(CELLS) != 2
    found, expected = (p.total(lambda x: np.where(on, x, 0.0)) for p in (broken, part))
    np.testing.assert_allclose(found, expected, rtol=1e-13)
    assert np.isfinite(found).all() and np.abs(found).max() > 0


def test_where_functions_are_called():
    e = Expressions(
        ["D(2*u) + D(v)*D(2*u)", "E(u, v)"], ("u", "v"), functions=FUNCTIONS
    )
    given = dict(zip(e.arguments, arguments(e), strict=True))
    found = e.points(*given.values())
    assert {n: len(calls) for n, calls in found.items()} == {"D": 2, "E": 1}
    np.testing.assert_array_equal(found["E"][0], [given["u"], given["v"]])
    assert any(np.array_equal(call[0], 2 * given["u"]) for call in found["D"])


@pytest.mark.parametrize(
    "text, said",
    [
        (
            "D(u, v)",
            r"'D\(u, v\)' at character 1 of 'D\(u, v\)'; allowed: 1 argument of D",
        ),
        ("2*D", r"the function 'D' without arguments at character 3"),
        ("F(u)", r"'F\(u\)'.*, D, E, T"),
    ],
)
def test_calls_that_are_none(text, said):
    with pytest.raises(InputError, match=said):
        Expressions([text], ("u", "v"), "equation", FUNCTIONS)

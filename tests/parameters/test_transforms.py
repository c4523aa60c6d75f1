"""Every transform times every property of a transform."""

import numpy as np
import pytest

from npde_opt.errors import InputError
from npde_opt.parameters import SATURATED, TRANSFORMS, Unknown

P = np.linspace(-3, 3, 24)
BOUNDS = (0.5, 4.0)

every_transform = pytest.mark.parametrize("name", list(TRANSFORMS))


@every_transform
def test_derivatives(name):
    T, e = TRANSFORMS[name](BOUNDS), 1e-4
    k = T.value(P)
    slope = (T.value(P + e) - T.value(P - e)) / (2 * e)
    np.testing.assert_allclose(T.slope(k) + np.zeros(P.size), slope, rtol=1e-7)
    curvature = (T.value(P + e) - 2 * k + T.value(P - e)) / e**2
    np.testing.assert_allclose(T.curvature(k) + np.zeros(P.size), curvature, atol=1e-6)
    assert T.linear == bool(np.all(np.abs(curvature) < 1e-6))


@every_transform
def test_inverse(name):
    T = TRANSFORMS[name](BOUNDS)
    k = T.value(P)
    assert T.reaches(k).all() and T.defined(k)
    np.testing.assert_allclose(T.inverse(k), P, atol=1e-12)


@every_transform
def test_natural_changes_and_factors(name):
    T = TRANSFORMS[name](BOUNDS)
    assert T.natural(7.0) == (1.0 if T.exponential else 7.0)
    factors = T.value(P + 1) / T.value(P)
    assert T.multiplicative == bool(np.ptp(factors) < 1e-12)


@every_transform
def test_ends_of_the_range(name):
    u = Unknown("k", name, BOUNDS)
    far = np.array([-2 * SATURATED, 0.9, 2 * SATURATED])
    low, high = u.transform.at_ends(far, u.box)
    assert low.tolist() == [True, False, False] and high.tolist() == [
        False,
        False,
        True,
    ]
    assert np.isfinite(u.box).all() != u.transform.saturates
    leads_on = -np.sign(far) * 1e-9
    found = u.transform.saturated(far, leads_on, 1e-6)
    assert found.tolist() == [u.transform.saturates, False, u.transform.saturates]
    assert not u.transform.saturated(far, -leads_on, 1e-6).any()
    assert not u.transform.saturated(far, leads_on, 1e-12).any()


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("log", 0.0, r"unknown.k: got 0.0; allowed: positive values"),
        (
            "bounded",
            4.0,
            r"unknown.k: got 4.0; allowed: values strictly between 0.5 and 4",
        ),
        ("identity", np.inf, r"unknown.k: got inf; allowed: finite values"),
    ],
)
def test_values_out_of_reach_are_refused(name, value, message):
    with pytest.raises(InputError, match=message):
        Unknown("k", name, BOUNDS).inverse(np.array([1.0, value]))


@pytest.mark.parametrize(
    ("name", "bounds", "message"),
    [
        (
            "exp",
            (None, None),
            "unknown.k.transform: got 'exp'; allowed: identity, log, bounded",
        ),
        ("bounded", (None, 1.0), "unknown.k.bounds: .* lower < upper"),
        ("identity", (2.0, 1.0), "unknown.k.bounds: .* lower < upper"),
        ("log", (0.0, None), "unknown.k.bounds: .* positive bounds"),
    ],
)
def test_bounds_that_do_not_go_with_the_transform_are_refused(name, bounds, message):
    with pytest.raises(InputError, match=message):
        Unknown("k", name, bounds)


def test_overflow_is_not_defined():
    T = TRANSFORMS["log"](BOUNDS)
    assert not T.defined(T.value(np.array([0.0, 800.0])))
    assert not T.defined(T.value(np.array([0.0, -800.0])))

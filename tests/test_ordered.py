"""Integers in the order of numbers: the order, the way back, and NaN."""

import itertools
import math

import numpy as np
import pytest

from npde_opt import ordered

TINY, HUGE = 5e-324, 1.7976931348623157e308
ASCENDING = [-math.inf, -HUGE, -1.5, -1.0, -2.3e-308, -TINY, -0.0]
ASCENDING += [0.0, TINY, 2.3e-308, 1.0, math.nextafter(1.0, 2.0), HUGE, math.inf]


def of_each(values, turned):
    """By numbers and by arrays, which are the same."""
    keys = [ordered.of_double(x, turned) for x in values]
    assert ordered.of_array(np.array(values), turned).tolist() == keys
    return keys


def test_integers_ascend_with_doubles():
    assert all(a < b for a, b in itertools.pairwise(of_each(ASCENDING, False)))
    assert all(a > b for a, b in itertools.pairwise(of_each(ASCENDING, True)))


@pytest.mark.parametrize("turned", [False, True])
def test_doubles_come_back_to_the_last_bit(turned):
    drawn = np.random.default_rng(3).integers(-(2**63), 2**63, 2000).view("f8")
    given = np.array([*ASCENDING, *drawn[~np.isnan(drawn)]])
    keys = of_each(given.tolist(), turned)
    assert all(ordered.LEAST < k <= ordered.MOST for k in keys)
    found = np.array([ordered.double(k, turned) for k in keys])
    assert found.tobytes() == given.tobytes()
    assert ordered.array(np.array(keys), turned, given.dtype).tobytes() == (
        given.tobytes()
    )


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize(
    "bits", [0x7FF8 << 48, 0xFFF8 << 48, 0x7FF0 << 48 | 1, 2**64 - 1]
)
def test_any_nan_is_the_least(turned, bits):
    x = np.array([bits], "u8").view("f8")
    assert of_each(x.tolist(), turned) == [ordered.LEAST]
    assert math.isnan(ordered.double(ordered.LEAST, turned))
    for dtype in (np.float64, np.float32):
        found = ordered.array(np.array([ordered.LEAST]), turned, np.dtype(dtype))
        assert np.isnan(found).all()


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize(
    "values",
    [
        np.array([[-(2**63), 2**63 - 1], [0, -1]]),
        np.array([0, 2**63 - 1, 2**63, 2**64 - 1], np.uint64),
        np.array([0, 255], np.uint8),
        np.array([2**32 - 1], np.uint32),
        np.array([True, False]),
        np.array([-0.0, 1e-45, 3.4028235e38, -np.inf], np.float32),
        np.array([6e-8, -65504], np.float16),
        np.linspace(-1, 1, 6).reshape(1, 2, 3).T,
        np.array(0.5),
        np.empty(0),
    ],
)
def test_arrays_come_back(turned, values):
    keys = ordered.of_array(values, turned)
    order = np.argsort(keys.ravel())
    ascending = values.ravel()[order[::-1] if turned else order]
    assert (ascending[1:] >= ascending[:-1]).all()
    found = ordered.array(keys, turned, values.dtype)
    assert found.dtype == values.dtype and found.shape == values.shape
    assert found.tobytes() == values.tobytes()


@pytest.mark.parametrize("kind", ["c8", "c16", "O", "U3", "longdouble"])
def test_other_types_have_none(kind):
    with pytest.raises(TypeError, match="no integers"):
        ordered.of_array(np.zeros(1, kind), False)

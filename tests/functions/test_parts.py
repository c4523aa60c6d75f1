"""Fields in parts: the same values as at once, whatever lies in memory how."""

import numpy as np
import pytest

from npde_opt.functions.parts import PART, in_parts

SIZE = (130, 260)  # more than two parts, the last one smaller


def run(values):
    a, b, c = values
    return [a * b + c, np.exp(-a) * c, a, 2.0 * c]


@pytest.mark.parametrize("orders", ["FF", "CC", "FC", "broadcast", "strided", "small"])
def test_parts_are_the_whole(orders):
    rng = np.random.default_rng(0)
    a, b = rng.random(SIZE), rng.random(SIZE)
    if orders in ("FF", "FC"):
        a = np.asfortranarray(a)
    if orders == "FF":
        b = np.asfortranarray(b)
    if orders == "broadcast":
        b = b[:1]
    if orders == "strided":
        a, b = a[:, ::2], b[:, ::2]
    if orders == "small":
        a, b = a[:8], b[:8]
    asked = []

    def watched(values):
        asked.append(values[0].size)
        return run(values)

    found, expected = in_parts(watched, [a, b, 3.0]), run([a, b, 3.0])
    for f, e in zip(found, expected, strict=True):
        np.testing.assert_array_equal(f, e)
    assert (max(asked) <= PART) == (orders in ("FF", "CC", "small"))
    assert found[-1] == 6.0

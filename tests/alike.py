"""Arrays that are the same to the last bit."""

import numpy as np


def same(found, expected):
    """Whether there are as many arrays, at least one, and each is its counterpart, NaN nowhere."""
    found, expected = list(found), list(expected)
    return len(found) == len(expected) > 0 and all(
        np.array_equal(x, y) for x, y in zip(found, expected, strict=True)
    )

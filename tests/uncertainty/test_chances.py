"""Probabilities of sums of squares, beside scipy's."""

import numpy as np
import pytest
from scipy import special

from npde_opt.uncertainty.chances import above, below


@pytest.mark.parametrize("data", [1, 2, 3, 10, 61, 1_000, 123_456, 10_000_000])
def test_they_are_those_of_scipy(data):
    deviation = np.sqrt(2 * data)
    for by in (-8, -3, -1, -0.1, 0, 0.1, 1, 3, 8):
        x = max(data + by * deviation, 0.0)
        wanted = special.gammainc(data / 2, x / 2), special.gammaincc(data / 2, x / 2)
        found = below(x, data), above(x, data)
        # What cancels in the front factor is of the size of its logarithm.
        assert found == pytest.approx(wanted, rel=4e-15 * max(data, 1e4), abs=1e-12)


def test_far_away_they_are_0_and_1():
    assert (below(0.0, 60), above(0.0, 60)) == (0, 1)
    assert (below(1e6, 60), above(1e6, 60)) == (1, 0)
    assert below(1e-300, 1) < 1e-100
    assert (below(np.inf, 60), above(np.inf, 60)) == (1, 0)

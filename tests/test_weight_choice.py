"""Choosing the regularization weight: the corner of an L-curve, a misfit at the noise."""

import numpy as np
import pytest

from npde_opt.weight_choice import close_in, corner


@pytest.mark.parametrize("at", [3, 6, 8])
def test_corner_of_an_l_with_a_known_one(at):
    w = 4.0 ** -np.arange(12)
    misfits, regularizations = 10 * (1 + w / w[at]), 3 * (1 + (w[at] / w) ** 0.8)
    assert abs(corner(list(misfits), list(regularizations)) - at) <= 1


def test_a_bend_the_other_way_is_no_corner():
    """Flat, steep at the shoulder (concave), then the corner (convex) at index 6."""
    misfits = np.exp([9.0, 9, 9, 8.5, 6, 3, 1, 1, 1, 1])
    regularizations = np.exp([0.0, 2, 4, 4.2, 4.4, 4.6, 5, 6.5, 8, 9.5])
    assert corner(list(misfits), list(regularizations)) == 6


def test_closing_in_finds_the_weight_of_chi_squared_one():
    chi = lambda w: 0.4 + 0.6 * (w / 0.3) ** 0.7  # noqa: E731
    tried = [(w, 0.0, 0.0, chi(w)) for w in (1.0, 0.25)]

    def attempt(w):
        tried.append((w, 0.0, 0.0, chi(w)))
        return chi(w)

    found = close_in(attempt, tried)
    assert found == pytest.approx(0.3, rel=0.1) and chi(found) == pytest.approx(
        1, abs=0.03
    )
    assert len(tried) <= 6

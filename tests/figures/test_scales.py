"""Scales of colours follow percentiles, and say where values lie beyond."""

import numpy as np
import pytest

from npde_opt.figures.scales import around, log_ticks, scale_of


def test_evenly_spread_values_are_shown_whole():
    found = scale_of([np.linspace(2.0, 5.0, 1000)])
    assert (found.low, found.high, found.extend) == (2.0, 5.0, "neither")


@pytest.mark.parametrize("log", [False, True])
def test_values_far_off_are_beyond_the_scale(log):
    values = np.linspace(1.0, 2.0, 1000)
    values[:5] = 1e9
    found = scale_of([values], log)
    assert 1.0 < found.low < 1.03 and 1.9 < found.high < 2.0
    assert found.extend == "both"


def test_a_small_inclusion_in_a_constant_is_shown():
    values = np.ones(1000)
    values[:8] = 3.0
    found = scale_of([values])
    assert (found.low, found.high) == (1.0, 3.0)


@pytest.mark.parametrize("log", [False, True])
def test_a_constant_has_a_scale_around_it(log):
    found = scale_of([np.full(9, 4.0)], log)
    assert found.low < 4.0 < found.high and found.extend == "neither"


def test_what_has_no_logarithm_does_not_count():
    found = scale_of([np.array([-1.0, 0.0, np.nan, 1.0, 10.0])], log=True)
    assert found.low == pytest.approx(1.0) and found.high == pytest.approx(10.0)
    assert scale_of([np.array([np.nan])], log=True).low > 0


def test_errors_have_a_symmetric_scale():
    found = around(np.array([-1.0, 0.0, 3.0]), 0.0, log=False)
    assert (found.low, found.high) == (-3.0, 3.0)
    found = around(np.array([0.25, 1.0, 2.0]), 1.0, log=True)
    assert (found.low, found.high) == (pytest.approx(0.25), pytest.approx(4.0))


@pytest.mark.parametrize("ends", [(0.5, 2.0), (0.9, 1.1), (4.0, 31.0), (0.2, 5000.0)])
def test_a_logarithmic_scale_has_numbers_on_both_sides(ends):
    found = log_ticks(*ends)
    assert 2 <= len(found) <= 8
    assert ends[0] <= found[0] < 0.5 * sum(ends) and found[-1] <= ends[1]

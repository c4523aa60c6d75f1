"""Learning rates by epoch."""

import math

import pytest

from npde_opt.optimizers import Settings
from npde_opt.optimizers.schedules import rate

RATES = {
    "constant": [2.0, 2.0, 2.0, 2.0, 2.0],
    "cosine": [2.0, 1 + 0.5**0.5, 1.0, 1 - 0.5**0.5, 0.0],
    "step": [2.0, 2.0, 1.0, 1.0, 0.5],
}


@pytest.mark.parametrize("name", list(RATES))
def test_rates(name):
    settings = Settings(
        "adam", rate=2.0, schedule=name, max_iterations=4, decay=0.5, period=2
    )
    assert [rate(settings, e) for e in range(5)] == pytest.approx(RATES[name])


def test_rates_fall_and_rise_from_step_to_step():
    settings = Settings(
        "adam", rate=2.0, schedule="cosine", max_iterations=2, warm_up=0.5
    )
    steps = [rate(settings, e, 0.25) for e in (0.0, 0.25, 0.5, 1.0, 1.75)]
    cosine = [1 + math.cos(math.pi * e / 2) for e in (0.0, 0.25, 0.5, 1.0, 1.75)]
    assert steps == pytest.approx([0.5 * cosine[0], *cosine[1:]])
    assert rate(settings, 0.0) == 2.0  # an epoch of one step is beyond half an epoch

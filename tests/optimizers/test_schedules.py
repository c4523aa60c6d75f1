"""Learning rates by epoch."""

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
    settings = Settings("adam", rate=2.0, schedule=name, max_iterations=4, decay=0.5, period=2)
    assert [rate(settings, e) for e in range(5)] == pytest.approx(RATES[name])

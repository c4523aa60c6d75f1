"""Observed times are those of steps, whatever the roundings; others are named."""

import numpy as np
import pytest

from npde_opt.errors import InputError
from npde_opt.observations.instants import indices_of

TIMES = np.array([0.0, 0.1, 0.4, 1.0])


def test_times_of_steps_are_found():
    wanted = np.array([1.0, 0.0, 0.4 + 1e-9, 0.1])
    assert indices_of(TIMES, wanted).tolist() == [3, 0, 2, 1]
    # Days since 4713 BC, in steps of a second.
    clock = 2460000.5 + np.arange(11) / 86400
    assert indices_of(clock, clock[[3, 10]] + 1e-10).tolist() == [3, 10]


@pytest.mark.parametrize("wrong", [0.2, 1.1, -0.1, np.nan])
def test_other_times_are_refused(wrong):
    with pytest.raises(InputError, match=f"seen: got {wrong}; allowed: from 0 to 1"):
        indices_of(TIMES, np.array([0.1, wrong, 0.3]), "seen")

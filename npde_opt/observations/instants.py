"""Which of the times t_0 < ... < t_N, at which steps end, a time is."""

from __future__ import annotations

import numpy as np

from npde_opt.errors import InputError

NEAR = 1e-6
"""A time this close to the end of a step, in steps, is that end."""


def indices_of(
    times: np.ndarray, wanted: np.ndarray, field: str = "observation.times"
) -> np.ndarray:
    """The n with t_n = t, for each wanted t. Raises InputError for a time at which no step ends."""
    found = nearest(wanted, times)
    steps = np.diff(times)
    around = np.maximum(
        steps[np.maximum(found - 1, 0)], steps[np.minimum(found, steps.size - 1)]
    )
    rounding = 4 * np.finfo(float).eps * np.abs(times).max()
    good = np.abs(wanted - times[found]) <= np.maximum(NEAR * around, rounding)
    if not good.all():
        first = wanted[np.argmin(good)]
        raise InputError(field, first, f"from {times[0]:g} to {times[-1]:g}")
    return found


def nearest(points: np.ndarray, found: np.ndarray) -> np.ndarray:
    """Indices of the nearest of the sorted values."""
    above = np.searchsorted(found, points).clip(1, found.size - 1)
    return np.where(
        points - found[above - 1] <= found[above] - points, above - 1, above
    )

"""Entries that a minimizer has at a bound, where the gradient leads on: the active set, which a
normal approximation takes for known."""

from __future__ import annotations

import numpy as np

from npde_opt import reductions
from npde_opt.objective import ObjectiveAt

NEAR = 1e-6
"""Distance from a bound, relative to 1 + its size, that is none."""


def held(at: ObjectiveAt) -> np.ndarray | None:
    """Own entries (local,) at a bound, or as good as at an end of their transform's range; None
    where there are none on any rank. Collective."""
    objective = at.objective
    m, g = at.m.getArray(readonly=True), at.gradient().getArray(readonly=True)
    found = np.asarray(objective.saturated(at.m, at.gradient()))
    bounds = objective.bounds()
    if bounds is not None:
        low, high = (np.array(b.getArray(readonly=True)) for b in bounds)
        for vec in bounds:
            vec.destroy()
        found = found | (m - low <= NEAR * (1 + abs(low))) & (g > 0)
        found = found | (high - m <= NEAR * (1 + abs(high))) & (g < 0)
    some = reductions.anywhere(objective.space.comm, bool(found.any()))
    return found if some else None

"""Times of steps: equal, doubling, or as many as an accuracy asks for, and those at which a step
must end.

They are chosen once, before an optimization.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from mpi4py import MPI

from npde_opt import reductions
from npde_opt.capacity import fits
from npde_opt.distinct import distinct
from npde_opt.errors import InputError
from npde_opt.observations.instants import NEAR, nearest

STEP_BYTES = 2000
"""At least, of a step: its times, its place in the plan of checkpoints, a state of a few cells."""


class TooFewSteps(Exception):
    """A prediction that failed: blow-up, stability."""


def equal(start: float, end: float, steps: int) -> np.ndarray:
    """steps + 1 times."""
    if steps < 1 or not end > start:
        allowed = "an end after the start and at least one step"
        raise InputError(
            "time.times", f"{steps} steps from {start:g} to {end:g}", allowed
        )
    fits("time.times.steps", steps, STEP_BYTES, "steps")
    return np.linspace(start, end, steps + 1)


def doubling(start: float, first: float, end: float, repeats: int) -> np.ndarray:
    """Steps of size `first` that double after every `repeats` steps; the last ones are cut to meet
    `end`.

    What starts suddenly (a well) and then slows down needs such steps, and each size has one
    hierarchy.
    """
    if not (first > 0 and end > start and repeats > 0):
        said = (
            f"{repeats} steps of {first:g}, then longer ones, from {start:g} to {end:g}"
        )
        allowed = "an end after the start, a positive step and repeats"
        raise InputError("time.times", said, allowed)
    parts: list[np.ndarray] = []
    at, dt, slack = start, first, 1e-9 * (end - start)
    while at < end - slack:
        count = int(min(repeats, np.ceil((end - at) / dt)))
        fits("time.times", sum(p.size for p in parts) + count, STEP_BYTES, "steps")
        if at + dt == at:
            raise InputError(
                "time.times.first", first, f"steps that move on from {at:.17g}"
            )
        parts.append(at + dt * np.arange(count))
        at, dt = at + count * dt, 2 * dt
    times = np.concatenate(parts)
    return np.append(times[times < end - slack], end)


def accurate(
    predict: Callable[[np.ndarray], np.ndarray],
    start: float,
    end: float,
    order: int,
    tolerance: float,
    steps: int = 8,
    most: int = 100_000,
    comm: MPI.Intracomm = MPI.COMM_SELF,
) -> np.ndarray:
    """Equal steps such that halving them once more changes the prediction by less than `tolerance`
    times its norm.

    `predict` gives a rank's own data for times, each datum on one rank of `comm`; the error is
    estimated by Richardson's extrapolation for a scheme of the given order. A prediction that
    raises TooFewSteps takes twice as many steps.

    Raises:
        InputError: where `most` steps are not enough.
    """
    coarse, problem = None, ""
    while steps <= most:
        try:
            fine = predict(equal(start, end, steps))
        except TooFewSteps as error:
            problem = f": {error}"
            coarse, steps = None, 2 * steps
            continue
        if coarse is not None:
            own = np.array([np.sum((fine - coarse) ** 2), np.sum(fine**2)])
            change, size = np.sqrt(reductions.total(comm, own))
            if change / (2**order - 1) <= tolerance * max(size, 1e-300):
                return equal(start, end, steps)
        coarse, steps, problem = fine, 2 * steps, ""
    raise InputError(
        "times.tolerance", tolerance, f"one that {most} steps reach{problem}"
    )


def with_stops(
    times: np.ndarray, breakpoints: Sequence[float], observed: Sequence[float] = ()
) -> np.ndarray:
    """The times with stops between them: every step ends where a history has a kink or a jump, or
    where something is seen.

    Breakpoints are taken as they are, since what a history does between two of them counts however
    close they are. A time within NEAR of a step of one gives way to it, and an observed time to
    those, so that no other step is tiny. Stops outside the times are left out. A second call with
    the same stops changes nothing.

    Args:
        times: t_0 < ... < t_N.
        breakpoints: times of kinks and jumps, in any order.
        observed: times of observations, in any order.
    """
    ends = times[[0, -1]]
    rounding = 4 * np.finfo(float).eps * np.abs(ends).max()
    kinks = distinct(np.asarray(breakpoints, float))
    kinks = kinks[(kinks > ends[0] + rounding) & (kinks < ends[1] - rounding)]
    kinks = kinks[np.diff(kinks, prepend=-np.inf) > rounding]
    found = np.concatenate([ends[:1], kinks, ends[1:]])
    for weaker in (times[1:-1], distinct(np.asarray(observed, float))):
        inside = weaker[(weaker > ends[0]) & (weaker < ends[1])]
        apart = _distance(inside, found) > np.maximum(
            NEAR * _step_around(inside, times), rounding
        )
        found = np.sort(np.concatenate([found, inside[apart]]))
    return found


def _distance(points: np.ndarray, found: np.ndarray) -> np.ndarray:
    return np.abs(points - found[nearest(points, found)])


def _step_around(points: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Sizes of the steps in which points lie."""
    return np.diff(times)[np.searchsorted(times, points).clip(1, times.size - 1) - 1]

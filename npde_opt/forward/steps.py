"""Times of steps: equal, doubling, or as many as an accuracy asks for. They are chosen once, before an optimization."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from npde_opt.errors import InputError


class TooFewSteps(Exception):
    """A prediction that failed: blow-up, stability."""


def equal(start: float, end: float, steps: int) -> np.ndarray:
    """steps + 1 times."""
    if steps < 1 or not end > start:
        raise InputError("times", (start, end, steps), "an end after the start and at least one step")
    return np.linspace(start, end, steps + 1)


def doubling(start: float, first: float, end: float, repeats: int) -> np.ndarray:
    """Steps of size `first` that double after every `repeats` steps; the last ones are cut to meet `end`.

    What starts suddenly (a well) and then slows down needs such steps, and each size has one hierarchy.
    """
    if not (first > 0 and end > start and repeats > 0):
        raise InputError("times", (start, first, end, repeats), "an end after the start, a positive step and repeats")
    times, dt = [start], first
    slack = 1e-9 * (end - start)
    while times[-1] < end - slack:
        for _ in range(repeats):
            times.append(times[-1] + dt)
        dt *= 2
    return np.append([t for t in times if t < end - slack], end)


def accurate(predict: Callable[[np.ndarray], np.ndarray], start: float, end: float, order: int, tolerance: float,
             steps: int = 8, most: int = 100_000) -> np.ndarray:
    """Equal steps such that halving them once more changes the prediction by less than `tolerance` times its norm.

    `predict` gives data for times, the same on all ranks; the error is estimated by Richardson's extrapolation for a
    scheme of the given order. A prediction that raises TooFewSteps takes twice as many steps.

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
            error_norm = float(np.linalg.norm(fine - coarse)) / (2**order - 1)
            if error_norm <= tolerance * max(float(np.linalg.norm(fine)), 1e-300):
                return equal(start, end, steps)
        coarse, steps, problem = fine, 2 * steps, ""
    raise InputError("times.tolerance", tolerance, f"one that {most} steps reach{problem}")

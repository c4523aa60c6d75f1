"""Why a run ended, in words: what a person reads after its status."""

from __future__ import annotations

from collections.abc import Sequence

MAY_FALL = 1.0
"""A decrement from which on it need not be found: it is told as 'or more'."""


def held(gradient: str, decrement: float, tolerance: float) -> str:
    """Both tests of an answer."""
    return f"{gradient}, decrement {decrement:.1e} <= {tolerance:g}"


def unseen(names: Sequence[str], tests: str) -> str:
    """What an answer leaves open."""
    what = "; ".join(names)
    return (
        f"the data do not see {what} (apart from that nothing is left to gain: {tests})"
    )


def ran_away(names: Sequence[str]) -> str:
    """Of log parameters that went to 0 or infinity."""
    what = ", ".join(names)
    return (
        f"{what} ran away from the start by more than a factor of 1e13: "
        "give bounds or a prior, or start elsewhere"
    )


def to_gain(decrement: float, tolerance: float) -> str:
    """How far an objective may be above its minimum."""
    if decrement <= tolerance:
        return f"nearly nothing is left to gain (decrement {decrement:.1e} <= {tolerance:g})"
    return (
        f"the objective may still fall by {decrement:.3g} or more "
        f"(decrement; converged: at most {tolerance:g})"
    )


def unknown_gain(failure: str) -> str:
    """Where a solve failed in the search for the decrement."""
    return (
        f"how far the objective may still fall is not known (no decrement: {failure})"
    )


def at_tolerance(gradient: str, gain: str) -> str:
    """Of a run that obeys the gradient tolerance that it was given."""
    return (
        f"{gradient}, but {gain}; to go on lower gradient_rtol, or leave it out: "
        "the run then ends where the decrement is small"
    )


def best(loss: float, iteration: int) -> str:
    """Which point a validation chose."""
    return f"m is that of iteration {iteration}, where the validation loss was least ({loss:.4g})"


def early(loss: float, iteration: int, since: int) -> str:
    """Of a run that a validation ended."""
    return f"the validation loss has not fallen for {since} iterations; {best(loss, iteration)}"


def at_last_iteration(
    limit: int, missing: Sequence[str], rejections: Sequence[str]
) -> str:
    """Of a run that was not through."""
    way = f"to go on raise max_iterations (now {limit})"
    return "; ".join([", and ".join(missing), *rejections, way])


def refused(count: int, last: object) -> str:
    """Of trial points that have no state, which may be why no step helped."""
    were = "trial point was" if count == 1 else "trial points were"
    return f"{count} {were} rejected, the last one as {str(last).rstrip('.')}"


def stalled(tao: str, gradient_norm: float, share: float, more: Sequence[str]) -> str:
    """Of a run that found no lower objective though there is one."""
    norm = f"the gradient norm is {gradient_norm:.3e}, {share:.1e} of its first value"
    return (
        f"no lower objective was found (TAO: {tao}); {'; '.join([norm, *more])}. "
        "Where that is enough, raise gradient_rtol; otherwise tighten the tolerances of the state "
        "and "
        "adjoint solves, on which the accuracy of objective and gradient depends, or start "
        "elsewhere"
    )

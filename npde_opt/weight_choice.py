"""The regularization weight alpha of min_m phi(m) + alpha R(m) from the data.

Discrepancy principle: the alpha at which the squared scaled residuals a datum, chi^2, are 1 (where
the noise is known).
L-curve: the alpha of largest curvature of (log phi, log R), in factors of 4.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from petsc4py import PETSc

from npde_opt.errors import InputError
from npde_opt.objective import Objective
from npde_opt.optimizers import Settings, minimize

FACTOR = 4.0
SEEN = 1e-6
"""Share of the data beside the regularization that rounding leaves to be seen."""
TRIES = 10
TRIALS = {"discrepancy": 24, "l-curve": 14}
STAGNATION, STARTED = 0.005, 0.5
CLOSE, REFINEMENTS = 0.03, 4
SHORT = 0.1


@dataclass(frozen=True)
class Choice:
    """The chosen weight and what was tried: weights, misfits, regularizations (of weight 1),
    chi^2."""

    weight: float
    method: str
    reached: bool
    weights: list[float]
    misfits: list[float]
    regularizations: list[float]
    chi_squared: list[float]


def largest(objective: Objective, m: PETSc.Vec) -> float:
    """Where data and regularization of weight 1 weigh the same along R^-1 g: (p, H p) / (p, R p), p
    = R^-1 g."""
    at = objective.linearize(m)
    p, Hp, Rp = (objective.create_vec() for _ in range(3))
    at.precondition(at.gradient(), p)
    at.hessian(p, Hp, True)
    at.regularization_hessian(p, Rp)
    ratio = p.dot(Hp) / p.dot(Rp) - 1
    at.destroy()
    for vec in (p, Hp, Rp):
        vec.destroy()
    return max(float(ratio), 0.0)


def balance(
    build: Callable[[float], tuple[Objective, PETSc.Vec]],
) -> tuple[float, PETSc.Vec, bool]:
    """The weight at which data and regularization weigh the same, the starting point, and whether
    the unknowns have bounds. In other units of length it is another by many orders of magnitude;
    beside a far larger regularization the data's part would be lost in rounding, so that it is
    weighed again with a smaller one."""
    weight = 1.0
    for _ in range(TRIES):
        objective, m = build(weight)
        share, bounded = largest(objective, m), objective.space.has_bounds
        objective.destroy()
        if share > SEEN:
            break
        m.destroy()
        weight *= SEEN
    else:  # nothing is seen of the data
        objective, m = build(weight)
        objective.destroy()
    return weight * max(share, SEEN), m, bounded


def choose(
    build: Callable[[float], tuple[Objective, PETSc.Vec]],
    method: str,
    settings: Settings,
    say: Callable[[str], None] = lambda text: None,
) -> Choice:
    """Tries weights downwards, each started from the last minimizer; `build` gives objective and
    start for a weight.

    Minimizes with Gauss-Newton, or, where parameters have bounds that it would take no notice of,
    with the settings' method. The discrepancy principle goes down to chi^2 <= 1, then closes in on
    1 to 3 % by interpolation; where a smaller weight no longer lowers chi^2 by 0.5 % it takes that
    one (the data cannot be fitted to their noise on this grid; `reached` is False then).
    """
    if method not in ("discrepancy", "l-curve"):
        raise InputError("regularization.weight", method, "'discrepancy' or 'l-curve'")
    weight, m, bounded = balance(build)
    own = replace(
        settings, gradient_rtol=max(settings.gradient_rtol, 1e-3), decrement=None
    )
    if not bounded:
        own = replace(own, method="gauss-newton", max_iterations=15)
    tried: list[tuple[float, float, float, float]] = []

    def attempt(weight: float) -> float:
        nonlocal m
        objective, start = build(weight)
        start.destroy()
        result = minimize(objective, m, own)
        m.destroy()
        m = result.m
        at = objective.linearize(m)
        chi = at.chi_squared()
        tried.append((weight, at.misfit, at.regularization / weight, chi))
        say(f"weight {weight:.3e}  misfit {at.misfit:.4e}  chi^2 {chi:.3f}")
        at.destroy()
        objective.destroy()
        return chi

    for trial in range(TRIALS[method]):
        chi = attempt(weight)
        stagnates = (
            trial > 2
            and chi < STARTED * tried[0][3]
            and tried[-2][3] - chi < STAGNATION * chi
        )
        if method == "discrepancy" and (chi <= 1 or stagnates):
            break
        weight /= FACTOR
    chosen, reached = tried[-1][0], method == "l-curve" or tried[-1][3] <= 1
    if method == "discrepancy" and reached and len(tried) > 1:
        chosen = close_in(attempt, tried)
    m.destroy()
    columns = [list(c) for c in zip(*tried, strict=True)]
    if method == "l-curve":
        chosen = tried[corner(columns[1], columns[2])][0]
    return Choice(chosen, method, reached, *columns)


def close_in(
    attempt: Callable[[float], float], tried: list[tuple[float, float, float, float]]
) -> float:
    """The weight tried whose chi^2 is closest to 1, after steps between the last two, which bracket
    it."""
    above, below = [(np.log(t[0]), np.log(t[3])) for t in tried[-2:]]
    for _ in range(REFINEMENTS):
        if min(abs(above[1]), abs(below[1])) < CLOSE:
            break
        share = np.clip(above[1] / (above[1] - below[1]), 0.1, 0.9)
        x = above[0] + share * (below[0] - above[0])
        y = np.log(attempt(float(np.exp(x))))
        above, below = ((x, y), below) if y > 0 else (above, (x, y))
    return min(tried, key=lambda t: abs(np.log(t[3])))[0]


def corner(misfits: list[float], regularizations: list[float]) -> int:
    """Index of the sharpest turn of the L-curve from falling misfits to growing regularizations, by
    decreasing weight. The curvature is that of the circle through three points in a row (Menger),
    where both steps change the two by 10 % at least."""
    if len(misfits) < 3:
        return len(misfits) - 1
    x, y = (
        np.log(np.maximum(misfits, 1e-300)),
        np.log(np.maximum(regularizations, 1e-300)),
    )
    before = np.stack([x[1:-1] - x[:-2], y[1:-1] - y[:-2]])
    after = np.stack([x[2:] - x[1:-1], y[2:] - y[1:-1]])
    turn = before[1] * after[0] - before[0] * after[1]
    steps = [
        np.maximum(np.hypot(*step), 1e-300) for step in (before, after, before + after)
    ]
    curvature = 2 * turn / np.prod(steps, axis=0)
    return (
        int(
            np.argmax(
                np.where(np.minimum(steps[0], steps[1]) > SHORT, curvature, -np.inf)
            )
        )
        + 1
    )

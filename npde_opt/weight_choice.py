"""The regularization weight alpha of min_m phi(m) + alpha R(m) from the data.

Discrepancy principle: the alpha at which the squared scaled residuals a datum, chi^2, are 1 (where
the noise is known). Weights fall by factors of 4; as long as chi^2 has not begun to fall, and falls
by less than a tenth from one weight to the next, by twice as many factors as before.
L-curve: the alpha of largest curvature of (log phi, log R), in factors of 4.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from petsc4py import PETSc

from npde_opt.curvatures import curvatures
from npde_opt.errors import InputError
from npde_opt.objective import Objective
from npde_opt.optimizers import Settings, minimize

FACTOR = 4.0
SEEN = 1e-6
"""Share of the data beside the regularization that rounding leaves to be seen."""
TRIES = 10
TRIALS = {"discrepancy": 24, "l-curve": 14}
"""Factors that weights go down by at most."""
STAGNATION, STARTED = 0.005, 0.5
HARDLY = 0.1
"""Of log chi^2: less than that from one weight to the next is hardly a change."""
IDLE = 12
"""Factors over which chi^2 hardly changes, after which smaller weights are not tried."""
CLOSE, REFINEMENTS = 0.03, 4
SHORT = 0.1


Tried = list[tuple[float, float, float, float]]
"""Weight, misfit, regularization of weight 1 and chi^2 of each fit."""


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
    = R^-1 g of the unknowns that are regularized. The others, on which the weight does not act,
    have no R: what the data tell of them says nothing."""
    at = objective.linearize(m)
    p, Hp, Rp = (objective.create_vec() for _ in range(3))
    at.precondition(at.gradient(), p)
    for name in set(objective.space.blocks) - set(objective.regularizers):
        objective.space.zero_block(p, name)
    at.hessian(p, Hp, True)
    at.regularization_hessian(p, Rp)
    ratio = p.dot(Hp) / p.dot(Rp) - 1
    at.destroy()
    for vec in (p, Hp, Rp):
        vec.destroy()
    return max(float(ratio), 0.0)


def balance(
    build: Callable[[float], tuple[Objective, PETSc.Vec]],
) -> tuple[float, PETSc.Vec, dict[str, float] | None]:
    """The weight at which data and regularization weigh the same, the starting point, and
    `curvatures`, or None where the unknowns have bounds. In other units of length the weight is
    another by many orders of magnitude; beside a far larger regularization the data's part would be
    lost in rounding, so that it is weighed again with a smaller one."""
    weight = 1.0
    for _ in range(TRIES):
        objective, m = build(weight)
        share, bounded = largest(objective, m), objective.space.has_bounds
        free = None if bounded else curvatures(objective, m)
        objective.destroy()
        if share > SEEN:
            break
        m.destroy()
        weight *= SEEN
    else:  # nothing is seen of the data
        objective, m = build(weight)
        objective.destroy()
    return weight * max(share, SEEN), m, free


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
    weight, m, free = balance(build)
    own = replace(
        settings, gradient_rtol=max(settings.gradient_rtol, 1e-3), decrement=None
    )
    if free is not None:
        own = replace(own, method="gauss-newton", max_iterations=15)
    tried: Tried = []

    def attempt(weight: float) -> float:
        nonlocal m
        objective, start = build(weight)
        start.destroy()
        objective.curvatures = free or {}
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

    factors, gone = 1, 0
    while gone < TRIALS[method]:
        chi = attempt(weight)
        if method == "discrepancy":
            if chi <= 1 or stagnates(tried) or idle(tried) >= IDLE:
                break
            factors = pace(tried, factors)
        gone += factors
        weight /= FACTOR**factors
    chosen, reached = tried[-1][0], method == "l-curve" or tried[-1][3] <= 1
    if method == "discrepancy" and reached and len(tried) > 1:
        chosen = close_in(attempt, tried)
    elif not reached and not stagnates(tried):
        least = min(t[3] for t in tried)
        chosen = next(t[0] for t in tried if t[3] <= (1 + STAGNATION) * least)
    m.destroy()
    columns = [list(c) for c in zip(*tried, strict=True)]
    if method == "l-curve":
        chosen = tried[corner(columns[1], columns[2])][0]
    return Choice(chosen, method, reached, *columns)


def stagnates(tried: Tried) -> bool:
    """Whether chi^2 has fallen, and the last weight no longer lowered it by 0.5 %."""
    if len(tried) < 4 or tried[-1][3] >= STARTED * tried[0][3]:
        return False
    return tried[-2][3] - tried[-1][3] < STAGNATION * tried[-1][3]


def pace(tried: Tried, factors: int) -> int:
    """Factors from the last weight to the next, after so many to the last one."""
    if len(tried) < 2 or tried[-1][3] < STARTED * tried[0][3]:
        return 1
    return 2 * factors if abs(np.log(tried[-2][3] / tried[-1][3])) < HARDLY else 1


def idle(tried: Tried) -> float:
    """Factors over which chi^2 has hardly changed up to the last weight."""
    weight, _, _, chi = tried[-1]
    same = itertools.takewhile(
        lambda t: abs(np.log(t[3] / chi)) < HARDLY, reversed(tried)
    )
    return max(float(np.log(t[0] / weight) / np.log(FACTOR)) for t in same)


def close_in(attempt: Callable[[float], float], tried: Tried) -> float:
    """The weight tried whose chi^2 is closest to 1, after steps between the last two, which bracket
    it: halves of more than one factor, then interpolation."""
    above, below = [(np.log(t[0]), np.log(t[3])) for t in tried[-2:]]

    def at(share: float) -> None:
        nonlocal above, below
        x = above[0] + share * (below[0] - above[0])
        y = np.log(attempt(float(np.exp(x))))
        above, below = ((x, y), below) if y > 0 else (above, (x, y))

    while above[0] - below[0] > 1.01 * np.log(FACTOR):
        at(0.5)
    for _ in range(REFINEMENTS):
        if min(abs(above[1]), abs(below[1])) < CLOSE:
            break
        at(float(np.clip(above[1] / (above[1] - below[1]), 0.1, 0.9)))
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

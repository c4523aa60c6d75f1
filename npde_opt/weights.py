"""The regularization weight alpha of min_m phi(m) + alpha R(m) from the data.

Discrepancy principle: the largest alpha of a decreasing sequence at which the squared scaled residuals a datum, chi^2,
reach 1 (where the noise is known). L-curve: the alpha of largest curvature of (log phi, log R).
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
TRIALS = 12
STAGNATION = 0.005


@dataclass(frozen=True)
class Choice:
    """The chosen weight and what was tried: weights, misfits, regularizations (of weight 1), chi^2."""

    weight: float
    method: str
    reached: bool
    weights: list[float]
    misfits: list[float]
    regularizations: list[float]
    chi_squared: list[float]


def largest(objective: Objective, m: PETSc.Vec) -> float:
    """Where data and regularization of weight 1 weigh the same along R^-1 g: (p, H p) / (p, R p), p = R^-1 g."""
    at = objective.linearize(m)
    p, Hp, Rp = (objective.create_vec() for _ in range(3))
    at.precondition(at.gradient(), p)
    at.hessian(p, Hp, True)
    at.regularization_hessian(p, Rp)
    ratio = p.dot(Hp) / p.dot(Rp) - 1
    at.destroy()
    for vec in (p, Hp, Rp):
        vec.destroy()
    return max(ratio, 1e-12)


def choose(build: Callable[[float], tuple[Objective, PETSc.Vec]], method: str, settings: Settings,
           say: Callable[[str], None] = lambda text: None) -> Choice:
    """Tries weights downwards, each started from the last minimizer; `build` gives objective and start for a weight.

    The discrepancy principle stops at chi^2 <= 1, or where a smaller weight no longer lowers chi^2 by 0.5 % (the data
    cannot be fitted to their noise on this grid; `reached` is False then).
    """
    if method not in ("discrepancy", "l-curve"):
        raise InputError("regularization.weight", method, "'discrepancy' or 'l-curve'")
    objective, m = build(1.0)
    weight = largest(objective, m)
    objective.destroy()
    tried: list[tuple[float, float, float, float]] = []
    reached = False
    own = replace(settings, method="gauss-newton", gradient_rtol=max(settings.gradient_rtol, 1e-3), max_iterations=15)
    for _ in range(TRIALS):
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
        if method == "discrepancy":
            reached = chi <= 1
            if reached or (len(tried) > 3 and tried[-2][3] - chi < STAGNATION * chi):
                break
        weight /= FACTOR
    m.destroy()
    columns = [list(c) for c in zip(*tried, strict=True)]
    chosen = tried[-1][0] if method == "discrepancy" else columns[0][corner(columns[1], columns[2])]
    return Choice(chosen, method, reached or method == "l-curve", *columns)


def corner(misfits: list[float], regularizations: list[float]) -> int:
    """Index of the largest curvature of the L-curve."""
    x, y = np.log(np.maximum(misfits, 1e-300)), np.log(np.maximum(regularizations, 1e-300))
    dx, dy = np.gradient(x), np.gradient(y)
    speed = np.maximum(dx**2 + dy**2, 1e-300) ** 1.5
    curvature = np.abs(dx * np.gradient(dy) - dy * np.gradient(dx)) / speed
    return int(np.argmax(curvature[1:-1])) + 1 if len(misfits) > 2 else len(misfits) - 1

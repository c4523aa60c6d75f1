"""How good the solves of the answer are: the largest |b - A u| / |b| (2-norm) of one forward run.

A steady case solves a system an experiment, an evolution one an implicit stage. Nonlinear stages
have two figures: their own residual, and that of the linear systems of Newton's method.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, cast

import numpy as np

from npde_opt.aliases import Record
from npde_opt.linear.measured import Solves, measured
from npde_opt.objective import Objective, ObjectiveAt
from npde_opt.reductions import largest, total

if TYPE_CHECKING:
    from npde_opt.forward import Evolution, Linearization, Steady
    from npde_opt.forward.evolution_point import EvolutionPoint


def model(objective: Objective) -> Steady | Evolution:
    """The forward map of a case's objective."""
    return cast("Steady | Evolution", objective.forward)


def solved(at: ObjectiveAt) -> Linearization | EvolutionPoint:
    """A case's states at a point."""
    return cast("Linearization | EvolutionPoint", at.linearization)


def run_measured(at: ObjectiveAt) -> Record:
    """Solves the states at a point where that is still to be done; metrics of these solves.
    Collective."""
    with measured() as found:
        at.chi_squared()
    return solve_metrics(at.objective, found)


def solve_metrics(objective: Objective, found: Mapping[str, Solves]) -> Record:
    """NAME_residual_true and more of the systems of all groups, where there are any. Collective.

    NAME is `state`, and `newton` where stages are nonlinear.
    """
    across, asked = objective.ensemble.across, model(objective).asked()
    metrics: Record = {}
    for kind in ("state", "newton"):
        own = found[kind]
        worst = largest(across, own.residual)
        count, iterations = total(across, np.array([own.count, own.iterations], float))
        if count == 0:
            continue
        metrics |= {
            f"{kind}_residual_true": worst,
            f"{kind}_systems": int(count),
            f"{kind}_iterations_mean": float(iterations / count),
            f"{kind}_tolerance": asked[kind],
        }
    return metrics

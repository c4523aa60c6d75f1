"""Nested iteration: min J_h on a hierarchy of grids h_0 > h_1 > ... > h_L, coarsest first.

The minimizer on one grid, prolonged, starts the next, so that the finest grid needs a few iterations only. All levels
share one reference for the gradient norm (mass-weighted, hence comparable): the initial one on the coarsest grid.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from petsc4py import PETSc

from npde_opt.grids import Grid
from npde_opt.monitor import Monitor
from npde_opt.objective import Objective
from npde_opt.operators import prolongation
from npde_opt.optimizers import OptimizerState, Result, Settings, minimize
from npde_opt.parameters import ParameterSpace

Build = Callable[[Grid], tuple[Objective, PETSc.Vec]]
"""From a grid to its objective and starting point; called once a level."""

COARSE_RTOL = 1e-3


@dataclass(frozen=True)
class Identification:
    """The finest grid's objective and result, and what all levels did."""

    objective: Objective
    result: Result
    history: list[dict[str, Any]]
    finest_solves: int
    total_solves: int
    krylov_iterations: int


def grids(finest: Grid, levels: int | None = None) -> list[Grid]:
    """Grids, coarsest first: at most `levels`, as many as the grid coarsens into where None."""
    found = [finest]
    while levels is None or len(found) < levels:
        coarse = found[-1].coarsen(16)
        if coarse is None:
            break
        found.append(coarse)
    return found[::-1]


def prolong(coarse: ParameterSpace, fine: ParameterSpace, m: PETSc.Vec, start: PETSc.Vec) -> PETSc.Vec:
    """The coarse parameters on the fine grid: fields interpolated (fixed cells from `start`), constants copied."""
    out = start.copy()
    P = None
    for u in fine.unknowns:
        if not u.is_field:
            values = coarse.constants(m, u.name)
            own = fine.owned_constants(out, u.name)
            own[...] = values[:own.size]
            continue
        P = P or prolongation(coarse.grid, fine.grid)
        x, y = coarse.field_vec(m, u.name), fine.grid.create_scalar()
        P.mult(x, y)
        free = fine.free(u.name)
        fine.field(out, u.name)[free] = fine.grid.view(y)[free]
        x.destroy()
        y.destroy()
    if P is not None:
        P.destroy()
    return out


def identify(finest: Grid, build: Build, settings: Settings, levels: int | None = None, monitor: Monitor | None = None,
             resume: tuple[int, Callable[[Objective], OptimizerState], dict[str, Any]] | None = None) -> Identification:
    """Minimizes on all levels. `resume` = (level to continue on, state for its objective, counts so far).

    Coarse levels stop at a gradient of 1e-3 of the initial one, the finest at settings.gradient_rtol.

    Raises:
        SolverError, Interrupted: as the objective and the monitor raise them.
    """
    hierarchy = grids(finest, levels)
    first, state_of, counts = resume if resume is not None else (0, None, {})
    reference = counts.get("reference", settings.gradient_reference)
    history: list[dict[str, Any]] = []
    total = krylov = 0
    previous: tuple[Objective, PETSc.Vec] | None = None
    for level, grid in enumerate(hierarchy):
        if level < first:
            continue
        objective, m = build(grid)
        if previous is not None:
            start = m
            m = prolong(previous[0].space, objective.space, previous[1], start)
            start.destroy()
            previous[1].destroy()
            previous[0].destroy()
        last = level == len(hierarchy) - 1
        rtol = settings.gradient_rtol if last else max(settings.gradient_rtol, COARSE_RTOL)
        own = replace(settings, level=level, gradient_rtol=rtol, gradient_reference=reference)
        if monitor is not None:
            monitor.start_level(grid.shape, space=objective.space, level=level, levels=len(hierarchy),
                                gradient_rtol=rtol, gradient_reference=reference, max_iterations=own.max_iterations)
        state = state_of(objective) if state_of is not None and level == first else None
        result = minimize(objective, m, own, monitor, state)
        reference = reference or result.gradient_norm_initial
        history += result.history
        spent = objective.counters.snapshot()
        solves = spent["forward_solves"] + spent["adjoint_solves"]
        total, krylov = total + solves, krylov + spent["krylov_iterations"]
        m.destroy()
        previous = (objective, result.m)
        PETSc.garbage_cleanup(grid.comm)
    return Identification(objective, result, history, solves, total, krylov)

"""The regularization weight of a run whose case asks for the discrepancy principle or an L-curve,
kept as weight.json."""

from __future__ import annotations

import json
from dataclasses import asdict

from mpi4py import MPI
from petsc4py import PETSc

from npde_opt import nested, weight_choice
from npde_opt.aliases import Plain, Record
from npde_opt.cases import Case
from npde_opt.ensemble import Ensemble
from npde_opt.errors import InputError, collective
from npde_opt.grids import Grid
from npde_opt.io.files import content_of, disk
from npde_opt.objective import Objective
from npde_opt.optimizers import Settings
from npde_opt.runs.folder import RunDirectory
from npde_opt.runs.monitor import Monitor
from npde_opt.runs.resume import Earlier

WEIGHT = "weight.json"
CHOICE_CELLS = 20_000


def rule(case: Case) -> str | None:
    """How the case wants its weight chosen, None where it is given."""
    return next(
        (r.weight for r in case.table.regularization if isinstance(r.weight, str)), None
    )


def choose_weight(
    case: Case,
    grid: Grid,
    ensemble: Ensemble,
    settings: Settings,
    levels: int | None,
    out: RunDirectory | None,
    monitor: Monitor,
    before: Earlier | None,
    world: MPI.Intracomm,
) -> None:
    """Sets the weight on the finest grid of at most 20,000 cells, or to what the run that is
    resumed chose `before`. Collective."""
    wanted = rule(case)
    if wanted is None:
        return
    choice = None
    with collective(world):
        if before is not None and out is not None and world.rank == 0:
            choice = before.weight(_kept(out))
    choice = world.bcast(choice, root=0)
    if choice is None:
        choice = _choose(case, grid, ensemble, settings, levels, monitor, wanted)
        with collective(world):
            if out is not None:
                out.write(WEIGHT, json.dumps(choice))
    monitor.weight = choice
    case.weight_override = choice["weight"]


def _kept(out: RunDirectory) -> Plain:
    file = out.file(WEIGHT)
    if not file.exists():
        return None
    try:
        with disk("--resume", out.path, "a folder that can be read"):
            return json.loads(content_of(file))
    except ValueError as error:
        allowed = "the file as it was written; without it the weight is chosen again"
        raise InputError(f"--resume: {file}", str(error), allowed) from error


def _choose(
    case: Case,
    grid: Grid,
    ensemble: Ensemble,
    settings: Settings,
    levels: int | None,
    monitor: Monitor,
    wanted: str,
) -> Record:
    hierarchy = nested.grids(grid, levels)
    coarse = next(
        (g for g in reversed(hierarchy) if g.active_size <= CHOICE_CELLS), hierarchy[0]
    )

    def build(weight: float) -> tuple[Objective, PETSc.Vec]:
        case.weight_override = weight
        return case.build(coarse, ensemble)

    monitor.say(
        f"regularization weight by {wanted} on {' x '.join(map(str, coarse.shape))} cells"
    )
    choice = weight_choice.choose(build, wanted, settings, monitor.say)
    monitor.say(
        f"chosen weight {choice.weight:.3e}"
        + (
            ""
            if choice.reached
            else " (the misfit does not reach the noise on this grid; a smaller weight no longer "
            "helps)"
        )
    )
    return asdict(choice)

"""Where a resumed run goes on, read from its checkpoint alone: state, stopping reference, counters,
history, weight."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from mpi4py import MPI
from petsc4py import PETSc

from npde_opt import nested, restarts
from npde_opt.ensemble import Ensemble
from npde_opt.errors import InputError, collective
from npde_opt.io.checkpoint import REMEDY, Checkpoint, check_identity, find_checkpoint
from npde_opt.objective import Objective
from npde_opt.optimizers import OptimizerState
from npde_opt.parameters import ParameterSpace
from npde_opt.runs.folder import RunDirectory
from npde_opt.runs.monitor import SPECTRUM, Monitor
from npde_opt.runs.starts import outcome_of


def last_checkpoint(
    out: RunDirectory | None, ensemble: Ensemble, world: MPI.Intracomm
) -> Checkpoint | None:
    """The run's last undamaged checkpoint, on every rank of every group; None where it has none.
    Collective.

    The group that has the run's folder (`out`) reads it, and hands it to the others.
    """
    found = None
    with collective(world):
        if out is not None:
            found = find_checkpoint(out.path, ensemble.space)
    return ensemble.across.bcast(found, root=0)


def refuse_another_run(
    found: Checkpoint | None,
    out: RunDirectory | None,
    identity: Mapping[str, str],
    world: MPI.Intracomm,
) -> None:
    """Raises InputError, alike on every rank, naming what is not as in the run that wrote the
    checkpoint, or that finished in the folder. Collective."""
    if found is not None:
        check_identity(found, identity)
    with collective(world):
        if out is not None:
            out.refuse_another(identity)


def finished(
    found: Checkpoint | None,
    ended: Sequence[Checkpoint],
    out: RunDirectory | None,
    monitor: Monitor,
    ensemble: Ensemble,
    world: MPI.Intracomm,
) -> bool:
    """Whether the run came to its end; says so, and puts a lost history back. Collective."""
    summary = None
    with collective(world):
        if out is not None:
            summary = out.finished()
            last = _last(found, ended)
            if summary is not None and last is not None:
                monitor.resume(last)
    summary = ensemble.across.bcast(summary, root=0)
    if summary is None:
        return False
    monitor.say(
        f"this run is finished ({summary['status'].replace('_', ' ')} after "
        f"{summary['iterations']} iterations, "
        f"objective {summary['objective']!r}): nothing to resume; --overwrite starts it again"
    )
    return True


def _last(found: Checkpoint | None, ended: Sequence[Checkpoint]) -> Checkpoint | None:
    """The later one of the run's last checkpoint and the last start that ended."""
    if ended and (found is None or found.extra.get("start", 0) < len(ended)):
        return ended[-1]
    return found


def where_to_go_on(
    found: Checkpoint | None,
    ended: Sequence[Checkpoint],
    out: RunDirectory | None,
    monitor: Monitor,
    ensemble: Ensemble,
    world: MPI.Intracomm,
) -> restarts.Resume | None:
    """The start of a resumed run; None, with an empty history, where it starts again. Says which.
    Collective.

    Args:
        ended: starts that came to their end.
    """
    last = _last(found, ended)
    if last is None:
        with collective(world):
            monitor.restart()
        monitor.say("no checkpoint to resume from: starting from the beginning")
        return None
    with collective(world):
        monitor.resume(last)
    inside = None
    if last is found:
        inside = _inside(found, out, monitor, ensemble, world)
    else:
        monitor.say(f"resuming after start {len(ended) - 1}")
    told = []
    for kept in ended:
        counted = {key: share(kept.extra[key], ensemble.across) for key in ("counters", "work")}
        told.append(outcome_of(kept, counted))
    return restarts.Resume(
        told, inside, lambda start, space: load(ended[start], space, ensemble, world)["m"]
    )


def _inside(
    found: Checkpoint,
    out: RunDirectory | None,
    monitor: Monitor,
    ensemble: Ensemble,
    world: MPI.Intracomm,
) -> nested.Resume:
    """Where a checkpoint was written. Collective."""
    now, before = ensemble.space.size * ensemble.groups, _ranks(found)
    start = found.extra.get("start")
    monitor.say(
        f"resuming after iteration {found.extra['iteration']} on grid {found.extra['level'] + 1}"
        + ("" if start is None else f" from start {start}")
        + (f", on {now} ranks ({before} wrote the checkpoint)" if before not in (None, now) else "")
    )
    learnt = None
    with collective(world):
        if out is not None:
            learnt = find_checkpoint(out.file(SPECTRUM), ensemble.space, found.extra["identity"])
    learnt = ensemble.across.bcast(learnt, root=0)

    def state(objective: Objective) -> OptimizerState:
        counters = share(found.extra["counters"], ensemble.across)
        return OptimizerState(
            load(found, objective.space, ensemble, world), {**found.state, "counters": counters}
        )

    def spectrum(space: ParameterSpace) -> list[PETSc.Vec] | None:
        return None if learnt is None else list(load(learnt, space, ensemble, world).values())

    return nested.Resume(
        int(found.extra["level"]),
        state,
        found.extra["gradient_reference"],
        share(found.extra["spent"], ensemble.across),
        spectrum,
    )


def _ranks(found: Checkpoint) -> int | None:
    return found.extra.get("ranks")


def load(
    found: Checkpoint, space: ParameterSpace, ensemble: Ensemble, world: MPI.Intracomm
) -> dict[str, PETSc.Vec]:
    """A checkpoint's vectors in all groups, read by the first; the caller destroys them.
    Collective."""
    vectors: dict[str, PETSc.Vec] = {}
    with collective(world):
        if ensemble.across.rank == 0:
            vectors = found.load(space, ensemble.space)
        else:
            vectors = {name: space.create_vec() for name in found.vectors}
    for name in found.vectors:
        ensemble.across.Bcast(vectors[name].getArray(), root=0)
    return vectors


def share(by_group: Sequence[Mapping[str, int]], across: MPI.Intracomm) -> dict[str, int]:
    """What this group had counted; all of it in the first, where there are now more or fewer
    groups."""
    if len(by_group) == across.size:
        return dict(by_group[across.rank])
    total: Counter[str] = Counter()
    for counted in by_group:
        total.update(counted)
    return {name: count if across.rank == 0 else 0 for name, count in total.items()}


def stored_weight(found: Checkpoint | None, kept: Any) -> dict[str, Any] | None:
    """The choice of the weight of the run that is resumed: the checkpoint's, or that of weight.json
    before the first one.

    Raises:
        InputError: where the file was damaged.
    """
    choice = found.extra.get("weight") if found is not None else None
    choice = choice or kept
    if choice is None:
        return None
    weight = choice.get("weight") if isinstance(choice, dict) else None
    if not isinstance(weight, float) or not weight > 0:
        raise InputError(
            "--resume: weight.json",
            repr(weight),
            f"the choice of a weight as it was written; {REMEDY}",
        )
    return choice

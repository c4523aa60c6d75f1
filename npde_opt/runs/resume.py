"""Where a resumed run goes on, read from its checkpoint alone: state, stopping reference, counters,
history, weight."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from mpi4py import MPI
from petsc4py import PETSc

from npde_opt import nested, restarts
from npde_opt.aliases import Plain, Record
from npde_opt.ensemble import Ensemble
from npde_opt.errors import InputError, collective
from npde_opt.io.checkpoint import REMEDY, Checkpoint, check_identity, find_checkpoint
from npde_opt.objective import Objective
from npde_opt.optimizers import OptimizerState
from npde_opt.parameters import ParameterSpace
from npde_opt.runs.folder import RunDirectory
from npde_opt.runs.monitor import SPECTRUM, Monitor
from npde_opt.runs.progress import TRAINED
from npde_opt.runs.starts import ended, outcome_of

STOPPED = ("max_iterations", TRAINED)
"""Statuses of runs that have done as many iterations as they may."""


class Earlier:
    """What an earlier run left in a folder, on every rank of every group. Methods are collective.

    The group that has the folder (`out`) reads it, and hands it to the others.

    Attributes:
        found: its last undamaged checkpoint; None where it has none.
        ended: starts that came to their end.

    Raises:
        InputError: alike on every rank, naming what is not as in the run that wrote the checkpoint,
            or that finished in the folder.
    """

    def __init__(
        self,
        out: RunDirectory | None,
        ensemble: Ensemble,
        world: MPI.Intracomm,
        identity: Mapping[str, str],
    ):
        self.out, self.ensemble, self.world = out, ensemble, world
        found = None
        with collective(world):
            if out is not None:
                found = find_checkpoint(out.path, ensemble.space)
        self.found: Checkpoint | None = ensemble.across.bcast(found, root=0)
        if self.found is not None:
            check_identity(self.found, identity)
        with collective(world):
            if out is not None:
                out.refuse_another(identity)
        self.ended = ended(out, ensemble, identity, world)

    @property
    def last(self) -> Checkpoint | None:
        """The later one of the last checkpoint and the last start that ended."""
        began = 0 if self.found is None else self.found.extra.get("start") or 0
        if self.ended and (self.found is None or began < len(self.ended)):
            return self.ended[-1]
        return self.found

    def finished(
        self,
        monitor: Monitor,
        limit: int | None,
        kind: str | None = None,
        wanted: Record | None = None,
    ) -> bool:
        """Whether the run came to its end; says so, and puts a lost history back.

        Args:
            limit: of iterations now; a run that stopped at a smaller one goes on. None: with
                several starts, of which none goes on.
            kind: of uncertainty that is asked for; a run that did not tell it goes on from its last
                checkpoint. wanted: which section of the case, the kind of chains, and their
                numbers, of which it may have fewer.
        """
        summary = None
        with collective(self.world):
            if self.out is not None:
                summary = self.out.finished()
                if summary is not None and self.last is not None:
                    monitor.resume(self.last)
        summary = self.ensemble.across.bcast(summary, root=0)
        if summary is None:
            return False
        iterations = int(summary["iterations"])
        if summary["status"] in STOPPED and limit is not None and iterations < limit:
            monitor.say(
                f"this run stopped at its last iteration, {iterations}; it goes on to {limit}"
            )
            return False
        if kind is not None and lacks_uncertainty(
            summary.get("metrics") or {}, kind, wanted or {}
        ):
            monitor.say(f"this run is finished; it goes on for --uncertainty {kind}")
            return False
        monitor.say(
            f"this run is finished ({summary['status'].replace('_', ' ')} after "
            f"{summary['iterations']} iterations, "
            f"objective {summary['objective']!r}): nothing to resume; --overwrite starts it again"
        )
        return True

    def where_to_go_on(self, monitor: Monitor) -> restarts.Resume | None:
        """The start of a resumed run; None, with an empty history, where it starts again. Says
        which."""
        last = self.last
        with collective(self.world):
            if last is None:
                monitor.restart()
            else:
                monitor.resume(last)
        if last is None:
            monitor.say("no checkpoint to resume from: starting from the beginning")
            return None
        told = [
            outcome_of(kept, self._share(kept, "counters"), self._share(kept, "work"))
            for kept in self.ended
        ]
        inside = None
        if last is self.found:
            inside = self._inside(last, monitor)
        else:
            monitor.say(f"resuming after start {len(self.ended) - 1}")
        return restarts.Resume(
            told,
            inside,
            lambda start, space: self._load(self.ended[start], space)["m"],
            last.extra.get("levels"),
        )

    def _inside(self, found: Checkpoint, monitor: Monitor) -> nested.Resume:
        """Where a checkpoint was written."""
        ensemble, extra = self.ensemble, found.extra
        now, before = ensemble.space.size * ensemble.groups, extra.get("ranks")
        start = extra.get("start")
        monitor.say(
            f"resuming after iteration {extra['iteration']} on grid {extra['level'] + 1}"
            + ("" if start is None else f" from start {start}")
            + (
                f", on {now} ranks ({before} wrote the checkpoint)"
                if before not in (None, now)
                else ""
            )
        )
        learnt, level = None, int(extra["level"])
        with collective(self.world):
            if self.out is not None:
                kept = self.out.file(SPECTRUM), ensemble.space, extra["identity"]
                learnt = find_checkpoint(*kept, below=level)
        learnt = ensemble.across.bcast(learnt, root=0)
        # That of an earlier start, or of one with other grids, is not this one's.
        if learnt and any(
            learnt.extra.get(k) != extra.get(k) for k in ("start", "levels")
        ):
            learnt = None
        # Runs of before did not say on which level they learnt.
        learnt_on = None if learnt is None else learnt.extra.get("level")

        def state(objective: Objective) -> OptimizerState:
            meta = {**found.state, "counters": self._share(found, "counters")}
            return OptimizerState(self._load(found, objective.space), meta)

        def spectrum(space: ParameterSpace) -> list[PETSc.Vec]:
            return [] if learnt is None else list(self._load(learnt, space).values())

        spent, reference = self._share(found, "spent"), extra["gradient_reference"]
        return nested.Resume(
            level, state, reference, spent, learnt_on, spectrum, extra.get("levels")
        )

    def _share(self, found: Checkpoint, key: str) -> dict[str, int]:
        return share(found.extra[key], self.ensemble.across)

    def _load(self, found: Checkpoint, space: ParameterSpace) -> dict[str, PETSc.Vec]:
        return found.load_for_all(space, self.ensemble)

    def weight(self, kept: Plain) -> Record | None:
        """How the weight was chosen: the checkpoint's choice, or that of weight.json before the
        first one.

        Raises:
            InputError: where the file was damaged.
        """
        choice = self.found.extra.get("weight") if self.found is not None else None
        choice = choice or kept
        if choice is None:
            return None
        weight = choice.get("weight") if isinstance(choice, dict) else None
        if not isinstance(weight, float) or not weight > 0:
            said = f"the choice of a weight as it was written; {REMEDY}"
            raise InputError("--resume: weight.json", repr(weight), said)
        return dict(choice)


def lacks_uncertainty(metrics: Record, kind: str, wanted: Record) -> bool:
    """Whether a run did not tell this kind of uncertainty, or of another section, or with other or
    fewer chains."""
    told = metrics.get("uncertainty")
    # All of them tell what `laplace` does.
    if told is None or kind not in ("laplace", told):
        return True
    return any(
        metrics.get(name) != what
        if isinstance(what, str)
        else metrics.get(name, 0) < what
        for name, what in wanted.items()
    )


def share(
    by_group: Sequence[Mapping[str, int]], across: MPI.Intracomm
) -> dict[str, int]:
    """What this group had counted; all of it in the first, where there are now more or fewer
    groups."""
    if len(by_group) == across.size:
        return dict(by_group[across.rank])
    total: Counter[str] = Counter()
    for counted in by_group:
        total.update(counted)
    return {name: count if across.rank == 0 else 0 for name, count in total.items()}

"""A run of a case: its folder, where it goes on, its data and weight, and what it leaves."""

from __future__ import annotations

import argparse
import sys
import time
from typing import TYPE_CHECKING

from mpi4py import MPI

from npde_opt import errors, registry, restarts
from npde_opt.aliases import Record
from npde_opt.cases import Case, load_case
from npde_opt.cases.rules import check_identifiable, time_of
from npde_opt.ensemble import Ensemble
from npde_opt.io.results import (
    Seconds,
    Summary,
    peak_memory_mb,
    peak_memory_mb_of_a_rank,
)
from npde_opt.petsc_options import check_options, unused_text
from npde_opt.runs import told
from npde_opt.runs.asked import SAMPLES, Asked, digest
from npde_opt.runs.attempts import Attempts
from npde_opt.runs.columns import Column
from npde_opt.runs.identity import identity
from npde_opt.runs.meanings import meanings, of_batches
from npde_opt.runs.monitor import Monitor
from npde_opt.runs.opened import Opened
from npde_opt.runs.rehearsal import rehearse
from npde_opt.runs.report import report
from npde_opt.runs.resume import Earlier
from npde_opt.runs.weight import choose_weight, rule

if TYPE_CHECKING:
    from petsc4py import PETSc

    from npde_opt.objective import Objective


def open_case(
    options: argparse.Namespace, world: MPI.Intracomm
) -> tuple[Case, Ensemble]:
    """The case of a command line, and the groups of ranks that share its experiments.
    Collective."""
    if options.module is not None:
        with errors.collective(world):
            registry.load(options.module)
    case = load_case(
        options.case,
        world,
        cells=options.grid,
        data=options.data,
        seed=options.seed,
        variables=options.variables,
        memory=options.memory,
    )
    case.set_petsc_options()
    check_options()
    return case, Ensemble.split(world, options.experiment_groups, case.experiment_count)


FEW = 5_000
"""Cells a rank, below which ranks wait for each other longer than they work."""


def few_cells(cells: int, ranks: int) -> str:
    """A warning where fewer ranks a grid are faster, or ''."""
    if ranks == 1 or cells >= FEW * ranks:
        return ""
    best = max(cells // FEW, 1)
    told = f"warning: {cells // ranks:,} cells a rank; {best} of {ranks} ranks"
    return f"{told} {'is' if best == 1 else 'are'} likely to be faster on this grid"


class Run(Opened[Case]):
    """One run of a driver; a context that gives its folder back. All methods are collective.

    Args:
        options: see options.py.
        started: seconds of time.monotonic() at the program's first line.
    """

    def __init__(
        self,
        options: argparse.Namespace,
        case: Case,
        ensemble: Ensemble,
        world: MPI.Intracomm,
        started: float,
    ):
        check_identifiable(case.table)
        self.started = self.ready = started
        self.settings = case.settings(options.optimizer)
        self.levels = case.levels(options.levels)
        super().__init__(options, case, ensemble, world)

    def goes_on(self) -> bool:
        """Reads the last checkpoint of a resumed run; False where it came to its end."""
        case, world = self.case, self.world
        self.identity = identity(case, world, self.settings.method, self.levels)
        start = Column("start", lambda row, state: self.monitor.start, "d")
        self.monitor = Monitor(
            self.ensemble.space,
            self.out,
            identity=self.identity,
            stream=sys.stdout if world.rank == 0 else None,
            world=world,
            across=self.ensemble.across,
            columns=[
                *([start] if case.restarted else []),
                *map(Column, self.settings.columns),
            ],
        )
        self.before: Earlier | None = None
        if self.options.resume:
            self.before = Earlier(self.out, self.ensemble, world, self.identity)
        if self.before is None:
            return True
        limit = None if case.restarted else self.settings.max_iterations
        kind, wanted = self.options.uncertainty, self._wanted()
        return not self.before.finished(self.monitor, limit, kind, wanted)

    def prepare(self) -> None:
        """Reads or simulates the data, rehearses the end of the run, and chooses the weight."""
        case, options, world = self.case, self.options, self.world
        self.grid = case.grid(self.ensemble.space)
        data = case.prepare(self.ensemble)
        self.monitor.say(self._headline(data.origin))
        if warning := few_cells(self.grid.active_size, self.ensemble.space.size):
            self.monitor.say(warning)
        for line in case.domain.notes.values():
            self.monitor.say(line)
        if case.evolves:
            self.monitor.say(_recomputation(case))
        names = rehearse(case, self.grid, options.plot, options.uncertainty)
        if (asked := self._asked()) is not None:
            from npde_opt.runs import posterior  # few runs need it

            posterior.check(
                case,
                asked,
                self.out,
                self.ensemble,
                self._built,
            )
        if self.out is not None and self.out.replaces:
            self.monitor.say(f"replaces the earlier run in {self.out.path}")
        # All input is right as far as that can be told: from here on the folder is this run's.
        with errors.collective(world):
            if self.out is not None:
                self.out.claim(names)
                self.out.sign(self.identity)
        choose_weight(
            case,
            self.grid,
            self.ensemble,
            self.settings,
            self.levels,
            self.out,
            self.monitor,
            self.before,
            world,
        )
        self.resume = self.before.where_to_go_on(self.monitor) if self.before else None
        self.ready = time.monotonic()

    def _built(self) -> tuple[Objective, PETSc.Vec]:
        """The objective, by any weight where a rule has yet to choose it."""
        case = self.case
        case.weight_override = 1.0 if rule(case) else None
        found = case.build(self.grid, self.ensemble)
        case.weight_override = None
        return found

    def _asked(self) -> Asked | None:
        """What is asked of what the data leave open."""
        o = self.options
        if o.uncertainty is None:
            return None
        coarser = self.levels is None or self.levels > 1
        return Asked(o.uncertainty, o.seed, o.chain_groups, self.identity, coarser)

    def _wanted(self) -> Record:
        """What is asked of what the data leave open, by the names of its metrics."""
        if self.options.uncertainty is None:
            return {}
        section = self.case.table.posterior
        wanted: Record = {told.SECTION: digest(section)}
        if self.options.uncertainty == SAMPLES:
            wanted |= {
                "chains": section.sampling.chains,
                "chain_steps": section.sampling.steps,
                "chain_method": section.sampling.method,
            }
        return wanted

    def _headline(self, origin: str) -> str:
        case, groups = self.case, self.ensemble.groups
        shape = " x ".join(map(str, self.grid.shape))
        return (
            f"{case.table.case.title or case.name}: {shape} cells, {self.grid.active_size:,} "
            "active, "
            f"{case.experiment_count} experiments, {self.world.size} ranks in {groups} "
            f"group{'s' if groups > 1 else ''}; {origin}"
        )

    def identify(self) -> restarts.Found:
        """Minimizes the objective on all grids, coarsest first, from all starts."""
        with self.monitor:
            found = restarts.identify(
                self.grid,
                lambda grid: self.case.build(grid, self.ensemble),
                self.settings,
                self.levels,
                self.monitor,
                self.resume,
                self.case.moves(),
            )
            self.monitor.stop_if_asked()
        return found

    def report(self, found: restarts.Found) -> None:
        """Writes and prints what was found."""
        solved = time.monotonic()
        attempt = Attempts(self.world, self.monitor.say)
        metrics = report(
            self.case,
            found,
            self.ensemble,
            self.out,
            self.options.plot,
            attempt,
            self.monitor.weight,
            self._asked(),
        )
        now = time.monotonic()
        seconds = Seconds(
            self.ready - self.started, solved - self.ready, now - self.started
        )
        self.monitor.finish(self._summary(found, metrics, seconds))
        if warning := unused_text():
            self.monitor.say(warning)

    def _summary(
        self, found: restarts.Found, metrics: Record, seconds: Seconds
    ) -> Summary:
        result, counts = found.result, found.result.counters
        told = metrics | {"reason": result.reason, "decrement": result.decrement}
        parted = of_batches(self.settings.batch, self.case.experiment_count)
        return Summary(
            driver="identify",
            case=str(self.options.case),
            ranks=self.world.size,
            grid=self.grid.shape,
            unknowns=self.grid.active_size,
            parameters=found.objective.space.size,
            status=result.status,
            iterations=result.iterations,
            objective=result.objective,
            objective_initial=result.objective_initial,
            gradient_norm=result.gradient_norm,
            gradient_norm_initial=result.gradient_norm_initial,
            forward_solves=int(self.ensemble.sum(counts["forward_solves"])),
            adjoint_solves=int(self.ensemble.sum(counts["adjoint_solves"])),
            krylov_iterations_mean=found.krylov_iterations / max(found.total_solves, 1),
            seconds=seconds,
            peak_memory_mb=peak_memory_mb(self.world),
            peak_memory_mb_of_a_rank=peak_memory_mb_of_a_rank(self.world),
            metrics=told
            | {"meanings": meanings(self.case, told, result.status) | parted},
        )


def _recomputation(case: Case) -> str:
    """How trajectories are stored, and what that costs."""
    assert case.plan is not None
    plan, scheme = case.plan, time_of(case.table).scheme
    if plan.keeps_all:
        return f"{plan.steps} steps of {scheme}, all states kept"
    return (
        f"{plan.steps} steps of {scheme}, {plan.memory} checkpoints in memory and {plan.disk} on "
        f"disk: a gradient does every step {plan.predicted:.2f} times"
    )

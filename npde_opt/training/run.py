"""A run of training: its folder, where it goes on, the networks of all splits, what it leaves."""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

from mpi4py import MPI
from petsc4py import PETSc

from npde_opt import nested, restarts
from npde_opt.ensemble import Ensemble
from npde_opt.errors import collective
from npde_opt.optimizers import Result, Settings, minimize
from npde_opt.petsc_options import check_options, unused_text
from npde_opt.restarts import Outcome
from npde_opt.runs.attempts import Attempts
from npde_opt.runs.columns import Column
from npde_opt.runs.monitor import Monitor
from npde_opt.runs.opened import Opened
from npde_opt.runs.rehearsal import require_figures
from npde_opt.runs.resume import Earlier
from npde_opt.training.case import TrainingCase, load_training
from npde_opt.training.identity import identity
from npde_opt.training.problem import Problem
from npde_opt.training.report import Report, names_of_files
from npde_opt.training.warm import begin
from npde_opt.training.watching import watching

CHECKPOINT_SECONDS = 5.0
"""Least time between two checkpoints: iterations of small networks take less than writing one."""


def open_training(
    options: argparse.Namespace, world: MPI.Intracomm
) -> tuple[TrainingCase, Ensemble]:
    """The case of a command line, and the groups of ranks that share its samples. Collective."""
    case = load_training(
        options.case,
        world,
        data=options.data,
        seed=options.seed,
        variables=options.variables,
    )
    case.set_petsc_options()
    check_options()
    with collective(world):
        count = case.data.parts().train.count
    groups = options.sample_groups
    if groups is None:
        groups = world.size if count >= world.size else 1
    return case, Ensemble.split(world, groups, count, "--sample-groups")


@dataclass(frozen=True, eq=False)
class Trained:
    """The network of one split, at the end of its training."""

    problem: Problem
    result: Result
    work: Mapping[str, int]


class Training(Opened[TrainingCase]):
    """One run of a driver; a context that gives its folder back. All methods are collective.

    Args:
        options: see runs/options.py.
        started: seconds of time.monotonic() at the program's first line.
        driver: its name, for the summary.
    """

    def __init__(
        self,
        options: argparse.Namespace,
        case: TrainingCase,
        ensemble: Ensemble,
        world: MPI.Intracomm,
        started: float,
        driver: str,
    ):
        self.started = self.ready = started
        self.driver = driver
        self.splits = case.networks
        self.problem: Problem | None = None
        validation = None
        if case.table.data.validation is not None:
            validation = watching(case.data.source.labels is not None, self._current)
        self.settings = case.settings(validation)
        super().__init__(options, case, ensemble, world)

    def _current(self) -> Problem:
        """The problem that is solved."""
        assert self.problem is not None
        return self.problem

    def goes_on(self) -> bool:
        """Reads the last checkpoint of a resumed run; False where it came to its end."""
        world = self.world
        self.identity = identity(self.case, world)
        split = Column("split", lambda row, state: self.monitor.start, "d")
        self.monitor = Monitor(
            self.ensemble.space,
            self.out,
            identity=self.identity,
            checkpoint_seconds=CHECKPOINT_SECONDS,
            stream=sys.stdout if world.rank == 0 else None,
            world=world,
            across=self.ensemble.across,
            columns=[
                *([split] if self.splits > 1 else []),
                *map(Column, self.settings[0].columns),
            ],
        )
        self.before: Earlier | None = None
        if self.options.resume:
            self.before = Earlier(self.out, self.ensemble, world, self.identity)
        if self.before is None:
            return True
        limit = self.settings[-1].max_iterations if self.splits == 1 else None
        return not self.before.finished(self.monitor, limit)

    def prepare(self) -> None:
        """Reads the samples and makes the first network, before the folder becomes this run's."""
        problem = Problem(self.case, self.ensemble)
        self.monitor.say(self._headline(problem))
        problem.try_others()
        with collective(self.world):
            if self.options.plot:
                require_figures(False)
        with collective(self.world):
            if self.out is not None:
                self.out.claim(names_of_files(self.case, self.options.plot))
                if self.out.replaces:
                    self.monitor.say(f"replaces the earlier run in {self.out.path}")
                self.out.sign(self.identity)
        self.resume = self.before.where_to_go_on(self.monitor) if self.before else None
        problem.destroy()
        self.ready = time.monotonic()

    def _headline(self, problem: Problem) -> str:
        parts = ", ".join(
            f"{part.count:,} for {part.name}" for part in problem.parts.all
        )
        shape = " x ".join(map(str, problem.source.shape[::-1]))
        ranks, groups = self.world.size, self.ensemble.groups
        return (
            f"{self.case.title}: {problem.source.name}, {problem.source.channels} channels on "
            f"{shape} cells, {parts}; {len(self.case.table.layer)} layers, "
            f"{problem.network.size:,} weights; {ranks} rank{'s' if ranks > 1 else ''} in "
            f"{groups} group{'s' if groups > 1 else ''}"
        )

    # ---- training --------------------------------------------------------------------------------

    def train(self) -> Report:
        """Trains the network of each split, and looks at it."""
        report = Report(
            self.case, self.ensemble, self.out, self.monitor, self.options.plot
        )
        ended = list(self.resume.ended) if self.resume is not None else []
        with self.monitor:
            for split in range(self.splits):
                problem = Problem(self.case, self.ensemble, split)
                if split < len(ended):
                    trained = self._ended(problem, ended[split])
                else:
                    trained = self._train(problem, split == len(ended))
                report.add(trained.problem, trained.result, trained.work)
                self.monitor.stop_if_asked()
        return report

    def _ended(self, problem: Problem, outcome: Outcome) -> Trained:
        """The network of a split that an interrupted run had trained."""
        assert self.resume is not None
        m = self.resume.minimizer(outcome.start, problem.space)
        result = Result(
            m=m,
            status=outcome.status,
            reason=outcome.reason,
            iterations=outcome.iterations,
            objective=outcome.objective,
            objective_initial=outcome.objective_initial,
            gradient_norm=outcome.gradient_norm,
            gradient_norm_initial=outcome.gradient_norm_initial,
            decrement=outcome.decrement,
            counters=dict(outcome.counters),
        )
        return Trained(problem, result, outcome.work)

    def _train(self, problem: Problem, resumed: bool) -> Trained:
        """One split, by all optimizers, one after the other."""
        if self.splits > 1:
            self.monitor.begin_start(problem.split, self.splits)
        self.problem = problem
        inside = self.resume.inside if self.resume is not None and resumed else None
        result, spent = self._stages(problem, inside)
        if self.splits > 1:
            self.monitor.keep_start(
                _outcome(problem, result, spent), problem.space, result.m
            )
        return Trained(problem, result, spent)

    def _stages(
        self, problem: Problem, inside: nested.Resume | None
    ) -> tuple[Result, Counter[str]]:
        """The result of the last optimizer, and what all of them counted."""
        first = 0 if inside is None else inside.level
        spent: Counter[str] = Counter({} if inside is None else inside.spent)
        begun, result = begin(problem), None
        m = begun
        for number in range(first, len(self.settings)):
            settings = replace(self.settings[number], level=number)
            self._announce(problem, settings, spent)
            state = None
            if inside is not None and number == first:
                state = inside.state(problem.objective)
            result = minimize(
                problem.objective, m, settings, self.monitor, state, None, begun
            )
            if m is not begun:
                m.destroy()
            m, spent = result.m, spent + Counter(result.counters)
            PETSc.garbage_cleanup(self.ensemble.space)
        begun.destroy()
        assert result is not None
        return result, spent

    def _announce(
        self, problem: Problem, settings: Settings, spent: Mapping[str, int]
    ) -> None:
        """Tells the monitor which optimizer begins."""
        self.monitor.start_level(
            problem.network.grid.shape,
            space=problem.space,
            level=settings.level,
            levels=len(self.settings),
            gradient_rtol=settings.gradient_rtol,
            gradient_atol=settings.gradient_atol,
            max_iterations=settings.max_iterations,
            spent=spent,
        )

    def report(self, report: Report) -> None:
        """Writes and prints what was found."""
        solved = time.monotonic()
        attempt = Attempts(self.world, self.monitor.say)
        times = self.started, self.ready, solved
        summary = report.finish(self.driver, str(self.options.case), attempt, times)
        self.monitor.finish(summary)
        if warning := unused_text():
            self.monitor.say(warning)


def _outcome(problem: Problem, result: Result, spent: Mapping[str, int]) -> Outcome:
    """How a split ended, to be kept."""
    return restarts.Outcome(
        start=problem.split,
        status=result.status,
        reason=result.reason,
        iterations=result.iterations,
        objective=result.objective,
        objective_initial=result.objective_initial,
        gradient_norm=result.gradient_norm,
        gradient_norm_initial=result.gradient_norm_initial,
        decrement=result.decrement,
        counters=result.counters,
        work=dict(spent),
    )

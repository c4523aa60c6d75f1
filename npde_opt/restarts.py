"""Several starts of one identification: the lowest of the minima of J that are found from

    m_0, m_0 + d_1, m_0 + d_2, ...

where m_0 is the given start and d_k is drawn around it, or leads to values that are given. Each
start runs to its end; one from which a solve fails is a line of the table, not the end of the run.
"""

from __future__ import annotations

import gc
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
from petsc4py import PETSc

from npde_opt import nested
from npde_opt.aliases import Numbers, Record
from npde_opt.errors import InputError, SolverError
from npde_opt.grids import Grid
from npde_opt.nested import Build, Identification
from npde_opt.objective import Objective
from npde_opt.optimizers import Result, Settings
from npde_opt.parameters import ParameterSpace
from npde_opt.parameters.draws import child
from npde_opt.reductions import largest

Move = Callable[[ParameterSpace, PETSc.Vec], None]
"""Changes the parameters to start from, alike on all grids of a hierarchy. Collective."""

Given = Numbers | Callable[[Grid], np.ndarray]
"""A number, an array of what terms read, or a function that gives owned cells [i, j, k]."""
Restarts = int | Sequence[Move | Mapping[str, Given]]
"""So many starts that are drawn, or a list of starts."""
APART = 2.0
"""Standard deviations between two answers from which on they are two."""
OF_A_START = ("unknown", "times")
"""Fields of an InputError that another start may not raise: nothing depends on anything there, or
the steps are too long there."""
DIGITS = 1e-6
FAILED = "failed"
AT_AN_END = ("converged", "undetermined", "stalled")
"""Statuses of runs that went as far down as they could."""


# ---- where to start --------------------------------------------------------------------------


def drawn(
    count: int,
    seed: int = 0,
    spread: float = 1.0,
    deviations: Mapping[str, float] | None = None,
) -> list[Move]:
    """Starts around the given one: p + s z, the same on any number of ranks and all grids.

    z is standard normal, of a field a smooth random function of mean square 1. s is `spread`, times
    the size of the largest value with the identity transform, where parameters have units.

    Args:
        deviations: s by unknown, for example the standard deviation of its prior.
    """
    if count < 0:
        raise InputError("restarts", count, "an integer >= 0, or a list of starts")
    if not spread > 0:
        raise InputError("spread", spread, "a number > 0")
    return [
        _drawn(child(seed, k), spread, deviations or {}) for k in range(1, count + 1)
    ]


def _drawn(seed: int, spread: float, deviations: Mapping[str, float]) -> Move:
    def move(space: ParameterSpace, m: PETSc.Vec) -> None:
        for i, u in enumerate(space.unknowns):
            block, own = space.blocks[u.name], space.own(m, u.name)
            highest = largest(space.comm, float(np.abs(own).max(initial=0.0)))
            natural = spread * u.transform.natural(highest or 1.0)
            moved = own + deviations.get(u.name, natural) * block.smooth(child(seed, i))
            own[...] = np.where(block.free, moved.clip(*u.box), own)

    return move


def given(values: Mapping[str, Given]) -> Move:
    """The start with these values of coefficients by name, the others as they were.

    Values are numbers, arrays of them, or functions of a grid that give its owned cells [i, j, k].
    """

    def move(space: ParameterSpace, m: PETSc.Vec) -> None:
        for name, value in values.items():
            if name not in space.blocks:
                there = ", ".join(space.blocks)
                raise InputError("restarts", f"a start of {name!r}", there)
            found = value(space.grid) if callable(value) else value
            block, own = space.blocks[name], space.own(m, name)
            new = block.parameters(found, space.unknown(name).inverse)
            own[...] = np.where(block.free, new, own)

    return move


def _stay(space: ParameterSpace, m: PETSc.Vec) -> None:
    """The start that was given."""


def moves_of(restarts: Restarts, seed: int) -> list[Move]:
    """So many drawn starts, or those of a list."""
    if isinstance(restarts, int):
        return drawn(restarts, seed)
    return [given(r) if isinstance(r, Mapping) else r for r in restarts]


# ---- what was found ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Outcome:
    """How a start ended; what is not finite where it failed.

    start: its number, 0 for the one that was given. values: of the unknowns that are listed.
    counters: as its Result has them. work: forward and adjoint solves of the finest grid and of
    all, and Krylov iterations. distance: of the answer from the best one, sqrt(dm^T H dm) with the
    Gauss-Newton Hessian there: in standard deviations.
    """

    start: int
    status: str
    reason: str
    iterations: int = 0
    objective: float = math.inf
    chi_squared: float = math.inf
    values: Mapping[str, list[float]] = field(default_factory=dict)
    objective_initial: float = math.inf
    gradient_norm: float = math.inf
    gradient_norm_initial: float = math.inf
    decrement: float = math.nan
    counters: Mapping[str, int] = field(default_factory=dict)
    work: Mapping[str, int] = field(default_factory=dict)
    distance: float | None = None


def lowest(outcomes: Sequence[Outcome]) -> Outcome:
    """The first one whose objective is the lowest, to six digits."""
    least = min(o.objective for o in outcomes)
    return next(o for o in outcomes if not o.objective > least + DIGITS * abs(least))


def several(outcomes: Sequence[Outcome]) -> list[int]:
    """Starts that ended in a minimum other than the best one: of a J higher by 2, which is two
    standard deviations, or as far from it as that."""
    ended = [o for o in outcomes if o.status in AT_AN_END]
    highest = lowest(outcomes).objective + APART**2 / 2
    return [
        o.start
        for o in ended
        if o.objective > highest or (o.distance is not None and o.distance > APART)
    ]


class Monitor(nested.Monitor, Protocol):
    """A monitor that is told of starts too."""

    def begin_start(self, number: int, count: int) -> None:
        """The start of this number, of so many, begins."""

    def keep_start(
        self, outcome: Outcome, space: ParameterSpace | None, m: PETSc.Vec | None
    ) -> None:
        """It ended with these parameters, or failed, without any."""


@dataclass(frozen=True)
class Resume:
    """Where to go on: starts that have ended, where inside the next one (None: at its beginning),
    the minimizers of those that ended, which the caller destroys, and how many grids the run had
    (None: not known)."""

    ended: Sequence[Outcome]
    inside: nested.Resume | None
    minimizer: Callable[[int, ParameterSpace], PETSc.Vec]
    levels: int | None = None


@dataclass(frozen=True)
class Found(Identification):
    """The best start's identification, and how all of them ended (none listed where there was
    one)."""

    starts: Sequence[Outcome] = ()
    best: int = 0


def identify(
    finest: Grid,
    build: Build,
    settings: Settings,
    levels: int | None = None,
    monitor: Monitor | None = None,
    resume: Resume | None = None,
    restarts: Restarts = 0,
    seed: int = 0,
) -> Found:
    """Minimizes the objective from the given start, and from further ones.

    Args:
        restarts: so many that are drawn around it (see `drawn`), or a list of them, each a table of
            values by unknown (see `given`) or a function that moves the start.
        seed: of what is drawn.

    Raises:
        SolverError: where no start came to an end, and as `nested.identify`.
    """
    moves = [_stay, *moves_of(restarts, seed)]
    if resume is not None:
        levels = resume.levels or levels
    if len(moves) == 1:
        inside = resume.inside if resume is not None else None
        found = nested.identify(finest, build, settings, levels, monitor, inside)
        return Found(**vars(found))
    return _Starts(finest, build, settings, levels, monitor, resume, moves).solve()


class _Starts:
    """Start after start; the minimizers are kept."""

    def __init__(
        self,
        finest: Grid,
        build: Build,
        settings: Settings,
        levels: int | None,
        monitor: Monitor | None,
        resume: Resume | None,
        moves: Sequence[Move],
    ):
        self.finest, self.build, self.settings, self.levels = (
            finest,
            build,
            settings,
            levels,
        )
        self.monitor, self.resume, self.moves = monitor, resume, moves
        self.ended: list[Outcome] = list(resume.ended) if resume is not None else []
        self.minimizers: dict[int, PETSc.Vec] = {}
        self.history: dict[int, list[Record]] = {}

    def solve(self) -> Found:
        inside = self.resume.inside if self.resume is not None else None
        for number in range(len(self.ended), len(self.moves)):
            if self.monitor is not None:
                self.monitor.begin_start(number, len(self.moves))
            self.ended.append(self._one(number, inside))
            inside = None
        return self._best()

    def _one(self, number: int, inside: nested.Resume | None) -> Outcome:
        def build(grid: Grid) -> tuple[Objective, PETSc.Vec]:
            objective, m = self.build(grid)
            self.moves[number](objective.space, m)
            return objective, m

        failure = ""
        try:
            found = nested.identify(
                self.finest, build, self.settings, self.levels, self.monitor, inside
            )
        except (SolverError, InputError) as error:
            if isinstance(error, InputError) and error.field not in OF_A_START:
                raise
            failure = str(error)
        if failure:
            # What the start had made goes with the error that held it.
            gc.collect()
            PETSc.garbage_cleanup(self.finest.comm)
            return self._kept(Outcome(number, FAILED, failure), None, None)
        self.minimizers[number], self.history[number] = found.result.m, found.history
        outcome = self._kept(
            _outcome(number, found), found.objective.space, found.result.m
        )
        found.objective.destroy()
        return outcome

    def _kept(
        self, outcome: Outcome, space: ParameterSpace | None, m: PETSc.Vec | None
    ) -> Outcome:
        if self.monitor is not None:
            self.monitor.keep_start(outcome, space, m)
        return outcome

    def _best(self) -> Found:
        best = lowest(self.ended)
        if best.status == FAILED:
            said = f"all {len(self.ended)} starts failed; the first: {self.ended[0].reason}"
            raise SolverError("tao_", said, "Start elsewhere.")
        objective, given_start = self.build(self.finest)
        given_start.destroy()
        for o in self.ended:
            if o.status != FAILED and o.start not in self.minimizers:
                assert self.resume is not None
                self.minimizers[o.start] = self.resume.minimizer(
                    o.start, objective.space
                )
        m = self.minimizers.pop(best.start)
        starts = self._distances(objective, m, best.start)
        for other in self.minimizers.values():
            other.destroy()
        history = self.history.get(best.start, [])
        total, krylov = (
            sum(o.work.get(key, 0) for o in starts) for key in ("total", "krylov")
        )
        result = Result(
            m=m,
            status=best.status,
            reason=best.reason,
            iterations=best.iterations,
            objective=best.objective,
            objective_initial=best.objective_initial,
            gradient_norm=best.gradient_norm,
            gradient_norm_initial=best.gradient_norm_initial,
            decrement=best.decrement,
            history=history,
            counters=dict(best.counters),
        )
        finest = best.work["finest"]
        return Found(
            objective, result, history, finest, total, krylov, starts, best.start
        )

    def _distances(
        self, objective: Objective, m: PETSc.Vec, best: int
    ) -> list[Outcome]:
        """The outcomes with their distances from the best one."""
        at, change, image = objective.linearize(m), m.duplicate(), m.duplicate()
        found = [o if o.start != best else replace(o, distance=0.0) for o in self.ended]
        for number, other in self.minimizers.items():
            change.waxpy(-1.0, m, other)
            at.hessian(change, image, True)
            square = max(change.dot(image), 0.0)
            found[number] = replace(found[number], distance=math.sqrt(square))
        for owned in (at, change, image):
            owned.destroy()
        return found


def _outcome(number: int, found: Identification) -> Outcome:
    result, objective = found.result, found.objective
    at, space = objective.linearize(result.m), objective.space
    chi_squared = at.chi_squared()
    at.destroy()
    listed = [u for u in space.unknowns if u.block.listed]
    values = {
        u.name: u.value(space.values(result.m, u.name)).ravel().tolist() for u in listed
    }
    work = {
        "finest": found.finest_solves,
        "total": found.total_solves,
        "krylov": found.krylov_iterations,
    }
    return Outcome(
        start=number,
        status=result.status,
        reason=result.reason,
        iterations=result.iterations,
        objective=result.objective,
        chi_squared=chi_squared,
        values=values,
        objective_initial=result.objective_initial,
        gradient_norm=result.gradient_norm,
        gradient_norm_initial=result.gradient_norm_initial,
        decrement=result.decrement,
        counters=result.counters,
        work=work,
    )

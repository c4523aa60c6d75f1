"""Nested iteration: min J_h on a hierarchy of grids h_0 > h_1 > ... > h_L, coarsest first.

The minimizer on one grid, prolonged, starts the next, so that the finest grid needs a few
iterations only. All levels share one reference for the gradient norm (mass-weighted, hence
comparable): the initial one on the coarsest grid.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np
from petsc4py import PETSc

from npde_opt.aliases import Record
from npde_opt.curvatures import curvatures
from npde_opt.errors import InputError, collective
from npde_opt.grids import Grid
from npde_opt.grids.cuts import coarser, fits
from npde_opt.objective import Objective, ObjectiveAt
from npde_opt.operators import CellProlongation
from npde_opt.operators.many import by_parts
from npde_opt.optimizers import OptimizerState, Result, Settings, minimize
from npde_opt.optimizers.spectrum import Spectrum, learn
from npde_opt.parameters import Lift, ParameterSpace, Unknown
from npde_opt.reductions import same

if TYPE_CHECKING:
    from npde_opt.posterior import PosteriorSettings

Build = Callable[[Grid], tuple[Objective, PETSc.Vec]]
"""From a grid to its objective and starting point; called once a level."""

NEWTON = "newton", "gauss-newton"
COARSE_RTOL = 1e-3
COARSEST_RTOL = 1e-2
"""Of the coarsest grid: its last steps change less than the next grid does. On 18 problems of 32^2
to 128^2 cells it takes 5 to 25 % fewer products of all grids together, as many on the finest; on
the grids between 1e-2 costs products of the finest."""
SHORTEST = 16
"""Cells along an axis that was halved, at least."""
FEWEST = {1: 1 << 12, 2: 1 << 12, 3: 1 << 15}
"""Active cells of the coarsest grid that the data's Hessian is learnt on, by dimension: on 32^2
cells what was learnt of 3,000 data took three times the products of the finest grid that 64^2 took,
and `brain.toml` at 1 mm a step more on the two finest grids from 19 x 23 x 20 than from 37 x 46 x
39."""
A_VECTOR = 100
"""Cells that one vector of a spectrum takes: where more were learnt, they are learnt again on the
next finer grid. 31 vectors of 64^2 cells serve 512^2 and 1024^2 as well as those of finer grids, 88
took twice the products."""
COARSER = 2
"""Levels between a posterior's grid and that of its first directions, at most."""


@dataclass(frozen=True)
class Identification:
    """The finest grid's objective and result, and what all levels did, those before a resumed run
    was stopped included."""

    objective: Objective
    result: Result
    history: list[Record]
    finest_solves: int
    total_solves: int
    krylov_iterations: int

    def values(self, name: str) -> np.ndarray | None:
        """The coefficient `name` that was found, as plain numbers. Collective.

        Returns:
            Of a field its cells [i, j, k], whole, on rank 0, None on the others; of numbers an
            array (n,) on every rank.
        """
        space, m = self.objective.space, self.result.m
        found = space.at(m).coefficients()[name]
        if not space.unknown(name).block.cellwise:
            return np.atleast_1d(found)
        return space.grid.to_natural(np.asfortranarray(found))


def grids(finest: Grid, levels: int | None = None) -> list[Grid]:
    """Grids, coarsest first: at most `levels`, as many as the grid coarsens into on its ranks where
    None."""
    found = [finest]
    while levels is None or len(found) < levels:
        coarse = found[-1].coarsen(SHORTEST)
        if coarse is None:
            break
        found.append(coarse)
    return found[::-1]


def shapes(finest: tuple[int, ...], count: int) -> list[tuple[int, ...]]:
    """Cells along the axes of so many grids, coarsest first, whatever ranks they would be cut
    into."""
    found = [finest]
    while len(found) < count:
        found.append(coarser(found[-1], SHORTEST))
    return found[::-1]


class Prolongation:
    """Parameters from one grid to the next finer one, each block in its way; and the transpose.

    Fields are interpolated cubically, so that a regularization of second derivatives is not
    disturbed, and linearly where the coefficient itself is unknown: there an overshoot could leave
    the range in which it makes sense.
    """

    def __init__(self, coarse: ParameterSpace, fine: ParameterSpace):
        self.coarse, self.fine = coarse, fine
        self._matrices: dict[bool, CellProlongation] = {}
        self._lifts = {u.name: self._lift(u) for u in fine.unknowns}

    def _lift(self, u: Unknown) -> Lift:
        coarse, fine = self.coarse.blocks[u.name], self.fine.blocks[u.name]
        return fine.lift(coarse, u.transform.exponential, self._matrix)

    def _matrix(self, cubic: bool) -> CellProlongation:
        """The interpolation between the two grids, made once."""
        if cubic not in self._matrices:
            self._matrices[cubic] = CellProlongation(
                self.coarse.grid, self.fine.grid, cubic
            )
        return self._matrices[cubic]

    @property
    def own(self) -> int:
        """Number of values of this rank on the finer grid."""
        return self.fine.local_size

    def apply(self, coarse: PETSc.Vec) -> PETSc.Vec:
        """Zero in cells that are not free. Collective; the caller destroys the Vec."""
        out = self.fine.create_vec()
        self.many(coarse.getArray(readonly=True)[None], out.getArray()[None])
        return out

    def apply_transpose(self, fine: PETSc.Vec) -> PETSc.Vec:
        """The transpose of `apply`. Collective; the caller destroys the Vec."""
        out = self.coarse.create_vec()
        self.many_transposed(fine.getArray(readonly=True)[None], out.getArray()[None])
        return out

    def many(self, rows: np.ndarray, found: np.ndarray) -> None:
        """`apply` of many vectors at once: of rows (n, own values) into those of `found`.
        Collective."""
        for name, lift in self._lifts.items():
            given, part = self.coarse.place(name), self.fine.place(name)
            by_parts(lift.apply, rows[:, given], found[:, part])

    def many_transposed(self, rows: np.ndarray, found: np.ndarray) -> None:
        """`apply_transpose` of many vectors at once, as `many`. Collective."""
        for name, lift in self._lifts.items():
            given, part = self.fine.place(name), self.coarse.place(name)
            by_parts(lift.transpose, rows[:, given], found[:, part])

    def start(self, coarse: PETSc.Vec, given: PETSc.Vec) -> PETSc.Vec:
        """The coarse parameters on the fine grid, what is not free as in `given`. Collective."""
        out = self.apply(coarse)
        for name, block in self.fine.blocks.items():
            own = self.fine.own(out, name)
            own[...] = np.where(block.free, own, self.fine.look(given, name))
        return out

    def destroy(self) -> None:
        for matrix in self._matrices.values():
            matrix.destroy()


def directions(
    at: ObjectiveAt, build: Build, settings: PosteriorSettings
) -> np.ndarray | None:
    """Directions to begin a posterior with at a point, from the coarsest grid of at most twice
    coarser ones that may resolve them: own rows (local, any); None where none does. Collective."""
    from npde_opt.posterior import coarse  # few runs look for a posterior

    fine = at.objective.space
    hierarchy = grids(fine.grid, COARSER + 1)
    while len(hierarchy) > 1 and hierarchy[0].active_size < coarse.FEWEST:
        hierarchy.pop(0).destroy()
    if len(hierarchy) == 1:
        return None
    made = [build(grid) for grid in hierarchy[:-1]]
    spaces = [objective.space for objective, _ in made] + [fine]
    lifts = [Prolongation(a, b) for a, b in zip(spaces, spaces[1:], strict=False)]
    found = coarse.directions(made[0][0], at.m, made[0][1], lifts, settings)
    for lift in lifts:
        lift.destroy()
    for objective, given in made:
        given.destroy()
        objective.destroy()
    for grid in hierarchy[:-1]:
        grid.destroy()
    return found


@dataclass(frozen=True)
class Resume:
    """Where to go on: the level, the optimizer's state there, the gradient norm to which that level
    compares (None: its own first), what the levels before counted, and what was learnt for that
    level: on which one (None where nothing was kept), and the vectors in its space. `levels`: how
    many the run had, which on more ranks may be fewer, on fewer ones more (None: not known)."""

    level: int
    state: Callable[[Objective], OptimizerState]
    reference: float | None = None
    spent: Mapping[str, int] = field(default_factory=dict)
    learnt_on: int | None = None
    spectrum: Callable[[ParameterSpace], list[PETSc.Vec]] = lambda space: []
    levels: int | None = None


class Monitor(Protocol):
    """What watches the levels: a monitor of `minimize` that is told of them (runs/monitor.py)."""

    def __call__(self, row: Record, state: OptimizerState) -> str | None:
        """After every iteration: 'stop:STATUS' ends the level."""

    def start_level(
        self,
        shape: Sequence[int],
        *,
        space: ParameterSpace,
        level: int,
        levels: int,
        gradient_rtol: float,
        gradient_reference: float | None,
        max_iterations: int,
        spent: Mapping[str, int],
        cells: Sequence[int],
    ) -> None:
        """A level of this shape begins; `cells` are those of all levels."""

    def interruptible(self) -> AbstractContextManager[None]:
        """A block in which a signal ends the run."""

    def keep_spectrum(
        self, space: ParameterSpace, vectors: Sequence[PETSc.Vec], level: int
    ) -> None:
        """These were learnt on a level, and are there when a run on a finer one is resumed."""


def identify(
    finest: Grid,
    build: Build,
    settings: Settings,
    levels: int | None = None,
    monitor: Monitor | None = None,
    resume: Resume | None = None,
) -> Identification:
    """Minimizes on all levels, or on those that a resumed run has left.

    The coarsest level stops at a gradient of 1e-2 of the initial one, those between at 1e-3, the
    finest at settings.gradient_rtol. On the coarsest level of FEWEST active cells, but two levels
    below the finest at the latest, the Newton methods learn the leading part of the data's Hessian,
    which preconditions the finer levels (where there are regularized fields). What is too much for
    that level's cells is learnt again on the next one.

    Raises:
        SolverError, Interrupted: as the objective and the monitor raise them.
    """
    same(finest.comm, levels, "the number of levels")
    before = None if resume is None else resume.levels
    hierarchy = grids(finest, before or levels)
    skipped = 0
    if resume is not None and before is not None:
        skipped = max(before - len(hierarchy), 0)
        _check_reached(hierarchy[0], resume.level - skipped)
    run = _Levels(hierarchy, build, settings, monitor, resume, skipped)
    try:
        # What one rank raises is raised by its group, before anything is cleaned up together.
        with collective(finest.comm):
            return run.solve()
    finally:
        run.destroy()


def _check_reached(coarsest: Grid, level: int) -> None:
    """Raises InputError where a resumed run was on a coarser grid than the ranks can have, one of a
    level below 0."""
    if level < 0:
        ranks, shape = coarsest.comm.size, shapes(coarsest.shape, 1 - level)[0]
        most = next(n for n in range(ranks, 0, -1) if fits(shape, n))
        allowed = f"a number that grid {shape}, where the run was, can be cut into, such as {most}"
        raise InputError("--resume: ranks", ranks, allowed)


def solves(counted: Mapping[str, int]) -> int:
    """Forward and adjoint solves."""
    return counted.get("forward_solves", 0) + counted.get("adjoint_solves", 0)


def regularized(objective: Objective) -> bool:
    """Whether there is a field unknown, and every one has a regularization, from which the data's
    part can be told."""
    fields = {u.name for u in objective.space.unknowns if not u.block.listed}
    return bool(fields) and fields <= set(objective.regularizers)


def learning(hierarchy: Sequence[Grid]) -> range:
    """The levels of which the first, and where that is too coarse the next ones, are learnt on."""
    if len(hierarchy) == 1:
        return range(0)
    last = max(len(hierarchy) - 3, 0)
    fewest = FEWEST[hierarchy[0].dim]
    enough = (n for n in range(last) if hierarchy[n].active_size >= fewest)
    return range(next(enough, last), last + 1)


def room(grid: Grid) -> int:
    """Vectors of a spectrum that so many cells resolve."""
    return grid.active_size // A_VECTOR


def _is_mixed(objective: Objective) -> bool:
    """Whether some unknowns have a regularization and others, without bounds, have none, and are
    more than CG is done with in a few steps, which scales only disturb."""
    some, every = set(objective.regularizers), set(objective.space.blocks)
    mixed = bool(some) and some < every and not objective.space.has_bounds
    return mixed and not objective.few


class _Levels:
    """One nested iteration; owns the lifts between levels and the spectrum.

    Args:
        skipped: coarse grids of the run that is resumed, on more ranks than these can be cut into,
            from where it needs them no longer. What is told counts them.
    """

    def __init__(
        self,
        hierarchy: list[Grid],
        build: Build,
        settings: Settings,
        monitor: Monitor | None,
        resume: Resume | None,
        skipped: int = 0,
    ):
        self.hierarchy, self.build, self.settings, self.monitor, self.resume = (
            hierarchy,
            build,
            settings,
            monitor,
            resume,
        )
        self.skipped = skipped
        newton = settings.method in NEWTON and settings.learnt > 0
        self.learning = learning(hierarchy) if newton else range(0)
        self.reference = resume.reference if resume else settings.gradient_reference
        self.spent: Counter[str] = Counter(resume.spent if resume else {})
        self.spectrum: Spectrum | None = None
        self.room = 0
        """Vectors that it may have for the cells that it was learnt on."""
        self.lifts: list[Prolongation] = []
        self.curvatures: dict[str, float] | None = None

    def solve(self) -> Identification:
        first, history = 0, list[Record]()
        if self.resume is not None:
            first = self.resume.level - self.skipped
            self._recall(first)
        previous: tuple[Objective, PETSc.Vec] | None = None
        for level in range(first, len(self.hierarchy)):
            objective, given = self.build(self.hierarchy[level])
            if _is_mixed(objective) and self.settings.method in NEWTON:
                objective.curvatures = self._scales(level, objective, given)
            m = (
                given.copy()
                if previous is None
                else self._ascend(previous, objective, given)
            )
            result = self._minimize(level, objective, m, given)
            for owned in (m, given):
                owned.destroy()
            self.reference = self.reference or result.gradient_norm_initial
            history += result.history
            counted = Counter(result.counters)
            if self._has_to_learn(level) and regularized(objective):
                counted += self._learn(level, objective, result.m)
            self.spent += counted
            previous = (objective, result.m)
            PETSc.garbage_cleanup(self.hierarchy[level].comm)
        return Identification(
            objective,
            result,
            history,
            solves(counted),
            solves(self.spent),
            self.spent["krylov_iterations"],
        )

    def _scales(
        self, level: int, objective: Objective, given: PETSc.Vec
    ) -> dict[str, float]:
        """`curvatures` at the start on the coarsest grid, which hold for finer ones, as masses are
        in them, and which a resumed run finds again."""
        if self.curvatures is None and level == 0:
            self.curvatures = curvatures(objective, given)
        elif self.curvatures is None:
            coarsest, start = self.build(self.hierarchy[0])
            self.curvatures = curvatures(coarsest, start)
            start.destroy()
            coarsest.destroy()
        return self.curvatures

    def _ascend(
        self,
        previous: tuple[Objective, PETSc.Vec],
        objective: Objective,
        given: PETSc.Vec,
    ) -> PETSc.Vec:
        """The start on the next level from the minimizer on the last, which goes with its
        objective."""
        lift = Prolongation(previous[0].space, objective.space)
        self.lifts.append(lift)
        m = lift.start(previous[1], given)
        if self.spectrum is not None:
            self.spectrum = self.spectrum.lifted(lift)
        for owned in (previous[1], previous[0], previous[0].space.grid):
            owned.destroy()
        return m

    def _minimize(
        self, level: int, objective: Objective, m: PETSc.Vec, given: PETSc.Vec
    ) -> Result:
        count, number = len(self.hierarchy), level + self.skipped
        rtol, decrement = self.settings.gradient_rtol, self.settings.decrement
        if level < count - 1:
            coarse = COARSEST_RTOL if number == 0 else COARSE_RTOL
            rtol, decrement = max(rtol, coarse), None
        own = replace(
            self.settings,
            level=number,
            gradient_rtol=rtol,
            gradient_reference=self.reference,
            decrement=decrement,
        )
        if self.monitor is not None:
            self.monitor.start_level(
                self.hierarchy[level].shape,
                space=objective.space,
                level=number,
                levels=count + self.skipped,
                gradient_rtol=rtol,
                gradient_reference=self.reference,
                max_iterations=own.max_iterations,
                spent=self.spent,
                cells=[0] * self.skipped + [g.active_size for g in self.hierarchy],
            )
        state = (
            self.resume.state(objective)
            if self.resume is not None and number == self.resume.level
            else None
        )
        return minimize(objective, m, own, self.monitor, state, self.spectrum, given)

    def _has_to_learn(self, level: int) -> bool:
        """Whether nothing that serves finer levels was learnt yet."""
        if level not in self.learning:
            return False
        known = self.spectrum
        dropped = known is not None and not known.used
        return known is None or len(known.vectors) > self.room or dropped

    def _learn(self, level: int, objective: Objective, m: PETSc.Vec) -> Counter[str]:
        """Learns the spectrum for finer levels, in place of what there was; what that counted."""
        self._forget()
        self.room = room(self.hierarchy[level])
        before = Counter(objective.counters.snapshot())
        noise = objective.space.standard_normal(0)
        with (
            self.monitor.interruptible() if self.monitor is not None else nullcontext()
        ):
            self.spectrum = learn(
                objective,
                m,
                noise,
                self.settings.learnt,
                self.settings.method == "gauss-newton",
            )
        noise.destroy()
        if self.monitor is not None:
            number = level + self.skipped
            self.monitor.keep_spectrum(objective.space, self.spectrum.vectors, number)
        return Counter(objective.counters.snapshot()) - before

    def _recall(self, first: int) -> None:
        """The spectrum that an interrupted run had on level `first`, with the lifts from where it
        was learnt."""
        resume = self.resume
        if resume is None or resume.learnt_on is None or not len(self.learning):
            return
        learnt_on = resume.learnt_on - self.skipped
        if not 0 <= learnt_on < first:
            return
        spaces = []
        self.room = room(self.hierarchy[learnt_on])
        for level in range(learnt_on, first + 1):
            objective, m = self.build(self.hierarchy[level])
            spaces.append(objective.space)
            m.destroy()
            objective.destroy()
        self.lifts = [
            Prolongation(a, b) for a, b in zip(spaces, spaces[1:], strict=False)
        ]
        self.spectrum = Spectrum(resume.spectrum(spaces[0]), self.lifts)

    def _forget(self) -> None:
        """Drops the spectrum and the lifts, which only it needs."""
        if self.spectrum is not None:
            self.spectrum.destroy()
        for lift in self.lifts:
            lift.destroy()
        self.spectrum, self.lifts = None, []

    def destroy(self) -> None:
        self._forget()

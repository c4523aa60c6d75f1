"""F(m) = observations of the trajectories of gamma M du/dt = -r(u, t; k), u(0) = g(k), one an
experiment.

The steps of stepper.py are the layers of a chain (chain.py). With observations d_n = B g(u_n) and
multipliers d of the data, J_n = g'(u_n)^T B^T d_n, and dJ/dk also has dg/dk^T lambda_0.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from petsc4py import PETSc

from npde_opt import reductions
from npde_opt.aliases import Coefficient, Coefficients
from npde_opt.errors import InputError
from npde_opt.forward.chain import (
    Adjoint,
    After,
    AfterChange,
    Chain,
    StepCounts,
    Trajectory,
    Visitors,
)
from npde_opt.forward.coefficients import check_coefficients, known_values
from npde_opt.forward.columns import Batch, Columns, blocks
from npde_opt.forward.equation import Equation
from npde_opt.forward.experiment import (
    Driving,
    Experiment,
    check_sources,
    check_values,
    looked_at,
)
from npde_opt.forward.fused import APPLIES, FusedEuler, dtype_of, fused
from npde_opt.forward.groups import treated
from npde_opt.forward.guard import Guard, Lookout, Refusal
from npde_opt.forward.implicit_runs import in_runs
from npde_opt.forward.initial import InitialState
from npde_opt.forward.interface import Counters, check_alike
from npde_opt.forward.line_system import LineSteps, LineSystem, line_steps, linear_bands
from npde_opt.forward.line_trajectory import LineTrajectory, NonlinearLine, OnLine
from npde_opt.forward.linear_part import LinearPart, LinearPoint
from npde_opt.forward.newton import Newton
from npde_opt.forward.schemes import Scheme
from npde_opt.forward.step_solvers import StepSolvers, reuse_in
from npde_opt.forward.stepper import Stepper
from npde_opt.forward.steps import with_stops
from npde_opt.forward.storage import Plan, Storage
from npde_opt.forward.visits import Pulled, Watched
from npde_opt.observations import (
    EVERY,
    DataBlock,
    DataLayout,
    Metric,
    Observations,
    Sampling,
    When,
)
from npde_opt.parameters import ParametersAt, ParameterSpace
from npde_opt.stages import stage
from npde_opt.terms.interface import Reader
from npde_opt.terms.state import Gradients

Course = Trajectory[Gradients] | OnLine
MOST = 1 << 18
"""Values a rank of the increments that go through a step together: beyond, memory counts."""


@dataclass
class EvolutionCounters(StepCounts, Counters):
    """Also: time steps done, and those that had to be done again."""


class Evolution:
    """The forward map of an evolution equation for several experiments on one grid.

    `recomputation` is the steps that the last gradient did, its forward run included, over the
    steps of a trajectory; `ran` says whether F was found somewhere before.

    Args:
        space: the unknowns; coefficients of terms, initial states and sources by name.
        equation: the terms.
        known: numbers or owned arrays of the coefficients that are not unknown.
        experiments: they share matrices and multigrid, and run as columns of one state where all
            terms take that (see columns.py), other than with nonlinear implicit steps.
        samplings: what is observed of every experiment.
        scheme: see schemes.py.
        times: t_0 < ... < t_N, the same for all parameters. Steps also end at the breakpoints of
            all histories and at the times of all observations; `self.times` has them.
        storage: the budget for trajectories.
        bound: a state larger than this is a blow-up; None: GROWTH times what drives it (see
            guard.py).
        recipe: of the linear solvers (see linear/).
        fused: take the fused explicit step where it applies (see fused.py).
        precision: 'double', or 'single' where all experiments take that step: states, increments
            and adjoints are kept in 32 bits; parameters, sums and derivatives stay double.

    Raises:
        InputError: for coefficients missing, times that do not increase, or explicit steps beyond
            their limit.
    """

    def __init__(
        self,
        space: ParameterSpace,
        equation: Equation,
        known: Coefficients,
        experiments: Sequence[Experiment],
        samplings: Sequence[Sampling],
        scheme: Scheme,
        times: np.ndarray,
        storage: Storage | None = None,
        prefix: str = "state_",
        bound: float | None = None,
        recipe: str = "auto",
        fused: bool = True,
        precision: str = "double",
    ):
        self.space, self.grid, self.equation, self.scheme = (
            space,
            space.grid,
            equation,
            scheme,
        )
        check_alike(self.grid.comm, experiments)
        self.experiments, self.prefix, self.bound = list(experiments), prefix, bound
        self.times = np.asarray(times, float)
        if self.times.size < 2 or not np.all(np.diff(self.times) > 0):
            raise InputError(
                "times", f"{self.times.size} values", "at least two increasing times"
            )
        self.known = known_values(self.grid, known)
        self.initials = [
            InitialState(self.grid, equation.species, e.initial, e.where)
            for e in experiments
        ]
        self.nonlinear_implicit = scheme.nonlinear_implicit and bool(equation.nonlinear)
        self.driving = [Driving(equation, e, timed=True) for e in experiments]
        terms = [*equation.readers, *(t for d in self.driving for t in d.parts)]
        check_coefficients(space, equation, self.known, self.initials, terms, zero=True)
        self.times = with_stops(self.times, *self._stops(terms, samplings))
        self.looked_at = looked_at(self.times)
        check_values(self.driving, self.known, self.looked_at, space.blocks)
        check_sources(terms, self.known, space.blocks)
        self.part = LinearPart(equation)
        reuse = reuse_in(self.times, len(self.experiments))
        self.solvers = StepSolvers(self.part, prefix, recipe, reuse=reuse)
        mass, how = self.part.mass_vec, self.solvers.recipe
        made = self.nonlinear_implicit
        self.newton = Newton(self.part, mass, prefix, how) if made else None
        self.observed = Observations(
            self.grid, equation.species, self.times, self._samplings(samplings)
        )
        self.counters, self.recomputation = EvolutionCounters(), 1.0
        self.ran, self.fused = False, fused
        self.dtype = dtype_of(precision)
        self._plan(storage or Storage())
        self._on_line()

    def _on_line(self) -> None:
        """What the compiled loops along a line need."""
        how = self.prefix, self.solvers.recipe
        found = line_steps(self.part, self.scheme, self.times, *how)
        self.near: dict[int, np.ndarray] = {}
        """Stages of the last trajectory of an experiment, where these are found from those."""
        keeps = self.plans.states.keeps_all and self.dtype.itemsize == 8
        self.line = found if keeps else None

    def on_line(self, e: int) -> bool:
        """Whether an experiment's steps go through the compiled loops along a line."""
        boundary = self.driving[e].boundary
        given = self.space.blocks.keys().isdisjoint(boundary.coefficients)
        return self.line is not None and boundary.constant and given

    def _samplings(self, shared: Sequence[Sampling]) -> list[Sequence[Sampling]]:
        """Of each experiment."""
        return [
            shared if e.samplings is None else e.samplings for e in self.experiments
        ]

    def _stops(
        self, terms: Sequence[Reader], samplings: Sequence[Sampling]
    ) -> tuple[list[float], list[float]]:
        """Breakpoints of terms, and observed times."""
        seen = [s for own in self._samplings(samplings) for s in own]
        return [t for term in terms for t in term.breakpoints], [
            t for s in seen for t in s.times
        ]

    def _plan(self, storage: Storage) -> None:
        """Trajectories of all experiments share the budget."""
        grid, steps = self.grid, self.times.size - 1
        own = self.dtype.itemsize * len(self.equation.species) * grid.layout.local_size
        state = int(reductions.largest(grid.comm, own))
        runs = max(len(self.experiments), 1)
        self.plans = storage.plans(
            steps, state, self.scheme.stages, runs, grid.comm.size
        )

    @property
    def storage(self) -> Plan:
        """How the states of a trajectory are stored."""
        return self.plans.states

    @property
    def layouts(self) -> list[DataLayout]:
        """Of the blocks of data, one for the experiments that share all samplings."""
        return self.observed.layouts

    def linearize(
        self, m: PETSc.Vec, columns: Sequence[int] | None = None
    ) -> EvolutionPoint:
        """Runs the trajectories of all experiments at m, or of those of which the numbers are
        given. Raises SolverError where a solve diverges or a state blows up."""
        found = EvolutionPoint(self, self.space.at(m), columns)
        self.ran = True
        return found

    def count_krylov(self) -> None:
        found = self.solvers.iterations
        found += self.newton.iterations if self.newton is not None else 0
        found += self.line.solved if self.line is not None else 0
        self.counters.krylov_iterations = found

    def asked(self) -> dict[str, str]:
        """The tolerances of the solves, with their norms, by kind (see linear/measured.py)."""
        if self.newton is not None:
            return self.newton.asked
        looped = self.line is not None and self.line.solved > 0
        return {"state": "direct" if looped else self.solvers.asked}

    def destroy(self) -> None:
        if self.newton is not None:
            self.newton.destroy()
        self.solvers.destroy()
        self.part.destroy()
        self.observed.destroy()


@dataclass
class Adjoints:
    """What an adjoint sweep leaves for second derivatives: its data multipliers, dJ/dk, and the
    adjoint of each experiment with all its multipliers, once they are kept."""

    data: list[DataBlock]
    gradient: Gradients
    kept: list[Adjoint] | None = None


class EvolutionPoint:
    """F at one point, with its derivatives there: a Linearization.

    Args:
        columns: numbers of the experiments; None: all.
    """

    def __init__(
        self,
        forward: Evolution,
        parameters: ParametersAt,
        columns: Sequence[int] | None = None,
    ):
        self.forward, self.parameters, self.grid = forward, parameters, forward.grid
        self.k: dict[str, Coefficient] = {**forward.known, **parameters.coefficients()}
        self.members, self.observed = (
            list(range(len(forward.experiments))),
            forward.observed,
        )
        if columns is not None:
            self.members, self.observed = list(columns), forward.observed.over(columns)
        self.batches: list[Batch] = []
        self.trajectories: list[Course] = []
        unknown = list(forward.space.blocks)
        refuse = Refusal(forward.prefix, not forward.ran)
        self.guard = Guard(forward.part, forward.scheme, unknown, refuse, forward.bound)
        self.guard.check_diffusivities(self.k)
        capacity = forward.equation.capacity
        self.capacity = capacity.at(self.k) if capacity is not None else None
        self.guard.check_capacity(self.capacity)
        self.linear = LinearPoint(forward.part, self.k)
        check_values(
            forward.driving,
            self.k,
            forward.looked_at,
            forward.space.blocks,
            forward.prefix,
        )
        self.nonlinear = [t.at(self.k) for t in forward.equation.nonlinear]
        self.data = self.observed.zeros()
        self._system: LineSystem | None = None
        self._bounds: list[float] | None = None
        try:
            self.batches = self._batches()
            bounds = [batch.stepper.bounds for batch in self.batches]
            # All steppers have the same operators.
            self._bounds = None if None in bounds or not bounds else bounds[0]
            self.assemble()
            self.guard.check_steps(forward.times, self.nonlinear)
            for batch in self.batches:
                self._run(batch)
        except Exception:
            self.destroy()
            raise
        finally:
            forward.count_krylov()

    @property
    def final(self) -> list[np.ndarray]:
        """The last state of each experiment [c, i, j, k]."""
        found: dict[int, np.ndarray] = {}
        for batch, trajectory in zip(self.batches, self.trajectories, strict=True):
            found.update(batch.each(trajectory.last))
        return [found[e] for e in sorted(found)]

    def assemble(self) -> None:
        """Puts this point's operators into the shared matrices, where they are not there already;
        or their bounds alone, where nobody asks for more."""
        if self._bounds is not None:
            self.forward.part.bounded_by(self._bounds)
            return
        with stage("assemble"):
            self.linear.check(self.forward.prefix)
            mass = self.capacity.mass if self.capacity is not None else None
            self.forward.part.assemble(self.linear.points, mass)

    def _batches(self) -> list[Batch]:
        """Experiments run together where the fused step takes them, which nothing but their initial
        states may tell apart, or where all terms take columns. Jacobians belong to one state."""
        forward, found = self.forward, list[Batch]()
        on_line = [e for e in self.members if forward.on_line(e)]
        found += [Batch((e,), self._stepper(Columns((e,)))) for e in on_line]
        rest = [e for e in self.members if e not in on_line]
        alike = [e for e in rest if not forward.driving[e].drives]
        shared = self._stepper(Columns(tuple(alike))) if alike else None
        if isinstance(shared, FusedEuler):
            found.append(Batch(tuple(alike), shared))
            rest = [e for e in rest if forward.driving[e].drives]
        together = forward.equation.columns and forward.newton is None
        parts: list[tuple[int, ...]] = [(e,) for e in rest]
        if rest and together:
            parts = blocks(rest, forward.driving, forward.space.blocks)
        for members in parts:
            found.append(Batch(members, self._stepper(Columns(members))))
        single = forward.dtype.itemsize < 8
        if single and not all(isinstance(b.stepper, FusedEuler) for b in found):
            allowed = f"double but for fused steps of {APPLIES}"
            raise InputError("precision", "single", allowed)
        return found

    def _stepper(self, columns: Columns) -> Stepper:
        """The steps of some experiments together."""
        forward, scheme = self.forward, self.forward.scheme
        reactions_first = sorted(self.nonlinear, key=lambda point: point.term.stateless)
        terms = [*reactions_first, *columns.driven(forward.driving, self.k)]
        groups = treated(
            scheme, self.linear if forward.equation.operators else None, terms
        )
        boundary = columns.boundary(forward.driving, self.k)
        solves = forward.solvers, forward.newton
        found = Stepper(
            self.grid, scheme, groups, forward.times, boundary, *solves, self.capacity
        )
        values = {
            name
            for e in columns.members
            for name in forward.driving[e].boundary.coefficients
        }
        given = values.isdisjoint(forward.space.blocks)
        if not (forward.fused and given):
            return found
        lined = forward.on_line(columns.members[0])
        stepper = found if lined else fused(found, self.k)
        return in_runs(stepper, len(columns.members))

    def _run(self, batch: Batch) -> None:
        """The trajectories of a batch and their data."""
        forward, lookout = self.forward, Lookout(self.guard, batch.stepper)
        after = Watched(lookout, self.observed, batch.members, self.data)
        starts = [forward.initials[e].value(self.k) for e in batch.members]
        start = batch.join(starts).astype(forward.dtype, copy=False)
        line = forward.line if forward.on_line(batch.members[0]) else None
        if line is None:
            self.trajectories.append(self._one_by_one(batch, start, after))
        else:
            run = self._nonlinear_line if line.nonlinear else self._linear_line
            found = run(batch, start, line, lookout)
            self.observed.observe(batch.members, EVERY, found.columns, self.data)
            self.trajectories.append(found)
        self.guard.check_data(self.observed.parts(batch.members, self.data))
        forward.counters.forward_solves += len(batch.members)

    def _one_by_one(
        self, batch: Batch, start: np.ndarray, after: After
    ) -> Trajectory[Gradients]:
        """The trajectories of a batch, step by step."""
        forward, columns = self.forward, len(batch.members)
        chain = Chain(batch.stepper, forward.plans, forward.counters, columns)
        return chain.run(batch.stepper.taken(start), after)

    def _linear_line(
        self, batch: Batch, start: np.ndarray, line: LineSteps, lookout: Lookout
    ) -> OnLine:
        """The trajectory of an experiment in compiled loops."""
        forward, points = self.forward, self.linear.points
        if self._system is None:
            bands = linear_bands(forward.part, points)
            self._system = LineSystem(forward.part.mass, bands, line, forward.prefix)
        lookout(0, [start])
        found = LineTrajectory(batch.stepper, self._system, start, forward.counters)
        lookout.whole(found.norms(), found.states(), found.seen)
        return found

    def _nonlinear_line(
        self, batch: Batch, start: np.ndarray, line: LineSteps, lookout: Lookout
    ) -> OnLine:
        """The trajectory of an experiment from the one before, or step by step."""
        forward, (e,) = self.forward, batch.members
        assert forward.newton is not None
        given = forward.part, line, forward.prefix
        found = NonlinearLine(batch.stepper, start, *given)
        near = forward.near.get(e)
        if near is not None:
            lookout(0, [start])
            if found.solve(near, forward.newton.rtol, forward.counters):
                lookout.whole(found.norms(), found.states(), found.seen)
                forward.near[e] = found.rows
                return found
        found.take(self._one_by_one(batch, start, lookout).every())
        forward.near[e] = found.rows
        return found

    def states(self, e: int) -> Iterator[np.ndarray]:
        """u_0 ... u_N of an experiment [c, i, j, k], one after the other; computed again where they
        were not kept, so that no more than one is held here. Collective in every step."""
        self.assemble()
        for batch, trajectory in zip(self.batches, self.trajectories, strict=True):
            if e in batch.members:
                at = batch.members.index(e)
                yield from (batch.part(u, at) for u in trajectory.states())

    def apply(self, dm: PETSc.Vec) -> list[DataBlock]:
        """J dm, blocks as those of `data`."""
        (found,) = self.apply_all([dm])
        return found

    def apply_all(self, dms: Sequence[PETSc.Vec]) -> list[list[DataBlock]]:
        """J dm of each: as many as MOST lets go through a step before the next, and share what is
        found there."""
        self.assemble()
        dks = [self.parameters.push(dm) for dm in dms]
        out = [self.observed.zeros() for _ in dms]
        cells = self.grid.size * len(self.forward.equation.species)
        most = max(MOST * self.grid.comm.size // cells, 1)
        for first in range(0, len(dms), most):
            some = slice(first, first + most)
            for batch, trajectory in zip(self.batches, self.trajectories, strict=True):
                self._tangents(batch, trajectory, dks[some], out[some])
        self.forward.count_krylov()
        return out

    def _start(self, batch: Batch, dk: Coefficients) -> np.ndarray:
        """du_0 of a batch."""
        moved = [self.forward.initials[e].push(self.k, dk) for e in batch.members]
        return batch.join(moved).astype(self.forward.dtype, copy=False)

    def _tangents(
        self,
        batch: Batch,
        trajectory: Course,
        dks: Sequence[Coefficients],
        out: Sequence[Sequence[DataBlock]],
    ) -> None:
        """Adds J dk of a batch to the data, of each dk to its own."""

        def seeing(own: Sequence[DataBlock]) -> AfterChange[When]:
            def after(n: When, u: np.ndarray, du: np.ndarray) -> None:
                self.observed.push(batch.members, n, u, du, own)

            return after

        starts = [self._start(batch, dk) for dk in dks]
        trajectory.tangents(starts, dks, [seeing(own) for own in out])
        self.forward.counters.forward_solves += len(dks) * len(batch.members)

    def adjoint_states(self, d: Sequence[DataBlock]) -> Adjoints:
        """The adjoint sweeps with data multipliers d."""
        self.assemble()
        forward = self.forward
        found = Adjoints([block.copy() for block in d], self._gradients())
        for batch, trajectory in zip(self.batches, self.trajectories, strict=True):
            adjoint = self._adjoint(batch, trajectory, d, found.gradient)
            for e, first in batch.each(adjoint.first):
                forward.initials[e].pull(self.k, first, found.gradient)
        forward.count_krylov()
        self.guard.check_derivatives(found.gradient.values.values())
        return found

    def _gradients(self) -> Gradients:
        return Gradients(self.forward.space.blocks)

    def _adjoint(
        self,
        batch: Batch,
        trajectory: Course,
        d: Sequence[DataBlock],
        out: Gradients | None,
    ) -> Adjoint:
        """Of a batch; adds dJ/dk of the steps to `out`, or keeps the multipliers of all."""
        forward, stepper = self.forward, batch.stepper
        before = Pulled(self.observed, batch.members, d)
        stepper.discard()
        found = trajectory.adjoint(before, out, keep=out is None)
        if out is not None:
            stepper.flush(out)
        forward.recomputation = trajectory.recomputation
        forward.counters.adjoint_solves += len(batch.members)
        return found

    def apply_adjoint(
        self, d: Sequence[DataBlock], adjoints: Adjoints | None = None
    ) -> PETSc.Vec:
        """J^T d. The caller destroys the Vec."""
        found = self.adjoint_states(d) if adjoints is None else adjoints
        out = self.forward.space.create_vec()
        self.parameters.pull(found.gradient.values, out)
        return out

    def hessian(
        self,
        dm: PETSc.Vec,
        metrics: Sequence[Metric],
        out: PETSc.Vec,
        adjoints: Adjoints | None,
    ) -> None:
        """Adds J^T W J dm and, where the misfit's adjoint states are given, the second-order
        term."""
        if adjoints is None:
            self._gauss_newton(dm, metrics, out)
            return
        self.assemble()
        if self.forward.plans.multipliers and adjoints.kept is None:
            # Products need the multipliers of all steps: the adjoint is done once more to keep
            # them.
            pairs = zip(self.batches, self.trajectories, strict=True)
            adjoints.kept = [self._adjoint(b, t, adjoints.data, None) for b, t in pairs]
        dk = self.parameters.push(dm)
        total, images = self._gradients(), self.observed.zeros()
        for at in range(len(self.batches)):
            self._second(at, metrics, dk, adjoints, images, total)
        self.guard.check_derivatives(total.values.values())
        self.parameters.pull_second(adjoints.gradient.values, dm, out)
        self.parameters.pull(total.values, out)
        self.forward.count_krylov()

    def _gauss_newton(
        self, dm: PETSc.Vec, metrics: Sequence[Metric], out: PETSc.Vec
    ) -> None:
        images = self.apply(dm)
        for w, image in zip(metrics, images, strict=True):
            w.apply(image)
        product = self.apply_adjoint(images)
        out.axpy(1.0, product)
        product.destroy()

    def _second(
        self,
        at: int,
        metrics: Sequence[Metric],
        dk: Coefficients,
        adjoints: Adjoints,
        images: Sequence[DataBlock],
        out: Gradients,
    ) -> None:
        """Adds a batch's part of the Hessian product; its columns of `images` get W J dk."""
        forward, batch, d = self.forward, self.batches[at], adjoints.data
        observed, members = self.observed, batch.members

        def after(n: When, u: np.ndarray, du: np.ndarray) -> None:
            observed.push(members, n, u, du, images)

        def turn() -> None:
            observed.weigh(members, metrics, images)

        def before(n: When, u: np.ndarray, adjoint: np.ndarray) -> None:
            observed.pull(members, n, u, d, adjoint)

        def before_change(
            n: When, u: np.ndarray, du: np.ndarray, dadjoint: np.ndarray
        ) -> None:
            observed.pull(members, n, u, images, dadjoint)
            observed.second(members, n, u, du, d, dadjoint)

        batch.stepper.discard()
        kept = adjoints.kept[at] if adjoints.kept is not None else None
        visitors = Visitors(after, turn, before, before_change)
        start = self._start(batch, dk)
        found = self.trajectories[at].second(start, dk, visitors, out, kept)
        batch.stepper.flush(out)
        for e, dadjoint, adjoint in batch.each(*found):
            forward.initials[e].pull(self.k, dadjoint, out)
            forward.initials[e].second(self.k, adjoint, dk, out)
        forward.counters.forward_solves += len(batch.members)
        forward.counters.adjoint_solves += len(batch.members)

    def destroy(self) -> None:
        for batch, trajectory in zip(self.batches, self.trajectories, strict=False):
            batch.stepper.forget()
            trajectory.destroy()

"""An evolution equation at one point of the parameters: trajectories, F, and derivatives of F.

The steps of stepper.py are the layers of a chain (chain.py). With observations d_n = B g(u_n) and
multipliers d of the data, J_n = g'(u_n)^T B^T d_n, and dJ/dk also has dg/dk^T lambda_0.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from petsc4py import PETSc

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
from npde_opt.forward.columns import Batch, Columns, blocks
from npde_opt.forward.equation import Equation
from npde_opt.forward.experiment import Driving, Experiment, check_values
from npde_opt.forward.fused import APPLIES, FusedEuler, fused
from npde_opt.forward.groups import treated
from npde_opt.forward.guard import Guard, Lookout, Refusal
from npde_opt.forward.implicit_runs import in_runs
from npde_opt.forward.initial import InitialState
from npde_opt.forward.interface import Counters, ForwardMap
from npde_opt.forward.line_system import LineSteps, LineSystem, linear_bands
from npde_opt.forward.line_trajectory import LineTrajectory, NonlinearLine, OnLine
from npde_opt.forward.linear_part import LinearPart, LinearPoint
from npde_opt.forward.newton import Newton
from npde_opt.forward.schemes import Scheme
from npde_opt.forward.step_solvers import StepSolvers
from npde_opt.forward.stepper import Stepper
from npde_opt.forward.storage import Plans
from npde_opt.forward.visits import Pulled, Watched
from npde_opt.observations import (
    EVERY,
    DataBlock,
    Metric,
    Observations,
    When,
)
from npde_opt.parameters import ParametersAt
from npde_opt.stages import stage
from npde_opt.terms.state import Gradients

Course = Trajectory[Gradients] | OnLine
MOST = 1 << 18
"""Values a rank of the increments that go through a step together: beyond, memory counts."""


@dataclass
class EvolutionCounters(StepCounts, Counters):
    """Also: time steps done, and those that had to be done again."""


class Evolving(ForwardMap, Protocol):
    """What a point asks of its forward map; see evolution.py."""

    prefix: str
    bound: float | None
    equation: Equation
    scheme: Scheme
    experiments: list[Experiment]
    known: dict[str, np.ndarray]
    initials: list[InitialState]
    driving: list[Driving]
    observed: Observations
    times: np.ndarray
    looked_at: np.ndarray
    dtype: np.dtype
    part: LinearPart
    solvers: StepSolvers
    newton: Newton | None
    line: LineSteps | None
    near: dict[int, np.ndarray]
    plans: Plans
    counters: EvolutionCounters
    fused: bool
    ran: bool
    recomputation: float

    def on_line(self, e: int) -> bool: ...
    def count_krylov(self) -> None: ...


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
        forward: Evolving,
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

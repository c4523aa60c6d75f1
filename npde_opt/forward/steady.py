"""F(m) = observations of the steady states u_e of r(u_e; m) = f_e, r a sum of terms: r = A(m) u -
b_e(m) where it is linear.

With the Jacobian S = r_u at u_e (A where the equation is linear):
    J dm = g'(u) du,                     S du = -r_m dm                       (incremental state)
    J^T d = -r_m^T lambda,               S^T lambda = g'(u)^T d               (adjoint)
and the second derivative of d^T F(m) in direction dm is
    -r_mu^T(lambda, du) - r_mm^T(lambda, dm) - r_m^T dlambda,
    S^T dlambda = (g''(u) du)^T d - r_uu^T(lambda, du) - r_um^T(lambda, dm).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from petsc4py import PETSc

from npde_opt import reductions
from npde_opt.aliases import Coefficient, Coefficients
from npde_opt.errors import InputError, SolverError
from npde_opt.forward.coefficients import check_coefficients, known_values
from npde_opt.forward.columns import Columns, blocks
from npde_opt.forward.equation import Equation
from npde_opt.forward.experiment import (
    Driving,
    Experiment,
    check_sources,
    check_values,
)
from npde_opt.forward.greens import TOGETHER, Greens, Sensors, sensors
from npde_opt.forward.groups import Group
from npde_opt.forward.initial import InitialState
from npde_opt.forward.interface import Counters, check_alike
from npde_opt.forward.level import Level, pinned
from npde_opt.forward.linear_part import LinearPart, LinearPoint
from npde_opt.forward.positivity import check_diffusivities
from npde_opt.forward.steady_matrices import Matrices, Seen, sought_by_matrices
from npde_opt.forward.steady_systems import Block, LinearSystem, NonlinearSystem, System
from npde_opt.grids.pockets import check_fixed, check_free
from npde_opt.linear.accuracy import kept_solves
from npde_opt.observations import DataBlock, DataLayout, Metric, Observations, Sampling
from npde_opt.parameters import ParametersAt, ParameterSpace
from npde_opt.stages import stage
from npde_opt.terms.state import Gradients, State


class Steady:
    """The forward map of a steady equation for several experiments on one grid.

    Linear equations of one species share one matrix and one multigrid set-up for all experiments,
    which are columns of one state where all terms take that (see columns.py).
    Others are solved by Newton's method (see steady_newton.py): at the first point from each
    experiment's `initial`, then from the state at the last point whose derivatives were asked for.

    Args:
        space: the unknowns.
        equation: the terms; its gamma is 1.
        known: numbers or owned arrays [i, j, k] of the coefficients that are not unknown.
        experiments: what drives them.
        samplings: what is observed of all experiments that have none of their own; without times.
        prefix: options prefix of the solves.
        recipe: of the linear solvers (see linear/).
        mean: of states whose level nothing holds: no flux (or what is given and adds up to 0) all
            round and no reaction; the equation is linear and symmetric (see level.py).

    Raises:
        InputError: for coefficients missing, known diffusivities that are not positive, or an
            operator that is singular (a part of the active cells with neither a Dirichlet or Robin
            side nor a reaction).
    """

    def __init__(
        self,
        space: ParameterSpace,
        equation: Equation,
        known: Coefficients,
        experiments: Sequence[Experiment],
        samplings: Sequence[Sampling] = (),
        prefix: str = "state_",
        recipe: str = "auto",
        mean: float | None = None,
    ):
        self.space, self.grid, self.prefix = space, space.grid, prefix
        if equation.complex:
            raise InputError("gamma", equation.gamma, "1 for a steady equation")
        if equation.capacity is not None:
            said = "none for a steady equation, which has no du/dt"
            raise InputError("storage", repr(equation.capacity.said), said)
        for term in equation.terms:
            if term.timed:
                raise InputError(
                    "terms", f"{term.said} in time", "terms without t: it is steady"
                )
        self.equation = equation if mean is None else pinned(equation, mean)
        check_alike(self.grid.comm, experiments)
        self.experiments = tuple(experiments)
        self.known = known_values(self.grid, known)
        self.initials = [
            InitialState(self.grid, equation.species, e.initial, e.where)
            for e in experiments
        ]
        self.driving = [Driving(equation, e, timed=False) for e in experiments]
        terms = [*equation.terms, *(t for d in self.driving for t in d.parts)]
        check_coefficients(
            space, equation, self.known, self.initials, terms, zero=False
        )
        check_values(self.driving, self.known, np.zeros(1), space.blocks)
        check_sources(terms, self.known, space.blocks)
        (check_fixed if mean is None else check_free)(self.grid, self._held())
        own = [samplings if e.samplings is None else e.samplings for e in experiments]
        self.observed = Observations(self.grid, equation.species, (), own)
        self.counters = Counters()
        self._sensors: Sensors | None = None
        self._looked = False
        self.accepted: list[np.ndarray | None] = [None] * len(self.experiments)
        """States from which Newton's method starts."""
        with stage("setup"):
            self.part = LinearPart(self.equation, prefix, bounded=False)
            linear = all(term.stateless for term in equation.nonlinear)
            one = len(equation.species) == 1 and linear
            of = self.part, prefix, recipe, self.counters
            self.system: System = (
                LinearSystem(*of, len(self.experiments))
                if one
                else NonlinearSystem(*of)
            )
            if mean is not None and isinstance(self.system, LinearSystem):
                self.system.level = Level(self.grid, mean)
        numbers = range(len(self.experiments))
        together = one and equation.columns
        unknown = [u.name for u in space.unknowns]
        self.blocks = (
            blocks(numbers, self.driving, unknown)
            if together
            else [(e,) for e in numbers]
        )
        """Experiments that are columns of one state."""
        self.matrices: Matrices | None = None
        """Derivatives as matrices, where those are cheaper than the terms' own."""
        named = sought_by_matrices(self.grid, self.equation, self.driving, unknown)
        if named and isinstance(self.system, LinearSystem) and mean is None:
            self.matrices = Matrices(self.grid, named, self.system)
        if isinstance(self.system, LinearSystem) and self.system.level is not None:
            self._check_balance(self.system, self.system.level)

    def _held(self) -> np.ndarray:
        """The owned cells whose level a reaction holds."""
        held = np.zeros(self.grid.local_shape, bool)
        for term in self.equation.terms:
            if term.blocks and term.pointwise:
                held[...] = True
            for name in term.holding:
                held |= self.known[name] != 0 if name in self.known else np.array(True)
        return held

    def _check_balance(self, system: LinearSystem, level: Level) -> None:
        """Raises InputError where what drives states with a mean does not add up to 0, looked at
        for some values of the unknowns. Collective."""
        m = self.space.standard_normal(0)
        k = {**self.known, **self.space.at(m).coefficients()}
        m.destroy()
        linear = LinearPoint(self.part, k)
        parts = [*self.equation.nonlinear, *(t for d in self.driving for t in d.parts)]
        read = {name for part in parts for name in part.coefficients}
        sought = [u.name for u in self.space.unknowns if u.name in read]
        for members in self.blocks:
            try:
                level.check(system.driving(self.block(Columns(members), linear, k)))
            except InputError as error:
                if not sought:
                    raise
                said = f"sources and fluxes that do not add up to 0 for all {', '.join(sought)}"
                raise InputError(error.field, said, error.allowed) from error

    def block(self, columns: Columns, linear: LinearPoint, k: Coefficients) -> Block:
        """Experiments with what drives them at coefficients, which are those of `linear`."""
        terms = [t.at(k) for t in self.equation.nonlinear]
        terms += columns.driven(self.driving, k)
        outside = columns.boundary(self.driving, k).outside(0.0, 0.0)
        return Block(columns.members, linear, Group([], linear, terms), outside)

    @property
    def layouts(self) -> list[DataLayout]:
        """Of the blocks of data, one for the experiments that share all samplings."""
        return self.observed.layouts

    def linearize(
        self, m: PETSc.Vec, columns: Sequence[int] | None = None
    ) -> Linearization:
        """Solves the states of all experiments at m, or of those of which the numbers are given.
        Raises SolverError where a diffusivity is not positive or a solve diverges."""
        return Linearization(self, self.space.at(m), columns)

    def solve(
        self, block: Block, state: State, rhs: np.ndarray, adjoint: bool
    ) -> np.ndarray:
        """S u = rhs with the Jacobian at a block's state, or S^T u = rhs, shaped as rhs. Raises
        SolverError where the solve diverges."""
        if adjoint:
            self.counters.adjoint_solves += len(block.members)
        else:
            self.counters.forward_solves += len(block.members)
        return self.system.solve(block, state, rhs, adjoint)

    def sensors(self) -> Sensors | None:
        """The functionals by which Green's functions serve; None where they do not: of one matrix
        for all experiments. Collective."""
        if not self._looked:
            self._looked = True
            if isinstance(self.system, LinearSystem):
                count = len(self.experiments)
                self._sensors = sensors(self.grid, self.observed, count)
        return self._sensors

    def starts(self, e: int, k: Coefficients) -> list[np.ndarray]:
        """States from which Newton's method may start."""
        near = self.accepted[e]
        first = self.initials[e].value(k)
        return [first] if near is None else [near, first]

    def asked(self) -> dict[str, str]:
        """The tolerance of the solves, with its norm, by kind (see linear/measured.py)."""
        return self.system.asked

    @property
    def true_residual(self) -> float:
        """The largest |b - A x| / |b| of the linear solves that were checked."""
        return max((s.true_residual for s in self.system.solvers), default=0.0)

    def destroy(self) -> None:
        if self.matrices is not None:
            self.matrices.destroy()
        self.system.destroy()
        self.part.destroy()
        self.observed.destroy()


@dataclass
class Adjoints:
    """Data multipliers, the adjoint states by block of experiments, and dJ/dk."""

    data: list[DataBlock]
    states: list[State]
    gradient: Gradients


class Linearization:
    """F at one point, with its derivatives there.

    Args:
        columns: numbers of the experiments; None: all.

    Attributes:
        data: F, in blocks.
        members: numbers of the experiments.
        final: their states [c, i, j, k].
    """

    def __init__(
        self,
        forward: Steady,
        parameters: ParametersAt,
        columns: Sequence[int] | None = None,
    ):
        self.forward, self.parameters, self.grid = forward, parameters, forward.grid
        equation = forward.equation
        self.members, self.observed = (
            list(range(len(forward.experiments))),
            forward.observed,
        )
        if columns is not None:
            self.members, self.observed = list(columns), forward.observed.over(columns)
        self.k: dict[str, Coefficient] = {**forward.known, **parameters.coefficients()}
        names = {u.name for u in forward.space.unknowns}
        check_diffusivities(
            self.grid,
            forward.prefix,
            [n for n in equation.positive if n in names],
            self.k,
        )
        self.linear = LinearPoint(forward.part, self.k)
        self.linear.check(forward.prefix)
        check_values(forward.driving, self.k, np.zeros(1), names, forward.prefix)
        own = (t for d in forward.driving for t in d.terms)
        check_sources([*equation.terms, *own], self.k, names, forward.prefix)
        asked = set(self.members)
        parts = [tuple(e for e in members if e in asked) for members in forward.blocks]
        self.blocks = [
            forward.block(Columns(members), self.linear, self.k)
            for members in parts
            if members
        ]
        self.states_at: list[State] = []
        """Those of the blocks."""
        self.data = self.observed.zeros()
        self._greens: Greens | None = None
        self._spent = 0
        """Solves that Green's functions would have spared."""
        for block in self.blocks:
            self._run(block)

    def _run(self, block: Block) -> None:
        """The states of a block and their data."""
        forward, first = self.forward, block.members[0]
        state = forward.system.state(block, lambda: forward.starts(first, self.k))
        self.states_at.append(state)
        forward.counters.forward_solves += len(block.members)
        self.observed.observe(block.members, 0, state.u, self.data)
        self._check_data(block)

    def _check_data(self, block: Block) -> None:
        parts = self.observed.parts(block.members, self.data)
        finite = all(np.isfinite(values).all() for values in parts)
        if not reductions.everywhere(self.grid.comm, bool(finite)):
            raise SolverError(
                self.forward.prefix,
                "a predicted datum is not finite",
                "Look for an observed quantity that is not defined for the state.",
            )

    def _by_experiment(self) -> dict[int, np.ndarray]:
        """The states."""
        pairs = zip(self.blocks, self.states_at, strict=True)
        return {e: u for block, state in pairs for e, u in block.each(state.u)}

    @property
    def final(self) -> list[np.ndarray]:
        found = self._by_experiment()
        return [found[e] for e in self.members]

    def states(self, e: int) -> Iterator[np.ndarray]:
        """The state of an experiment, once [c, i, j, k]."""
        yield self._by_experiment()[e]

    def _solve(self, b: int, rhs: np.ndarray, adjoint: bool) -> State:
        found = self.forward.solve(self.blocks[b], self.states_at[b], rhs, adjoint)
        return State(self.grid, found)

    def _formed(self, solves: int) -> Greens | None:
        """Green's functions, where products have cost, with `solves` more, what they cost; of a
        part of the experiments none. Collective."""
        system, whole = self.forward.system, self.observed is self.forward.observed
        sensors = self.forward.sensors() if whole else None
        if sensors is None or not isinstance(system, LinearSystem):
            return None
        kept = self._greens
        if kept is not None and kept.exactness <= system.exactness:
            return kept
        self._spent += solves
        if self._spent < sensors.count:
            return None

        def solve(block: Block, rhs: np.ndarray) -> np.ndarray:
            return self.forward.solve(block, State(self.grid, rhs), rhs, True)

        with kept_solves():
            self._greens = Greens(
                sensors, self.observed, self.blocks[0], solve, system.exactness
            )
        return self._greens

    def _gradients(self) -> Gradients:
        return Gradients(self.forward.space.blocks)

    def _accept(self) -> None:
        """The point is one that the search goes on from."""
        for e, u in self._by_experiment().items():
            self.forward.accepted[e] = u

    def _change(self, b: int, dk: Coefficients) -> np.ndarray:
        """-r_m dm of a block."""
        rhs = self.states_at[b].zeros()
        rhs -= self.blocks[b].group.derivative(self.states_at[b], dk)
        return rhs

    def _incremental(self, b: int, dk: Coefficients) -> State:
        """du of a block."""
        return self._solve(b, self._change(b, dk), False)

    def _batches(self) -> Iterator[list[int]]:
        """Numbers of blocks that Green's functions are multiplied with at a time."""
        found, count = list[int](), 0
        for b, block in enumerate(self.blocks):
            if found and count + len(block.members) > TOGETHER:
                yield found
                found, count = [], 0
            found.append(b)
            count += len(block.members)
        yield found

    def apply(self, dm: PETSc.Vec) -> list[DataBlock]:
        """J dm, blocks as those of `data`."""
        self._accept()
        dk, out = self.parameters.push(dm), self.observed.zeros()
        greens = self._formed(len(self.members))
        if greens is not None:
            for some in self._batches():
                rhs = [self._change(b, dk) for b in some]
                greens.see([self.blocks[b] for b in some], rhs, out)
            return out
        for b, block in enumerate(self.blocks):
            du = self._incremental(b, dk)
            self.observed.push(block.members, 0, self.states_at[b].u, du.u, out)
        return out

    def adjoint_states(self, d: Sequence[DataBlock]) -> Adjoints:
        """lambda of all experiments for the data multipliers d, and what follows for the
        coefficients."""
        self._accept()
        self.linear.discard()
        found = Adjoints([own.copy() for own in d], [], self._gradients())
        inner = self._gradients()
        found.states.extend(self._adjoint_states(found.data))
        for b, block in enumerate(self.blocks):
            block.group.contraction(self.states_at[b], found.states[b], inner)
        self.linear.flush(inner)
        found.gradient.subtract(inner)
        self._check_derivatives(found.gradient)
        return found

    def _adjoint_states(self, d: Sequence[DataBlock]) -> Iterator[State]:
        """Those of the blocks for data multipliers."""
        greens = self._formed(len(self.members))
        if greens is not None:
            for some in self._batches():
                for u in greens.spread([self.blocks[b] for b in some], d):
                    yield State(self.grid, u)
            return
        for b, block in enumerate(self.blocks):
            rhs = self.states_at[b].zeros()
            self.observed.pull(block.members, 0, self.states_at[b].u, d, rhs)
            yield self._solve(b, rhs, True)

    def _check_derivatives(self, gradient: Gradients) -> None:
        """Raises SolverError where one is not finite."""
        good = all(np.isfinite(value).all() for value in gradient.values.values())
        if not reductions.everywhere(self.grid.comm, bool(good)):
            raise SolverError(
                self.forward.prefix,
                "a derivative is not finite",
                "Look for rates, diffusivities or observed quantities that are singular there.",
            )

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
        """Adds J^T W J dm and, where the misfit's adjoint states are given, the second-order term,
        with one incremental state and one incremental adjoint an experiment."""
        self.linear.discard()
        dk, total, inner = (
            self.parameters.push(dm),
            self._gradients(),
            self._gradients(),
        )
        images = self.observed.zeros()
        greens = self._formed(2 * len(self.members)) if adjoints is None else None
        if greens is not None:
            for some in self._batches():
                self._by_greens(greens, some, metrics, dk, images, inner)
        else:
            for b in range(len(self.blocks)):
                self._second(b, metrics, dk, adjoints, images, inner)
        self.linear.flush(inner)
        total.subtract(inner)
        self._check_derivatives(total)
        if adjoints is not None:
            self.parameters.pull_second(adjoints.gradient.values, dm, out)
        self.parameters.pull(total.values, out)

    def _by_greens(
        self,
        greens: Greens,
        some: Sequence[int],
        metrics: Sequence[Metric],
        dk: Coefficients,
        images: Sequence[DataBlock],
        inner: Gradients,
    ) -> None:
        """Adds some blocks' part of the Gauss-Newton product, without a solve."""
        blocks = [self.blocks[b] for b in some]
        greens.see(blocks, [self._change(b, dk) for b in some], images)
        for block in blocks:
            self.observed.weigh(block.members, metrics, images)
        adjoints = greens.spread(blocks, images)
        for b, block, adjoint in zip(some, blocks, adjoints, strict=True):
            state = State(self.grid, adjoint)
            block.group.contraction(self.states_at[b], state, inner)

    def _second(
        self,
        b: int,
        metrics: Sequence[Metric],
        dk: Coefficients,
        adjoints: Adjoints | None,
        images: Sequence[DataBlock],
        inner: Gradients,
    ) -> None:
        """Adds a block's part of the Hessian product; its columns of `images` get W J dk."""
        block, state, observed = self.blocks[b], self.states_at[b], self.observed
        matrices = self._matrices(b, adjoints)
        if matrices is not None:
            multipliers = None if adjoints is None else adjoints.data
            seen = Seen(observed, metrics, multipliers, images)
            matrices.product(block, dk, seen, self.forward.counters, inner)
            return
        du, rhs = self._incremental(b, dk), state.zeros()
        observed.push(block.members, 0, state.u, du.u, images)
        observed.weigh(block.members, metrics, images)
        observed.pull(block.members, 0, state.u, images, rhs)
        if adjoints is not None:
            observed.second(block.members, 0, state.u, du.u, adjoints.data, rhs)
            rhs -= block.group.second(state, adjoints.states[b], du, dk, inner)
        block.group.contraction(state, self._solve(b, rhs, True), inner)

    def _matrices(self, b: int, adjoints: Adjoints | None) -> Matrices | None:
        """The derivatives of a block as matrices; None where they are not. Collective."""
        found, block = self.forward.matrices, self.blocks[b]
        if found is None or len(block.members) > 1:
            return None
        adjoint = None if adjoints is None else adjoints.states[b]
        return found if found.take(block, self.states_at[b], adjoint) else None

    def destroy(self) -> None:
        """Nothing: states and data are arrays."""

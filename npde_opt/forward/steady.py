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
from npde_opt.forward.columns import Columns, groups
from npde_opt.forward.equation import Equation, LinearPart, LinearPoint
from npde_opt.forward.experiment import Driving, Experiment
from npde_opt.forward.initial import InitialState
from npde_opt.forward.interface import Counters, Weights, check_alike
from npde_opt.forward.positivity import check_diffusivities
from npde_opt.forward.steady_systems import Block, LinearSystem, NonlinearSystem, System
from npde_opt.forward.stepper import Group
from npde_opt.grids.pockets import check_fixed
from npde_opt.observations import Observer, Sampling
from npde_opt.parameters import ParametersAt, ParameterSpace
from npde_opt.stages import stage
from npde_opt.terms.interface import TermAt
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
    ):
        self.space, self.grid, self.equation, self.prefix = space, space.grid, equation, prefix
        if equation.complex:
            raise InputError("gamma", equation.gamma, "1 for a steady equation")
        if equation.capacity is not None:
            said = "none for a steady equation, which has no du/dt"
            raise InputError("storage", repr(equation.capacity.said), said)
        check_alike(self.grid.comm, experiments)
        self.experiments = tuple(experiments)
        self.known = known_values(self.grid, known)
        self.initials = [
            InitialState(self.grid, equation.species, e.initial, e.where) for e in experiments
        ]
        self.driving = [Driving(equation, e, timed=False) for e in experiments]
        terms = [*equation.terms, *(t for d in self.driving for t in d.parts)]
        check_coefficients(space, equation, self.known, self.initials, terms, zero=False)
        check_fixed(self.grid, self._held())
        self.observers = [
            Observer(self.grid, equation.species, (), samplings if own is None else own)
            for own in (e.samplings for e in experiments)
        ]
        self.counters = Counters()
        self.accepted: list[np.ndarray | None] = [None] * len(self.experiments)
        """States from which Newton's method starts."""
        with stage("setup"):
            self.part = LinearPart(equation, prefix, bounded=False)
            linear = all(term.stateless for term in equation.nonlinear)
            one = len(equation.species) == 1 and linear
            kind = LinearSystem if one else NonlinearSystem
            self.system: System = kind(self.part, prefix, recipe, self.counters)
        numbers = range(len(self.experiments))
        together = one and equation.columns
        unknown = [u.name for u in space.unknowns]
        self.blocks = (
            groups(numbers, self.driving, unknown) if together else [(e,) for e in numbers]
        )
        """Experiments that are columns of one state."""

    def _held(self) -> np.ndarray:
        """The owned cells whose level a reaction holds."""
        held = np.zeros(self.grid.local_shape, bool)
        for term in self.equation.terms:
            if term.blocks and term.pointwise:
                held[...] = True
            for name in term.holding:
                held |= self.known[name] != 0 if name in self.known else np.array(True)
        return held

    def linearize(self, m: PETSc.Vec) -> Linearization:
        """Solves all states at m. Raises SolverError where a diffusivity is not positive or a solve
        diverges."""
        return Linearization(self, self.space.at(m))

    def solve(self, block: Block, state: State, rhs: np.ndarray, adjoint: bool) -> np.ndarray:
        """S u = rhs with the Jacobian at a block's state, or S^T u = rhs, shaped as rhs. Raises
        SolverError where the solve diverges."""
        if adjoint:
            self.counters.adjoint_solves += len(block.members)
        else:
            self.counters.forward_solves += len(block.members)
        return self.system.solve(block, state, rhs, adjoint)

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
        self.system.destroy()
        self.part.destroy()
        for observer in self.observers:
            observer.destroy()


@dataclass
class Adjoints:
    """Data multipliers by experiment, the adjoint states by block, and dJ/dk."""

    data: list[PETSc.Vec]
    states: list[State]
    gradient: Gradients


class Linearization:
    """F at one point, with its derivatives there.

    Attributes:
        data: F, one Vec an experiment.
        final: the states [c, i, j, k] by experiment.
    """

    def __init__(self, forward: Steady, parameters: ParametersAt):
        self.forward, self.parameters, self.grid = forward, parameters, forward.grid
        equation = forward.equation
        self.k: dict[str, Coefficient] = {**forward.known, **parameters.coefficients()}
        names = {u.name for u in forward.space.unknowns}
        check_diffusivities(
            self.grid, forward.prefix, [n for n in equation.positive if n in names], self.k
        )
        self.linear = LinearPoint(forward.part, self.k)
        self.linear.check(forward.prefix)
        nonlinear = [t.at(self.k) for t in equation.nonlinear]
        self.blocks = [self._block(Columns(members), nonlinear) for members in forward.blocks]
        self.states_at: list[State] = []
        """Those of the blocks."""
        self.data: list[PETSc.Vec] = []
        self._held: list[Adjoints] = []
        try:
            self.data = [observer.create_vec() for observer in forward.observers]
            for block in self.blocks:
                self._run(block)
        except Exception:
            self.destroy()
            raise

    def _block(self, columns: Columns, nonlinear: Sequence[TermAt]) -> Block:
        driving = self.forward.driving
        terms = [*nonlinear, *columns.driven(driving, self.k)]
        outside = columns.boundary(driving, self.k).outside(0.0, 0.0)
        return Block(columns.members, self.linear, Group([], self.linear, terms), outside)

    def _run(self, block: Block) -> None:
        """The states of a block and their data."""
        forward, first = self.forward, block.members[0]
        state = forward.system.state(block, lambda: forward.starts(first, self.k))
        self.states_at.append(state)
        forward.counters.forward_solves += len(block.members)
        for e, u in block.each(state.u):
            forward.observers[e].observe(0, u, self.data[e])
        self._check_data([self.data[e] for e in block.members])

    def _check_data(self, data: Sequence[PETSc.Vec]) -> None:
        finite = all(np.isfinite(vec.getArray(readonly=True)).all() for vec in data)
        if not reductions.everywhere(self.grid.comm, finite):
            raise SolverError(
                self.forward.prefix,
                "a predicted datum is not finite",
                "Look for an observed quantity that is not defined for the state.",
            )

    @property
    def final(self) -> list[np.ndarray]:
        pairs = zip(self.blocks, self.states_at, strict=True)
        return [u for block, state in pairs for _, u in block.each(state.u)]

    def states(self, e: int) -> Iterator[np.ndarray]:
        """The state of an experiment, once [c, i, j, k]."""
        yield self.final[e]

    def _solve(self, b: int, rhs: np.ndarray, adjoint: bool) -> State:
        found = self.forward.solve(self.blocks[b], self.states_at[b], rhs, adjoint)
        return State(self.grid, found)

    def _gradients(self) -> Gradients:
        return Gradients(self.forward.space.blocks)

    def _accept(self) -> None:
        """The point is one that the search goes on from."""
        self.forward.accepted = list(self.final)

    def _incremental(self, b: int, dk: Coefficients) -> State:
        """du of a block."""
        rhs = self.states_at[b].zeros()
        rhs -= self.blocks[b].group.derivative(self.states_at[b], dk)
        return self._solve(b, rhs, False)

    def apply(self, dm: PETSc.Vec) -> list[PETSc.Vec]:
        """J dm: one data Vec an experiment, which the caller destroys."""
        self._accept()
        dk, observers = self.parameters.push(dm), self.forward.observers
        out = [observer.create_vec() for observer in observers]
        for b, block in enumerate(self.blocks):
            du = self._incremental(b, dk)
            for e, u, change in block.each(self.states_at[b].u, du.u):
                observers[e].push(0, u, change, out[e])
        return out

    def adjoint_states(self, d: Sequence[PETSc.Vec]) -> Adjoints:
        """lambda of all experiments for the data multipliers d, and what follows for the
        coefficients."""
        self._accept()
        self.linear.discard()
        found = Adjoints([v.copy() for v in d], [], self._gradients())
        self._held.append(found)
        inner = self._gradients()
        for b, block in enumerate(self.blocks):
            state = self.states_at[b]
            rhs = state.zeros()
            for e, u, own in block.each(state.u, rhs):
                self.forward.observers[e].pull(0, u, found.data[e], own)
            found.states.append(self._solve(b, rhs, True))
            block.group.contraction(state, found.states[b], inner)
        self.linear.flush(inner)
        found.gradient.subtract(inner)
        self._check_derivatives(found.gradient)
        return found

    def _check_derivatives(self, gradient: Gradients) -> None:
        """Raises SolverError where one is not finite."""
        good = all(np.isfinite(value).all() for value in gradient.values.values())
        if not reductions.everywhere(self.grid.comm, bool(good)):
            raise SolverError(
                self.forward.prefix,
                "a derivative is not finite",
                "Look for rates, diffusivities or observed quantities that are singular there.",
            )

    def apply_adjoint(self, d: Sequence[PETSc.Vec], adjoints: Adjoints | None = None) -> PETSc.Vec:
        """J^T d. The caller destroys the Vec."""
        found = self.adjoint_states(d) if adjoints is None else adjoints
        out = self.forward.space.create_vec()
        self.parameters.pull(found.gradient.values, out)
        if adjoints is None:
            release(self._held.pop())
        return out

    def hessian(
        self, dm: PETSc.Vec, weights: Sequence[Weights], out: PETSc.Vec, adjoints: Adjoints | None
    ) -> None:
        """Adds J^T W J dm and, where the misfit's adjoint states are given, the second-order term,
        with one incremental state and one incremental adjoint an experiment."""
        self.linear.discard()
        dk, total, inner = self.parameters.push(dm), self._gradients(), self._gradients()
        for b in range(len(self.blocks)):
            self._second(b, weights, dk, adjoints, inner)
        self.linear.flush(inner)
        total.subtract(inner)
        self._check_derivatives(total)
        if adjoints is not None:
            self.parameters.pull_second(adjoints.gradient.values, dm, out)
        self.parameters.pull(total.values, out)

    def _second(
        self,
        b: int,
        weights: Sequence[Weights],
        dk: Coefficients,
        adjoints: Adjoints | None,
        inner: Gradients,
    ) -> None:
        """Adds a block's part of the Hessian product."""
        block, state, observers = self.blocks[b], self.states_at[b], self.forward.observers
        du, rhs = self._incremental(b, dk), state.zeros()
        for e, u, change, own in block.each(state.u, du.u, rhs):
            image = observers[e].create_vec()
            observers[e].push(0, u, change, image)
            weights[e].apply(image)
            observers[e].pull(0, u, image, own)
            image.destroy()
            if adjoints is not None:
                observers[e].second(0, u, change, adjoints.data[e], own)
        if adjoints is not None:
            rhs -= block.group.second(state, adjoints.states[b], du, dk, inner)
        block.group.contraction(state, self._solve(b, rhs, True), inner)

    def destroy(self) -> None:
        for vec in self.data:
            vec.destroy()
        for adjoints in self._held:
            release(adjoints)
        self.data, self._held = [], []


def release(adjoints: Adjoints) -> None:
    for vec in adjoints.data:
        vec.destroy()

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
from typing import Protocol

import numpy as np
from petsc4py import PETSc

from npde_opt import reductions
from npde_opt.aliases import Coefficient, Coefficients
from npde_opt.errors import InputError, SolverError
from npde_opt.forward.coefficients import check_coefficients, known_values
from npde_opt.forward.equation import Equation, LinearPart, LinearPoint
from npde_opt.forward.experiment import Driving, Experiment
from npde_opt.forward.initial import InitialState
from npde_opt.forward.interface import Counters, Weights, check_alike
from npde_opt.forward.positivity import check_diffusivities
from npde_opt.forward.steady_newton import SteadyNewton
from npde_opt.forward.stepper import Group
from npde_opt.grids.pockets import check_fixed
from npde_opt.linear.measured import take
from npde_opt.linear.recipes import LinearSolver
from npde_opt.observations import Observer, Sampling
from npde_opt.parameters import ParametersAt, ParameterSpace
from npde_opt.stages import stage
from npde_opt.terms.state import Ghosts, Gradients, State, channels


class Steady:
    """The forward map of a steady equation for several experiments on one grid.

    Linear equations of one species share one matrix and one multigrid set-up for all experiments.
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
            self.system: System = (
                LinearSystem(self, recipe) if one else NonlinearSystem(self, recipe)
            )

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

    def solve(self, at: Linearization, e: int, rhs: np.ndarray, adjoint: bool) -> np.ndarray:
        """S u = rhs with the Jacobian of an experiment's state, or S^T u = rhs [c, i, j, k]. Raises
        SolverError where the solve diverges."""
        if adjoint:
            self.counters.adjoint_solves += 1
        else:
            self.counters.forward_solves += 1
        return self.system.solve(at, e, rhs, adjoint)

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


class System(Protocol):
    """The solves at one point."""

    @property
    def solvers(self) -> Sequence[LinearSolver]: ...

    @property
    def asked(self) -> dict[str, str]: ...

    def state(self, at: Linearization, e: int) -> State:
        """The steady state of an experiment."""

    def solve(self, at: Linearization, e: int, rhs: np.ndarray, adjoint: bool) -> np.ndarray:
        """S u = rhs at the state of an experiment, or S^T u = rhs [c, i, j, k]."""

    def destroy(self) -> None: ...


class LinearSystem:
    """A u = b of one species: A is shared by all experiments, and refreshed when another point than
    the last one is solved at."""

    def __init__(self, forward: Steady, recipe: str):
        self.forward, self.grid, self.part = forward, forward.grid, forward.part
        if not self.part.matrices:
            raise InputError("terms", "none that depends on the state", "at least one")
        (self.matrix,) = self.part.matrices
        self.symmetric = forward.equation.symmetric
        self.solver = LinearSolver(self.matrix, self.grid, forward.prefix, recipe, self.symmetric)
        self.solvers = [self.solver]
        self._rhs, self._x = self.grid.create_active(), self.grid.create_active()

    @property
    def asked(self) -> dict[str, str]:
        return {"state": self.solver.tolerance.text}

    def _assemble(self, at: Linearization) -> None:
        with stage("assemble"):
            if self.part.assemble(at.linear.points):
                self.solver.update()

    def state(self, at: Linearization, e: int) -> State:
        rhs = channels(self.grid, 1)
        zero = State(self.grid, rhs, 0.0, at.outside(e))
        for point in at.groups[e].others:
            rhs -= point.residual(zero)
        load = at.groups[e].load(zero)
        if load is not None:
            rhs += load
        return State(self.grid, self.solve(at, e, rhs, False), 0.0, zero.outside)

    def solve(self, at: Linearization, e: int, rhs: np.ndarray, adjoint: bool) -> np.ndarray:
        self._assemble(at)
        self.grid.put(rhs[0], self._rhs)
        before = self.solver.iterations
        with stage("adjoint" if adjoint else "forward"):
            (self.solver.solve_transpose if adjoint else self.solver.solve)(self._rhs, self._x)
        iterations = self.solver.iterations - before
        self.forward.counters.krylov_iterations += iterations
        take(
            "adjoint" if adjoint else "state",
            self.matrix.mat,
            self._rhs,
            self._x,
            iterations,
            adjoint and not self.symmetric,
        )
        out = channels(self.grid, 1)
        self.grid.take(self._x, out[0])
        return out

    def destroy(self) -> None:
        self.solver.destroy()
        self._rhs.destroy()
        self._x.destroy()


class NonlinearSystem:
    """r(u) = 0 by Newton's method; the Jacobian belongs to one experiment's state at a time."""

    def __init__(self, forward: Steady, recipe: str):
        self.forward, self.grid = forward, forward.grid
        self.newton = SteadyNewton(forward.part, forward.prefix, recipe)
        self.solvers = self.newton.jacobian.solvers

    @property
    def asked(self) -> dict[str, str]:
        return self.newton.asked

    def state(self, at: Linearization, e: int) -> State:
        forward, outside = self.forward, at.outside(e)
        with stage("assemble"):
            forward.part.assemble(at.linear.points)
        starts = [forward.initials[e].value(at.k)]
        near = forward.accepted[e]
        if near is not None:
            starts.insert(0, near)
        states = [State(self.grid, u, 0.0, outside) for u in starts]
        with stage("forward"):
            found = self.newton.solve(at.groups[e], states)
        self._count()
        return found

    def solve(self, at: Linearization, e: int, rhs: np.ndarray, adjoint: bool) -> np.ndarray:
        with stage("adjoint" if adjoint else "forward"):
            found = self.newton.linear(at.groups[e], at.states_at[e], rhs, adjoint)
        self._count()
        return found

    def _count(self) -> None:
        self.forward.counters.krylov_iterations = self.newton.jacobian.iterations

    def destroy(self) -> None:
        self.newton.destroy()


@dataclass
class Adjoints:
    """Data multipliers, the adjoint states and dJ/dk."""

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
        self.groups = [
            Group([], self.linear, [*nonlinear, *(t.at(self.k) for t in d.terms)])
            for d in forward.driving
        ]
        self.boundaries = [d.boundary.at(self.k) for d in forward.driving]
        self.states_at: list[State] = []
        self.data: list[PETSc.Vec] = []
        self._held: list[Adjoints] = []
        try:
            for e, observer in enumerate(forward.observers):
                self.states_at.append(forward.system.state(self, e))
                forward.counters.forward_solves += 1
                self.data.append(observer.create_vec())
                observer.observe(0, self.states_at[e].u, self.data[e])
                self._check_data(self.data[e])
        except Exception:
            self.destroy()
            raise

    def _check_data(self, data: PETSc.Vec) -> None:
        if not reductions.everywhere(
            self.grid.comm, bool(np.isfinite(data.getArray(readonly=True)).all())
        ):
            raise SolverError(
                self.forward.prefix,
                "a predicted datum is not finite",
                "Look for an observed quantity that is not defined for the state.",
            )

    def outside(self, e: int) -> Ghosts | None:
        """The boundary values of an experiment."""
        return self.boundaries[e].outside(0.0, 0.0)

    @property
    def final(self) -> list[np.ndarray]:
        return [state.u for state in self.states_at]

    def states(self, e: int) -> Iterator[np.ndarray]:
        """The state of an experiment, once [c, i, j, k]."""
        yield self.states_at[e].u

    def _solve(self, e: int, rhs: np.ndarray, adjoint: bool) -> State:
        return State(self.grid, self.forward.solve(self, e, rhs, adjoint))

    def _gradients(self) -> Gradients:
        return Gradients(self.forward.space.blocks)

    def _zeros(self) -> np.ndarray:
        return channels(self.grid, len(self.forward.equation.species))

    def _accept(self) -> None:
        """The point is one that the search goes on from."""
        self.forward.accepted = list(self.final)

    def _incremental(self, e: int, dk: Coefficients) -> State:
        """du of an experiment."""
        rhs = self._zeros()
        rhs -= self.groups[e].derivative(self.states_at[e], dk)
        return self._solve(e, rhs, False)

    def _pushed(self, e: int, du: State) -> PETSc.Vec:
        """g'(u) du."""
        data = self.forward.observers[e].create_vec()
        self.forward.observers[e].push(0, self.states_at[e].u, du.u, data)
        return data

    def apply(self, dm: PETSc.Vec) -> list[PETSc.Vec]:
        """J dm: one data Vec an experiment, which the caller destroys."""
        self._accept()
        dk = self.parameters.push(dm)
        return [self._pushed(e, self._incremental(e, dk)) for e in range(len(self.states_at))]

    def adjoint_states(self, d: Sequence[PETSc.Vec]) -> Adjoints:
        """lambda of all experiments for the data multipliers d, and what follows for the
        coefficients."""
        self._accept()
        self.linear.discard()
        found = Adjoints([v.copy() for v in d], [], self._gradients())
        self._held.append(found)
        inner = self._gradients()
        for e, vec in enumerate(found.data):
            rhs = self._zeros()
            self.forward.observers[e].pull(0, self.states_at[e].u, vec, rhs)
            found.states.append(self._solve(e, rhs, True))
            self.groups[e].contraction(self.states_at[e], found.states[e], inner)
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
        for e, w in enumerate(weights):
            self._second(e, w, dk, adjoints, inner)
        self.linear.flush(inner)
        total.subtract(inner)
        self._check_derivatives(total)
        if adjoints is not None:
            self.parameters.pull_second(adjoints.gradient.values, dm, out)
        self.parameters.pull(total.values, out)

    def _second(
        self, e: int, w: Weights, dk: Coefficients, adjoints: Adjoints | None, inner: Gradients
    ) -> None:
        """Adds one experiment's part of the Hessian product."""
        observer, group, state = self.forward.observers[e], self.groups[e], self.states_at[e]
        du, rhs = self._incremental(e, dk), self._zeros()
        image = self._pushed(e, du)
        w.apply(image)
        observer.pull(0, state.u, image, rhs)
        image.destroy()
        if adjoints is not None:
            observer.second(0, state.u, du.u, adjoints.data[e], rhs)
            rhs -= group.second(state, adjoints.states[e], du, dk, inner)
        group.contraction(state, self._solve(e, rhs, True), inner)

    def destroy(self) -> None:
        for vec in self.data:
            vec.destroy()
        for adjoints in self._held:
            release(adjoints)
        self.data, self._held = [], []


def release(adjoints: Adjoints) -> None:
    for vec in adjoints.data:
        vec.destroy()

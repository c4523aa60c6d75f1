"""One time step and its derivatives, for any scheme of schemes.py.

With r_I, r_E the terms by how they are treated, S = M + dt a^I_ii r_I' and all sums over j <= i:
    step      S-solve    M (U_i - u_n) + dt sum_j (a^I_ij r_I(U_j) + a^E_ij r_E(U_j)) = 0
    tangent   S dU_i = M du_n - dt sum_{j<i} a_ij r'(U_j) dU_j - dt sum_j a_ij r_k(U_j) dk
    adjoint   S^T mu_i = [i = s] lambda_{n+1} + r'(U_i)^T nu^{(i)},
              nu_j = -dt sum_{i >= j} a_ij mu_i,
              lambda_n = sum_i M mu_i + r'(U_0)^T nu_0,               dJ/dk += sum_j r_k(U_j)^T nu_j
(nu^{(i)} without the diagonal), and the adjoint's own derivative along (dU, dk). Where M depends on
k, its part of dJ/dM is -sum_i mu_i (U_i - u_n).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from npde_opt.aliases import Coefficients
from npde_opt.forward.groups import Group
from npde_opt.forward.increments import Behind, Increments, System
from npde_opt.forward.kept import KeptFactors
from npde_opt.forward.layer import Stages
from npde_opt.forward.newton import Newton
from npde_opt.forward.positivity import rates_not_finite
from npde_opt.forward.schemes import Scheme
from npde_opt.forward.stability import Moving
from npde_opt.forward.step_solvers import OneByOne, StepSolver, StepSolvers
from npde_opt.forward.time_step import TimeStep
from npde_opt.grids import Grid
from npde_opt.terms.capacity import CapacityAt
from npde_opt.terms.state import SMALL, Boundary, Gradients, State, samples


class Stepper:
    """The steps of one experiment, or of several as columns of one state, at one point of the
    parameters: stepper[n] is the layer from t_n to t_{n+1}.

    Args:
        scheme: the tableau. groups: (implicit, explicit).
        times: t_0 ... t_N. boundary: values in the ghosts outside.
        solvers: `at(alpha, columns)` gives the solver of M + alpha A; newton: solves implicit
            stages of nonlinear terms of one experiment, or None.
        capacity: S of M = gamma S volume, or None for 1.
    """

    def __init__(
        self,
        grid: Grid,
        scheme: Scheme,
        groups: tuple[Group, Group],
        times: np.ndarray,
        boundary: Boundary,
        solvers: StepSolvers,
        newton: Newton | None = None,
        capacity: CapacityAt | None = None,
    ):
        self.grid, self.scheme, self.groups, self.times = grid, scheme, groups, times
        self.boundary, self.solvers, self.newton = boundary, solvers, newton
        self.mass, self.capacity = solvers.part.mass, capacity
        self.system = System(scheme.stages, groups, self.mass, capacity)
        self.kept = KeptFactors(newton.budget) if newton is not None else None
        self.linear = next((g.linear for g in groups if g.linear), None)
        # Of one step: the next one begins, or the one before ends, at one of them.
        self._late: list[State] = []
        self._behind: Behind | None = None

    @property
    def bounds(self) -> list[float] | None:
        """Of the linear operators, where steps and their derivatives read no values of matrices
        (see LinearPart.bounded_by); else None."""
        return None

    def __len__(self) -> int:
        return self.times.size - 1

    def __getitem__(self, n: int) -> TimeStep:
        return TimeStep(self, n)

    def __iter__(self) -> Iterator[TimeStep]:
        return (self[n] for n in range(len(self)))

    def state(self, n: int, j: int, u: np.ndarray) -> State:
        """U_j of step n. Schemes that would not integrate a history that is linear in the step see
        its mean."""
        middle = (self.times[n] + self.times[n + 1]) / 2
        t = (
            self.times[n] + self.scheme.times[j] * self.dt(n)
            if self.scheme.integrates_lines
            else middle
        )
        found = State(self.grid, u, t, self.boundary.outside(t, middle), middle)
        if self.newton is None or u.size > SMALL:
            return found
        for known in self._late:
            if all(group.alike(known, found) for group in self.groups):
                return known
        self._late = [found, *self._late[: self.scheme.stages]]
        return found

    def dt(self, n: int) -> float:
        return float(self.times[n + 1] - self.times[n])

    def _alpha(self, n: int, i: int) -> float:
        return self.dt(n) * self.groups[0].weight(i, i)

    def taken(self, u: np.ndarray) -> np.ndarray:
        """A state to begin with, where steps like to have it in memory."""
        return u

    def norm(self, u: np.ndarray) -> float:
        """The 2-norm of all values of a state, which may lie apart in memory."""
        flat = u.ravel(order="K")
        return math.sqrt(flat.dot(flat))

    def samples(self, u: np.ndarray, start: int) -> np.ndarray:
        """[c, cell] of a state (see terms.state.samples)."""
        return samples(u, start)

    def fastest(
        self,
        u: np.ndarray,
        start: int | None,
        stiffness: np.ndarray,
        resolved: float,
        share: float,
    ) -> float | None:
        """`stability.fastest` of the kinetics at a state, in the sample from `start` on or in all
        cells; None where nothing but `TermAt.jacobians` knows it."""
        return None

    def moving(self, n: int, u: np.ndarray) -> Moving | None:
        """What is known of the terms at u_n that depend on it and are not pointwise; None where
        nothing but these knows it."""
        return None

    def step(self, n: int, u: np.ndarray) -> Stages:
        """U_0 ... U_s from u_n, and from nothing else: a step done again is the same to the last
        bit."""
        states, residuals = [self.state(n, 0, u)], list[list[np.ndarray | None]]()
        for i in range(1, self.scheme.stages + 1):
            residuals.append(
                [
                    self._residual(g, k, i - 1, states[-1])
                    for k, g in enumerate(self.groups)
                ]
            )
            rhs = self.mass * u
            for j, pair in enumerate(residuals):
                for g, r in zip(self.groups, pair, strict=True):
                    if r is not None and g.weight(i, j):
                        rhs -= self.dt(n) * g.weight(i, j) * r
            states.append(self.state(n, i, self._solve_stage(n, i, rhs, states[-1].u)))
        return [s.u for s in states]

    def _residual(
        self, group: Group, k: int, j: int, state: State
    ) -> np.ndarray | None:
        used = any(group.weight(i, j) for i in range(j + 1, self.scheme.stages + 1))
        return group.residual(state) if used else None

    def _solve_stage(
        self, n: int, i: int, rhs: np.ndarray, before: np.ndarray
    ) -> np.ndarray:
        alpha, group = self._alpha(n, i), self.groups[0]
        if alpha == 0:
            rhs /= self.mass
            return rhs
        state = self.state(n, i, before)
        if self.newton is not None:
            return self.newton.solve(alpha, rhs, group, state)
        load = group.load(state)
        if load is not None:
            rhs += alpha * load
        for point in group.others:  # they do not depend on the state
            rhs -= alpha * point.residual(state)
        return self._solver(alpha, rhs).solve(rhs, before, moves=True)

    def _solver(self, alpha: float, b: np.ndarray) -> StepSolver | OneByOne:
        columns = b.shape[1] if b.ndim > self.grid.dim + 1 else 1
        return self.solvers.at(alpha, columns)

    def extrapolated(
        self, n: int, i: int, u: np.ndarray, previous: np.ndarray | None
    ) -> np.ndarray:
        """Of increments."""
        if previous is None:
            return u
        ratio = self.scheme.times[i] * self.dt(n) / self.dt(max(n - 1, 0))
        return u + ratio * (u - previous)

    def _linear_solves(
        self,
        n: int,
        i: int,
        stage: State,
        rhss: Sequence[np.ndarray],
        guesses: Sequence[np.ndarray],
    ) -> list[np.ndarray]:
        """`_linear_solve` of each, at once where there are factors."""
        if self.newton is not None and self._alpha(n, i) and len(rhss) > 1:
            assert self.kept is not None
            system = self._alpha(n, i), self.groups[0], stage
            factors = self.newton.factors(*system, self.kept, (n, i))
            if factors is not None:
                return self.newton.with_factors(factors, rhss)
        each = zip(rhss, guesses, strict=True)
        return [self._linear_solve(n, i, stage, *one, False) for one in each]

    def _linear_solve(
        self,
        n: int,
        i: int,
        stage: State,
        rhs: np.ndarray,
        guess: np.ndarray,
        adjoint: bool,
    ) -> np.ndarray:
        alpha = self._alpha(n, i)
        if alpha == 0:
            return rhs / self.mass
        if self.newton is not None:
            assert self.kept is not None
            system = alpha, self.groups[0], stage
            return self.newton.linear(*system, rhs, guess, adjoint, self.kept, (n, i))
        return self._solver(alpha, rhs).solve(rhs, guess, adjoint, moves=True)

    def tangent(
        self,
        n: int,
        stages: Stages,
        du: np.ndarray,
        dk: Coefficients,
        previous: np.ndarray | None = None,
    ) -> Stages:
        """dU_0 ... dU_s."""
        (found,) = self.tangents(n, stages, [du], [dk], [previous])
        return found

    def tangents(
        self,
        n: int,
        stages: Stages,
        dus: Sequence[np.ndarray],
        dks: Sequence[Coefficients],
        previous: Sequence[np.ndarray | None],
    ) -> list[Stages]:
        """`tangent` of each: they share states, what terms find there, and factors."""
        states = [self.state(n, j, u) for j, u in enumerate(stages)]
        found = [
            Increments(self.system, self.dt(n), states, du, dk)
            for du, dk in zip(dus, dks, strict=True)
        ]
        if self._behind is not None:
            self._behind.go_on(found)
        for i in range(1, self.scheme.stages + 1):
            sides = [own.side(i) for own in found]
            guesses = [
                self.extrapolated(n, i, du, before)
                for du, before in zip(dus, previous, strict=True)
            ]
            moved = self._linear_solves(n, i, states[i], sides, guesses)
            for own, change in zip(found, moved, strict=True):
                own.changes.append(State(self.grid, change))
        factored = self.kept is not None and self.kept.at((n, self.scheme.stages))
        alpha = self._alpha(n, self.scheme.stages)
        self._behind = Behind(found, sides, alpha) if factored else None
        return [[c.u for c in own.changes] for own in found]

    def adjoint(
        self,
        n: int,
        stages: Stages,
        adjoint: np.ndarray,
        out: Gradients | None,
        late: Sequence[Stages] = (),
    ) -> tuple[np.ndarray, Stages]:
        """(lambda_n, mu_1 ... mu_s) from lambda_{n+1}; adds sum_j r_k^T nu_j to `out` where it is
        given."""
        guess = ahead(late)
        s, states = (
            self.scheme.stages,
            [self.state(n, j, u) for j, u in enumerate(stages)],
        )
        multipliers: Stages = [np.empty(0)] * (s + 1)
        result = np.zeros_like(adjoint)
        for i in range(s, -1, -1):
            rhs = adjoint.copy(order="K") if i == s else np.zeros_like(adjoint)
            implicit_groups = []
            for g in self.groups:
                nu = self._nu(n, g, i, multipliers)
                if g.weight(i, i) if i else False:
                    implicit_groups.append(g)
                    if nu is not None:
                        rhs += g.jacobian_transpose(states[i], nu)
                elif nu is not None:
                    rhs += g.jacobian_transpose(states[i], nu, out)
            if i == 0:
                result += rhs
                break
            start = guess[i] if guess is not None else np.zeros_like(rhs)
            multipliers[i] = self._linear_solve(n, i, states[i], rhs, start, True)
            result += self.mass * multipliers[i]
            for g in implicit_groups:
                nu = self._nu(n, g, i, multipliers, True)
                if nu is not None and out is not None:
                    g.contraction(states[i], nu, out)
        if self.capacity is not None and out is not None:
            self.capacity.pull(products(multipliers, stages), out)
        return result, multipliers

    def _nu(
        self, n: int, group: Group, j: int, multipliers: Stages, diagonal: bool = False
    ) -> State | None:
        """-dt sum_i a_ij mu_i over i > j (i >= j with the diagonal), or None where it is zero."""
        first = j if diagonal else j + 1
        stages = range(max(first, 1), self.scheme.stages + 1)
        parts = [
            (-self.dt(n) * group.weight(i, j), multipliers[i])
            for i in stages
            if group.weight(i, j)
        ]
        if not parts:
            return None
        total = parts[0][0] * parts[0][1]
        for w, mu in parts[1:]:
            total += w * mu
        return State(self.grid, total)

    def second(
        self,
        n: int,
        stages: Stages,
        changes: Stages,
        multipliers: Stages,
        dadjoint: np.ndarray,
        dk: Coefficients,
        out: Gradients,
        late: Sequence[Stages] = (),
    ) -> tuple[np.ndarray, Stages]:
        """(dlambda_n, dmu) from dlambda_{n+1}: the derivative of `adjoint` along the tangent; adds
        to `out`."""
        guess = ahead(late)
        s = self.scheme.stages
        states = [self.state(n, j, u) for j, u in enumerate(stages)]
        tangents = [State(self.grid, du) for du in changes]
        dmultipliers: Stages = [np.empty(0)] * (s + 1)
        dmass = self.capacity.push(dk) if self.capacity is not None else None
        result = np.zeros_like(dadjoint)
        for i in range(s, -1, -1):
            rhs = dadjoint.copy(order="K") if i == s else np.zeros_like(dadjoint)
            implicit_groups = []
            for g in self.groups:
                full = self._nu(n, g, i, multipliers, True)
                if full is not None:
                    rhs += g.second(states[i], full, tangents[i], dk, out)
                implicit = bool(i and g.weight(i, i))
                dnu = self._nu(n, g, i, dmultipliers)
                if implicit:
                    implicit_groups.append(g)
                if dnu is not None:
                    rhs += g.jacobian_transpose(
                        states[i], dnu, None if implicit else out
                    )
            if i == 0:
                result += rhs
                break
            if dmass is not None:
                rhs -= dmass * multipliers[i]
                result += dmass * multipliers[i]
            start = guess[i] if guess is not None else np.zeros_like(rhs)
            dmultipliers[i] = self._linear_solve(n, i, states[i], rhs, start, True)
            result += self.mass * dmultipliers[i]
            for g in implicit_groups:
                dnu = self._nu(n, g, i, dmultipliers, True)
                if dnu is not None:
                    g.contraction(states[i], dnu, out)
        if self.capacity is not None:
            moved = products(dmultipliers, stages) + products(multipliers, changes)
            self.capacity.pull(moved, out)
            self.capacity.second(products(multipliers, stages), dk, out)
        return result, dmultipliers

    def forget(self) -> None:
        """Gives up factors and states that are kept."""
        self._late, self._behind = [], None
        if self.kept is not None:
            self.kept.forget()

    def discard(self) -> None:
        """Forgets the contractions of a sweep that was not completed."""
        if self.linear is not None:
            self.linear.discard()

    def flush(self, out: Gradients) -> None:
        """Completes the contractions in `out`."""
        if self.linear is not None:
            self.linear.flush(out)

    def when(self, n: int) -> str:
        return f"step {n + 1} (t = {self.times[n + 1]:.6g})"

    def rates_not_finite(self, n: int, stages: Stages) -> str:
        """What is wrong with the rates of the first stage at which they are no numbers, or ''.
        Collective."""
        species = self.solvers.part.equation.species
        points = [p for g in self.groups for p in g.others]
        for j, u in enumerate(stages):
            text = rates_not_finite(species, self.state(n, j, u), points)
            if text:
                return text
        return ""


def products(multipliers: Stages, stages: Stages) -> np.ndarray:
    """-sum_i mu_i (U_i - U_0): what a change of the mass does to lambda^T u."""
    total = np.zeros_like(stages[0])
    for mu, u in zip(multipliers[1:], stages[1:], strict=True):
        total -= mu * (u - stages[0])
    return total


def ahead(late: Sequence[Stages]) -> Stages | None:
    """A guess of the next multipliers, on the line through those of the two steps behind."""
    if len(late) < 2:
        return late[0] if late else None
    return [2 * a - b for a, b in zip(late[0], late[1], strict=True)]

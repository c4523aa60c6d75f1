"""u_0 ... u_N along a line, and the exact derivatives of functionals of them: those of chain.py,
whose steps are done in one compiled call (line_system.py). Of a linear equation, so are the states.

All stages of all steps are columns of one state, so that each contraction with the derivatives of a
term is one call for many of them. With r = A u + f and nu_j = -dt sum_{i >= j} a_ij mu_i,

    dJ/dk = sum_j nu_j^T (A_k U_j + f_k).

Sources that change in time are taken stage by stage.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from npde_opt.aliases import Coefficients
from npde_opt.forward import line_newton
from npde_opt.forward.chain import Adjoint, AfterChange, Before, Counted, Visitors
from npde_opt.forward.columns import CELLS
from npde_opt.forward.groups import Group
from npde_opt.forward.layer import Stages
from npde_opt.forward.line_system import LineSteps, LineSystem, jacobian_bands
from npde_opt.forward.linear_part import LinearPart
from npde_opt.forward.stepper import Stepper
from npde_opt.observations import EVERY, When
from npde_opt.stages import stage
from npde_opt.terms.state import Gradients, State


@dataclass(frozen=True)
class LineAdjoint(Adjoint):
    """Args:
    rows: all mu [n s + i - 1, unknown].
    """

    rows: np.ndarray


class OnLine:
    """A trajectory along a line, with all states kept: its derivatives.

    Args:
        stepper: of its steps, whose boundary values are constant and known.
        u: u_0.
    """

    rows: np.ndarray
    """All stages [n s + i, unknown], the first of them u_0."""

    def __init__(self, stepper: Stepper, u: np.ndarray):
        self.stepper, self.grid, self.capacity = stepper, stepper.grid, stepper.capacity
        group, rows = stepper.groups[0], stepper.scheme.implicit
        timed = [p for p in group.others if p.term.stateless and not p.term.constant]
        always = [p for p in group.others if p not in timed]
        self._constant = Group(rows, group.linear, always)
        self._timed = Group(rows, None, timed) if timed else None
        self.outside = stepper.boundary.outside(stepper.times[0], stepper.times[0])
        self.first, self.recomputation = u, 1.0
        self.count, self.size = len(u), u.size
        self.steps, self.stages = len(stepper), stepper.scheme.stages

    @property
    def system(self) -> LineSystem:
        """The matrices of its steps, or of their derivatives."""
        raise NotImplementedError

    # Rows and fields.

    def _row(self, u: np.ndarray) -> np.ndarray:
        """The row [unknown] of a state [c, i]."""
        return np.ascontiguousarray(u.T).ravel()

    def _state(self, row: np.ndarray) -> np.ndarray:
        """The state [c, i] of a row, as a view."""
        return row.reshape(-1, self.count).T

    def _columns(self, rows: np.ndarray) -> np.ndarray:
        """The states [c, t, i] of rows, as a view."""
        cells = self.grid.size
        return rows.reshape(len(rows), cells, self.count).transpose(2, 0, 1)

    def _as_rows(self, columns: np.ndarray) -> np.ndarray:
        count, times, cells = columns.shape
        return columns.transpose(1, 2, 0).reshape(times, cells * count)

    def _chunks(self, count: int) -> Iterator[slice]:
        """Of so many rows, as many together as stay in the cache."""
        most = max(CELLS // self.size, 1)
        for first in range(0, count, most):
            yield slice(first, min(first + most, count))

    def _seen(self, rows: np.ndarray) -> State:
        """States with what stands outside."""
        t = float(self.stepper.times[0])
        return State(self.grid, self._columns(rows), t, self.outside)

    def _at(self, n: int, j: int) -> State:
        """U_j of step n."""
        u = self._state(self.rows[n * self.stages + j])
        return self.stepper.state(n, j, u)

    def _used(self) -> Iterator[tuple[int, int]]:
        """(n, j) of all stages whose rates are used."""
        weights = self.system.steps.weights
        used = [j for j in range(self.stages + 1) if weights[:, j].any()]
        return ((n, j) for n in range(self.steps) for j in used)

    # Rates.

    def _rates(self, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """f_j, and their rows by step and stage."""
        state = State(
            self.grid, np.zeros_like(u), float(self.stepper.times[0]), self.outside
        )
        always = self._row(self._constant.residual(state))
        place = np.zeros((self.steps, self.stages + 1), np.int64)
        if self._timed is None:
            return always[None], place
        place += np.arange(place.size).reshape(place.shape)
        rates = np.tile(always, (place.size, 1))
        for n, j in self._used():
            at = self.stepper.state(n, j, state.u)
            rates[place[n, j]] += self._row(self._timed.residual(at))
        return rates, place

    def _direct(self, dk: Coefficients) -> tuple[np.ndarray, np.ndarray]:
        """r_k(U_j) dk, and their rows by step and stage."""
        rates = np.zeros_like(self.rows)
        for part in self._chunks(len(self.rows)):
            found = self._constant.derivative(self._seen(self.rows[part]), dk)
            if isinstance(found, np.ndarray):
                rates[part] = self._as_rows(found)
        steps, stages = np.arange(self.steps)[:, None], np.arange(self.stages + 1)
        place = steps * self.stages + stages
        if self._timed is None:
            return rates, place
        rates = rates[place.ravel()]
        place = np.arange(place.size).reshape(place.shape)
        for n, j in self._used():
            change = self._timed.derivative(self._at(n, j), dk)
            if isinstance(change, np.ndarray):
                rates[place[n, j]] += self._row(change)
        return rates, place

    def _weighted(self, multipliers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """nu_j by step and stage [n, j, unknown], and their sums by state, as rows like those."""
        steps = self.system.steps
        mu = multipliers.reshape(self.steps, self.stages, -1)
        each = np.zeros((self.steps, self.stages + 1, mu.shape[2]))
        for i, j in zip(*np.nonzero(steps.weights), strict=True):
            each[:, j] -= steps.weights[i, j] * (steps.steps[:, None] * mu[:, i - 1])
        total = np.zeros_like(self.rows)
        total[1:] = each[:, 1:].reshape(-1, mu.shape[2])
        total[: -1 : self.stages] += each[:, 0]
        return each, total

    def _contraction(self, multipliers: np.ndarray, out: Gradients) -> None:
        """Adds sum_j r_k^T nu_j."""
        each, total = self._weighted(multipliers)
        for part in self._chunks(len(self.rows)):
            nu = State(self.grid, self._columns(total[part]))
            self._constant.contraction(self._seen(self.rows[part]), nu, out)
        if self._timed is not None:
            for n, j in self._used():
                nu = State(self.grid, self._state(each[n, j]))
                self._timed.contraction(self._at(n, j), nu, out)

    # Changes of the mass.

    def _moved(self, rows: np.ndarray) -> np.ndarray:
        """U_i - U_0 as rows [n s + i - 1, unknown]."""
        starts = np.repeat(rows[: -1 : self.stages], self.stages, axis=0)
        return rows[1:] - starts

    def _mass_change(self, dk: Coefficients) -> np.ndarray | None:
        """dM by unknown."""
        change = self.capacity.push(dk) if self.capacity is not None else None
        if change is None:
            return None
        return np.repeat(np.broadcast_to(change, self.grid.shape), self.count)

    def _products(self, multipliers: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """-sum_i mu_i (U_i - U_0) of all steps [c, i]."""
        total = (multipliers * self._moved(rows)).sum(axis=0)
        return -self._state(total)

    # The derivatives of chain.py.

    @property
    def columns(self) -> np.ndarray:
        """u_0 ... u_N as columns [c, n, i]."""
        return self._columns(self.rows[:: self.stages])

    @property
    def last(self) -> np.ndarray:
        return self._state(self.rows[-1])

    def states(self) -> Iterator[np.ndarray]:
        """u_0 ... u_N."""
        return map(self._state, self.rows[:: self.stages])

    @property
    def seen(self) -> State:
        """u_0 ... u_N as columns, with what stands outside."""
        return self._seen(self.rows[:: self.stages])

    def norms(self) -> np.ndarray:
        """2-norms of u_0 ... u_N."""
        rows = self.rows[:: self.stages]
        return np.asarray(np.sqrt(np.vecdot(rows, rows)))

    def _tangent(
        self, du: np.ndarray, dk: Coefficients, after: AfterChange[When]
    ) -> np.ndarray:
        """All dU as rows."""
        dmass = self._mass_change(dk)
        extra = None if dmass is None else -dmass * self._moved(self.rows)
        with stage("forward"):
            changes = self.system.forward(self._row(du), *self._direct(dk), extra)
        after(EVERY, self.columns, self._columns(changes[:: self.stages]))
        return changes

    def tangent(
        self, du: np.ndarray, dk: Coefficients, after: AfterChange[When]
    ) -> np.ndarray:
        """du_N from du_0."""
        return self._state(self._tangent(du, dk, after)[-1])

    def tangents(
        self,
        dus: Sequence[np.ndarray],
        dks: Sequence[Coefficients],
        afters: Sequence[AfterChange[When]],
    ) -> list[np.ndarray]:
        """`tangent` of each du, dk."""
        each = zip(dus, dks, afters, strict=True)
        return [self.tangent(*one) for one in each]

    def _backward(
        self, before: Before[When], extra: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """lambda_0 [c, i] and all mu."""
        seen = np.zeros((self.steps + 1, self.size))
        before(EVERY, self.columns, self._columns(seen))
        first, multipliers = self.system.backward(seen, extra)
        return self._state(first), multipliers

    def adjoint(
        self, before: Before[When], out: Gradients | None, keep: bool = False
    ) -> Adjoint:
        """lambda_0, with all mu; adds sum_j r_k^T nu_j to `out`, which may be None."""
        with stage("adjoint"):
            first, multipliers = self._backward(before)
            if out is not None:
                self._contraction(multipliers, out)
                if self.capacity is not None:
                    self.capacity.pull(self._products(multipliers, self.rows), out)
        return LineAdjoint(first, None, multipliers)

    def second(
        self,
        du: np.ndarray,
        dk: Coefficients,
        visitors: Visitors[When],
        out: Gradients,
        adjoint: Adjoint | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """(dlambda_0, lambda_0); adds the derivative of the adjoint's contractions to `out`."""
        changes = self._tangent(du, dk, visitors.after)
        visitors.turn()
        if not isinstance(adjoint, LineAdjoint):
            first, multipliers = self._backward(visitors.before)
            adjoint = LineAdjoint(first, None, multipliers)
        with stage("adjoint"):
            return self._second(changes, dk, visitors, out, adjoint), adjoint.first

    def _second(
        self,
        changes: np.ndarray,
        dk: Coefficients,
        visitors: Visitors[When],
        out: Gradients,
        adjoint: LineAdjoint,
    ) -> np.ndarray:
        """dlambda_0."""
        multipliers = adjoint.rows
        extra = self._curved(changes, multipliers, dk, out)
        moved = self._columns(changes[:: self.stages])

        def before(n: When, u: np.ndarray, dadjoint: np.ndarray) -> None:
            visitors.before_change(n, u, moved, dadjoint)

        first, dmultipliers = self._backward(before, extra)
        self._contraction(dmultipliers, out)
        if self.capacity is not None:
            products = self._products(dmultipliers, self.rows)
            self.capacity.pull(products + self._products(multipliers, changes), out)
            self.capacity.second(self._products(multipliers, self.rows), dk, out)
        return first

    def _curved(
        self,
        changes: np.ndarray,
        multipliers: np.ndarray,
        dk: Coefficients,
        out: Gradients,
    ) -> np.ndarray:
        """(A_k dk)^T nu_j, and what a change of the mass does, by step and stage; adds the terms'
        second derivatives to `out`."""
        each, total = self._weighted(multipliers)
        found = np.zeros_like(each)
        for j in sorted({j for _, j in self._used()}):
            rows = slice(j, j + self.steps * self.stages, self.stages)
            given = self.rows[rows], each[:, j], changes[rows]
            found[:, j] = self._second_terms(*given, dk, out)
        if self._timed is not None:
            for n, j in self._used():
                nu = State(self.grid, self._state(each[n, j]))
                row = self._state(changes[n * self.stages + j])
                change = State(self.grid, row)
                self._timed.second(self._at(n, j), nu, change, dk, out)
        dmass = self._mass_change(dk)
        if dmass is not None:
            weighted = dmass * multipliers.reshape(self.steps, self.stages, -1)
            found[:, 1:] -= weighted
            found[:, 0] += weighted.sum(axis=1)
        return found

    def _second_terms(
        self,
        rows: np.ndarray,
        multipliers: np.ndarray,
        changes: np.ndarray,
        dk: Coefficients,
        out: Gradients,
    ) -> np.ndarray:
        """Second derivatives of the terms that do not change in time, of one stage of all steps."""
        found = np.empty_like(rows)
        for part in self._chunks(len(rows)):
            nu, change = (
                State(self.grid, self._columns(given[part]))
                for given in (multipliers, changes)
            )
            seen = self._seen(rows[part])
            added = self._constant.second(seen, nu, change, dk, out)
            found[part] = self._as_rows(added)
        return found

    def destroy(self) -> None:
        """Nothing of PETSc's, and nothing on disk."""


class LineTrajectory(OnLine):
    """Of a linear equation.

    Args:
        counts: counts steps for all who share it.
    """

    def __init__(
        self, stepper: Stepper, system: LineSystem, u: np.ndarray, counts: Counted
    ):
        super().__init__(stepper, u)
        self._system = system
        with stage("forward"):
            self.rows = system.forward(self._row(u), *self._rates(u))
        counts.steps += self.steps

    @property
    def system(self) -> LineSystem:
        return self._system


class NonlinearLine(OnLine):
    """Of an equation whose steps are nonlinear.

    Args:
        start: u_0.
        part: the linear terms; they hold this point's mass when derivatives are asked for.
    """

    def __init__(
        self,
        stepper: Stepper,
        start: np.ndarray,
        part: LinearPart,
        steps: LineSteps,
        prefix: str,
    ):
        super().__init__(stepper, start)
        self._given = part, steps, prefix
        linear, others = self._constant.linear, self._constant.others
        self._points = linear.points if linear is not None else []
        self._reacting = [p for p in others if not p.term.stateless]

    def take(self, stages: Iterable[Stages]) -> None:
        """U_0 ... U_s of all steps, which were found one by one."""
        rows = [self._row(u) for found in stages for u in found[1:]]
        self.rows = np.array([self._row(self.first), *rows])

    def solve(self, near: np.ndarray, rtol: float, counts: Counted) -> bool:
        """Finds all stages from those of a trajectory nearby (see line_newton.py); whether it did.

        Args:
            near: rows of that trajectory.
            rtol: of Newton's method. counts: counts steps for all who share it.
        """
        part, steps, _ = self._given
        with stage("forward"):
            guess = near.copy()
            guess[0] = self._row(self.first)
            mass = np.repeat(part.mass, self.count)
            found = line_newton.solve(self, mass, steps, guess, rtol)
        if found is None:
            return False
        self.rows = found
        counts.steps += self.steps
        return True

    def rates(self, rows: np.ndarray) -> np.ndarray:
        """r by step and stage [n, j, unknown], of all stages as rows."""
        found = np.empty_like(rows)
        for part in self._chunks(len(rows)):
            found[part] = self._as_rows(self._constant.residual(self._seen(rows[part])))
        each: np.ndarray = found[self._given[1].at]
        if self._timed is not None:
            each += self._rates_in_time
        return each

    @cached_property
    def _rates_in_time(self) -> np.ndarray:
        """Of what changes in time and depends on no state, by step and stage."""
        assert self._timed is not None
        found = np.zeros((self.steps, self.stages + 1, self.size))
        for n in range(self.steps):
            for j in range(self.stages + 1):
                at = self.stepper.state(n, j, np.zeros_like(self.first))
                found[n, j] = self._row(self._timed.residual(at))
        return found

    def system_at(self, rows: np.ndarray) -> LineSystem:
        """The matrices of the steps' derivatives at given stages."""
        part, steps, prefix = self._given
        found = [
            jacobian_bands(part, self._points, self._reacting, self._seen(rows[some]))
            for some in self._chunks(len(rows))
        ]
        return LineSystem(part.mass, np.concatenate(found), steps, prefix)

    @cached_property
    def system(self) -> LineSystem:
        """At all states; made when it is first asked for."""
        return self.system_at(self.rows)

"""Steady states r(u) = 0 by Newton's method with a line search on |r|, and where that fails along a
homotopy:

    S du = -r(u),   u := u + t du,   t = 1, 1/2, 1/4 ... until |r| has fallen enough,   S = r_u
    r(u) - (1 - s) r(u_0) = 0,       s from 0, where u_0 solves it, to 1

|r| is measured against the largest part of it, be it the linear terms together, the boundary
values, or a term.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from petsc4py import PETSc

from npde_opt.errors import SolverError
from npde_opt.forward.groups import Group
from npde_opt.forward.jacobian import Jacobian
from npde_opt.forward.linear_part import LinearPart
from npde_opt.forward.positivity import rates_not_finite
from npde_opt.linear.accuracy import TIGHT, given, is_tight
from npde_opt.linear.measured import note
from npde_opt.reductions import total
from npde_opt.terms.state import State, channels

MOST, SHORTEST = 50, 2.0**-12
"""Iterations from one start, and the shortest step of the line search."""

DECREASE = 1e-4
"""Share of the step by which |r| has to fall."""

STALLED = 1e-8
"""|r| that falls no more is at rounding below this share of its parts."""

FIRST, LEAST = 0.25, 2.0**-14
"""Steps of the homotopy."""

REMEDY = (
    "Give an `initial` nearer to the state, bound the parameters, or start from values at which "
    "the equation is closer to linear."
)


class Stopped(Exception):
    """Newton's method ended without a solution; why."""


@dataclass
class Residual:
    """r at a state, its norm, and the norm of its largest part."""

    values: np.ndarray
    norm: float
    scale: float

    @property
    def relative(self) -> float:
        return self.norm / max(self.scale, 1e-300)


class Problem:
    """r(u) of one experiment, or r(u) - `shift`, which counts as a part of it.

    Args:
        driving: a size that residuals are small against where no parts of r cancel.
    """

    def __init__(
        self,
        group: Group,
        shift: np.ndarray | None = None,
        driving: float = 0.0,
    ):
        self.group, self.shift, self.driving = group, shift, driving

    def shifted(self, shift: np.ndarray) -> Problem:
        """By so much more."""
        whole = shift if self.shift is None else self.shift + shift
        return Problem(self.group, whole, self.driving)

    def driven(self, start: State) -> Problem:
        """The same with the size of what drives it, which is r at the state 0: of an equation of
        one term that only its boundary values drive, no part of r is larger than r itself."""
        found = self.at(start.moved(-start.u)).norm
        driving = found if np.isfinite(found) else 0.0
        return Problem(self.group, self.shift, driving)

    def at(self, state: State) -> Residual:
        """Collective."""
        parts = [point.residual(state) for point in self.group.others]
        if self.group.linear is not None:
            parts.append(self.group.linear.product(state.u))
        parts += [-x for x in (self.group.load(state), self.shift) if x is not None]
        values = sum(parts, start=np.zeros_like(state.u))
        squares = np.array([float(np.vdot(x, x)) for x in (values, *parts)])
        norms = np.sqrt(total(state.grid.comm, squares))
        norm, largest = float(norms[0]), float(np.max(norms[1:], initial=0.0))
        # Parts that cancel tell how large a residual could be; one part alone does not.
        cancelled = largest > 2 * norm
        return Residual(
            values, norm, largest if cancelled else max(largest, self.driving)
        )


class SteadyNewton:
    """Steady states and the linear systems at them.

    The option -<prefix>newton_rtol (1e-10) is relative to the largest part of r.
    """

    def __init__(self, part: LinearPart, prefix: str, recipe: str = "auto"):
        self.part, self.grid, self.prefix = part, part.grid, prefix
        self._rtol = PETSc.Options().getReal(prefix + "newton_rtol", 1e-10)
        self.jacobian = Jacobian(part, None, prefix, recipe, remedy=REMEDY)
        self.steps = 0
        """Newton steps so far."""
        self._held: tuple[np.ndarray, Group] | None = None

    @property
    def rtol(self) -> float:
        tightened = is_tight() and not given(self.prefix + "newton_rtol")
        return min(TIGHT, self._rtol) if tightened else self._rtol

    @property
    def asked(self) -> dict[str, str]:
        """The tolerances of states and of the linear systems in them, with their norms."""
        linear = self.jacobian.asked
        return {
            "state": f"{self.rtol:g} on the true residual",
            "adjoint": linear,
            "newton": linear,
        }

    def solve(
        self, group: Group, starts: Sequence[State], driving: np.ndarray | None = None
    ) -> State:
        """The state, from the first start from which it is found.

        Args:
            driving: f of r(u) = f, integrated over cells; None: 0.

        Raises:
            SolverError: where it is found from none, neither by Newton's method nor along a
                homotopy.
        """
        problem = Problem(group, driving).driven(starts[0])
        reasons = []
        for search in (self._newton, self._homotopy):
            for start in starts:
                try:
                    return search(problem, start)
                except (Stopped, SolverError) as error:
                    reasons.append(
                        error.reason if isinstance(error, SolverError) else str(error)
                    )
        raise SolverError(
            self.prefix,
            f"no steady state was found: {reasons[0]}; {reasons[-1]}",
            REMEDY,
        )

    def _newton(self, problem: Problem, state: State) -> State:
        residual, last = problem.at(state), np.inf
        for iteration in range(MOST):
            if not np.isfinite(residual.norm):
                species = self.part.equation.species
                found = rates_not_finite(species, state, problem.group.others)
                raise Stopped(
                    found or "Newton's method met a residual that is not finite"
                )
            small = residual.norm <= self.rtol * residual.scale
            if small or (
                residual.norm <= STALLED * residual.scale and residual.norm > 0.5 * last
            ):
                note("state", residual.relative, iteration)
                return state
            last = residual.norm
            state, residual = self._step(problem, state, residual)
        left = f"a residual of {residual.relative:.3g}"
        raise Stopped(f"Newton's method stopped at {left} after {MOST} iterations")

    def _step(
        self, problem: Problem, state: State, residual: Residual
    ) -> tuple[State, Residual]:
        """The next state, by a line search along Newton's direction."""
        change = self.linear(problem.group, state, -residual.values, False)
        self.steps += 1
        t = 1.0
        while t >= SHORTEST:
            moved = state.moved(t * change)
            found = problem.at(moved)
            at_rounding = (
                found.norm <= STALLED * found.scale and found.norm <= residual.norm * 2
            )
            if found.norm <= (1 - DECREASE * t) * residual.norm or at_rounding:
                return moved, found
            t /= 2
        raise Stopped(
            f"no step along Newton's direction lowers a residual of {residual.relative:.3g}"
        )

    def _homotopy(self, problem: Problem, state: State) -> State:
        first = problem.at(state)
        if not np.isfinite(first.norm):
            raise Stopped("the residual at the start of a homotopy is not finite")
        s, step = 0.0, FIRST
        while s < 1:
            after = min(s + step, 1.0)
            try:
                state = self._newton(
                    problem.shifted((1 - after) * first.values)
                    if after < 1
                    else problem,
                    state,
                )
                s, step = after, 2 * step
            except (Stopped, SolverError) as error:
                step /= 2
                if step < LEAST:
                    why = error.reason if isinstance(error, SolverError) else str(error)
                    raise Stopped(
                        f"a homotopy came as far as {s:.3g}, where {why}"
                    ) from error
        return state

    def linear(
        self, group: Group, state: State, rhs: np.ndarray, adjoint: bool
    ) -> np.ndarray:
        """The solution of the system with the Jacobian at `state`, or its transpose."""
        self._assemble(group, state)
        zero = channels(self.grid, len(rhs))
        return self.jacobian.solve(
            rhs, zero, adjoint, "adjoint" if adjoint else "newton"
        )

    def _assemble(self, group: Group, state: State) -> None:
        """The Jacobian at a state, where it is not there already."""
        if (
            self._held is not None
            and self._held[0] is state.u
            and self._held[1] is group
        ):
            return
        self._held = None
        points = group.linear.points if group.linear is not None else []
        self.jacobian.assemble(1.0, points, group.others, state)
        self._held = (state.u, group)

    def destroy(self) -> None:
        self.jacobian.destroy()

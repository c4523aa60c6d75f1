"""Implicit stages with nonlinear terms: F(U) = M U + alpha r(U) - b = 0 by Newton's method, with
the Jacobian M + alpha r_u of jacobian.py.

Where that is factored, the factors serve further iterations of the stage, as long as
these lower the residual fast. Factors in products with derivatives are kept: see kept.py.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from petsc4py import PETSc

from npde_opt import reductions
from npde_opt.errors import InputError, SolverError
from npde_opt.forward.groups import Group
from npde_opt.forward.jacobian import Jacobian
from npde_opt.forward.kept import Budget, Factors, KeptFactors, Place
from npde_opt.forward.linear_part import LinearPart
from npde_opt.forward.positivity import rates_not_finite
from npde_opt.linear.accuracy import TIGHT, given, is_tight
from npde_opt.linear.measured import note
from npde_opt.terms.state import State, channels

MAX_ITERATIONS = 25
FAST = 0.1
"""Share of a residual that an iteration leaves, up to which factors are used again."""


class Newton:
    """Solves stages and systems with their Jacobians; the matrices are shared by all stages.

    The option -<prefix>newton_rtol (1e-10) is relative to the norm of b, or of the residual before
    the step if that is larger.
    """

    def __init__(
        self, part: LinearPart, mass: PETSc.Vec, prefix: str, recipe: str = "auto"
    ):
        equation = part.equation
        if equation.complex:
            raise InputError(
                "scheme",
                "implicit nonlinear terms with an imaginary gamma",
                "ars222 or imex-euler",
            )
        self.part, self.grid, self.prefix = part, part.grid, prefix
        self.count = len(equation.species)
        self.mass = part.mass
        self._rtol = PETSc.Options().getReal(prefix + "newton_rtol", 1e-10)
        self.jacobian = Jacobian(part, mass, prefix, recipe)
        self._held: tuple[np.ndarray, float, float] | None = None
        self.budget = Budget()

    @property
    def iterations(self) -> int:
        """Krylov iterations so far."""
        return self.jacobian.iterations

    @property
    def rtol(self) -> float:
        tightened = is_tight() and not given(self.prefix + "newton_rtol")
        return min(TIGHT, self._rtol) if tightened else self._rtol

    def _assemble(self, alpha: float, group: Group, state: State) -> None:
        """The Jacobian at a state, where it is not there already."""
        held = self._held
        # The same array may be a state at another time, where terms or boundary values differ.
        if held is not None and held[0] is state.u and held[1:] == (alpha, state.t):
            return
        self._held = None
        points = group.linear.points if group.linear is not None else []
        self.jacobian.assemble(alpha, points, group.others, state)
        self._held = (state.u, alpha, state.t)

    def _residual(
        self, alpha: float, b: np.ndarray, group: Group, state: State
    ) -> tuple[np.ndarray, float]:
        residual = self.mass * state.u + alpha * group.residual(state) - b
        return residual, self._norm(residual)

    def _guess(
        self, alpha: float, b: np.ndarray, group: Group, before: State
    ) -> tuple[State, np.ndarray, float, float]:
        """The state before, changed at its present rate where that leaves a smaller residual; its
        residual, the norm of that and the norm for the state before."""
        residual, norm = self._residual(alpha, b, group, before)
        moved = before.moved(-residual / self.mass)
        other, size = self._residual(alpha, b, group, moved)
        return (
            (moved, other, size, norm)
            if size < norm
            else (before, residual, norm, norm)
        )

    def solve(
        self, alpha: float, b: np.ndarray, group: Group, before: State
    ) -> np.ndarray:
        """U from b and the state before. Raises SolverError where Newton's method does not
        converge."""
        state, residual, norm, first = self._guess(alpha, b, group, before)
        scale, last = max(self._norm(b), first, 1e-300), np.inf
        factors: Factors | None = None
        stays = False
        for iteration in range(MAX_ITERATIONS):
            if not np.isfinite(norm):
                break
            if norm <= self.rtol * scale or (
                norm > 0.5 * last
                and (norm < 1e-8 * scale or norm <= self.jacobian.rounding(state.u))
            ):
                note("state", norm / scale, iteration)
                return state.u
            if not stays or norm > FAST * last:
                self._assemble(alpha, group, state)
                factors = self.jacobian.kept() if self.jacobian.line else None
                stays = self.jacobian.stays
            last = norm
            state = state.moved(self._change(factors, -residual))
            residual, norm = self._residual(alpha, b, group, state)
        if not np.isfinite(norm):
            found = rates_not_finite(self.part.equation.species, state, group.others)
            raise SolverError(
                self.prefix,
                found or "Newton's method met a residual that is not finite",
                "Take shorter steps.",
            )
        raise SolverError(
            self.prefix,
            f"Newton's method stopped at a residual of {norm / scale:.3g} after "
            f"{MAX_ITERATIONS} iterations",
            "Take shorter steps.",
        )

    def _change(self, factors: Factors | None, b: np.ndarray) -> np.ndarray:
        """With the Jacobian that was assembled or factored last."""
        if factors is None:
            return self.jacobian.solve(b, channels(self.grid, self.count))
        self.jacobian.iterations += 1
        return factors.solve(b, False, "newton")

    def linear(
        self,
        alpha: float,
        group: Group,
        state: State,
        b: np.ndarray,
        guess: np.ndarray,
        adjoint: bool,
        kept: KeptFactors,
        place: Place,
    ) -> np.ndarray:
        """The solution of the system with the Jacobian at `state`, or its transpose.

        Args:
            kept: factors of the trajectory that the state belongs to. place: step and stage.
        """
        factors = self.factors(alpha, group, state, kept, place)
        if factors is None:
            return self.jacobian.solve(b, guess, adjoint)
        self.jacobian.iterations += 1
        return factors.solve(b, adjoint, "newton")

    def factors(
        self,
        alpha: float,
        group: Group,
        state: State,
        kept: KeptFactors,
        place: Place,
    ) -> Factors | None:
        """Of the Jacobian at `state`, kept where there is room; None where it is only
        assembled."""
        found = kept.at(place)
        if found is None:
            self._assemble(alpha, group, state)
            if self.jacobian.keeps and kept.room:
                found = self.jacobian.kept()
                kept.keep(place, found)
        return found

    def with_factors(
        self, factors: Factors, bs: Sequence[np.ndarray]
    ) -> list[np.ndarray]:
        """The solutions for several right-hand sides."""
        self.jacobian.iterations += len(bs)
        return factors.solve_all(bs, "newton")

    def _norm(self, values: np.ndarray) -> float:
        return float(
            np.sqrt(reductions.total(self.grid.comm, float(np.vdot(values, values))))
        )

    @property
    def asked(self) -> dict[str, str]:
        """The tolerances of stages and of the linear systems in them, with their norms."""
        return {
            "state": f"{self.rtol:g} on the true residual",
            "newton": self.jacobian.asked,
        }

    def destroy(self) -> None:
        self.jacobian.destroy()

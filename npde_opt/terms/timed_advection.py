"""Advection by a velocity that varies in time, v(x, t; k): r(u, t; k) = A(t; k) u - b(t; k).

A is that of advection.py at the time of a state. No matrix serves all steps, so that the term is
one of those that are evaluated at every state: explicit in IMEX schemes, with the limit of the
largest |v| along the trajectory, and in the Jacobian of implicit ones.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from npde_opt.aliases import Coefficients
from npde_opt.errors import InputError
from npde_opt.grids import Grid
from npde_opt.terms.advection import Advection, AdvectionAt
from npde_opt.terms.interface import BlockPlanes, Term, TermAt, channel_of
from npde_opt.terms.state import Gradients, State, channels

KEPT = 4
"""Times whose fluxes are kept: those of the stages of a step."""


class TimedAdvection(Term):
    """Upwind advection of `species` among `names`.

    Args:
        velocity: one an axis: numbers, or text in x, y, z, t and coefficients.
        conservative: div(v u) in place of v . grad u.
        field: the velocity's key in error messages.

    Raises:
        InputError: as Advection does.
    """

    timed = True

    def __init__(
        self,
        grid: Grid,
        names: Sequence[str],
        species: str,
        velocity: Sequence[float | str],
        conservative: bool = False,
        field: str = "velocity",
    ):
        if isinstance(velocity, str):
            raise InputError(field, repr(velocity), "one number or text an axis")
        self.grid, self.count = grid, len(names)
        self.channel = channel_of(names, species, f"{field}: species")
        self.blocks = ((self.channel, self.channel),)
        self.advection = Advection(
            grid, velocity, conservative=conservative, field=field, timed=True
        )
        self.texts = self.advection.texts

    @property
    def coefficients(self) -> tuple[str, ...]:
        return self.advection.coefficients

    @property
    def said(self) -> str:
        return self.advection.said

    def at(self, coefficients: Coefficients) -> TimedAdvectionAt:
        return TimedAdvectionAt(self, coefficients)


class TimedAdvectionAt(TermAt):
    """With given coefficients."""

    term: TimedAdvection

    def __init__(self, term: TimedAdvection, k: Coefficients):
        self.term, self.grid, self.count, self.k = term, term.grid, term.count, k
        self._kept: dict[float, AdvectionAt] = {}

    def _at(self, state: State) -> AdvectionAt:
        """At the time of a state. Collective."""
        if state.t not in self._kept:
            while len(self._kept) >= KEPT:
                self._kept.pop(next(iter(self._kept)))
            self._kept[state.t] = AdvectionAt(self.term.advection, self.k, state.t)
        return self._kept[state.t]

    def _whole(self, own: np.ndarray | float) -> np.ndarray:
        out = channels(self.grid, self.count)
        out[self.term.channel] = own
        return out

    def _own(self, state: State) -> np.ndarray:
        return state.ghosted(self.term.channel)

    def residual(self, state: State) -> np.ndarray:
        at = self._at(state)
        return self._whole(at.product(self._own(state), at.fluxes))

    def jacobian(self, state: State, change: State) -> np.ndarray:
        at = self._at(state)
        return self._whole(at.product(self._own(change), at.fluxes))

    def derivative(self, state: State, dk: Coefficients) -> np.ndarray | float:
        moved = self._at(state).derivative(self._own(state), dk)
        return self._whole(moved) if np.ndim(moved) else 0.0

    def jacobian_transpose(
        self, state: State, adjoint: State, out: Gradients | None = None
    ) -> np.ndarray:
        at, nu = self._at(state), self._own(adjoint)
        if out is not None:
            self._add(at.contraction([(nu, self._own(state))]), out)
            self._add_outer(at, nu, None, out)
        return self._whole(at.transposed(nu, at.fluxes))

    @staticmethod
    def _add(parts: dict[str, np.ndarray], out: Gradients) -> None:
        for name, values in parts.items():
            out.add(name, values)

    def _add_outer(
        self, at: AdvectionAt, nu: np.ndarray, dk: Coefficients | None, out: Gradients
    ) -> None:
        """Cotangents of the values outside, or their change with that of the coefficients."""
        sought = [(c, side) for (c, _), (side, _) in (out.outer or {}).items()]
        for side in [side for c, side in sought if c == self.term.channel]:
            if dk is None:
                seen = at.boundary_transpose(side, nu)
            else:
                seen = at.boundary_transpose_change(side, nu, dk)
            out.add_outer(self.term.channel, side.name, -seen)

    def second(
        self,
        state: State,
        adjoint: State,
        change: State,
        dk: Coefficients,
        out: Gradients,
    ) -> np.ndarray:
        at, nu = self._at(state), self._own(adjoint)
        self._add(at.contraction([(nu, self._own(change))]), out)
        self._add(at.second_contraction([(nu, self._own(state))], dk), out)
        self._add_outer(at, nu, dk, out)
        return self._whole(at.derivative_transpose(nu, dk))

    def add_jacobian(self, state: State, planes: BlockPlanes) -> None:
        c = self.term.channel
        self._at(state).add_planes({o: planes[c, c, o] for o in self.term.offsets})

    def range(self, state: State) -> tuple[float, float]:
        """There is no diffusivity."""
        return 0.0, 0.0

    def stiffness(self, state: State, mass: np.ndarray) -> np.ndarray:
        """Gershgorin's."""
        planes = {
            o: np.zeros(self.grid.local_shape, order="F") for o in self.term.offsets
        }
        self._at(state).add_planes(planes)
        rows = sum(np.abs(plane) for plane in planes.values()) / mass
        found = np.zeros(self.count)
        found[self.term.channel] = rows[self.grid.active].max(initial=0.0)
        return found

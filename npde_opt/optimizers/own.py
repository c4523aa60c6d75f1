"""Descent directions of a class of the user's, in TAO's line-search loop: d with g^T d < 0.

Checkpoints, history, line search and what is called converged are those of every method.
"""

from __future__ import annotations

from typing import Protocol, cast

from petsc4py import PETSc

from npde_opt.aliases import Record
from npde_opt.errors import SolverError
from npde_opt.optimizers.directions import shorten
from npde_opt.optimizers.interface import ObjectiveAt, Settings
from npde_opt.optimizers.point import Point
from npde_opt.optimizers.spectrum import Spectrum


class Descent(Protocol):
    """What a user's class gives. It is made anew on every grid, and where a run is resumed."""

    def direction(self, at: ObjectiveAt, g: PETSc.Vec, d: PETSc.Vec) -> None:
        """Writes a direction into d that leads downhill from a point, where the gradient is g.
        Collective."""


class OwnDirection:
    """A descent as a TAO type; after a failed line search the preconditioned gradient is tried."""

    def __init__(
        self, point: Point, settings: Settings, spectrum: Spectrum | None = None
    ):
        assert settings.own is not None
        self.point = point
        self.own = cast(Descent, settings.own(point.objective))
        self.products, self.slope, self.ahead, self.target = 0, 0.0, 1.0, 0.0
        self._plain = self._next_plain = False

    def step(self, tao: PETSc.TAO, x: PETSc.Vec, g: PETSc.Vec, s: PETSc.Vec) -> None:
        self._plain, self._next_plain = self._next_plain, False
        with self.point.callback():
            at = self.point.at(x)
            if self._plain:
                at.precondition(g, s)
                s.scale(-1.0)
            else:
                self.own.direction(at, g, s)
            shorten(self.point, s)
            self.slope = g.dot(s)
            if not self.slope < 0 and g.norm() > 0:
                reason = f"the registered optimizer's direction is not downhill: {self.slope:.3g}"
                raise SolverError("tao_", reason, "Its g^T d must be negative.")

    def memory(self) -> tuple[dict[str, PETSc.Vec], Record]:
        return {}, {}

    def restore(self, vectors: dict[str, PETSc.Vec], meta: Record) -> None:
        """Nothing is remembered."""

    def forget(self) -> bool:
        """Whether there is another direction to try after a failed line search."""
        self._next_plain = not self._plain
        return self._next_plain

    def deepen(self) -> bool:
        """There are no deeper steps."""
        return False

    def release(self) -> None:
        """Nothing to destroy."""

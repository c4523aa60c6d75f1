"""An objective with a functional g of the parameters that is pulled to a value c,

    J(m) + 1/2 ((g(m) - c) / w)^2.

Wherever its minimizer m lies, m also minimizes J among the points where g is g(m), as of these only
J differs. So a point of g's profile costs one minimization, and lies near c, not at it. The part of
g'' in the Hessian is left out.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cached_property

from petsc4py import PETSc

from npde_opt.objective import Objective, ObjectiveAt

Gradient = Callable[[PETSc.Vec], tuple[float, PETSc.Vec]]
"""g(m) and g'(m), which is the caller's. Collective."""


class Pulled(Objective):
    """Shares all that the whole objective has, which stays the caller's.

    Args:
        functional: g and g'.
        to: c. width: w.
    """

    def __init__(self, whole: Objective, functional: Gradient, to: float, width: float):
        self.__dict__.update(whole.__dict__)
        self.functional, self.to, self.width = functional, to, width

    def linearize(self, m: PETSc.Vec) -> PulledAt:
        return PulledAt(self, m)

    def destroy(self) -> None:
        """Nothing: all is the whole's."""


class PulledAt(ObjectiveAt):
    """At a point. Collective."""

    objective: Pulled

    def __init__(self, objective: Pulled, m: PETSc.Vec):
        super().__init__(objective, m)
        self._all: PETSc.Vec | None = None

    @cached_property
    def _slope(self) -> tuple[float, PETSc.Vec]:
        return self.objective.functional(self.m)

    @property
    def away(self) -> float:
        """(g - c) / w."""
        return (self._slope[0] - self.objective.to) / self.objective.width

    @property
    def value(self) -> float:
        plain = super().value
        if not math.isfinite(plain):
            return plain
        whole = plain + 0.5 * self.away**2
        return whole if math.isfinite(whole) else math.inf

    def gradient(self) -> PETSc.Vec:
        if self._all is None:
            self._all = super().gradient().copy()
            self._all.axpy(self.away / self.objective.width, self._slope[1])
        return self._all

    def hessian(
        self, dm: PETSc.Vec, out: PETSc.Vec, gauss_newton: bool = False
    ) -> None:
        super().hessian(dm, out, gauss_newton)
        slope = self._slope[1]
        out.axpy(float(slope.dot(dm)) / self.objective.width**2, slope)

    def destroy(self) -> None:
        if self._all is not None:
            self._all.destroy()
        if "_slope" in self.__dict__:
            self._slope[1].destroy()
        super().destroy()

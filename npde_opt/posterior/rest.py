"""An objective of which one parameter is held: what optimizers minimize over the rest."""

from __future__ import annotations

import numpy as np
from petsc4py import PETSc

from npde_opt.objective import Objective, ObjectiveAt


class Rest(Objective):
    """Shares all that the whole objective has, which stays the caller's.

    Args:
        unit: 1 in the entry that is held.
    """

    def __init__(self, whole: Objective, unit: PETSc.Vec):
        self.__dict__.update(whole.__dict__)
        self.held = np.array(unit.getArray(readonly=True) != 0)

    @property
    def alone(self) -> bool:
        """Whether nothing else may move."""
        return sum(block.free_count() for block in self.space.blocks.values()) <= 1

    def mask(self, vec: PETSc.Vec) -> None:
        """Zero in the entry that is held."""
        vec.getArray()[self.held] = 0.0

    def linearize(self, m: PETSc.Vec) -> RestAt:
        return RestAt(self, m)

    def units(self, m: PETSc.Vec) -> list[tuple[str, PETSc.Vec, float]]:
        found = super().units(m)
        for _, unit, _ in found:
            self.mask(unit)
        return found

    def destroy(self) -> None:
        """Nothing: all is the whole's."""


class RestAt(ObjectiveAt):
    """J at a point, with derivatives along the rest."""

    objective: Rest

    def __init__(self, objective: Rest, m: PETSc.Vec):
        super().__init__(objective, m)
        self._along: PETSc.Vec | None = None

    def gradient(self) -> PETSc.Vec:
        if self._along is None:
            self._along = super().gradient().copy()
            self.objective.mask(self._along)
        return self._along

    def hessian(
        self, dm: PETSc.Vec, out: PETSc.Vec, gauss_newton: bool = False
    ) -> None:
        super().hessian(dm, out, gauss_newton)
        self.objective.mask(out)

    def regularization_hessian(self, dm: PETSc.Vec, out: PETSc.Vec) -> None:
        super().regularization_hessian(dm, out)
        self.objective.mask(out)

    def regularization_products(self, rows: np.ndarray, found: np.ndarray) -> None:
        super().regularization_products(rows, found)
        found[:, self.objective.held] = 0.0

    def precondition(self, r: PETSc.Vec, out: PETSc.Vec) -> None:
        super().precondition(r, out)
        self.objective.mask(out)

    def destroy(self) -> None:
        if self._along is not None:
            self._along.destroy()
        super().destroy()

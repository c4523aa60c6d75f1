"""J^T W J of few parameters, formed once a point from J alone:

    G_ij = (J e_i)^T W (J e_j),   J^T W J dm = G dm.

Every product of its own would take an adjoint, too, and CG takes as many products as there are
parameters.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from petsc4py import PETSc

from npde_opt import reductions
from npde_opt.parameters import ParameterSpace

Gram = Callable[[list[PETSc.Vec]], np.ndarray]
"""v_i^T J^T W J v_j of given v."""


class Formed:
    """Collective.

    Args:
        m: of the space, all of whose entries are free.
        gram: of the point m.
    """

    def __init__(self, space: ParameterSpace, m: PETSc.Vec, gram: Gram):
        self.comm = space.comm
        first, end = m.getOwnershipRange()
        units = [m.duplicate() for _ in range(m.getSize())]
        for i, unit in enumerate(units):
            unit.getArray()[...] = np.arange(first, end) == i
        self.matrix = gram(units)
        for unit in units:
            unit.destroy()

    def _entries(self, dm: PETSc.Vec) -> np.ndarray:
        """All of a Vec, on every rank."""
        found = np.zeros(dm.getSize())
        found[slice(*dm.getOwnershipRange())] = dm.getArray(readonly=True)
        return reductions.total(self.comm, found)

    def apply(self, dm: PETSc.Vec, out: PETSc.Vec) -> None:
        """out = G dm."""
        image = self.matrix @ self._entries(dm)
        out.getArray()[...] = image[slice(*out.getOwnershipRange())]

    def square(self, dm: PETSc.Vec) -> float:
        """dm^T G dm."""
        entries = self._entries(dm)
        return float(entries @ self.matrix @ entries)

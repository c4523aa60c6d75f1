"""The product of steady_matrices.py where nothing stands between its vectors and those of the
parameters: one unknown, a field k = T(p) of all cells; one experiment, of which the state itself is
seen by one matrix M; no mask. Then

    dk = T' dp,    du and dlambda with M^T W M du for what is seen,
    out = T'' dp g - T' (B^T dlambda + C^T du + D dk),    g the cotangent of k,

is a handful of calls, where few cells make calls most of what a product takes.
"""

from __future__ import annotations

import numpy as np
from petsc4py import PETSc

from npde_opt import reductions
from npde_opt.aliases import Numbers
from npde_opt.forward.interface import Counters
from npde_opt.forward.steady_matrices import Matrices
from npde_opt.forward.steady_systems import Block
from npde_opt.grids import Grid
from npde_opt.observations import Metric, Observations
from npde_opt.parameters import ParametersAt, ParameterSpace, Unknown
from npde_opt.parameters.field import PlacedField


class PlainProduct:
    """Of a forward map to which this applies.

    Args:
        unknown: the only one.
        seen: M, which stays the caller's.
    """

    def __init__(
        self,
        matrices: Matrices,
        unknown: Unknown,
        observed: Observations,
        seen: PETSc.Mat,
    ):
        self.matrices, self.unknown, self._M = matrices, unknown, seen
        self._seen = seen.createVecLeft()
        (self._data,) = observed.zeros()

    def add(
        self,
        block: Block,
        parameters: ParametersAt,
        dm: PETSc.Vec,
        metric: Metric,
        curved: Numbers | None,
        counters: Counters,
        out: PETSc.Vec,
    ) -> bool:
        """Adds the product at what the matrices were taken at last; False, and nothing, where it is
        not finite. Collective.

        Args:
            curved: g of the exact product; None: Gauss-Newton's.
        """

        def observe(du: PETSc.Vec, rhs: PETSc.Vec) -> None:
            values = self._data.values[:, 0]
            self._M.mult(du, self._seen)
            values[...] = self._seen.getArray(readonly=True)
            metric.apply(self._data)
            self._seen.setArray(values)
            self._M.multTranspose(self._seen, rhs)

        matrices, name = self.matrices, self.unknown.name
        k = parameters.k[name]
        slope, along = _flat(self.unknown.slope(k)), dm.getArray(readonly=True)
        np.multiply(slope, along, out=matrices.changes[name].getArray())
        matrices.solve(block, observe, curved is not None, counters)
        found = matrices.found(name, curved is not None).getArray(readonly=True)
        finite = bool(np.isfinite(found).all())
        if not reductions.everywhere(matrices.grid.comm, finite):
            return False
        own = out.getArray()
        own -= slope * found
        if curved is not None and not self.unknown.transform.linear:
            own += _flat(self.unknown.curvature(k)) * along * _flat(curved)
        return True

    def destroy(self) -> None:
        self._seen.destroy()


def _flat(values: Numbers) -> np.ndarray:
    """A field [i, j, k] as it lies in a Vec, or a number."""
    return np.asarray(values).reshape(-1, order="F")


def plain_product(
    grid: Grid,
    space: ParameterSpace,
    matrices: Matrices | None,
    observed: Observations,
) -> PlainProduct | None:
    """Where it applies. Collective."""
    if matrices is None or grid.mask is not None or len(space.unknowns) != 1:
        return None
    (unknown,), seen = space.unknowns, observed.plain
    block = space.blocks[unknown.name]
    field = isinstance(block, PlacedField) and block.channels == 1
    if not field or seen is None or matrices.names != (unknown.name,):
        return None
    if not reductions.everywhere(grid.comm, block.all_free):
        return None
    return PlainProduct(matrices, unknown, observed, seen)

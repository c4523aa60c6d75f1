"""y_c = (P_z (x) P_y (x) P_x) u_c with one small dense matrix an axis, on every channel: the heat
equation over any time, exactly, coarsening, or both at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from petsc4py import PETSc

from npde_opt.grids.layout import Layout
from npde_opt.networks.lines import along, between_cells, check_factors, product_of
from npde_opt.networks.matrices import on_channels
from npde_opt.networks.place import Place


class Separable:
    """Args:
    source: where states lie.
    factors: by axis x, y, z the matrices P (cells behind, cells before).
    target: where results lie, by default the same cells; its ranks lie as those of the source.

    Raises:
        InputError: for matrices of other sizes, and ranks that lie otherwise.
    """

    def __init__(
        self, source: Place, factors: Sequence[np.ndarray], target: Place | None = None
    ):
        self.source, self.target = (
            source,
            (target or source).with_channels(source.channels),
        )
        check_factors(self.source, self.target, factors)
        self.factors = [np.asarray(f, float) for f in factors]

    def apply(self, u: np.ndarray) -> np.ndarray:
        return self._through(self.factors, u, self.source.layout, self.target.layout)

    def transpose(self, y: np.ndarray) -> np.ndarray:
        turned = [f.T for f in self.factors]
        return self._through(turned, y, self.target.layout, self.source.layout)

    def _through(
        self,
        factors: Sequence[np.ndarray],
        u: np.ndarray,
        before: Layout,
        after: Layout,
    ) -> np.ndarray:
        field = u.reshape(u.shape[0] * u.shape[1], *u.shape[2:])
        for d, factor in enumerate(factors):
            P = np.ascontiguousarray(factor, u.dtype)
            field = along(self.source.comm, d, P, field, before, after)
        return field.reshape(*u.shape[:2], *field.shape[1:])

    def matrix(self) -> PETSc.Mat:
        """Dense in each channel: for small grids."""
        one = between_cells(self.source, self.target, product_of(self.factors))
        found = on_channels(one, np.eye(self.source.channels))
        one.destroy()
        return found

"""PETSc's global numbers of unknowns, all cells or active ones: box by box, x fastest inside."""

from __future__ import annotations

import numpy as np
from petsc4py import PETSc

from npde_opt.grids.grid import along
from npde_opt.grids.layout import Layout
from npde_opt.grids.scattered import Cells, Mask, Scattered


class Numbering:
    """The unknowns of a layout: all cells, or those of a mask. Making one is collective."""

    def __init__(self, layout: Layout, mask: Mask | None = None):
        self.layout, self.mask = layout, mask
        self._numbers = None if mask is None else _numbers(mask)

    def at(self, cells: Cells) -> np.ndarray:
        """Numbers of all combinations of indices; -1 where there is no unknown, outside the grid
        too. Collective."""
        dim, inside = self.layout.dim, []
        if self._numbers is None:
            return self.layout.global_index(
                [along(c, d, dim) for d, c in enumerate(cells)]
            )
        for c, n in zip(cells, self.layout.shape, strict=True):
            inside.append(np.flatnonzero((c >= 0) & (c < n)))
        there = [c[i] for c, i in zip(cells, inside, strict=True)]
        out = np.full([len(c) for c in cells], -1, PETSc.IntType, order="F")
        out[np.ix_(*inside)] = self._numbers.at(there)
        return out

    @property
    def sizes(self) -> tuple[int, int]:
        """Owned and global numbers of unknowns."""
        if self.mask is None:
            return self.layout.local_size, self.layout.size
        return self.mask.local_size, self.mask.size


def _numbers(mask: Mask) -> Scattered:
    first = mask.comm.scan(mask.local_size) - mask.local_size
    on = mask.owned.ravel(order="F")
    own = np.where(on, first + np.cumsum(on) - 1, -1).astype(PETSc.IntType)
    shape = mask.layout.local_shape
    return Scattered(mask.comm, mask.layout, own.reshape(shape, order="F"))

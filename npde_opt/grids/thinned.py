"""Every k-th cell of a grid, which is what figures show of more cells than they can: nothing larger
than MOST values comes to one rank."""

from __future__ import annotations

import math

import numpy as np

from npde_opt.grids.grid import Grid

MOST = 1_000_000


class Thinned:
    """Cells k // 2, k + k // 2, ... along each axis, with the least k that leaves MOST of them.

    Attributes:
        edges: of cells k times as wide, along each axis.
    """

    def __init__(self, grid: Grid, most: int = MOST):
        self.grid = grid
        k = 1
        while math.prod(-(-n // k) for n in grid.shape) > most:
            k += 1
        self.cells = [
            np.minimum(np.arange(0, n, k) + k // 2, n - 1) for n in grid.shape
        ]
        self.edges = tuple(np.append(e[:-1:k], e[-1]) for e in grid.edges)

    def gathered(self, owned: np.ndarray) -> np.ndarray | None:
        """The values at these cells, from owned ones [..., i, j, k], on rank 0; None elsewhere.
        Collective."""
        grid = self.grid
        sides = zip(self.cells, grid.start, grid.stop, strict=True)
        places = [np.flatnonzero((a <= c) & (c < b)) for c, a, b in sides]
        local = [
            c[p] - a for c, p, a in zip(self.cells, places, grid.start, strict=True)
        ]
        lead = owned.shape[: owned.ndim - grid.dim]
        every = np.arange(math.prod(lead))
        part = owned.reshape(-1, *grid.local_shape)[np.ix_(every, *local)]
        pieces = grid.comm.gather((places, part), root=0)
        if pieces is None:
            return None
        shape = [math.prod(lead), *(c.size for c in self.cells)]
        found = np.empty(shape, owned.dtype, order="F")
        for there, values in pieces:
            found[np.ix_(every, *there)] = values
        return found.reshape(*lead, *shape[1:])

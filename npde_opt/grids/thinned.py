"""A grid's fields on fewer cells, which is what figures show of more than they can: nothing larger
than MOST values comes to one rank.

Of k x k x k cells a figure has the mean over the active ones, of masks whether any is active. Each
rank sums what it has of them; rank 0 adds up those that several ranks share.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from npde_opt.grids.grid import Grid, of_cells

MOST = 1_000_000


class Thinned:
    """The least k that leaves `most` cells.

    Attributes:
        edges: of cells k times as wide, along each axis; the last ones may be less wide.
    """

    def __init__(self, grid: Grid, most: int = MOST):
        self.grid = grid
        k = 1
        while math.prod(-(-n // k) for n in grid.shape) > most:
            k += 1
        self.width = k
        self.shape = tuple(-(-n // k) for n in grid.shape)
        self.edges = tuple(np.append(e[:-1:k], e[-1]) for e in grid.edges)

    def gathered(self, owned: np.ndarray) -> np.ndarray | None:
        """Means over the wider cells, or whether any of them is active, from owned values [..., i,
        j, k], on rank 0; None elsewhere. Collective."""
        grid = self.grid
        if self.width == 1:
            return self._joined(owned)
        lead = owned.ndim - grid.dim
        active = np.broadcast_to(grid.active, grid.local_shape)
        if owned.dtype == bool:
            any_active = self._joined(self._sums(owned.astype(float)))
            return None if any_active is None else any_active > 0
        # Where no cell is active, what the inactive ones have is shown.
        of_active = self._joined(self._sums(np.where(active, owned, 0)))
        of_all = self._joined(self._sums(owned))
        size = self._joined(self._sums(np.ones(grid.local_shape)))
        number = self._joined(self._sums(active.astype(float)))
        if of_active is None or of_all is None or size is None or number is None:
            return None
        full = (slice(None),) * grid.dim
        shown = number[(*[None] * lead, *full)] > 0
        means: np.ndarray = np.where(
            shown, of_active / np.maximum(number, 1), of_all / size
        )
        return means

    def _first(self, start: Sequence[int]) -> list[int]:
        """The wider cells in which a box begins."""
        return [s // self.width for s in start]

    def _sums(self, owned: np.ndarray) -> np.ndarray:
        """Of owned values over the part of each wider cell that this rank has."""
        grid = self.grid
        lead = owned.ndim - grid.dim
        for d, (start, stop) in enumerate(zip(grid.start, grid.stop, strict=True)):
            if stop == start:
                continue
            begins = np.arange(-(-start // self.width), -(-stop // self.width))
            cuts = np.unique(np.append(0, begins * self.width - start))
            owned = np.add.reduceat(owned, cuts, axis=lead + d)
        return owned

    def _joined(self, part: np.ndarray) -> np.ndarray | None:
        """Parts of all ranks where they belong, on rank 0; what several have is added."""
        grid = self.grid
        lead = part.ndim - grid.dim
        pieces = grid.comm.gather((self._first(grid.start), part), root=0)
        if pieces is None:
            return None
        found = np.zeros((*part.shape[:lead], *self.shape), part.dtype, order="F")
        for first, values in pieces:
            if values.size:
                sides = zip(first, values.shape[lead:], strict=True)
                there = tuple(slice(a, a + n) for a, n in sides)
                found[of_cells(there)] += values
        return found

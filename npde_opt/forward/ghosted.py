"""States with one ghost cell all round in memory, so that explicit steps need no copy of them: a
state is the inside of an array of a store, whose ghosts are filled in place, and which is used
again when nobody looks at the state any more.

Arrays are [c, k, j, i], or [c, k, j, i, s] of columns; states are their transposes [c, (s,) i, j,
k].
"""

from __future__ import annotations

import sys
import weakref
from collections import deque
from collections.abc import Sequence

import numpy as np

from npde_opt.grids import AXES, Grid
from npde_opt.grids.layout import neighbours

UNSEEN = 2
"""References to an array that only this module has: a name and the argument that counts them."""


class Store:
    """Arrays of a grid, by shape and precision."""

    def __init__(self, grid: Grid):
        self.grid = grid
        self._free: dict[tuple[tuple[int, ...], str], deque[np.ndarray]] = {}

    @classmethod
    def of(cls, grid: Grid) -> Store:
        """The grid's own."""
        sides = tuple(b.kind for b in grid.boundaries.values())
        return grid.once(("ghosted", sides), lambda: cls(grid))

    def state(self, like: np.ndarray) -> np.ndarray:
        """A new state of the shape and precision of another, with anything in it."""
        whole = self._whole(self._shape(like), like.dtype)
        state = _inside(whole, self.grid.dim)
        kept = weakref.finalize(state, self._give_back, whole)
        kept.atexit = False
        return state

    def _shape(self, u: np.ndarray) -> tuple[int, ...]:
        """Of the array around a state."""
        ghosted = [n + 2 for n in self.grid.local_shape[::-1]]
        samples = u.shape[1 : u.ndim - self.grid.dim]
        return (len(u), *ghosted, *samples)

    def _whole(self, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        free = self._free.setdefault((shape, dtype.char), deque())
        for _ in range(len(free)):
            found = free.popleft()
            if sys.getrefcount(found) == UNSEEN:
                return found
            free.append(found)
        return np.zeros(shape, dtype)

    def _give_back(self, whole: np.ndarray) -> None:
        self._free.setdefault((whole.shape, whole.dtype.char), deque()).append(whole)

    def around(self, u: np.ndarray) -> np.ndarray:
        """The array around a state with its ghosts filled: those of neighbours, those across
        periodic ends, at Neumann sides the values beside them, and 0 at the other sides. It is the
        state's own where it comes from a store, else a copy. Collective."""
        whole = u.base
        if whole is None or not self._is_inside(u, whole):
            whole = self._whole(self._shape(u), u.dtype)
            _inside(whole, self.grid.dim)[...] = u
            self._hold(whole)
        fill(self.grid, whole)
        return whole

    def _is_inside(self, u: np.ndarray, whole: np.ndarray) -> bool:
        if whole.shape != self._shape(u) or whole.dtype != u.dtype:
            return False
        inside = _inside(whole, self.grid.dim)
        same = inside.__array_interface__["data"] == u.__array_interface__["data"]
        return same and inside.strides == u.strides and inside.shape == u.shape

    def _hold(self, whole: np.ndarray) -> None:
        """A copy is free when its caller has done with it."""
        self._give_back(whole)

    def destroy(self) -> None:
        self._free.clear()


def _inside(whole: np.ndarray, dim: int) -> np.ndarray:
    """The state that an array is around."""
    inner = whole[(slice(None), *(slice(1, -1),) * dim)]
    return inner.transpose(0, *range(inner.ndim - 1, 0, -1))


def fill(grid: Grid, whole: np.ndarray) -> None:
    """Fills the ghosts of an array, but corners: all species and samples in one exchange an axis.
    Collective."""
    columns = whole.ndim > grid.dim + 1
    inner: list[slice | int] = [slice(None), *(slice(1, -1),) * grid.dim]
    cells = whole[tuple(inner)]
    for d in range(grid.dim):
        axis, ends = grid.dim - d, (grid.start[d] == 0, grid.stop[d] == grid.shape[d])
        alone = all(ends)
        layers: Sequence[np.ndarray | None] = (None, None)
        if not alone:
            own = np.moveaxis(cells, -1, 0) if columns else cells
            layers = neighbours(own, grid.layout, d, grid.periodic(d), grid.comm)
        pairs = zip("-+", ends, layers, (0, -1), (1, -2), (-2, 1), strict=True)
        for side, end, layer, ghost, first, other in pairs:
            to, source = inner.copy(), inner.copy()
            to[axis], source[axis] = ghost, first
            if grid.periodic(d) and alone:
                source[axis] = other
                whole[tuple(to)] = whole[tuple(source)]
            elif layer is not None and (grid.periodic(d) or not end):
                behind = np.moveaxis(layer, 0, -1) if columns else layer
                whole[tuple(to)] = behind.squeeze(axis)
            elif grid.boundaries[AXES[d] + side].kind == "neumann":
                whole[tuple(to)] = whole[tuple(source)]
            else:
                whole[tuple(to)] = 0.0

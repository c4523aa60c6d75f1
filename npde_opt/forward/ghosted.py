"""States with one ghost cell all round in memory, so that explicit steps need no copy of them: a
state is the inside of an array of a store, whose ghosts are filled in place, and which is used
again when nobody looks at the state any more. States of a trajectory may be rows of one array.

Arrays are [c, k, j, i], or [c, k, j, i, s] of columns; states are their transposes [c, (s,) i, j,
k].
"""

from __future__ import annotations

import sys
import weakref
from collections import deque

import numpy as np

from npde_opt.grids import AXES, Grid
from npde_opt.grids.layout import neighbours

UNSEEN = 2
"""References to an array that only this module has: a name and the argument that counts them."""


class Store:
    """Arrays of a grid, by shape and precision."""

    def __init__(self, grid: Grid):
        self.grid, self._edges = grid, edges(grid)
        self.copies = copies(grid)
        self._inner = (slice(None), *(slice(1, -1),) * grid.dim)
        self._states: dict[int, tuple[weakref.ref[np.ndarray], np.ndarray]] = {}
        self._rows: dict[int, tuple[np.ndarray, int]] = {}
        self._ghosted = tuple(n + 2 for n in grid.local_shape[::-1])
        self._free: dict[tuple[tuple[int, ...], str], deque[np.ndarray]] = {}

    @classmethod
    def of(cls, grid: Grid) -> Store:
        """The grid's own."""
        sides = tuple(b.kind for b in grid.boundaries.values())
        return grid.once(("ghosted", sides), lambda: cls(grid))

    def state(self, like: np.ndarray) -> np.ndarray:
        """A new state of the shape and precision of another, with anything in it."""
        whole = self._whole(self._shape(like), like.dtype)
        state = self._inside(whole)
        place = id(state)

        def forget(dead: weakref.ref[np.ndarray]) -> None:
            del self._states[place]
            self._give_back(whole)

        self._states[place] = weakref.ref(state, forget), whole
        return state

    def rows(self, like: np.ndarray, count: int) -> tuple[np.ndarray, list[np.ndarray]]:
        """(An array [n, c, k, j, i] with anything in it, its `count` rows as states): they lie one
        after the other in memory, and are free together."""
        block = self._whole((count, *self._shape(like)), like.dtype)
        # Free when the last of its states is gone: until then it has more references.
        self._give_back(block)
        return block, [self._row(block, n) for n in range(count)]

    def _row(self, block: np.ndarray, n: int) -> np.ndarray:
        whole = block[n]
        state = self._inside(whole)
        place = id(state)

        def forget(dead: weakref.ref[np.ndarray]) -> None:
            del self._states[place], self._rows[place]

        self._states[place] = weakref.ref(state, forget), whole
        self._rows[place] = block, n
        return state

    def row(self, u: np.ndarray) -> tuple[np.ndarray, int] | None:
        """The array of `rows` and the number of a state in it, or None."""
        return self._rows.get(id(u))

    def fill_constants(self, rows: np.ndarray) -> None:
        """Puts 0 into the ghosts of an array of `rows` that are no copies."""
        for to, source in self._edges:
            if source is None:
                rows[(slice(None), *to)] = 0.0

    def _inside(self, whole: np.ndarray) -> np.ndarray:
        """The state that an array is around."""
        return whole[self._inner].transpose(0, *range(whole.ndim - 1, 0, -1))

    def _shape(self, u: np.ndarray) -> tuple[int, ...]:
        """Of the array around a state."""
        return (len(u), *self._ghosted, *u.shape[1 : u.ndim - self.grid.dim])

    def _whole(self, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        free = self._free.setdefault((shape, dtype.char), deque())
        for _ in range(len(free)):
            # The last one that was given back is still in the cache.
            found = free.pop()
            if sys.getrefcount(found) == UNSEEN:
                return found
            free.appendleft(found)
        return np.zeros(shape, dtype)

    def _give_back(self, whole: np.ndarray) -> None:
        self._free.setdefault((whole.shape, whole.dtype.char), deque()).append(whole)

    def around(self, u: np.ndarray) -> np.ndarray:
        """The array around a state: its own where it comes from this store, else a copy, which is
        free when its caller has done with it."""
        known = self._states.get(id(u))
        if known is not None:
            return known[1]
        whole = self._whole(self._shape(u), u.dtype)
        self._inside(whole)[...] = u
        self._give_back(whole)
        return whole

    def filled(self, u: np.ndarray) -> np.ndarray:
        """`around` with its ghosts filled: those of neighbours, those across periodic ends, at
        Neumann sides the values beside them, and 0 at the other sides. Collective."""
        whole = self.around(u)
        if self.grid.comm.size > 1:
            exchange(self.grid, whole)
        for to, source in self._edges:
            whole[to] = 0.0 if source is None else whole[source]
        return whole

    def destroy(self) -> None:
        self._free.clear()


Place = tuple[slice | int, ...]


def edges(grid: Grid) -> list[tuple[Place, Place | None]]:
    """Ghosts that a rank fills by itself, each layer with the one that it is a copy of; None: 0."""
    found: list[tuple[Place, Place | None]] = []
    inner = (slice(1, -1),) * grid.dim
    for d in range(grid.dim):
        axis, ends = (
            grid.dim - 1 - d,
            (grid.start[d] == 0, grid.stop[d] == grid.shape[d]),
        )

        def layer(at: int, axis: int = axis) -> Place:
            return (slice(None), *inner[:axis], at, *inner[axis + 1 :])

        for side, end, ghost, own, across in zip(
            "-+", ends, (0, -1), (1, -2), (-2, 1), strict=True
        ):
            if grid.periodic(d):
                if all(ends):
                    found.append((layer(ghost), layer(across)))
            elif end:
                same = grid.boundaries[AXES[d] + side].kind == "neumann"
                found.append((layer(ghost), layer(own) if same else None))
    return found


def copies(grid: Grid) -> np.ndarray:
    """[axis, end] of `edges` on one rank: the layer a ghost is a copy of; 0: of none."""
    found = np.zeros((grid.dim, 2), np.int64)
    for to, source in edges(grid):
        if source is None:
            continue
        axis = next(a for a in range(grid.dim) if isinstance(to[a + 1], int))
        layers, size = (to[axis + 1], source[axis + 1]), grid.local_shape[::-1][axis]
        ghost, layer = (int(i) % (size + 2) for i in layers)  # type: ignore[arg-type]
        found[axis, int(ghost > 0)] = layer
    return found


def exchange(grid: Grid, whole: np.ndarray) -> None:
    """Fills the ghosts that other ranks have, all species and samples in one exchange an axis; what
    is outside gets 0. Collective."""
    columns = whole.ndim > grid.dim + 1
    inner: list[slice | int] = [slice(None), *(slice(1, -1),) * grid.dim]
    cells = whole[tuple(inner)]
    own = np.moveaxis(cells, -1, 0) if columns else cells
    for d in range(grid.dim):
        if grid.local_shape[d] == grid.shape[d]:
            continue
        axis = grid.dim - d
        layers = neighbours(own, grid.layout, d, grid.periodic(d), grid.comm)
        for layer, ghost in zip(layers, (0, -1), strict=True):
            to = inner.copy()
            to[axis] = ghost
            behind = np.moveaxis(layer, 0, -1) if columns else layer
            whole[tuple(to)] = behind.squeeze(axis)

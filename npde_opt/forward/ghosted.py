"""States with one ghost cell all round in memory, so that explicit steps need no copy of them: a
state is the inside of an array of a store, whose ghosts are filled in place, and which is used
again when nobody looks at the state any more. States of a trajectory may be rows of one array.

Arrays are [c, k, j, i], or [c, k, j, i, s] of columns; states are their transposes [c, (s,) i, j,
k]. In a long row the first cell that is no ghost begins a line of the cache, and behind the last
ghost are some values that nobody reads, so that the next row begins with a line too, and with
another place in the cache: of rows that are a multiple of 4 KB apart the cache keeps few at a time.
Loops over 128^2 and 512^2 cells take a fifth and a third less time for it. Of a trajectory, which
does not fit into the cache, memory counts more: its rows are longer only where they would meet.
"""

from __future__ import annotations

import ctypes
import math
import sys
import weakref
from collections import deque
from typing import Any

import numpy as np

from npde_opt.forward.halo import Halo
from npde_opt.grids import AXES, Grid
from npde_opt.grids.layout import neighbours

LINE = 64
"""Bytes of a line of the cache."""
PAGE = 4096
"""Bytes after which a place in the cache comes again."""
LONG = 8
"""Lines of a row that is long: in shorter ones, what nobody reads would be many of all values."""
UNSEEN = 2
"""References to an array that only this module has: a name and the argument that counts them."""


class Store:
    """Arrays of a grid, by shape and precision."""

    def __init__(self, grid: Grid):
        self.grid, self._edges = grid, edges(grid)
        self.copies = copies(grid)
        self._inner = (slice(None), *inner(grid))
        self._states: dict[int, tuple[weakref.ref[np.ndarray], np.ndarray]] = {}
        self._rows: dict[int, tuple[np.ndarray, int]] = {}
        self._ghosted = tuple(n + 2 for n in grid.local_shape[::-1])
        self._free: dict[tuple[tuple[int, ...], str], deque[np.ndarray]] = {}
        self._halos: dict[tuple[int | str, ...], Halo] = {}

    @classmethod
    def of(cls, grid: Grid) -> Store:
        """The grid's own."""
        sides = tuple(b.kind for b in grid.boundaries.values())
        return grid.once(("ghosted", sides), lambda: cls(grid))

    def state(self, like: np.ndarray) -> np.ndarray:
        """A new state of the shape and precision of another, with anything in it."""
        whole = self._whole(self.shape(like), like.dtype)
        state = self._inside(whole)
        place = id(state)

        def forget(dead: weakref.ref[np.ndarray]) -> None:
            del self._states[place]
            self._give_back(whole)

        self._states[place] = weakref.ref(state, forget), whole
        return state

    def rows(
        self, like: np.ndarray, count: int, kept: bool = False
    ) -> tuple[np.ndarray, list[np.ndarray]]:
        """(An array [n, c, k, j, i] with anything in it, its `count` rows as states): they lie one
        after the other in memory, and are free together. `kept`: those of a trajectory."""
        block = self._whole((count, *self.shape(like, kept)), like.dtype)
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

    def shape(self, u: np.ndarray, kept: bool = False) -> tuple[int, ...]:
        """Of the array around a state, or one of a trajectory that is kept."""
        samples = u.shape[1 : u.ndim - self.grid.dim]
        if samples:
            return (len(u), *self._ghosted, *samples)
        *rows, cells = self._ghosted
        return (len(u), *rows, row_length(cells, u.itemsize, kept))

    def ghosted(self, whole: np.ndarray, columns: bool) -> np.ndarray:
        """An array around a state, or one of `rows`, without what is behind the ghosts."""
        return whole if columns else whole[..., : self._ghosted[-1]]

    def _whole(self, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        free = self._free.setdefault((shape, dtype.char), deque())
        for _ in range(len(free)):
            # The last one that was given back is still in the cache.
            found = free.pop()
            if sys.getrefcount(found) == UNSEEN:
                return found
            free.appendleft(found)
        return zeros(shape, dtype)

    def _give_back(self, whole: np.ndarray) -> None:
        self._free.setdefault((whole.shape, whole.dtype.char), deque()).append(whole)

    def around(self, u: np.ndarray) -> np.ndarray:
        """The array around a state: its own where it comes from this store, else a copy, which is
        free when its caller has done with it."""
        known = self._states.get(id(u))
        if known is not None:
            return known[1]
        whole = self._whole(self.shape(u), u.dtype)
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

    def halo(self, whole: np.ndarray) -> Halo:
        """Messages of compiled loops, for states like the one in this array. Collective."""
        shape = len(whole), *whole.shape[self.grid.dim + 1 :], whole.dtype.char
        if shape not in self._halos:
            self._halos[shape] = Halo(self.grid, whole)
        return self._halos[shape]

    def destroy(self) -> None:
        self._free.clear()
        self._halos.clear()


def row_length(cells: int, itemsize: int, kept: bool) -> int:
    """Values of a row with so many cells and ghosts. Lines are odd in number where it is longer, so
    that rows do not meet in the cache."""
    size, line = cells * itemsize, LINE // itemsize
    lines = -(-cells // line)
    meet = min(size % PAGE, -size % PAGE) <= LINE
    longer = lines >= LONG and (meet or not kept)
    return (lines | 1) * line if longer else cells


def zeros(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """An array whose second value begins a line of the cache, in which nothing is but zeros."""
    size = math.prod(shape) * dtype.itemsize + LINE
    # Views of a view of an array of numpy's own refer to that array: by references to the view
    # nobody could tell whether it is looked at.
    memory: Any = (ctypes.c_char * size).from_buffer(np.zeros(size, np.uint8).data)
    first = -(ctypes.addressof(memory) + dtype.itemsize) % LINE
    return np.ndarray(shape, dtype, memory, first)


Place = tuple[slice | int, ...]


def inner(grid: Grid) -> tuple[slice, ...]:
    """The cells that are no ghosts, in an array around a state."""
    return tuple(slice(1, n + 1) for n in grid.local_shape[::-1])


def edges(grid: Grid) -> list[tuple[Place, Place | None]]:
    """Ghosts that a rank fills by itself, each layer with the one that it is a copy of; None: 0."""
    found: list[tuple[Place, Place | None]] = []
    cells = inner(grid)
    for d, n in enumerate(grid.local_shape):
        axis, ends = (
            grid.dim - 1 - d,
            (grid.start[d] == 0, grid.stop[d] == grid.shape[d]),
        )

        def layer(at: int, axis: int = axis) -> Place:
            return (slice(None), *cells[:axis], at, *cells[axis + 1 :])

        for side, end, ghost, own, across in zip(
            "-+", ends, (0, n + 1), (1, n), (n, 1), strict=True
        ):
            if grid.periodic(d):
                if all(ends):
                    found.append((layer(ghost), layer(across)))
            elif end:
                same = grid.boundaries[AXES[d] + side].kind == "neumann"
                found.append((layer(ghost), layer(own) if same else None))
    return found


def copies(grid: Grid) -> np.ndarray:
    """[axis, end] of `edges`: the layer a ghost is a copy of; 0: of none."""
    found = np.zeros((grid.dim, 2), np.int64)
    for to, source in edges(grid):
        if source is None:
            continue
        axis = next(a for a in range(grid.dim) if isinstance(to[a + 1], int))
        ghost, layer = to[axis + 1], source[axis + 1]
        assert isinstance(ghost, int) and isinstance(layer, int)
        found[axis, int(ghost > 0)] = layer
    return found


def exchange(grid: Grid, whole: np.ndarray) -> None:
    """Fills the ghosts that other ranks have, all species and samples in one exchange an axis; what
    is outside gets 0. Collective."""
    columns = whole.ndim > grid.dim + 1
    inside: list[slice | int] = [slice(None), *inner(grid)]
    cells = whole[tuple(inside)]
    own = np.moveaxis(cells, -1, 0) if columns else cells
    for d in range(grid.dim):
        if grid.local_shape[d] == grid.shape[d]:
            continue
        axis = grid.dim - d
        layers = neighbours(own, grid.layout, d, grid.periodic(d), grid.comm)
        for layer, ghost in zip(layers, (0, grid.local_shape[d] + 1), strict=True):
            to = inside.copy()
            to[axis] = ghost
            behind = np.moveaxis(layer, 0, -1) if columns else layer
            whole[tuple(to)] = behind.squeeze(axis)

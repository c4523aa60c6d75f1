"""States are worked on in boxes that fit the cache: some samples, or some rows of one.

A box has rows whole, as x is what inner loops run along.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from math import isqrt, prod

import numpy as np

from npde_opt.networks.place import Place

CACHE = 1 << 20
"""Bytes of a box, which is half of what a core's second cache has, at most machines."""
LENGTH = 512
"""Values of x, of all samples of a box, from which BLAS is at its best."""


@dataclass(frozen=True)
class Box:
    """Args:
    samples: which of them.
    rows: which rows along k and j (fewer on grids of fewer axes).
    """

    samples: slice
    rows: tuple[slice, ...]

    @property
    def index(self) -> tuple[slice, ...]:
        """Of states [c, s, k, j, i]."""
        return (slice(None), self.samples, *self.rows)


@lru_cache(maxsize=256)
def boxes(cells: tuple[int, ...], samples: int, value_bytes: int) -> tuple[Box, ...]:
    """The boxes of states on `cells` (k, j, i), one after the other.

    Args:
        value_bytes: what is held of a cell and sample while a box is worked on.
    """
    if not samples or 0 in cells:
        return ()
    most = max(CACHE // value_bytes, 1)
    *outer, length = cells
    size = prod(cells)
    if size <= most:
        together = max(min(most // size, LENGTH // length, samples), 1)
        steps = list(outer)
    else:
        together, steps = 1, _rows(outer, max(most // length, 1))
    ranges = [_parts(samples, together), *map(_parts, outer, steps)]
    return tuple(Box(part, tuple(rows)) for part, *rows in product(*ranges))


def _rows(outer: Sequence[int], count: int) -> list[int]:
    """As many rows of each axis as are `count` together; near a square, which has the fewest
    neighbours."""
    if len(outer) < 2:
        return [min(n, count) for n in outer]
    first = max(min(outer[0], isqrt(count)), 1)
    return [first, max(min(outer[1], count // first), 1)]


def _parts(count: int, step: int) -> list[slice]:
    return [slice(a, min(a + step, count)) for a in range(0, count, step)]


def boxes_of(place: Place, u: np.ndarray, width: int) -> tuple[Box, ...]:
    """Of states as many samples of which as `u` has.

    Args:
        width: values held of a cell while a box is worked on.
    """
    return boxes(place.cells, u.shape[1], width * u.itemsize)


def matrices(u: np.ndarray) -> np.ndarray:
    """A box [c, s, k, j, i] as matrices [s, k, c, (j, i)] (one k where there is none), a view."""
    channels, samples, *cells = u.shape
    planes = u if len(cells) == 3 else u.reshape(channels, samples, 1, *cells)
    moved = planes.transpose(1, 2, 0, *range(3, planes.ndim))
    return moved.reshape(*moved.shape[:3], prod(cells[-2:]))


class Flat:
    """A box [c, s, k, j, i] for compiled loops: all from its first value to its last one as a
    line, in which row (c, s, k, j) begins at the product of these with `steps`. Rows have no
    gaps.

    Args:
        u: the box, which is written to where the line is.
    """

    def __init__(self, u: np.ndarray):
        missing, steps = 5 - u.ndim, [step // u.itemsize for step in u.strides]
        shape = [*u.shape[:2], *(1,) * missing, *u.shape[2:]]
        steps = [*steps[:2], *(0,) * missing, *steps[2:]]
        c, s, k, j, n = shape
        by_c, by_s, by_k, by_j, _ = steps
        self.counts, self.steps = (c, s, k, j), (by_c, by_s, by_k, by_j)
        if u.flags.c_contiguous:
            self.line = u.reshape(-1)
            return
        last = (c - 1) * by_c + (s - 1) * by_s + (k - 1) * by_k + (j - 1) * by_j
        length = last + n if u.size else 0
        self.line = np.lib.stride_tricks.as_strided(u, (length,), (u.itemsize,))


def by_channel(values: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Values (c,) so that they broadcast to v."""
    return values.astype(v.dtype, copy=False).reshape(-1, *(1,) * (v.ndim - 1))


def over_cells(v: np.ndarray) -> np.ndarray:
    """Sums of a box by channel, in double precision."""
    lines = v.sum(axis=-1)
    return np.asarray(lines.sum(axis=tuple(range(1, lines.ndim)), dtype=float))


class Workspace:
    """Arrays that are used again: `take` gives one whose values are those of nobody."""

    def __init__(self) -> None:
        self._kept: dict[str, np.ndarray] = {}
        # Whose values are in the columns.
        self.owner: object = None

    def take(self, name: str, shape: Sequence[int], dtype: np.dtype) -> np.ndarray:
        """The one of a name, which ends what was taken of this name before."""
        size = prod(shape) * dtype.itemsize
        kept = self._kept.get(name)
        if kept is None or kept.size < size:
            kept = self._kept[name] = np.empty(size, np.uint8)
        return kept[:size].view(dtype).reshape(shape)


WORK = Workspace()

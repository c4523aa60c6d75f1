"""States are worked on in boxes that fit the cache: some samples, or some rows of one.

A box has rows whole, as x is what inner loops run along.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import product
from math import isqrt, prod

import numpy as np

from npde_opt.networks.place import Place

CACHE = 1 << 22
"""Bytes of a box: about a core's share of the last cache. Smaller boxes, which fit the second one,
lose more by their number than they gain."""
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

    @cached_property
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
    if u.ndim == 5:
        channels, samples, k, *rows = u.shape
        moved = u.transpose(1, 2, 0, 3, 4)
    else:
        (channels, samples, *rows), k = u.shape, 1
        moved = u.swapaxes(0, 1)
    return moved.reshape(samples, k, channels, prod(rows))


class _Line:
    """So many values from the first one of an array on, for numpy; `as_strided` takes thrice the
    time, at every box."""

    def __init__(self, of: np.ndarray, length: int):
        self.of = of  # lives as long as the line does
        self.__array_interface__ = of.__array_interface__ | {
            "shape": (length,),
            "strides": None,
        }


class Flat:
    """A box [c, s, k, j, i] for compiled loops: all from its first value to its last one as a
    line, in which row (c, s, k, j) begins at the product of these with `steps`. Rows of `length`
    have no gaps.

    Args:
        u: the box, which is written to where the line is.

    Raises:
        ValueError: for rows with gaps, whose values loops would not find.
    """

    def __init__(self, u: np.ndarray):
        size, missing = u.itemsize, [1] * (5 - u.ndim)
        shape = [*u.shape[:2], *missing, *u.shape[2:]]
        strides = [*u.strides[:2], *missing, *u.strides[2:]]
        c, s, k, j, n = shape
        by_c, by_s, by_k, by_j, by_i = strides
        if n > 1 and by_i != size:
            raise ValueError(f"rows of {n} values that are {by_i} bytes apart")
        self.counts, self.length = (c, s, k, j), n
        self.steps = (by_c // size, by_s // size, by_k // size, by_j // size)
        if u.flags.c_contiguous:
            self.line = u.reshape(-1)
            return
        first_to_last = zip(self.counts, self.steps, strict=True)
        length = n + sum((count - 1) * step for count, step in first_to_last)
        self.line = np.asarray(_Line(u, length if u.size else 0))


def together(
    one: np.ndarray, other: np.ndarray
) -> tuple[tuple[Flat, Flat], tuple[int, int, int], int]:
    """Two boxes of the same cells, with the counts (s, k, j) of rows that have no gaps in either,
    which are as long as they can be, and their length."""
    flats = Flat(one), Flat(other)
    length = flats[0].length
    counts = list(flats[0].counts[1:])
    for axis in (2, 1, 0):
        if counts[axis] == 1:
            continue
        if any(f.steps[axis + 1] != length for f in flats):
            break
        length *= counts[axis]
        counts[axis] = 1
    s, k, j = counts
    return flats, (s, k, j), length


def by_channel(values: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Values (c,) so that they broadcast to v."""
    return values.astype(v.dtype, copy=False).reshape(-1, *(1,) * (v.ndim - 1))


def over_cells(v: np.ndarray) -> np.ndarray:
    """Sums of a box by channel, in double precision."""
    # Products with ones are several times faster than sums along short rows.
    rows = v @ np.ones(v.shape[-1], v.dtype)
    return np.asarray(rows.reshape(len(v), -1).sum(axis=1, dtype=float))


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

"""Standard normal numbers of large arrays, the same on any number of ranks; each rank draws its own
only.

Philox is a generator by counter: the k-th block of bits of a key is a function of k, without those
before it (Salmon, Moraes, Dror, Shaw, Parallel random numbers: as easy as 1, 2, 3, 2011). An array
is cut into tiles of TILE numbers, numbered x fastest; tile t has a stream of its own,

    z[tile t] = normal numbers of Philox(key(seed), counter = t 2^128),

and a rank draws the tiles that its box or its numbers reach into. What a tile holds does not depend
on the array's size beyond the number of tiles along its axes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product

import numpy as np

TILE = 4096
"""Numbers of a tile."""
SIDES = {1: (TILE,), 2: (64, 64), 3: (16, 16, 16)}
"""Of a tile, by the number of axes."""

Seed = int | Sequence[int]
Box = Sequence[slice]


class Tiles:
    """The tiles of a seed."""

    def __init__(self, seed: Seed):
        self._key = np.random.SeedSequence(seed).generate_state(2, np.uint64)

    def normal(self, number: int) -> np.ndarray:
        """(TILE,)"""
        philox = np.random.Philox(key=self._key, counter=[0, 0, number, 0])
        return np.random.Generator(philox).standard_normal(TILE)


def normal_box(seed: Seed, shape: Sequence[int], box: Box) -> np.ndarray:
    """Numbers [i, j, k] of a box (slices with both ends) in an array of this shape."""
    found = np.empty([s.stop - s.start for s in box], order="F")
    sides, tiles = SIDES[len(shape)], Tiles(seed)
    counts = [-(-n // side) for n, side in zip(shape, sides, strict=True)]
    for tile in _reached(box, sides):
        number = np.ravel_multi_index(tile, counts, order="F")
        values = tiles.normal(int(number)).reshape(sides, order="F")
        inside, to = _shared(tile, sides, box)
        found[to] = values[inside]
    return found


def normal_numbers(seed: Seed, numbers: np.ndarray) -> np.ndarray:
    """The numbers (n,) at these places, in any order, of an endless list."""
    found, tiles = np.empty(numbers.size), Tiles(seed)
    order = np.argsort(numbers, kind="stable")
    of_tile, within = np.divmod(numbers[order], TILE)
    ends = np.append(np.flatnonzero(np.diff(of_tile)) + 1, numbers.size)
    for start, stop in zip(np.append(0, ends), ends, strict=False):
        if start == stop:  # nothing is asked for
            continue
        values = tiles.normal(int(of_tile[start]))
        found[order[start:stop]] = values[within[start:stop]]
    return found


def _reached(box: Box, sides: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """The tiles that a box reaches into, by their places along the axes."""
    if any(s.stop <= s.start for s in box):
        return iter(())
    pairs = zip(box, sides, strict=True)
    return product(*[range(s.start // w, (s.stop - 1) // w + 1) for s, w in pairs])


def _shared(
    tile: Sequence[int], sides: Sequence[int], box: Box
) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """What a tile and a box share, within the tile and within the box."""
    inside, to = [], []
    for t, side, s in zip(tile, sides, box, strict=True):
        first, last = max(t * side, s.start), min((t + 1) * side, s.stop)
        inside.append(slice(first - t * side, last - t * side))
        to.append(slice(first - s.start, last - s.start))
    return tuple(inside), tuple(to)

"""Boxes of equal numbers of active cells: intervals along each axis, whose products are the boxes.

With the intervals of the other axes given, the best ones of an axis are found exactly: the least L
so that intervals which are filled up to L in their fullest box, one after the other, reach the end.
Axis after axis does so until nothing is gained. Of the ways to arrange the ranks that with the
least surface is taken of those whose fullest box has at most SHARE times the mean; where there is
none, the one with the least.

Fields, stencils and their set-up take memory for every cell of a box, active or not. So intervals
are limited to a multiple of their mean width: f in d dimensions, the boxes of cells being

    size / ranks on average,   at most f^d size / ranks,   <= LARGEST unless f = LEAST_FACTOR
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from mpi4py import MPI

from npde_opt import reductions
from npde_opt.grids.layout import Layout
from npde_opt.grids.scattered import Mask

SHARE = 1.15
"""Of the mean: what the fullest box may have where another arrangement has less surface."""
NARROWEST = 4
"""Cells of an interval at least, where the axis has so many: multigrid and halos want some."""
LARGEST = 1 << 22
"""Cells of a box, where the mean leaves it the choice: 1 to 2 GB."""
LEAST_FACTOR = 2.0
"""Of the mean width of an axis's intervals: what their limit is at least."""
SURFACE = 2.5
"""Of the least: arrangements of more surface are not looked at."""
ROUNDS = 8
POWERS = (1.0, 0.5, 2.0)
"""Starts: equal shares of the number of active cells in planes to these powers."""

Ends = list[np.ndarray]
"""By axis: where intervals begin, and the end of the last one."""


@dataclass(frozen=True)
class Cut:
    """Args:
    fullest: active cells of the fullest box.
    """

    fullest: int
    ends: Ends

    @property
    def counts(self) -> tuple[tuple[int, ...], ...]:
        """Cells of the intervals, by axis."""
        return tuple(tuple(np.diff(e).tolist()) for e in self.ends)


def as_petsc_cuts(shape: Sequence[int], ranks: int) -> tuple[tuple[int, ...], ...]:
    """Cells along each axis of the boxes that PETSc's DMDA cuts a grid into on so many ranks, which
    need not be there: the number along an axis is the largest divisor up to that of boxes as long
    as wide.

    Args:
        shape: of one to three axes.
    """
    ways = _parts_2d if len(shape) == 2 else _parts_3d
    parts = (ranks,) if len(shape) == 1 else ways(shape, ranks)
    return tuple(
        tuple(n // many + (p < n % many) for p in range(many))
        for n, many in zip(shape, parts, strict=True)
    )


def fits(shape: Sequence[int], ranks: int) -> bool:
    """Whether PETSc cuts a grid into boxes for so many ranks that have cells each."""
    return all(min(c) > 0 for c in as_petsc_cuts(shape, ranks))


def coarser(shape: Sequence[int], smallest: int) -> tuple[int, ...]:
    """Cells of a grid merged in pairs along every axis that has at least 2 `smallest` of them, an
    odd last one kept."""
    return tuple((n + 1) // 2 if n >= 2 * smallest else n for n in shape)


def _parts_2d(shape: Sequence[int], ranks: int) -> tuple[int, ...]:
    x, y = shape
    first = _divisor(ranks, math.sqrt(x * ranks / y))
    parts = first, ranks // first
    return parts[::-1] if x > y and parts[0] < parts[1] else parts


def _parts_3d(shape: Sequence[int], ranks: int) -> tuple[int, ...]:
    x, y, z = shape
    second = _divisor(ranks, (y * y * ranks / (z * x)) ** (1 / 3))
    rest = ranks // second
    first = _divisor(rest, math.sqrt(x * ranks / (z * second)))
    last = rest // first
    if x > z and first < last:
        first, last = last, first
    return first, second, last


def _divisor(whole: int, most: float) -> int:
    """The largest one up to a rounded number, at least 1."""
    return next(n for n in range(max(int(0.5 + most), 1), 0, -1) if whole % n == 0)


def balanced(mask: Mask, ranks: int, largest: float = LARGEST) -> Cut | None:
    """The intervals for so many ranks; None where they are more than cells. Collective, over any
    ranks.

    Args:
        mask: in any boxes.
        largest: cells of a box, where the mean leaves it the choice.
    """
    planes = [_loads(mask, axis, None)[:, 0] for axis in range(len(mask.shape))]
    best: Cut | None = None
    for processes in compact(mask.shape, ranks):
        limits = widest(mask.shape, processes, largest)
        found = _best(mask, planes, processes, limits)
        if best is None or found.fullest < best.fullest:
            best = found
        if found.fullest * ranks <= SHARE * mask.size:
            return found
    return best


def arrangements(shape: Sequence[int], ranks: int) -> list[tuple[int, ...]]:
    """Numbers of intervals by axis whose product is `ranks`, least surface between boxes first."""
    found = [
        p
        for p in _products(ranks, len(shape))
        if all(k <= n for k, n in zip(p, shape, strict=True))
    ]
    return sorted(found, key=lambda p: (_surface(shape, p), p))


def compact(shape: Sequence[int], ranks: int) -> list[tuple[int, ...]]:
    """The arrangements of at most SURFACE times the least surface."""
    found = arrangements(shape, ranks)
    surfaces = [_surface(shape, p) for p in found]
    return [
        p
        for p, surface in zip(found, surfaces, strict=True)
        if surface <= SURFACE * surfaces[0]
    ]


def widest(
    shape: Sequence[int], processes: Sequence[int], largest: float = LARGEST
) -> list[int]:
    """Cells of an interval at most, by axis."""
    mean = math.prod(shape) / math.prod(processes)
    factor = max((largest / mean) ** (1 / len(shape)), LEAST_FACTOR)
    return [
        min(math.ceil(factor * n / k), n) for n, k in zip(shape, processes, strict=True)
    ]


def even(shape: Sequence[int], comm: MPI.Intracomm) -> Layout:
    """Boxes of about equal numbers of cells, those of ranks beyond the number of cells empty."""
    ranks = comm.size
    while not (found := arrangements(shape, ranks)):
        ranks -= 1
    counts = []
    for n, parts in zip(shape, found[0], strict=True):
        share, more = divmod(n, parts)
        counts.append(tuple(share + (p < more) for p in range(parts)))
    if ranks < comm.size:
        # The last ranks are beyond the end of the last axis.
        beyond = -(-comm.size // (ranks // len(counts[-1]))) - len(counts[-1])
        counts[-1] = (*counts[-1], *[0] * beyond)
    return Layout(tuple(counts), comm.rank)


def _products(number: int, factors: int) -> Iterator[tuple[int, ...]]:
    if factors == 1:
        yield (number,)
        return
    for first in range(1, number + 1):
        if number % first == 0:
            for rest in _products(number // first, factors - 1):
                yield (first, *rest)


def _surface(shape: Sequence[int], processes: Sequence[int]) -> int:
    size = math.prod(shape)
    return sum((k - 1) * (size // n) for k, n in zip(processes, shape, strict=True))


def _best(
    mask: Mask,
    planes: Sequence[np.ndarray],
    processes: tuple[int, ...],
    limits: Sequence[int],
) -> Cut:
    starts = [
        [_shares(w**power, k) for w, k in zip(planes, processes, strict=True)]
        for power in POWERS
    ]
    return min(
        (_improved(mask, ends, limits) for ends in starts), key=lambda c: c.fullest
    )


def _shares(weights: np.ndarray, count: int) -> np.ndarray:
    """Ends of intervals of about equal weight."""
    sums = np.append(0, np.cumsum(weights, dtype=float))
    wanted = sums[-1] * np.arange(1, count) / count
    ends = np.searchsorted(sums, wanted)
    width = _narrowest(weights.size, count)
    least = width * np.arange(1, count)
    ends = np.maximum.accumulate(np.maximum(ends - least, 0)) + least
    ends = np.minimum(ends, weights.size - width * count + least)
    return np.concatenate([[0], ends, [weights.size]]).astype(int)


def _narrowest(size: int, count: int) -> int:
    """Cells that each of so many intervals of an axis has at least."""
    return min(NARROWEST, size // count)


def _improved(mask: Mask, ends: Ends, limits: Sequence[int]) -> Cut:
    """From some intervals, until no axis gains by others."""
    found = Cut(np.iinfo(int).max, ends)
    for _ in range(ROUNDS):
        before = found.fullest
        for axis, own in enumerate(found.ends):
            loads = _loads(mask, axis, found.ends)
            fullest, better = _filled(loads, own, limits[axis])
            changed = [*found.ends[:axis], better, *found.ends[axis + 1 :]]
            found = Cut(fullest, changed)
        if found.fullest == before:
            break
    return found


def _loads(mask: Mask, axis: int, ends: Ends | None) -> np.ndarray:
    """Active cells of the planes along an axis (planes, boxes): by the intervals of the other
    axes, or in all. Collective."""
    own = mask.owned
    places: list[np.ndarray] = []
    shape: list[int] = []
    for d, cells in enumerate(mask.layout.owned()):
        if d == axis:
            places.append(cells)
            shape.append(mask.shape[d])
            continue
        inner = np.array([0, mask.shape[d]]) if ends is None else ends[d]
        number = np.searchsorted(inner, cells, side="right") - 1
        first = np.flatnonzero(np.diff(number, prepend=-1))
        if first.size:
            own = np.add.reduceat(own, first, axis=d, dtype=np.int64)
        places.append(number[first])
        shape.append(inner.size - 1)
    loads = np.zeros(shape)
    loads[np.ix_(*places)] = own
    whole = reductions.total(mask.comm, loads)
    return np.moveaxis(whole, axis, 0).reshape(shape[axis], -1)


def _filled(loads: np.ndarray, ends: np.ndarray, limit: int) -> tuple[int, np.ndarray]:
    """The least active cells of the fullest box, and the intervals of at most `limit` cells that
    have them; `ends` are those that are there."""
    sums = np.concatenate([np.zeros((1, loads.shape[1])), np.cumsum(loads, axis=0)])
    count = ends.size - 1
    whole = int(sums[-1].max())
    best, high = ends, int(np.diff(sums[ends], axis=0).max())
    if np.diff(ends).max() > limit:
        # Each interval may hold all, so that the limit is all that binds.
        widest_ones = _fill(sums, count, whole, limit)
        assert widest_ones is not None, "as many intervals of the limit reach the end"
        best, high = widest_ones, whole
    low = -(-whole // count)
    while low < high:
        middle = (low + high) // 2
        found = _fill(sums, count, middle, limit)
        if found is None:
            low = middle + 1
        else:
            best, high = found, middle
    return high, best


def _fill(sums: np.ndarray, count: int, most: int, limit: int) -> np.ndarray | None:
    """Ends of intervals of at most `limit` cells that hold at most so many in each box; None where
    they do not reach the end of the axis."""
    size, ends = len(sums) - 1, [0]
    width = _narrowest(size, count)
    for left in range(count - 1, -1, -1):
        last = ends[-1]
        # Later intervals need their cells too.
        furthest = min(last + limit, size - width * left)
        within = sums[last + width : furthest + 1] - sums[last]
        inside = within.max(axis=1) <= most
        reached = int(np.count_nonzero(inside))
        if not reached:
            return None
        ends.append(last + width - 1 + reached)
    return np.array(ends) if ends[-1] == size else None

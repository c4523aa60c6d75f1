"""Points drawn uniformly over the places where several grids of one box are all active.

Points of the box are drawn until enough are active. Where few are, the rest is drawn cell by cell
from the common refinement of the grids: the same distribution, in bounded time. The points are
those of one generator, whatever the ranks: each draws its run of every batch, with the generator
moved on to there, looks it up in masks of which each has a part, and keeps an even share of what is
found.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from mpi4py import MPI

from npde_opt.cases.resampling import cell_of
from npde_opt.distinct import distinct
from npde_opt.errors import InputError
from npde_opt.grids.posted import Posted
from npde_opt.grids.scattered import Mask
from npde_opt.observations.shares import even_starts

Masked = tuple[Sequence[np.ndarray], Mask]
"""A grid's edges and its active cells; of all grids on the same ranks."""
BATCH = 1 << 16
BATCHES = 32


def random_points(
    rng: np.random.Generator,
    count: int,
    edges: Sequence[np.ndarray],
    masks: Sequence[Masked],
    field: str,
    comm: MPI.Intracomm = MPI.COMM_SELF,
) -> np.ndarray:
    """This rank's share (n, dim), an even run of them, of `count` points in the box between
    `edges`, in active cells of all `masks`. Collective.

    Args:
        rng: numpy's default one, the same on all ranks.
        comm: the ranks that share the points, and the masks.

    Raises:
        InputError: naming `field`, where no place is active in all.
    """
    lower = np.array([e[0] for e in edges])
    extent = np.array([e[-1] - e[0] for e in edges])
    if not masks:
        return lower + extent * _run(rng, count, lower.size, comm)
    found, missing = _Found(comm, lower.size), count
    for _ in range(BATCHES):
        size = min(BATCH, 64 * missing)
        points = lower + extent * _run(rng, size, lower.size, comm)
        missing -= found.add(points[active(masks, points)], missing)
        if not missing:
            break
    if missing:
        _cell_by_cell(rng, missing, masks, field, found)
    return found.shared(count)


def _run(
    rng: np.random.Generator, count: int, dim: int, comm: MPI.Intracomm
) -> np.ndarray:
    """This rank's run of numbers (count, dim); the generator is behind all of them then."""
    first, last = even_starts(count, comm.size)[comm.rank : comm.rank + 2]
    _skip(rng, int(first) * dim)
    found = rng.random((int(last - first), dim))
    _skip(rng, int(count - last) * dim)
    return found


def _skip(rng: np.random.Generator, count: int) -> None:
    """Leaves so many numbers out."""
    rng.bit_generator.advance(count)  # type: ignore[attr-defined]


class _Found:
    """Points with their numbers among all, on any ranks."""

    def __init__(self, comm: MPI.Intracomm, dim: int):
        self.comm, self.count = comm, 0
        self.numbers, self.points = [np.empty(0, int)], [np.empty((0, dim))]

    def add(self, points: np.ndarray, most: int) -> int:
        """Points of all ranks, one rank after the other, and the first ones only; how many that
        are. Collective."""
        counts = self.comm.allgather(len(points))
        before = sum(counts[: self.comm.rank])
        own = points[: max(most - before, 0)]
        self.put(self.count + before + np.arange(len(own)), own)
        taken = min(sum(counts), most)
        self.count += taken
        return taken

    def put(self, numbers: np.ndarray, points: np.ndarray) -> None:
        self.numbers.append(numbers)
        self.points.append(points)

    def shared(self, count: int) -> np.ndarray:
        """Each rank's share of the points. Collective."""
        numbers, points = np.concatenate(self.numbers), np.concatenate(self.points)
        starts = even_starts(count, self.comm.size)
        first, last = starts[self.comm.rank : self.comm.rank + 2]
        posted = Posted(self.comm, np.searchsorted(starts, numbers, side="right") - 1)
        own = np.empty((int(last - first), points.shape[1]))
        own[posted.there(numbers) - first] = posted.there(points)
        return own


def active(masks: Sequence[Masked], points: np.ndarray) -> np.ndarray:
    """Whether points (n, dim), on each rank others, lie in active cells of all masks.
    Collective."""
    good = np.ones(len(points), bool)
    for edges, mask in masks:
        cells = [cell_of(x, e) for e, x in zip(edges, points.T, strict=True)]
        good &= mask.listed(cells)
    return good


def _cell_by_cell(
    rng: np.random.Generator,
    count: int,
    masks: Sequence[Masked],
    field: str,
    found: _Found,
) -> None:
    """Cells of the common refinement drawn by volume, and a point in each: all ranks draw the same,
    and each keeps what lies in its slab. Collective."""
    axes = [
        distinct(np.concatenate(e))
        for e in zip(*(edges for edges, _ in masks), strict=True)
    ]
    comm = masks[0][1].comm
    # A rank has a slab of the first axis: slab after slab is the order of all cells.
    ends = np.arange(comm.size + 1) * (axes[0].size - 1) // comm.size
    own = slice(int(ends[comm.rank]), int(ends[comm.rank + 1]))
    middles = [(e[1:] + e[:-1]) / 2 for e in axes]
    middles[0] = middles[0][own]
    common = np.ones([x.size for x in middles], bool)
    for edges, mask in masks:
        common &= mask.at([cell_of(x, e) for x, e in zip(middles, edges, strict=True)])
    there = np.nonzero(common)
    cells = (there[0] + own.start, *there[1:])
    widths = [np.diff(e) for e in axes]
    parts = [w[i] / w.max() for w, i in zip(widths, cells, strict=True)]
    # Where in the sum of all volumes the cells of this rank end.
    volumes = np.cumsum(np.prod(parts, axis=0))
    sums = np.cumsum([0.0, *comm.allgather(float(volumes[-1:].sum()))])
    if not sums[-1] > 0:
        raise InputError(
            field,
            count,
            "a domain with places that are active on the case's grid and "
            "on the one that data are simulated on",
        )
    first, last = sums[comm.rank : comm.rank + 2]
    within = np.random.default_rng()
    within.bit_generator.state = rng.bit_generator.state
    _skip(within, count)
    for begin in range(0, count, BATCH):
        size = min(BATCH, count - begin)
        drawn, inside = sums[-1] * rng.random(size), within.random((size, len(axes)))
        mine = np.flatnonzero((first <= drawn) & (drawn < last))
        at = np.searchsorted(volumes, drawn[mine] - first, side="right")
        at = np.minimum(at, volumes.size - 1)
        columns = zip(axes, widths, cells, inside[mine].T, strict=True)
        points = [e[i[at]] + x * w[i[at]] for e, w, i, x in columns]
        found.put(found.count + begin + mine, np.stack(points, axis=1))

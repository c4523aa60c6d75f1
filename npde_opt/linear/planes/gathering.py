"""Levels that go on on fewer ranks: ranks side by side give what they have to one of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from npde_opt import traffic
from npde_opt.grids.grid import of_cells
from npde_opt.grids.layout import Layout
from npde_opt.linear.planes.boxes import DEPTH, Box, Index, fits

SPREAD = 2048
"""Cells a rank from which levels are spread: sweeps over fewer take less time than messages."""
TAG = 64


def spreads(layout: Layout, periodic: Sequence[bool]) -> bool:
    """Whether a level is worth its ranks."""
    many = layout.rank_count
    return many == 1 or (layout.size >= SPREAD * many and fits(layout, periodic))


def on_the_same_ranks(box: Box, halved: Sequence[Sequence[bool]]) -> list[Box]:
    """Boxes of the levels that lie on the ranks of the first, finest first.

    Args:
        halved: by level, which axes are halved to the next one.
    """
    found = [box]
    for n, axes in enumerate(halved):
        if n and not spreads(found[-1].layout, box.periodic):
            break
        found.append(found[-1].coarsened(axes))
    return found


class Gathering:
    """Arrays of cells [..., k, j, i] of a group of ranks side by side, on one of them.

    Args:
        box: a rank's own cells.
        last: whether there is no coarser level, so that one rank gets all.
    """

    def __init__(self, box: Box, last: bool):
        self._comm, layout = box.comm, box.layout
        together, groups = _merged(layout, box.periodic, last)
        leaders = [
            np.arange(0, many, group)
            for many, group in zip(layout.processes, groups, strict=True)
        ]
        own = [p // group for p, group in zip(layout.position, groups, strict=True)]
        first = [p * group for p, group in zip(own, groups, strict=True)]
        self._own = box.ranks[layout.rank]
        self.leader = box.ranks[_number(first, layout)]
        """The rank that gets all."""
        self.box: Box | None = None
        """The box of the whole group, on the rank that has it."""
        self.members = list[tuple[int, Index]]()
        """On it: the ranks of the group, itself among them, with their cells [k, j, i]."""
        self._share = layout.local_size
        if self._own == self.leader:
            whole = Layout(together, _number(own, Layout(together, 0)))
            places = np.meshgrid(*leaders, indexing="ij")
            numbers = np.ravel_multi_index(places, layout.processes, order="F")
            ranks = [box.ranks[n] for n in numbers.ravel(order="F")]
            self.box = Box(self._comm, whole, ranks, box.periodic, DEPTH)
            self.members = _members(box, whole, groups)

    def traffic(self) -> tuple[int, int]:
        """Messages that this rank sends or gets for a number a cell, and numbers in them."""
        if self.box is None:
            return 1, self._share
        return len(self.members) - 1, self.box.layout.local_size - self._share

    def gather(self, values: np.ndarray) -> np.ndarray | None:
        """Own values of all members, on the rank that has the group. Collective."""
        if self.box is None:
            given = np.ascontiguousarray(values)
            traffic.sent(given)
            self._comm.Send(given, self.leader, TAG)
            return None
        lead = values.shape[: values.ndim - len(self.box.extents)]
        found = np.empty((*lead, *self.box.layout.local_shape[::-1]), values.dtype)
        for rank, part in self.members:
            place = found[of_cells(part)]
            if rank == self.leader:
                place[...] = values
                continue
            buffer = np.empty(place.shape, values.dtype)
            traffic.taken(buffer)
            self._comm.Recv(buffer, rank, TAG)
            place[...] = buffer
        return found

    def scatter(self, values: np.ndarray | None, out: np.ndarray) -> None:
        """Parts of the group's values, to their owners. Collective."""
        if values is None:
            buffer = np.empty(out.shape, out.dtype)
            traffic.taken(buffer)
            self._comm.Recv(buffer, self.leader, TAG + 1)
            out[...] = buffer
            return
        for rank, part in self.members:
            if rank == self.leader:
                out[...] = values[part]
            else:
                given = np.ascontiguousarray(values[part])
                traffic.sent(given)
                self._comm.Send(given, rank, TAG + 1)


def _merged(
    layout: Layout, periodic: Sequence[bool], last: bool
) -> tuple[tuple[tuple[int, ...], ...], list[int]]:
    """Cells of groups of ranks along each axis, and ranks of a group: the fewest that a level is
    worth."""
    counts, groups = list(layout.counts), [1] * layout.dim
    while True:
        found = Layout(tuple(counts), 0)
        if found.rank_count == 1 or (not last and spreads(found, periodic)):
            return found.counts, groups
        axis = max(range(layout.dim), key=lambda d: (len(counts[d]), d))
        pairs = counts[axis]
        counts[axis] = tuple(sum(pairs[n : n + 2]) for n in range(0, len(pairs), 2))
        groups[axis] *= 2


def _positions(processes: Sequence[int]) -> list[tuple[int, ...]]:
    """Of all ranks of a grid of them, x fastest."""
    return [tuple(at[::-1]) for at in np.ndindex(*processes[::-1])]


def _number(position: Sequence[int], layout: Layout) -> int:
    """A rank's number, x fastest."""
    return int(np.ravel_multi_index(tuple(position), layout.processes, order="F"))


def _members(box: Box, whole: Layout, groups: Sequence[int]) -> list[tuple[int, Index]]:
    """Ranks of the group, with their cells [k, j, i] of it."""
    counts = box.layout.counts
    firsts = [at * group for at, group in zip(whole.position, groups, strict=True)]
    along = [
        range(first, min(first + group, len(c)))
        for first, group, c in zip(firsts, groups, counts, strict=True)
    ]
    found = list[tuple[int, Index]]()
    for steps in _positions([len(r) for r in along]):
        at = [r[s] for r, s in zip(along, steps, strict=True)]
        parts = []
        for c, first, p in zip(counts, firsts, at, strict=True):
            start = sum(c[first:p])
            parts.append(slice(start, start + c[p]))
        found.append((box.ranks[_number(at, box.layout)], tuple(parts[::-1])))
    return found

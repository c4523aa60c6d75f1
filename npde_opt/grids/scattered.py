"""Arrays [i, j, k] of which every rank holds the box of a layout, and masks of cells.

`at` gives any product of index arrays, each rank what it asks for; that is how masks and numbers of
unknowns are read beside a rank's own box, from coarser grids, and in other boxes.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
from mpi4py import MPI

from npde_opt import reductions
from npde_opt.grids.layout import Layout
from npde_opt.grids.posted import Posted

Cells = Sequence[np.ndarray]
"""One 1-D index array an axis: all their combinations."""


class Scattered:
    """Args:
    owned: the values of this rank's box [i, j, k].
    """

    def __init__(self, comm: MPI.Intracomm, layout: Layout, owned: np.ndarray):
        self.comm, self.layout, self.owned = comm, layout, owned

    @classmethod
    def of(cls, comm: MPI.Intracomm, layout: Layout, whole: np.ndarray) -> Scattered:
        """The boxes of an array that every rank has."""
        return cls(comm, layout, np.asfortranarray(whole[layout.box]))

    @property
    def shape(self) -> tuple[int, ...]:
        return self.layout.shape

    def at(self, cells: Cells) -> np.ndarray:
        """The values at all combinations of indices, which may repeat; each rank may ask for
        others, or for none. Collective."""
        if self.layout.rank_count == 1:
            return np.asfortranarray(self.owned[np.ix_(*cells)])
        wanted = _by_owner(self.layout, cells)
        sent: list[Cells | None] = [None] * self.comm.size
        for rank, (_, local) in wanted.items():
            sent[rank] = local
        asked = self.comm.alltoall(sent)
        parts = [None if c is None else self.owned[np.ix_(*c)] for c in asked]
        found = self.comm.alltoall(parts)
        shape = [len(c) for c in cells]
        out = np.empty(shape, self.owned.dtype, order="F")
        for rank, (places, _) in wanted.items():
            out[np.ix_(*places)] = found[rank]
        return out

    def whole(self) -> np.ndarray:
        """All of it on every rank: for what is small, or has no other way. Collective."""
        return self.at([np.arange(n) for n in self.shape])


def _by_owner(
    layout: Layout, cells: Cells
) -> dict[int, tuple[list[np.ndarray], list[np.ndarray]]]:
    """By rank that owns some of the cells: where they are in the index arrays, and in its box."""
    found: dict[int, tuple[list[np.ndarray], list[np.ndarray]]] = {0: ([], [])}
    stride = 1
    for counts, index in zip(layout.counts, cells, strict=True):
        ends = np.cumsum(counts)
        owner = np.searchsorted(ends, index, side="right")
        parts = [(int(p), np.flatnonzero(owner == p)) for p in np.unique(owner)]
        found = {
            rank + p * stride: (
                [*places, at],
                [*local, np.asarray(index)[at] - (ends[p] - counts[p])],
            )
            for rank, (places, local) in found.items()
            for p, at in parts
        }
        stride *= len(counts)
    return found


def owners(layout: Layout, cells: Cells) -> tuple[np.ndarray, list[np.ndarray]]:
    """The ranks that own cells (n,), given by one index array an axis, and where these are in
    their boxes."""
    rank, stride = np.zeros(len(cells[0]), int), 1
    local = []
    for counts, index in zip(layout.counts, cells, strict=True):
        ends = np.cumsum(counts)
        p = np.searchsorted(ends, index, side="right")
        rank += p * stride
        stride *= len(counts)
        local.append(np.asarray(index) - (ends - counts)[p])
    return rank, local


class Mask(Scattered):
    """Which cells are active (bool)."""

    @cached_property
    def local_size(self) -> int:
        """Number of owned active cells."""
        return int(np.count_nonzero(self.owned))

    @classmethod
    def alone(cls, whole: np.ndarray) -> Mask:
        """Of an array that this rank has, for itself."""
        layout = Layout(tuple((n,) for n in whole.shape), 0)
        return cls(MPI.COMM_SELF, layout, np.asfortranarray(whole, bool)).counted()

    def listed(self, cells: Cells) -> np.ndarray:
        """Whether cells (n,) of the grid, given by one index array an axis, are active; each rank
        may ask for others. Collective."""
        if self.layout.rank_count == 1:
            return np.asarray(self.owned[tuple(cells)])
        rank, local = owners(self.layout, cells)
        posted = Posted(self.comm, rank)
        asked = posted.there(np.stack(local, axis=1))
        return posted.back(self.owned[tuple(asked.T)])

    def counted(self) -> Mask:
        """The mask, with the number of all active cells known. Collective."""
        self.size = int(reductions.total(self.comm, float(self.local_size)))
        return self


def in_boxes(mask: Mask, layout: Layout) -> Mask:
    """The mask in the boxes of a layout. Collective."""
    if mask.layout == layout:
        return mask
    return Mask(mask.comm, layout, mask.at(layout.owned())).counted()


def halved(mask: Mask, axes: Sequence[bool]) -> Mask:
    """Of cells merged in pairs along these axes: active where any of their children is.
    Collective."""
    for axis, halve in enumerate(axes):
        if halve:
            mask = _halved(mask, axis)
    return mask


def _halved(mask: Mask, axis: int) -> Mask:
    coarse = mask.layout.coarsened([d == axis for d in range(mask.layout.dim)])
    first = 2 * coarse.owned()[axis]
    last = np.minimum(first + 1, mask.shape[axis] - 1)
    cells = mask.layout.owned()
    cells[axis] = np.concatenate([first, last])
    lower, upper = np.split(mask.at(cells), 2, axis=axis)
    return Mask(mask.comm, coarse, np.asfortranarray(lower | upper)).counted()

"""Which rank owns which box of a structured grid, and the global index of any cell.

Ranks form a px x py x pz grid (x fastest), each owns a box, numbered x fastest inside: PETSc's DMDA
ordering. Boxes may be empty, which DMDA itself does not allow: coarse multigrid levels need that.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from mpi4py import MPI
from petsc4py import PETSc

from npde_opt import traffic


@dataclass(frozen=True)
class Layout:
    """Ownership: `counts[d][p]` cells along axis d for the p-th rank of that axis. Sizes are
    computed once."""

    counts: tuple[tuple[int, ...], ...]
    rank: int

    @functools.cached_property
    def dim(self) -> int:
        return len(self.counts)

    @functools.cached_property
    def shape(self) -> tuple[int, ...]:
        return tuple(sum(c) for c in self.counts)

    @functools.cached_property
    def size(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64))

    @functools.cached_property
    def processes(self) -> tuple[int, ...]:
        return tuple(len(c) for c in self.counts)

    @functools.cached_property
    def position(self) -> tuple[int, ...]:
        return tuple(
            int(p) for p in np.unravel_index(self.rank, self.processes, order="F")
        )

    @functools.cached_property
    def start(self) -> tuple[int, ...]:
        return tuple(
            sum(c[:p]) for c, p in zip(self.counts, self.position, strict=True)
        )

    @functools.cached_property
    def local_shape(self) -> tuple[int, ...]:
        return tuple(c[p] for c, p in zip(self.counts, self.position, strict=True))

    @functools.cached_property
    def local_size(self) -> int:
        return int(np.prod(self.local_shape, dtype=np.int64))

    @property
    def box(self) -> tuple[slice, ...]:
        """The owned cells of the grid."""
        sides = zip(self.start, self.local_shape, strict=True)
        return tuple(slice(first, first + n) for first, n in sides)

    def owned(self) -> list[np.ndarray]:
        """Global indices of the owned cells along each axis."""
        return [
            np.arange(s, s + n)
            for s, n in zip(self.start, self.local_shape, strict=True)
        ]

    def owned_mesh(self) -> list[np.ndarray]:
        """Global indices of the owned cells along each axis, x fastest, one entry a cell."""
        return [g.ravel(order="F") for g in np.meshgrid(*self.owned(), indexing="ij")]

    def global_index(self, cells: list[np.ndarray]) -> np.ndarray:
        """PETSc's global index of cells given by one index array an axis (broadcast against each
        other).

        Indices outside the grid along any axis give -1, which COO assembly ignores.
        """
        if self.rank_count == 1:
            return self._index_on_one_rank(cells)
        boxes = [np.asarray(c) for c in self.counts]
        inside: np.ndarray | bool = True
        owner: list[np.ndarray] = []
        local: list[np.ndarray] = []
        for c, n, i in zip(boxes, self.shape, cells, strict=True):
            ends = np.cumsum(c)
            valid = (i >= 0) & (i < n)
            j = np.where(valid, i, 0)
            p = np.searchsorted(ends, j, side="right")
            inside, owner, local = (
                inside & valid,
                [*owner, p],
                [*local, j - (ends - c)[p]],
            )
        sizes = boxes[0]
        for c in boxes[1:]:
            sizes = np.multiply.outer(sizes, c)
        flat = sizes.ravel(order="F")
        starts = (np.cumsum(flat) - flat).reshape(sizes.shape, order="F")
        index = starts[tuple(owner)] if self.rank_count > 1 else 0
        stride: np.ndarray | int = 1
        for c, p, j in zip(boxes, owner, local, strict=True):
            index = index + j * stride
            stride = stride * c[p]
        return np.where(inside, index, -1).astype(PETSc.IntType)

    def _index_on_one_rank(self, cells: list[np.ndarray]) -> np.ndarray:
        index, inside, stride = np.zeros((), int), np.ones((), bool), 1
        for n, i in zip(self.shape, cells, strict=True):
            index = index + i * stride
            inside = inside & (i >= 0) & (i < n)
            stride *= n
        return np.where(inside, index, -1).astype(PETSc.IntType)

    def beside(self, axis: int, periodic: bool) -> tuple[int | None, int | None]:
        """The ranks that own the cells just below and above the box along an axis; None where
        there are none outside the grid or in the box. Ranks that own nothing along the axis are
        passed over."""
        known = self._beside
        if (axis, periodic) not in known:
            known[axis, periodic] = self._ranks_beside(axis, periodic)
        return known[axis, periodic]

    @functools.cached_property
    def _beside(self) -> dict[tuple[int, bool], tuple[int | None, int | None]]:
        return {}

    def _ranks_beside(self, axis: int, periodic: bool) -> tuple[int | None, int | None]:
        counts, at = self.counts[axis], self.position[axis]
        filled = [p for p, n in enumerate(counts) if n]
        if not counts[at] or (len(filled) == 1 and not periodic):
            return None, None
        stride, here = int(np.prod(self.processes[:axis], dtype=int)), filled.index(at)
        found = list[int | None]()
        for place in (here - 1, here + 1):
            there = periodic or 0 <= place < len(filled)
            p = filled[place % len(filled)]
            found.append(self.rank + (p - at) * stride if there else None)
        below, above = found
        return below, above

    @functools.cached_property
    def rank_count(self) -> int:
        return int(np.prod(self.processes))

    def coarsened(self, axes: list[bool]) -> Layout:
        """Cells 2I and 2I+1 merge into I along the chosen axes; the owner of cell 2I owns I."""
        counts = []
        for c, halve in zip(self.counts, axes, strict=True):
            ends = [0, *np.cumsum(c).tolist()]
            counts.append(
                tuple(
                    (b + 1) // 2 - (a + 1) // 2
                    for a, b in zip(ends, ends[1:], strict=False)
                )
                if halve
                else c
            )
        return Layout(tuple(counts), self.rank)


def neighbours(
    values: np.ndarray, layout: Layout, axis: int, periodic: bool, comm: MPI.Intracomm
) -> tuple[np.ndarray, np.ndarray]:
    """The layers just below and above the owned box along an axis, of owned arrays (k, ..., n_y,
    n_x); 0 outside the grid. Ranks that own nothing along the axis are passed over. Collective."""
    before = (slice(None),) * (values.ndim - 1 - axis)
    first, last = values[(*before, slice(1))], values[(*before, slice(-1, None))]
    ranks = layout.beside(axis, periodic)
    found, requests = list[np.ndarray](), list[MPI.Request]()
    for side, (rank, given) in enumerate(zip(ranks, (first, last), strict=True)):
        if rank is None:
            found.append(np.zeros_like(given))
            continue
        got, own = np.empty_like(given, order="C"), np.ascontiguousarray(given)
        traffic.sent(own)
        traffic.taken(got)
        # What goes up comes from below.
        requests.append(comm.Irecv(got, rank, 1 - side))
        requests.append(comm.Isend(own, rank, side))
        found.append(got)
    MPI.Request.Waitall(requests)
    below, above = found
    return below, above


class Layers:
    """The layers just below and above the owned box along an axis, as `neighbours` gives them, of
    one array (..., n_y, n_x) after another: messages are under way while others work.

    Args:
        periodic: whether the axis is.
        each: of arrays that have further axes first, their sizes.
    """

    def __init__(
        self,
        layout: Layout,
        axis: int,
        periodic: bool,
        comm: MPI.Intracomm,
        each: tuple[int, ...] = (),
    ):
        self.axis, self._comm = axis, comm
        before = (slice(None),) * (len(each) + layout.dim - 1 - axis)
        self.ends = (*before, slice(1)), (*before, slice(-1, None))
        """The first and the last owned layer."""
        self._ranks = layout.beside(axis, periodic)
        shape = np.empty((*each, *layout.local_shape[::-1]))[self.ends[0]].shape
        self._sent = [np.empty(shape) for _ in self._ranks]
        self._found = np.zeros(shape), np.zeros(shape)
        self._requests = list[MPI.Request]()

    def post(self, values: np.ndarray) -> None:
        """Sends the ends of owned values. Collective."""
        for side, rank in enumerate(self._ranks):
            if rank is None:
                continue
            got, own = self._found[side], self._sent[side]
            np.copyto(own, values[self.ends[side]])
            traffic.sent(own)
            traffic.taken(got)
            # What goes up comes from below.
            up, down = 2 * self.axis + side, 2 * self.axis + 1 - side
            self._requests.append(self._comm.Irecv(got, rank, down))
            self._requests.append(self._comm.Isend(own, rank, up))

    def finish(self) -> tuple[np.ndarray, np.ndarray]:
        """Those below and above, until the next ones are sent; 0 outside the grid. Collective."""
        MPI.Request.Waitall(self._requests)
        self._requests.clear()
        return self._found

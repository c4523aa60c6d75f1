"""y = W x along one axis of boxes that lie on several ranks, W having a few entries a row, the same
on all lines of the axis; and W^T.

What a rank's rows need of others' cells comes in one message from each of them, and goes back, as
what is to be added, for W^T. Every rank knows W, and so who needs what.
"""

from __future__ import annotations

import numpy as np
from mpi4py import MPI
from petsc4py import PETSc

from npde_opt import traffic
from npde_opt.grids.layout import Layout
from npde_opt.machine_code import Kept

ALONG = Kept("npde_opt.operators.line_loops", "along")
GIVEN, FOUND = 5, 7
"""Arguments of it."""


class LineProduct:
    """W between cells of two layouts that differ along one axis, as PETSc's Mat is used: its
    methods are collective.

    Args:
        given, wanted: of x and y, with the same processes.
        cells, weights: [cell of y, entry] of the whole axis: cells of x and weights, no cell twice
            in a row with weights that are not 0.
    """

    def __init__(
        self,
        comm: MPI.Intracomm,
        given: Layout,
        wanted: Layout,
        axis: int,
        cells: np.ndarray,
        weights: np.ndarray,
    ):
        self._comm, self._sizes = comm, (wanted.local_size, wanted.size)
        at = wanted.position[axis]
        stride = int(np.prod(wanted.processes[:axis], dtype=int))
        owned, rows = _ranges(given.counts[axis]), _ranges(wanted.counts[axis])
        first, last = owned[at]
        beside = list[np.ndarray]()
        self._takes, self._gives = (
            list[tuple[int, slice]](),
            list[tuple[int, list[int]]](),
        )
        """Of other ranks: which cells beside the own ones come from it, and which own ones it
        needs."""
        count, needed = 0, [_needed(cells[b:e], weights[b:e]) for b, e in rows]
        for other, (begin, end) in enumerate(owned):
            if other == at:
                continue
            rank = wanted.rank + (other - at) * stride
            taken = _within(needed[at], begin, end)
            if taken.size:
                beside.append(taken)
                self._takes.append((rank, slice(count, count + taken.size)))
                count += taken.size
            asked = _within(needed[other], first, last) - first
            if asked.size:
                self._gives.append((rank, asked.tolist()))
        columns = np.concatenate([np.arange(first, last), *beside])
        begin, end = rows[at]
        own = cells[begin:end], weights[begin:end]
        shapes = [_by_axis(layout.local_shape, axis) for layout in (given, wanted)]
        outer, _, inner = shapes[0]
        self._beside = np.zeros((count, outer, inner))
        self._parts = [np.empty((len(c), outer, inner)) for _, c in self._gives]
        self._x, self._y = shapes
        forward, backward = _rows(*own, columns)
        none = np.empty((0, outer, inner))
        x, y = (np.empty(shape) for shape in shapes)
        row, column = np.empty(end - begin), np.empty(columns.size)
        self._forward = ALONG.bound(*forward, column, row, x, self._beside, y, none)
        self._backward = ALONG.bound(*backward, row, column, y, none, x, self._beside)
        self._nothing = x, y

    def mult(self, x: PETSc.Vec, y: PETSc.Vec) -> None:
        """y = W x."""
        given = x.getArray(readonly=True).reshape(self._x)
        requests = list[MPI.Request]()
        for rank, there in self._takes:
            requests.append(self._take(self._beside[there], rank))
        for (rank, asked), part in zip(self._gives, self._parts, strict=True):
            for layer, cell in zip(part, asked, strict=True):
                layer[...] = given[:, cell]
            requests.append(self._give(part, rank))
        MPI.Request.Waitall(requests)
        self._forward.put(GIVEN, given)
        self._forward.put(FOUND, y.getArray().reshape(self._y))
        self._forward()
        self._forward.put(GIVEN, self._nothing[0])
        self._forward.put(FOUND, self._nothing[1])

    def many(self, rows: np.ndarray) -> np.ndarray:
        """W x of every row x (n, cells), on one rank."""
        given = np.ascontiguousarray(rows)
        found = np.empty((len(given), self._sizes[0]))
        for x, y in zip(given, found, strict=True):
            self._forward.put(GIVEN, x.reshape(self._x))
            self._forward.put(FOUND, y.reshape(self._y))
            self._forward()
        self._forward.put(GIVEN, self._nothing[0])
        self._forward.put(FOUND, self._nothing[1])
        return found

    def multTranspose(self, y: PETSc.Vec, x: PETSc.Vec) -> None:
        """x = W^T y."""
        found, requests = x.getArray().reshape(self._x), list[MPI.Request]()
        for (rank, _), part in zip(self._gives, self._parts, strict=True):
            requests.append(self._take(part, rank))
        self._backward.put(GIVEN, y.getArray(readonly=True).reshape(self._y))
        self._backward.put(FOUND, found)
        self._backward()
        self._backward.put(GIVEN, self._nothing[1])
        self._backward.put(FOUND, self._nothing[0])
        for rank, there in self._takes:
            requests.append(self._give(self._beside[there], rank))
        MPI.Request.Waitall(requests)
        for (_, asked), part in zip(self._gives, self._parts, strict=True):
            for layer, cell in zip(part, asked, strict=True):
                found[:, cell] += layer

    def _take(self, part: np.ndarray, rank: int) -> MPI.Request:
        traffic.taken(part)
        return self._comm.Irecv(part, rank)

    def _give(self, part: np.ndarray, rank: int) -> MPI.Request:
        traffic.sent(part)
        return self._comm.Isend(part, rank)

    def createVecLeft(self) -> PETSc.Vec:
        """A Vec for y."""
        vec = PETSc.Vec().create(self._comm)
        vec.setSizes(self._sizes)
        vec.setFromOptions()
        return vec

    def destroy(self) -> None:
        """It has nothing of PETSc's."""


def _ranges(counts: tuple[int, ...]) -> list[tuple[int, int]]:
    ends = np.cumsum(counts).tolist()
    return [(end - n, end) for end, n in zip(ends, counts, strict=True)]


def _needed(cells: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return np.unique(cells[weights != 0])


def _within(cells: np.ndarray, begin: int, end: int) -> np.ndarray:
    return cells[(cells >= begin) & (cells < end)]


def _by_axis(shape: tuple[int, ...], axis: int) -> tuple[int, int, int]:
    """Cells of the axes after one, of this one, and of those before."""
    before, after = shape[:axis], shape[axis + 1 :]
    return int(np.prod(after, dtype=int)), shape[axis], int(np.prod(before, dtype=int))


def _rows(
    cells: np.ndarray, weights: np.ndarray, columns: np.ndarray
) -> tuple[tuple[np.ndarray, ...], tuple[np.ndarray, ...]]:
    """Starts, columns and weights of the rows of W and of those of W^T.

    Args:
        columns: the cells of x that W's columns are, in their order.
    """
    order = np.argsort(columns, kind="stable")
    there, entries = np.nonzero(weights)
    found = order[np.searchsorted(columns, cells[there, entries], sorter=order)]
    values = weights[there, entries]
    back = np.argsort(found, kind="stable")
    both = []
    for rows, others, given, count in (
        (there, found, values, len(cells)),
        (found[back], there[back], values[back], columns.size),
    ):
        starts = np.append(0, np.cumsum(np.bincount(rows, minlength=count)))
        both.append((starts.astype(np.uint64), others.astype(np.uint64), given.copy()))
    forward, backward = both
    return forward, backward

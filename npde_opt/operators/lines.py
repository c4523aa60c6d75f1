"""y = W x along one axis of boxes that lie on several ranks, W having a few entries a row, the same
on all lines of the axis; and W^T.

What a rank's rows need of others' cells comes in one message from each of them, and goes back, as
what is to be added, for W^T. Every rank knows W, and so who needs what.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from mpi4py import MPI
from petsc4py import PETSc

from npde_opt import traffic
from npde_opt.grids.layout import Layout
from npde_opt.machine_code import Bound, Kept

ALONG = Kept("npde_opt.operators.line_loops", "along")
GIVEN, FOUND = 9, 11
"""Arguments of it."""
REPEATED = 32
"""Times that rows repeat themselves from which on they are found together."""
ENTRIES = 8
"""Of such rows, see line_loops.py."""

Box = tuple[int, int, int]
"""Cells of the axes after one, of this one, and of those before."""


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
        self._comm, self.size = comm, wanted.local_size
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
        self._beside = count
        self._shapes = [
            _by_axis(layout.local_shape, axis) for layout in (given, wanted)
        ]
        entries = cells[begin:end], weights[begin:end]
        self._matrices = _both(*entries, columns, self._shapes[0][2] == 1)
        """W and W^T."""
        self._loops = dict[int, _Loops]()
        """By how many rows."""

    def mult(self, x: PETSc.Vec, y: PETSc.Vec) -> None:
        """y = W x."""
        self.apply(x.getArray(readonly=True)[None], y.getArray()[None])

    def multTranspose(self, y: PETSc.Vec, x: PETSc.Vec) -> None:
        """x = W^T y."""
        self.transpose(y.getArray(readonly=True)[None], x.getArray()[None])

    def apply(self, rows: np.ndarray, found: np.ndarray) -> None:
        """W x of every row x (n, own cells), with one message for all."""
        loops, requests = self._of(len(rows)), list[MPI.Request]()
        given = rows.reshape(loops.shapes[0])
        for rank, there in self._takes:
            requests.append(self._take(loops.beside[there], rank))
        for (rank, asked), part in zip(self._gives, loops.parts, strict=True):
            for layer, cell in zip(part, asked, strict=True):
                layer[...] = given[:, cell]
            requests.append(self._give(part, rank))
        MPI.Request.Waitall(requests)
        loops.forward(given, found.reshape(loops.shapes[1]))

    def transpose(self, rows: np.ndarray, found: np.ndarray) -> None:
        """W^T y of every row y (n, own cells), with one message for all."""
        loops, requests = self._of(len(rows)), list[MPI.Request]()
        own = found.reshape(loops.shapes[0])
        for (rank, _), part in zip(self._gives, loops.parts, strict=True):
            requests.append(self._take(part, rank))
        loops.backward(rows.reshape(loops.shapes[1]), own)
        for rank, there in self._takes:
            requests.append(self._give(loops.beside[there], rank))
        MPI.Request.Waitall(requests)
        for (_, asked), part in zip(self._gives, loops.parts, strict=True):
            for layer, cell in zip(part, asked, strict=True):
                own[:, cell] += layer

    def _of(self, count: int) -> _Loops:
        """Loops over so many rows; of one row, and of the number of rows that was last."""
        if count not in self._loops:
            kept = {n: loops for n, loops in self._loops.items() if n == 1}
            gives = [len(asked) for _, asked in self._gives]
            made = _Loops(count, self._shapes, self._beside, gives, *self._matrices)
            self._loops = {**kept, count: made}
        return self._loops[count]

    def _take(self, part: np.ndarray, rank: int) -> MPI.Request:
        traffic.taken(part)
        return self._comm.Irecv(part, rank)

    def _give(self, part: np.ndarray, rank: int) -> MPI.Request:
        traffic.sent(part)
        return self._comm.Isend(part, rank)

    def destroy(self) -> None:
        """It has nothing of PETSc's."""


class Rows(NamedTuple):
    """A matrix: starts of its rows in `cells` and `weights`, and rows that repeat themselves, see
    line_loops.py; `step`: cells further."""

    starts: np.ndarray
    cells: np.ndarray
    weights: np.ndarray
    between: np.ndarray
    places: np.ndarray
    repeated: np.ndarray
    step: int

    def loop(self, work: Sequence[np.ndarray], *boxes: np.ndarray) -> Bound:
        """A call with work of the columns and of the rows, and what is given and found."""
        parts = np.zeros((self.step, -(-work[0].size // self.step)))
        return ALONG.bound(*self[:-1], parts, *work, *boxes)


class _Loops:
    """Calls of the compiled loop with W and W^T, and what they work on.

    Args:
        count: rows of an array, whose lines follow each other: to the loop they are those of one
            box.
        shapes: of one of them, x and y.
        beside: cells of others that W needs. gives: own ones that each of some ranks needs.
        W, back: the latter is W^T.
    """

    def __init__(
        self,
        count: int,
        shapes: Sequence[Box],
        beside: int,
        gives: Sequence[int],
        W: Rows,
        back: Rows,
    ):
        self.shapes = [(count * outer, n, inner) for outer, n, inner in shapes]
        (outer, cells, inner), (_, rows, _) = self.shapes
        self.beside = np.zeros((beside, outer, inner))
        self.parts = [np.empty((n, outer, inner)) for n in gives]
        none = np.empty((0, outer, inner))
        x, y = self._nothing = [np.empty(shape) for shape in self.shapes]
        column, row = np.zeros(cells + beside), np.zeros(rows)
        self._forward = W.loop((column, row), x, self.beside, y, none)
        self._backward = back.loop((row, column), y, none, x, self.beside)

    def forward(self, x: np.ndarray, y: np.ndarray) -> None:
        """y = W x, of what is own and beside."""
        self._call(self._forward, (x, y), self._nothing)

    def backward(self, y: np.ndarray, x: np.ndarray) -> None:
        """x = W^T y, of what is own and beside."""
        self._call(self._backward, (y, x), self._nothing[::-1])

    def _call(
        self, loop: Bound, arrays: Sequence[np.ndarray], nothing: Sequence[np.ndarray]
    ) -> None:
        for put in (arrays, nothing):
            # Arrays of others are not kept.
            loop.put(GIVEN, put[0])
            loop.put(FOUND, put[1])
            if put is arrays:
                loop()


def _ranges(counts: tuple[int, ...]) -> list[tuple[int, int]]:
    ends = np.cumsum(counts).tolist()
    return [(end - n, end) for end, n in zip(ends, counts, strict=True)]


def _needed(cells: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return np.unique(cells[weights != 0])


def _within(cells: np.ndarray, begin: int, end: int) -> np.ndarray:
    return cells[(cells >= begin) & (cells < end)]


def _by_axis(shape: tuple[int, ...], axis: int) -> Box:
    before, after = shape[:axis], shape[axis + 1 :]
    return int(np.prod(after, dtype=int)), shape[axis], int(np.prod(before, dtype=int))


def _both(
    cells: np.ndarray, weights: np.ndarray, columns: np.ndarray, lines: bool
) -> tuple[Rows, Rows]:
    """W and W^T.

    Args:
        columns: the cells of x that W's columns are, in their order.
        lines: whether cells along the axis follow each other in memory.
    """
    order = np.argsort(columns, kind="stable")
    there, entries = np.nonzero(weights)
    found = order[np.searchsorted(columns, cells[there, entries], sorter=order)]
    values = weights[there, entries]
    back = np.argsort(found, kind="stable")
    return (
        _rows(there, found, values, len(cells), lines),
        _rows(found[back], there[back], values[back], columns.size, lines),
    )


def _rows(
    rows: np.ndarray, cells: np.ndarray, weights: np.ndarray, count: int, lines: bool
) -> Rows:
    """From entries in the order of the rows."""
    starts = np.append(0, np.cumsum(np.bincount(rows, minlength=count)))
    found = max(
        (_repeated(starts, cells, weights, step) for step in (1, 2) if lines),
        key=lambda repeated: repeated.weights.shape[1],
        default=NONE,
    )
    return Rows(
        starts.astype(np.uint64), cells.astype(np.uint64), weights.copy(), *found
    )


class Alike(NamedTuple):
    """Rows that repeat themselves: the first of them and the first after them, cells of the first
    row, or two, and weights [entry, repetition]; cells further with each repetition."""

    between: np.ndarray
    places: np.ndarray
    weights: np.ndarray
    step: int


NONE = Alike(np.zeros(2, int), np.zeros(0, int), np.zeros((ENTRIES, 0)), 1)


def _repeated(
    starts: np.ndarray, cells: np.ndarray, weights: np.ndarray, step: int
) -> Alike:
    """The longest run of rows whose cells are those of the row before, 2 further, or a step of 1
    further than those of the row before that."""
    many, lengths = 3 - step, np.diff(starts)
    n, count = int(lengths.max(initial=0)), lengths.size
    whole = lengths == n
    table, values = np.zeros((count, n), int), np.zeros((count, n))
    table[whole] = cells[np.repeat(whole, lengths)].reshape(-1, n)
    values[whole] = weights[np.repeat(whole, lengths)].reshape(-1, n)
    further = (table[many:] - table[:-many] == step).all(axis=1)
    alike = whole[many:] & whole[:-many] & further
    ends = np.flatnonzero(np.diff(np.concatenate([[0], alike, [0]])))
    runs = np.diff(ends)[::2]
    longest = int(np.argmax(runs)) if runs.size else 0
    times = (int(runs[longest]) + many) // many if runs.size else 0
    room = ENTRIES // many
    if times < REPEATED or n > room:
        return NONE
    first = int(ends[2 * longest])
    last = first + many * times
    # Where a row has fewer entries, others weigh nothing.
    places = np.pad(table[first : first + many], ((0, 0), (0, room - n)), "edge")
    padded = np.pad(values[first:last], ((0, 0), (0, room - n)))
    by_entry = np.ascontiguousarray(padded.reshape(times, ENTRIES).T)
    return Alike(np.array([first, last]), places.ravel(), by_entry, step)

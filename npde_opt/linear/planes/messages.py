"""Messages between ranks that are made once and started again and again by compiled loops
(message_loops.py):

    phase     cells of a field -> buffers,   start all, wait for all,   buffers -> cells of a field

What a phase sends and takes is as in boxes.py (ghosts) and gathering.py (groups of ranks), and so
are its tags: ranks that run a cycle in one call and ranks that go leg by leg understand each other.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import cache

import numpy as np
from mpi4py import MPI

from npde_opt import traffic
from npde_opt.linear.planes.boxes import Box, Index
from npde_opt.linear.planes.gathering import TAG, Gathering
from npde_opt.linear.planes.levels import SINGLE, Shape
from npde_opt.linear.planes.tables import PHASE, SIDE
from npde_opt.machine_code import address_of

Phases = tuple[int, int]
"""The first of some, and the one behind the last."""
Field = tuple[Shape, np.ndarray]


@cache
def calls() -> tuple[int, int, int] | None:
    """Addresses of MPI_Startall, MPI_Waitall and MPI_Allreduce in the MPI that mpi4py uses; None
    where they are not found there."""
    try:
        library = ctypes.CDLL(MPI.__file__)
        found = library.MPI_Startall, library.MPI_Waitall, library.MPI_Allreduce
    except (OSError, AttributeError, TypeError):
        return None
    start, wait, add = (ctypes.cast(f, ctypes.c_void_p).value for f in found)
    return (start, wait, add) if start and wait and add else None


def sums(comm: MPI.Intracomm) -> np.ndarray:
    """What a loop needs to sum doubles over ranks, see tables.py; zeros where there is one."""
    addresses = calls()
    if comm.size == 1 or addresses is None:
        return np.zeros(4, np.int64)
    handles = [MPI._handleof(of) for of in (MPI.DOUBLE, MPI.SUM, comm)]
    return np.array([addresses[2], *handles], np.uint64).astype(np.int64)


class Requests:
    """Persistent ones, for a loop: an array of MPI's handles, and room for as many statuses."""

    def __init__(self, kept: Sequence[MPI.Prequest]):
        self._kept = kept
        number = np.int64 if MPI._sizeof(MPI.Request) == 8 else np.int32
        found = [MPI._handleof(request) for request in kept]
        self.handles = np.array(found, np.uint64).astype(number)
        size = max(len(kept), 1) * MPI._sizeof(MPI.Status)
        self.statuses = np.zeros(size, np.uint8)

    def __del__(self) -> None:
        # None is under way between two calls of a loop.
        if not MPI.Is_finalized():
            for request in self._kept:
                request.Free()


class Messages:
    """Phases of a rank, in two tables.

    Args:
        precision: of all fields.

    Attributes:
        sent, taken: messages of all phases, and bytes in them.
    """

    def __init__(self, precision: type[np.floating] | type[float] = SINGLE) -> None:
        self._precision = precision
        self._phases, self._sides = list[list[int]](), list[list[int]]()
        # The tables have no more than their addresses.
        self._kept: list[object] = []
        self.sent, self.taken = (0, 0), (0, 0)

    @property
    def tables(self) -> tuple[np.ndarray, np.ndarray]:
        """Phases and sides, see tables.py."""
        return (
            np.array(self._phases, np.int64).reshape(-1, PHASE),
            np.array(self._sides, np.int64).reshape(-1, SIDE),
        )

    def ghosts(self, box: Box, shape: Shape, field: np.ndarray) -> Phases:
        """Those that give a field its ghosts. Collective."""
        first = len(self._phases)
        for phase in box.phases:
            requests, packed, put = list[MPI.Prequest](), [], []
            for rank, sent, out, received, into in phase:
                given, taken = self._buffer(shape, out), self._buffer(shape, into)
                requests.append(self._take(box.comm, taken, rank, received))
                requests.append(self._send(box.comm, given, rank, sent))
                packed.append((out, given))
                put.append((into, taken))
            self._add(requests, (shape, field), packed, (shape, field), put)
        return first, len(self._phases)

    def gathered(
        self, gathering: Gathering, box: Box, source: Field, target: Field | None
    ) -> Phases:
        """Own cells of a field to the rank that has the group.

        Args:
            target: the group's field, on the rank that has it.
        """
        comm, shape = box.comm, source[0]
        given = self._buffer(shape, box.inner)
        packed = [(box.inner, given)]
        if target is None or gathering.box is None:
            requests = [self._send(comm, given, gathering.leader, TAG)]
            return self._add(requests, source, packed, source, [])
        requests, put = [], []
        for rank, part in gathering.members:
            taken = given
            if rank != gathering.leader:
                taken = self._buffer(target[0], _within(gathering.box, part))
                requests.append(self._take(comm, taken, rank, TAG))
            put.append((_within(gathering.box, part), taken))
        return self._add(requests, source, packed, target, put)

    def scattered(
        self, gathering: Gathering, box: Box, source: Field | None, target: Field
    ) -> Phases:
        """Back to the own cells of a field.

        Args:
            source: the group's field, on the rank that has it.
        """
        comm, shape = box.comm, target[0]
        taken = self._buffer(shape, box.inner)
        put = [(box.inner, taken)]
        if source is None or gathering.box is None:
            requests = [self._take(comm, taken, gathering.leader, TAG + 1)]
            return self._add(requests, target, [], target, put)
        requests, packed = [], []
        for rank, part in gathering.members:
            given = taken
            if rank != gathering.leader:
                given = self._buffer(source[0], _within(gathering.box, part))
                requests.append(self._send(comm, given, rank, TAG + 1))
            packed.append((_within(gathering.box, part), given))
        return self._add(requests, source, packed, target, put)

    def count(self, times: int = 1) -> None:
        """For PETSc's log: all phases ran so often."""
        many, size = self.sent
        taken, taken_size = self.taken
        sent = times * many, times * size
        traffic.many(sent, (times * taken, times * taken_size))

    def _send(
        self, comm: MPI.Intracomm, values: np.ndarray, rank: int, tag: int
    ) -> MPI.Prequest:
        self.sent = self.sent[0] + 1, self.sent[1] + values.nbytes
        return comm.Send_init(values, rank, tag)

    def _take(
        self, comm: MPI.Intracomm, values: np.ndarray, rank: int, tag: int
    ) -> MPI.Prequest:
        self.taken = self.taken[0] + 1, self.taken[1] + values.nbytes
        return comm.Recv_init(values, rank, tag)

    def _add(
        self,
        requests: Sequence[MPI.Prequest],
        source: Field,
        packed: Sequence[tuple[Index, np.ndarray]],
        target: Field,
        put: Sequence[tuple[Index, np.ndarray]],
    ) -> Phases:
        """A phase, from cells of the source to cells of the target, both [k, j, i] with ghosts."""
        kept = Requests(requests)
        self._kept.append(kept)
        of_requests = address_of(kept.handles), len(requests), address_of(kept.statuses)
        sides = *self._add_sides(source[0], packed), *self._add_sides(target[0], put)
        fields = *self._field(source[1]), *self._field(target[1])
        self._phases.append([*of_requests, *sides, *fields])
        return len(self._phases) - 1, len(self._phases)

    def _add_sides(
        self, shape: Shape, parts: Sequence[tuple[Index, np.ndarray]]
    ) -> tuple[int, int]:
        first = len(self._sides)
        for cells, buffer in parts:
            places = shape.view(np.arange(shape.size))[cells]
            # Cells along x follow each other.
            starts = np.ascontiguousarray(places[..., 0].ravel(), np.int64)
            self._kept += [starts, buffer]
            length = places.shape[-1]
            runs = address_of(starts), starts.size, length
            self._sides.append([*runs, address_of(buffer)])
        return first, len(self._sides)

    def _buffer(self, shape: Shape, cells: Index) -> np.ndarray:
        """For the cells [k, j, i] of a part."""
        box = shape.cells[::-1]
        along = zip(cells, box, strict=True)
        size = int(np.prod([len(range(*part.indices(n))) for part, n in along]))
        return np.zeros(size, self._precision)

    def _field(self, field: np.ndarray) -> tuple[int, int]:
        # The loops believe what the table says.
        if field.dtype != self._precision or not field.flags.c_contiguous:
            raise TypeError(f"{field.dtype}, contiguous: {field.flags.c_contiguous}")
        self._kept.append(field)
        return address_of(field), field.size


def _within(box: Box, part: Index) -> Index:
    """A part of the owned cells of a box, among those with ghosts."""
    found = []
    for own, inside in zip(part, box.inner, strict=True):
        found.append(slice(inside.start + own.start, inside.start + own.stop))
    return tuple(found)

"""Vectors of parameters on the disk, in natural order, so that any number of ranks reads them.

A part of a vector is what PETSc calls a binary Vec: [1211214, n] as big-endian integers, then n
big-endian doubles. Rank 0 alone touches the disk. It keeps what fails there until all ranks meet in
`close`: nothing that the disk refuses can leave another rank waiting for a message. Fields pass
through rank 0 in slabs of a bounded size.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import BinaryIO, Protocol

import numpy as np
from mpi4py import MPI
from petsc4py import PETSc

from npde_opt.aliases import FilePath
from npde_opt.errors import InputError, collective
from npde_opt.io.files import disk

CLASS_ID = 1211214
"""PETSc's VEC_FILE_CLASSID."""

HEADER = np.dtype(PETSc.IntType).newbyteorder(">")
VALUE = np.dtype(">f8")

SLAB = 4_000_000
"""Values of a field that rank 0 holds at once, or one plane of cells where that has more."""

TAG = 23


class Boxed(Protocol):
    """A box of a structured array that this rank owns: a Grid is one."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def size(self) -> int: ...
    @property
    def local_slice(self) -> tuple[slice, ...]: ...
    @property
    def local_shape(self) -> tuple[int, ...]: ...


class Sink(Protocol):
    """Takes the parts of a vector one after the other; see VectorWriter."""

    def field(self, grid: Boxed, owned: np.ndarray) -> None: ...


class Source(Protocol):
    """Gives the parts of a vector in the order in which they were written; see VectorReader."""

    def field(self, grid: Boxed) -> np.ndarray: ...


class _OnRoot:
    """A file that rank 0 has open, and the first thing that failed there."""

    def __init__(self, path: FilePath, comm: MPI.Intracomm, mode: str, field: str):
        self.path, self.comm, self.field_name = os.fspath(path), comm, field
        self._failure: Exception | None = None
        self._file: BinaryIO | None = None
        if comm.rank == 0:
            self._attempt(lambda: self._open(mode))

    def _open(self, mode: str) -> None:
        self._file = open(self.path, mode)  # type: ignore[assignment]  # noqa: SIM115

    def _attempt(self, work: Callable[[], None]) -> None:
        """Local work on rank 0; after a failure nothing more is tried."""
        if self._failure is not None:
            return
        try:
            work()
        except Exception as error:
            self._failure = error

    def _finish(self) -> None:
        """Flushes and closes; what was written is on the disk afterwards."""
        if self._file is None:
            return
        try:
            if self._file.writable():
                self._file.flush()
                os.fsync(self._file.fileno())
        finally:
            self._file.close()

    def close(self) -> None:
        """Ends the file. Collective; raises InputError on every rank for what the disk refused on
        rank 0."""
        if self.comm.rank == 0:
            self._attempt(self._finish)
            if (
                self._failure is not None
                and self._file is not None
                and not self._file.closed
            ):
                self._abandon()
        with collective(self.comm), disk(self.field_name, self.path):
            if self._failure is not None:
                # Its traceback would keep vectors alive on this rank only.
                raise self._failure.with_traceback(None)

    def _abandon(self) -> None:
        """Closes a file of which something failed before; closing may fail again for the same
        cause."""
        assert self._file is not None
        try:
            self._file.close()
        except OSError:
            self._file = None


class VectorWriter(_OnRoot):
    """Writes the parts of one vector to one file. Every method is collective; errors come from
    `close`."""

    def __init__(self, path: FilePath, comm: MPI.Intracomm):
        super().__init__(path, comm, "wb", "checkpoint")

    def field(self, grid: Boxed, owned: np.ndarray) -> None:
        """An array from its owned values [i, j, k]."""
        self._head(grid.size)
        boxes = self.comm.allgather(grid.local_slice)
        for first, last in slabs(grid.shape):
            slab = gather_slab(self.comm, boxes, grid.shape, owned, (first, last))
            if slab is not None:
                self._put(slab.ravel(order="F"))

    def _head(self, count: int) -> None:
        if self.comm.rank == 0:
            head = np.array([CLASS_ID, count], dtype=HEADER)
            self._attempt(lambda: self._write(head))

    def _put(self, values: np.ndarray) -> None:
        self._attempt(lambda: self._write(values.astype(VALUE)))

    def _write(self, values: np.ndarray) -> None:
        assert self._file is not None
        self._file.write(values.tobytes())


class VectorReader(_OnRoot):
    """Reads the parts of one vector. Every method is collective; after a failure it gives zeros
    until `close` raises."""

    def __init__(self, path: FilePath, comm: MPI.Intracomm):
        super().__init__(path, comm, "rb", "--resume")

    def field(self, grid: Boxed) -> np.ndarray:
        """The owned values [i, j, k] of an array."""
        self._head(grid.size)
        boxes = self.comm.allgather(grid.local_slice)
        out = np.zeros(grid.local_shape, order="F")
        for first, last in slabs(grid.shape):
            shape = (*grid.shape[:-1], last - first)
            slab = None
            if self.comm.rank == 0:
                slab = self._take(int(np.prod(shape, dtype=np.int64))).reshape(
                    shape, order="F"
                )
            scatter_slab(self.comm, boxes, slab, out, (first, last))
        return out

    def _head(self, count: int) -> None:
        if self.comm.rank == 0:
            self._attempt(lambda: self._expect(count))

    def _expect(self, count: int) -> None:
        found = self._read(2, HEADER)
        if tuple(found) != (CLASS_ID, count):
            raise InputError(
                f"--resume: {self.path}",
                f"a part of {found[1]} values",
                f"{count} values, as this case has",
            )

    def _take(self, count: int) -> np.ndarray:
        """The next values, zeros where they cannot be read. On rank 0."""
        out = np.zeros(count)

        def work() -> None:
            out[:] = self._read(count, VALUE)

        self._attempt(work)
        return out

    def _read(self, count: int, kind: np.dtype) -> np.ndarray:
        assert self._file is not None
        content = self._file.read(count * kind.itemsize)
        if len(content) < count * kind.itemsize:
            raise InputError(
                f"--resume: {self.path}",
                "a file that was cut",
                "a checkpoint as it was written",
            )
        return np.frombuffer(content, kind)


Box = tuple[slice, ...]
Range = tuple[int, int]


def slabs(shape: tuple[int, ...]) -> Iterator[Range]:
    """Ranges [first, last) of planes along the last axis, of at most SLAB values, or of one
    plane."""
    plane = int(np.prod(shape[:-1], dtype=np.int64))
    planes = max(1, SLAB // max(plane, 1))
    for first in range(0, shape[-1], planes):
        yield first, min(first + planes, shape[-1])


def _common(box: Box, planes: Range) -> Range:
    """The planes of a slab that a box has."""
    first, last = max(box[-1].start, planes[0]), min(box[-1].stop, planes[1])
    return first, max(first, last)


def _shares(box: Box, planes: Range) -> bool:
    first, last = _common(box, planes)
    return last > first and all(s.stop > s.start for s in box)


def _within(box: Box, planes: Range) -> Box:
    """The place of a box's part in the slab."""
    first, last = _common(box, planes)
    return (*box[:-1], slice(first - planes[0], last - planes[0]))


def _own(box: Box, planes: Range) -> Box:
    """The place of the slab's part in a box."""
    first, last = _common(box, planes)
    whole = (slice(None),) * (len(box) - 1)
    return (*whole, slice(first - box[-1].start, last - box[-1].start))


def gather_slab(
    comm: MPI.Intracomm,
    boxes: list[Box],
    shape: tuple[int, ...],
    owned: np.ndarray,
    planes: Range,
) -> np.ndarray | None:
    """Planes of a field on rank 0, None elsewhere. Collective."""
    mine = boxes[comm.rank]
    part = np.asfortranarray(owned[_own(mine, planes)], dtype=float)
    if comm.rank != 0:
        if _shares(mine, planes):
            comm.Send(part.ravel(order="F"), dest=0, tag=TAG)
        return None
    slab = np.empty((*shape[:-1], planes[1] - planes[0]), order="F")
    for rank, box in enumerate(boxes):
        if not _shares(box, planes):
            continue
        place = _within(box, planes)
        if rank == 0:
            slab[place] = part
            continue
        piece = np.empty(tuple(s.stop - s.start for s in place), order="F")
        comm.Recv(piece.ravel(order="K"), source=rank, tag=TAG)
        slab[place] = piece
    return slab


def scatter_slab(
    comm: MPI.Intracomm,
    boxes: list[Box],
    slab: np.ndarray | None,
    out: np.ndarray,
    planes: Range,
) -> None:
    """Planes of a field from rank 0 into the owned values of all ranks. Collective."""
    mine = boxes[comm.rank]
    if slab is None:
        if _shares(mine, planes):
            piece = np.empty(out[_own(mine, planes)].shape, order="F")
            comm.Recv(piece.ravel(order="K"), source=0, tag=TAG)
            out[_own(mine, planes)] = piece
        return
    for rank, box in enumerate(boxes):
        if not _shares(box, planes):
            continue
        part = slab[_within(box, planes)]
        if rank == 0:
            out[_own(mine, planes)] = part
        else:
            comm.Send(part.ravel(order="F"), dest=rank, tag=TAG)

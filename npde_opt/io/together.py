"""One file that all ranks write at once, each its own boxes, by MPI-IO.

An array [c, i, j, k] lies in the file as on one rank, its first axis fastest, so that the bytes do
not depend on the number of ranks. The file gets its name when it is complete, or is not there.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import numpy as np
from mpi4py import MPI

from npde_opt.aliases import FilePath
from npde_opt.errors import collective
from npde_opt.io.files import beside, sync_folder

CODES = {
    MPI.ERR_NO_SPACE: errno.ENOSPC,
    MPI.ERR_QUOTA: errno.EDQUOT,
    MPI.ERR_ACCESS: errno.EACCES,
    MPI.ERR_READ_ONLY: errno.EROFS,
    MPI.ERR_NO_SUCH_FILE: errno.ENOENT,
}
"""What MPI says of a disk, in the operating system's terms."""


class Boxed(Protocol):
    """A structured array that is spread over ranks by boxes: a Grid is one."""

    @property
    def comm(self) -> MPI.Intracomm: ...
    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def start(self) -> tuple[int, ...]: ...
    @property
    def local_shape(self) -> tuple[int, ...]: ...


class SharedFile:
    """A file that is open on all ranks. What the disk refuses is kept until `check`, so that no
    rank leaves the others inside a collective write."""

    def __init__(self, comm: MPI.Intracomm, file: MPI.File):
        self.comm, self._file = comm, file
        self._failure: OSError | None = None

    def _attempt(self, work: Callable[[], None]) -> None:
        try:
            work()
        except MPI.Exception as error:
            self._failure = self._failure or told(error)

    def bytes(self, offset: int, content: bytes) -> None:
        """Writes what all ranks have alike, on rank 0."""
        if self.comm.rank == 0:
            status = MPI.Status()
            self._attempt(lambda: self._file.Write_at(offset, content, status))
            self._count(status, len(content))

    def boxes(self, offset: int, grid: Boxed, owned: np.ndarray) -> None:
        """Writes an array that begins at `offset`, from its owned values [i, j, k] or [c, i, j,
        k]. Collective."""
        lead = owned.shape[: owned.ndim - len(grid.shape)]
        content = np.ascontiguousarray(owned.T).view("u1").reshape(-1)
        # Bytes of a value are one more axis, the fastest one.
        whole = [owned.itemsize, *lead, *grid.shape]
        part = [owned.itemsize, *lead, *grid.local_shape]
        first = [0] * (1 + len(lead)) + list(grid.start)
        kind = MPI.BYTE
        if content.size:
            kind = MPI.BYTE.Create_subarray(whole, part, first, MPI.ORDER_F)
            kind.Commit()
        self._attempt(lambda: self._file.Set_view(offset, MPI.BYTE, kind))
        status = MPI.Status()
        self._attempt(lambda: self._file.Write_all(content, status))
        self._count(status, content.size)
        self._attempt(lambda: self._file.Set_view(0, MPI.BYTE, MPI.BYTE))
        if content.size:
            kind.Free()

    def _count(self, status: MPI.Status, wanted: int) -> None:
        """Not every MPI says where it has written less."""
        if self._failure is None and status.Get_count(MPI.BYTE) != wanted:
            self._failure = OSError(errno.EIO, "fewer bytes written than asked")

    def close(self) -> None:
        """What was written is on the disk afterwards. Collective."""
        self._attempt(self._file.Sync)
        self._attempt(self._file.Close)

    def check(self) -> None:
        """Raises OSError for what the disk refused this rank."""
        if self._failure is not None:
            raise self._failure


@contextlib.contextmanager
def whole_shared_file(
    path: FilePath, comm: MPI.Intracomm, size: int
) -> Iterator[SharedFile]:
    """A file of `size` bytes that replaces `path` when the block ends, and leaves it untouched
    where a rank cannot write. Collective; nothing inside the block may raise on one rank only.

    Raises:
        OSError: on all ranks, for what the disk refused one of them.
    """
    target = Path(path)
    temporary = Path(comm.bcast(os.fspath(beside(target)), root=0))
    try:
        with collective(comm):
            # MPI does not tell of a full disk everywhere: rank 0 takes the space beforehand.
            if comm.rank == 0:
                _reserve(temporary, size)
        with collective(comm):
            shared = SharedFile(comm, _opened(comm, temporary))
        yield shared
        shared.close()
        with collective(comm):
            shared.check()
        with collective(comm):
            if comm.rank == 0:
                os.replace(temporary, target)
                sync_folder(target.parent)
    except BaseException:
        if comm.rank == 0:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
        raise


def _reserve(path: Path, size: int) -> None:
    with open(path, "wb") as file:
        os.posix_fallocate(file.fileno(), 0, size)


def _opened(comm: MPI.Intracomm, path: Path) -> MPI.File:
    mode = MPI.MODE_WRONLY | MPI.MODE_CREATE
    try:
        return MPI.File.Open(comm, os.fspath(path), mode)
    except MPI.Exception as error:
        raise told(error) from error


def told(error: MPI.Exception) -> OSError:
    """What MPI says of a disk as the operating system would."""
    code = CODES.get(error.Get_error_class(), errno.EIO)
    said = os.strerror(code) if code != errno.EIO else error.Get_error_string()
    return OSError(code, said)

"""Rows of H and T that lie in files, read a block at a time: a rank sees its own rows only.

Files are pairs of `.npy` (H, T), or `.npz` that hold both. What lies in a file as it is in memory
is mapped, so that a block costs its own bytes; a compressed `.npz` is unpacked from its beginning
on, a block at a time, by each rank up to its last row.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from mpi4py import MPI
from numpy.lib import format as npy

from npde_opt import reductions
from npde_opt.aliases import FilePath
from npde_opt.errors import InputError, collective
from npde_opt.pseudoinverse.rows import ROWS, Rows
from npde_opt.pseudoinverse.settings import size

Pair = tuple[FilePath, FilePath]
LOCAL_HEADER, NAME_AND_EXTRA = 30, slice(26, 30)
"""Bytes of a member's header in a zip file, and where it says how long its two last parts are."""


class StoredRows:
    """Rows of several files, one file after the other; `for H, T in stored` gives this rank's own
    in blocks, as often as it is asked. Collective where it is made.

    Args:
        files: each a pair (H.npy, T.npy), or a .npz. H is (rows, n), T (rows, k) or (rows,).
        comm: each rank has an even share of all rows, one rank's after the other's.
        block: rows that are read at once.
        names: of H and T in a .npz.

    Attributes:
        features, targets: n and k. count: rows of all files. own: this rank's, from and to.

    Raises:
        InputError: for files that cannot be read or hold no such arrays of real numbers, files of
            other columns than the first, and where there are no rows; on all ranks.
    """

    def __init__(
        self,
        files: Sequence[FilePath | Pair],
        comm: MPI.Intracomm = MPI.COMM_SELF,
        block: int = ROWS,
        names: tuple[str, str] = ("H", "T"),
    ):
        self.block, self.comm = block, comm
        with collective(comm):
            size("block", block)
            self.files = [_opened(file, names) for file in files]
            self.features, self.targets = _columns(self.files)
            self.count = sum(H.rows for H, _ in self.files)
            if not self.count:
                told = f"{len(self.files)} files without rows"
                raise InputError("pseudoinverse: files", told, "at least one row")
        start, end = (self.count * r // comm.size for r in (comm.rank, comm.rank + 1))
        self.own = (start, end)

    def __iter__(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        return self.after(0)

    def after(self, count: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """The own blocks from number `count` on; what is before them is not read."""
        for H, T, start, end in self._shares():
            passed = min(count, math.ceil((end - start) / self.block))
            count, start = count - passed, min(start + passed * self.block, end)
            with (
                closing(H.blocks(start, end, self.block)) as features,
                closing(T.blocks(start, end, self.block)) as targets,
            ):
                yield from zip(features, targets, strict=True)

    def _shares(self) -> Iterator[tuple[_Array, _Array, int, int]]:
        """H and T of each file, and which of its rows are this rank's."""
        before = 0
        for H, T in self.files:
            start, end = (min(max(x - before, 0), H.rows) for x in self.own)
            before += H.rows
            if start < end:
                yield H, T, start, end

    def classes(self) -> int:
        """One more than the largest number in T, which has the class of each row; H is not read.
        Collective.

        Raises:
            InputError: for another T than one column of whole numbers from 0 on; on all ranks.
        """
        largest = -1
        with collective(self.comm):
            for _, T, start, end in self._shares():
                if T.columns != 1:
                    told = f"{T.columns} columns"
                    raise InputError(T.said, told, "one, the class of each row")
                with closing(T.blocks(start, end, self.block)) as labels:
                    largest = max(largest, *(_largest(T.said, own) for own in labels))
        return 1 + int(reductions.largest(self.comm, largest))

    def add_to(
        self, fit: Rows, checkpoint: FilePath | None = None, every: int = 10
    ) -> None:
        """Takes the own rows in, as `Rows.add_all`. Collective.

        Args:
            fit: with as many features and targets, on the same ranks.
            checkpoint: of this rank alone.

        Raises:
            InputError: as `Rows.add_all`, for other sizes, and for rows that are not finite; on all
                ranks.
        """
        with collective(fit.comm):
            if (self.features, self.targets) != (fit.features, fit.targets):
                told = f"{self.features} features and {self.targets} targets"
                allowed = f"{fit.features} and {fit.targets}, as were asked for"
                raise InputError("pseudoinverse: files", told, allowed)
            fit.add_all(self, checkpoint, every)


def _largest(said: str, labels: np.ndarray) -> int:
    """Of labels of classes."""
    wrong = labels[(labels < 0) | (labels != np.floor(labels))]
    if wrong.size:
        raise InputError(said, wrong[0], "classes, whole numbers from 0 on")
    return int(labels.max())


@dataclass(frozen=True)
class _Array:
    """An array of a file.

    Args:
        said: what a message calls it.
        mapped: its rows, where they can be; else `file` is a .npz and `member` is unpacked.
    """

    said: str
    rows: int
    columns: int
    mapped: np.ndarray | None
    file: Path
    member: str

    def blocks(
        self, start: int, end: int, block: int
    ) -> Generator[np.ndarray, None, None]:
        """Rows from `start` to `end`, finite numbers in double precision."""
        if self.mapped is not None:
            for at in range(start, end, block):
                yield self._checked(self.mapped[at : min(at + block, end)], at)
            return
        with zipfile.ZipFile(self.file) as zipped, zipped.open(self.member) as stream:
            shape, _, dtype = _head(stream)
            one = math.prod(shape[1:]) * dtype.itemsize
            stream.seek(stream.tell() + start * one)
            for at in range(start, end, block):
                count = min(block, end - at)
                content = stream.read(count * one)
                yield self._checked(np.frombuffer(content, dtype), at, count)

    def _checked(self, values: np.ndarray, at: int, count: int = -1) -> np.ndarray:
        found = np.array(values, float).reshape(count, self.columns)
        # Of what is finite the sum may overflow, but it is never finite with what is not.
        if not np.isfinite(found.sum()):
            wrong = ~np.isfinite(found).all(axis=1)
            if wrong.any():
                told = f"row {at + int(np.argmax(wrong))} is not finite"
                raise InputError(self.said, told, "finite numbers")
        return found


def _opened(file: FilePath | Pair, names: tuple[str, str]) -> tuple[_Array, _Array]:
    """H and T of a file, or of a pair."""
    try:
        if isinstance(file, tuple):
            H, T = (_of_npy(Path(one)) for one in file)
        else:
            H, T = (_of_npz(Path(file), name) for name in names)
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
        wanted = f"a pair of .npy, or a .npz with {names[0]} and {names[1]}"
        raise InputError("pseudoinverse: file", f"{file} ({error})", wanted) from error
    if H.rows != T.rows:
        raise InputError(T.said, f"{T.rows} rows", f"{H.rows} rows, as H has")
    return H, T


def _of_npy(path: Path) -> _Array:
    mapped = np.load(path, mmap_mode="r", allow_pickle=False)
    if not isinstance(mapped, np.ndarray):
        raise ValueError("not a .npy")
    return _array(str(path), mapped.shape, mapped.dtype, mapped, path, "")


def _of_npz(path: Path, name: str) -> _Array:
    member, said = f"{name}.npy", f"{path}: {name}"
    with zipfile.ZipFile(path) as zipped, zipped.open(member) as stream:
        entry = zipped.getinfo(member)
        shape, turned, dtype = _head(stream)
        head = stream.tell()
    if turned and entry.compress_type != zipfile.ZIP_STORED and len(shape) > 1:
        told = "a compressed array whose columns lie one after the other"
        raise InputError(said, told, "one whose rows do, or numpy.savez")
    mapped: np.ndarray | None = None
    if entry.compress_type == zipfile.ZIP_STORED and math.prod(shape) > 0:
        with open(path, "rb") as file:
            file.seek(entry.header_offset)
            lengths = np.frombuffer(file.read(LOCAL_HEADER)[NAME_AND_EXTRA], "<u2")
        offset = entry.header_offset + LOCAL_HEADER + int(lengths.sum()) + head
        order: Literal["C", "F"] = "F" if turned else "C"
        mapped = np.memmap(path, dtype, "r", offset, shape, order)
    return _array(said, shape, dtype, mapped, path, member)


def _head(stream: Any) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, whether columns lie one after the other, and numbers of an open .npy."""
    version = npy.read_magic(stream)
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, turned, dtype = read(stream)
    return shape, turned, dtype


def _array(
    said: str,
    shape: tuple[int, ...],
    dtype: np.dtype,
    mapped: np.ndarray | None,
    file: Path,
    member: str,
) -> _Array:
    if dtype.kind not in "fiub" or len(shape) not in (1, 2):
        told = f"{dtype} of shape {shape}"
        raise InputError(said, told, "real numbers (rows, columns)")
    columns = shape[1] if len(shape) == 2 else 1
    return _Array(said, shape[0], columns, mapped, file, member)


def _columns(files: Sequence[tuple[_Array, _Array]]) -> tuple[int, int]:
    """Of H and T, the same in all files."""
    if not files:
        raise InputError("pseudoinverse: files", "none", "at least one")
    first = files[0]
    for pair in files:
        for array, wanted in zip(pair, first, strict=True):
            if array.columns != wanted.columns or not array.columns:
                told = f"{array.columns} columns"
                allowed = f"{max(wanted.columns, 1)}, as {wanted.said} has"
                raise InputError(array.said, told, allowed)
    return first[0].columns, first[1].columns

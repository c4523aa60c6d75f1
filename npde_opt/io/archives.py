"""Arrays of NumPy's archives (.npz) and of MATLAB's files (.mat)."""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np

from npde_opt.errors import InputError
from npde_opt.io.gridded import Gridded
from npde_opt.io.sizes import check_size
from npde_opt.io.stored import Mapped, Stored, Streamed

LOCAL, LOCAL_NAMES = 30, struct.Struct("<HH")
"""Bytes of a member's own head in an archive, at whose end are the lengths of its name and of what
else is there."""
TOGETHER = 1 << 20
"""Bytes that are unpacked together."""


def open_npz(path: Path) -> dict[str, Callable[[], Gridded]]:
    """Arrays of an archive that have not been read."""
    for member in _members(path):
        check_size(f"{path}, array {member.filename}", "unpacked", member.file_size)
    archive = np.load(path, allow_pickle=False)

    def read(name: str) -> Gridded:
        return Gridded(archive[name])

    return {name: partial(read, name) for name in archive.files}


def stored_npz(path: Path) -> dict[str, Callable[[], Stored | None]]:
    """Their parts: views of the members that are not packed, streams of the others."""
    return {
        m.filename.removesuffix(".npy"): partial(_member, path, m)
        for m in _members(path)
    }


def _members(path: Path) -> list[zipfile.ZipInfo]:
    if not zipfile.is_zipfile(path):
        raise ValueError("it is no zip archive")
    with zipfile.ZipFile(path) as archive:
        return archive.infolist()


def _member(path: Path, member: zipfile.ZipInfo) -> Stored | None:
    with zipfile.ZipFile(path) as archive, archive.open(member) as file:
        shape, rising, dtype = _head(file)
        begin = file.tell()
    if dtype.hasobject:  # whoever reads the file says so
        return None
    if member.compress_type == zipfile.ZIP_STORED:
        at = _begin(path, member) + begin
        order = "F" if rising else "C"
        values = np.memmap(path, dtype, "r", at, shape, order)  # type: ignore[call-overload]
        return Mapped.of(Gridded(values))
    pieces = partial(_unpacked, path, member, dtype)
    flat = sum(n > 1 for n in shape) < 2
    return Streamed(shape, dtype, None, "cells", "", None, pieces, rising or flat)


def _head(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, whether the first index is the fastest, and type of an array of NumPy's format."""
    version = np.lib.format.read_magic(file)
    read = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }.get(version)
    if read is None:
        raise ValueError(f"an array of version {version}")
    return read(file)


def _begin(path: Path, member: zipfile.ZipInfo) -> int:
    """Where the content of a member begins."""
    with open(path, "rb") as file:
        file.seek(member.header_offset)
        name, more = LOCAL_NAMES.unpack(file.read(LOCAL)[-LOCAL_NAMES.size :])
    return member.header_offset + LOCAL + int(name) + int(more)


def _unpacked(
    path: Path, member: zipfile.ZipInfo, dtype: np.dtype
) -> Iterator[np.ndarray]:
    with zipfile.ZipFile(path) as archive, archive.open(member) as file:
        _head(file)
        while content := file.read(TOGETHER // dtype.itemsize * dtype.itemsize):
            yield np.frombuffer(content, dtype)


def open_mat(path: Path) -> dict[str, Callable[[], Gridded]]:
    """Arrays of a MATLAB file that have not been read."""
    from scipy.io import loadmat, whosmat

    try:
        names = [name for name, _, _ in whosmat(path)]
    except NotImplementedError:
        raise InputError(
            str(path), "a MATLAB 7.3 (HDF5) file", "files saved with save(..., '-v7')"
        ) from None

    def read(name: str) -> Gridded:
        return Gridded(_dense(loadmat(path, variable_names=[name])[name]))

    return {name: partial(read, name) for name in names}


def _dense(values: Any) -> np.ndarray:
    """Sparse matrices of MATLAB as arrays."""
    return values if isinstance(values, np.ndarray) else values.toarray()

"""Fields that users have, as arrays [i_x, i_y, i_z]: NumPy, MATLAB, NIfTI, VTK and Eclipse (GRDECL)
files.

Every reader gives the arrays of a file by name, with the place that the file gives them;
`read_gridded` chooses one, checks it and says what is wrong in the terms of the file. `read_field`
gives its values alone.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from mpi4py import MPI

from npde_opt.aliases import FilePath
from npde_opt.errors import InputError, collective
from npde_opt.io import readers
from npde_opt.io.gridded import Gridded
from npde_opt.io.missing import rounding_of
from npde_opt.io.sizes import check_file
from npde_opt.io.stored import Mapped, Stored, Streamed, Window, handed_out

if TYPE_CHECKING:
    from npde_opt.io.grdecl import Stream

Arrays = dict[str, Callable[[], Gridded]]
StoredArrays = dict[str, Callable[[], Stored | None]]
Found = TypeVar("Found", Arrays, StoredArrays)
PARTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "real": np.real,
    "imag": np.imag,
    "intensity": lambda a: np.abs(a) ** 2,
}


def read_field(
    path: FilePath,
    key: str | None = None,
    shape: Sequence[int] | None = None,
    *,
    allow_nan: bool = False,
    comm: MPI.Intracomm | None = None,
) -> np.ndarray:
    """The values of `read_gridded`, whatever their place.

    Args:
        path, key, allow_nan: as there.
        shape: the shape that is needed. Axes of length 1 may be missing or extra, and a flat list
            of values (GRDECL) is folded with x fastest.
        comm: read on rank 0 and send to the others (collective); without it the caller reads alone.

    Raises:
        InputError: as there, and for a wrong shape.
    """
    if comm is None:
        return _values(Path(path), key, shape, allow_nan)
    own: np.ndarray | None = None
    with collective(comm):
        if comm.rank == 0:
            own = _values(Path(path), key, shape, allow_nan)
    found: np.ndarray = comm.bcast(own, root=0)
    return found


def _values(
    path: Path, key: str | None, shape: Sequence[int] | None, allow_nan: bool
) -> np.ndarray:
    values = read_gridded(path, key, allow_nan=allow_nan).values
    if shape is not None:
        values = fit(_where(path, key), values, tuple(int(n) for n in shape))
    return np.asfortranarray(values)


def list_fields(path: FilePath) -> list[str]:
    """Names of the arrays in a file, in the file's order."""
    return list(_open(Path(path), READERS))


def read_gridded(
    path: FilePath,
    key: str | None = None,
    *,
    part: str | None = None,
    allow_nan: bool = False,
) -> Gridded:
    """One array of a file with its place, indexed [x, y, z], in the file's number type (floats
    become float64, booleans stay).

    Args:
        path: .npy, .npz, .mat, .nii, .nii.gz, .vti, .vtr, .vtk, .zarr, .grdecl, .inc, .prop, .dat,
            .data.
        key: which array of a file that holds several.
        part: 'real', 'imag' or 'intensity' of complex values.
        allow_nan: accept NaN (data that were not observed); infinite values are never accepted.

    Raises:
        InputError: naming the file and key and what is there, for a missing file, an unknown
            extension, a missing or ambiguous key, values that are no numbers, NaN or infinite
            values (how many and the first index), complex values without a part, or an optional
            package that is not installed.
    """
    path = Path(path)
    arrays = _open(path, READERS)
    name = _chosen(path, list(arrays), key)
    where = _where(path, name if len(arrays) > 1 else None)
    with _readable(path):
        found = arrays[name]()
        values = np.asarray(found.values)
    values, rounding = _plain(where, values, part, found.rounding)
    _check_finite(where, values, allow_nan)
    return dataclasses.replace(found, values=values, rounding=rounding)


def open_stored(path: FilePath, key: str | None = None) -> Stored | None:
    """One array of a file, of which parts can be read: windows, or slab by slab (`Streamed`). None
    where the format, or the encoding of this file, has none: MATLAB, text in VTK, GRDECL that
    changes its arrays.

    Args:
        path, key: as in `read_gridded`.

    Raises:
        InputError: as there, but for the values.
    """
    path = Path(path)
    if _suffix(path) not in STORED:
        return None
    arrays = _open(path, STORED)
    name = _chosen(path, list(arrays), key)
    with _readable(path):
        return arrays[name]()


def opened_by_one(
    path: FilePath, key: str | None, comm: MPI.Intracomm
) -> tuple[Stored | None, bool]:
    """As `open_stored`, but opened on rank 0 first. Collective.

    Returns:
        The array, and whether it is a stream: the others have its head alone then.
    """
    found, head = None, None
    with collective(comm):
        if comm.rank == 0:
            found = open_stored(path, key)
            flows = isinstance(found, Streamed)
            head = found and (found.head if flows else True)
    head = comm.bcast(head, root=0)
    if isinstance(head, Stored):
        return found or head, True
    with collective(comm):
        if head and comm.rank:
            found = open_stored(path, key)
    return found, False


def read_window(
    path: FilePath,
    stored: Stored,
    shape: Sequence[int],
    cells: Window,
    part: str | None = None,
    comm: MPI.Intracomm | None = None,
) -> tuple[np.ndarray, float]:
    """Values of some cells of an array folded to `shape` (see `Stored.window`), in the number type
    that `read_gridded` gives them, and their rounding. They may be NaN or infinite.

    Args:
        comm: of a stream, which rank 0 reads for all (collective); NaN where it is damaged.

    Raises:
        InputError: as there, for a damaged file and values that are no numbers.
    """
    if comm is not None:
        stream = stored if isinstance(stored, Streamed) else None
        found = handed_out(comm, stream, stored, shape, cells)
        if found is None:
            found = np.full([s.stop - s.start for s in cells], np.nan)
        return _plain(str(path), found, part, stored.rounding)
    with _readable(Path(path)):
        values = stored.window(shape, cells)
    return _plain(str(path), values, part, stored.rounding)


def _chosen(path: Path, names: Sequence[str], key: str | None) -> str:
    """The array of this key, or the only one."""
    if not names:
        raise InputError(
            str(path), "a file without arrays", "a file that holds at least one array"
        )
    listed = ", ".join(names)
    if key is None and len(names) > 1:
        raise InputError(
            f"key of {path}",
            "none",
            f"one of the {len(names)} arrays in the file: {listed}",
        )
    name = names[0] if key is None else key
    if name not in names:
        raise InputError(f"key of {path}", repr(name), f"in the file: {listed}")
    return name


def _plain(
    where: str, values: np.ndarray, part: str | None, rounding: float | None
) -> tuple[np.ndarray, float]:
    """Floats as float64, other numbers in the machine's order of bytes, and the rounding that they
    have in the file."""
    values = _real(where, values, part)
    known = rounding_of(values.dtype) if rounding is None else rounding
    plain = values.dtype.newbyteorder("=")
    return values.astype(float if values.dtype.kind == "f" else plain), known


def _where(path: Path, name: str | None) -> str:
    return f"{path}" if name is None else f"{path}, array {name}"


def _real(where: str, values: np.ndarray, part: str | None) -> np.ndarray:
    """Real numbers, integers or booleans."""
    if part is not None:
        if part not in PARTS:
            raise InputError(f"part of {where}", repr(part), ", ".join(PARTS))
        if values.dtype.kind not in "cfiub":
            raise InputError(where, f"values of type {values.dtype}", "numbers")
        values = np.asarray(PARTS[part](values))
    if values.dtype.kind == "c":
        raise InputError(
            where,
            f"values of type {values.dtype}",
            f"real numbers; choose a part: {', '.join(PARTS)}",
        )
    if values.dtype.kind not in "fiub":
        raise InputError(
            where,
            f"values of type {values.dtype}",
            "real numbers, integers or booleans",
        )
    return values


class _readable:
    """Turns what a format's library raises on a damaged file into an InputError that names the
    file."""

    def __init__(self, path: Path):
        self.path = path

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: object, error: BaseException | None, trace: object
    ) -> None:
        if isinstance(error, InputError) or not isinstance(error, Exception):
            return
        if isinstance(error, PermissionError):
            raise InputError(
                str(self.path), "a file that may not be read", "a readable file"
            ) from error
        text = str(error).strip() or type(error).__name__
        raise InputError(
            str(self.path),
            f"a file that cannot be read ({text.splitlines()[0]})",
            f"an undamaged {''.join(self.path.suffixes[-2:])} file",
        ) from error


def _suffix(path: Path) -> str:
    """The extension by which a file is read, '' for none that is known."""
    longest_first = sorted(READERS, key=len, reverse=True)
    return next((s for s in longest_first if path.name.lower().endswith(s)), "")


def _open(path: Path, known: Mapping[str, Callable[[Path], Found]]) -> Found:
    suffix = _suffix(path)
    check_file(str(path), path)
    if not suffix:
        raise InputError(
            str(path), f"extension {path.suffix or 'none'!r}", ", ".join(READERS)
        )
    with _readable(path):
        return known[suffix](path)


def files_inside(path: Path) -> list[Path]:
    """Further files of which a file takes its arrays: those that a GRDECL deck includes."""
    if READERS.get(path.suffix.lower()) is not _grdecl:
        return []
    found: list[Path] = readers.included(path)
    return found


def _npy(path: Path) -> Arrays:
    values = np.load(path, allow_pickle=False)
    return {path.stem: lambda: Gridded(values)}


def _npy_stored(path: Path) -> StoredArrays:
    try:
        mapped = np.load(path, mmap_mode="r", allow_pickle=False)
    except ValueError:  # objects, and no values: whoever reads the file says so
        return {path.stem: lambda: None}
    return {path.stem: lambda: Mapped.of(Gridded(mapped))}


def _nifti(path: Path) -> Arrays:
    image = readers.open_nifti(path)
    return {"volume": lambda: readers.whole_nifti(image)}


def _nifti_stored(path: Path) -> StoredArrays:
    image = readers.open_nifti(path)
    return {"volume": lambda: readers.sliced_nifti(image)}


def _eager(read: Callable[[Path], dict[str, Gridded]]) -> Callable[[Path], Arrays]:
    def reader(path: Path) -> Arrays:
        return {name: lambda v=v: v for name, v in read(path).items()}  # type: ignore[misc]

    return reader


def _grdecl(path: Path) -> Arrays:
    found = readers.open_grdecl(path).items()
    return {name: lambda make=make: Gridded(make()) for name, make in found}  # type: ignore[misc]


def _grdecl_stored(path: Path) -> StoredArrays:
    return {
        n: partial(_flow, found) for n, found in readers.stream_grdecl(path).items()
    }


def _flow(found: Stream | None) -> Stored | None:
    if found is None:
        return None
    head = (found.shape, found.dtype, None, "cells", "", None)
    return Streamed(*head, found.pieces, rising=True)


def _xml_stored(path: Path) -> StoredArrays:
    return {name: array.stored for name, array in readers.open_xml_vtk(path).items()}


READERS: dict[str, Callable[[Path], Arrays]] = {
    ".npy": _npy,
    ".npz": readers.open_npz,
    ".mat": readers.open_mat,
    ".nii": _nifti,
    ".nii.gz": _nifti,
    ".vti": _eager(readers.read_xml_vtk),
    ".vtr": _eager(readers.read_xml_vtk),
    ".vtk": _eager(readers.read_legacy_vtk),
    ".zarr": readers.open_zarr,
    ".grdecl": _grdecl,
    ".inc": _grdecl,
    ".prop": _grdecl,
    ".dat": _grdecl,
    ".data": _grdecl,
}
STORED: dict[str, Callable[[Path], StoredArrays]] = {
    ".npy": _npy_stored,
    ".nii": _nifti_stored,
    ".nii.gz": _nifti_stored,
    ".npz": readers.stored_npz,
    ".vti": _xml_stored,
    ".vtr": _xml_stored,
    ".vtk": readers.stored_legacy_vtk,
    ".zarr": readers.stored_zarr,
    **dict.fromkeys((".grdecl", ".inc", ".prop", ".dat", ".data"), _grdecl_stored),
}
"""Formats of which parts are read."""


def _check_finite(where: str, values: np.ndarray, allow_nan: bool) -> None:
    if values.dtype.kind != "f":
        return
    bad = np.isinf(values) if allow_nan else ~np.isfinite(values)
    count = int(bad.sum())
    if count:
        first = tuple(int(i) for i in np.argwhere(bad)[0])
        nans = int(np.isnan(values[bad]).sum())
        kinds = " and ".join(
            f"{n} {kind}"
            for n, kind in ((nans, "NaN"), (count - nans, "infinite"))
            if n
        )
        raise InputError(
            where,
            f"{kinds} of {values.size} values, the first at {list(first)}",
            "finite values or NaN" if allow_nan else "finite values",
        )


def fit(where: str, values: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Values of a shape: axes of length 1 may be missing or extra, flat lists are folded with x
    fastest.

    Raises:
        InputError: naming `where`, with a hint where the values look transposed.
    """
    check_fit(where, values.shape, shape)
    return values if values.shape == shape else values.reshape(shape, order="F")


def check_fit(where: str, given: tuple[int, ...], shape: tuple[int, ...]) -> None:
    """Raises InputError where `fit` does, for values of a shape."""
    size, count = math.prod(given), math.prod(shape)
    flat = len(given) == 1 and size == count
    if given == shape or flat or thick(given) == thick(shape):
        return
    raise InputError(
        where,
        f"shape {given}, {size:,} values",
        f"shape {shape}, {count:,} values{hint(given, shape)}",
    )


def thick(shape: Sequence[int]) -> list[int]:
    """Lengths of the axes longer than 1."""
    return [int(n) for n in shape if n != 1]


def hint(given: Sequence[int], wanted: Sequence[int], order: str = "[x, y, z]") -> str:
    """What to add to a message where `given` is `wanted` with its axes in another order, ''
    elsewhere."""
    if thick(given) != thick(wanted) and sorted(thick(given)) == sorted(thick(wanted)):
        return f"; it looks transposed: arrays are indexed {order}"
    return ""

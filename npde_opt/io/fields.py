"""Fields that users have, as arrays [i_x, i_y, i_z]: NumPy, MATLAB, NIfTI, VTK and Eclipse (GRDECL)
files.

Every reader gives the arrays of a file by name, with the place that the file gives them;
`read_gridded` chooses one, checks it and says what is wrong in the terms of the file. `read_field`
gives its values alone.
"""

from __future__ import annotations

import dataclasses
import gzip
import os
import stat
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mpi4py import MPI

from npde_opt.aliases import FilePath
from npde_opt.errors import InputError, collective
from npde_opt.io.grdecl import included, open_grdecl
from npde_opt.io.gridded import Gridded, aligned
from npde_opt.io.missing import SCALED, rounding_of
from npde_opt.io.vtk_reader import read_legacy_vtk, read_xml_vtk

Arrays = dict[str, Callable[[], Gridded]]
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
    return list(_open(Path(path)))


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
        path: .npy, .npz, .mat, .nii, .nii.gz, .vti, .vtr, .vtk, .grdecl, .inc, .prop, .dat, .data.
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
    arrays = _open(path)
    if not arrays:
        raise InputError(
            str(path), "a file without arrays", "a file that holds at least one array"
        )
    listed = ", ".join(arrays)
    if key is None and len(arrays) > 1:
        raise InputError(
            f"key of {path}",
            "none",
            f"one of the {len(arrays)} arrays in the file: {listed}",
        )
    name = next(iter(arrays)) if key is None else key
    if name not in arrays:
        raise InputError(f"key of {path}", repr(name), f"in the file: {listed}")
    where = _where(path, name if len(arrays) > 1 else None)
    with _readable(path):
        found = arrays[name]()
        values = np.asarray(found.values)
    values = _real(where, values, part)
    rounding = rounding_of(values.dtype) if found.rounding is None else found.rounding
    values = values.astype(
        float if values.dtype.kind == "f" else values.dtype.newbyteorder("=")
    )
    _check_finite(where, values, allow_nan)
    return dataclasses.replace(found, values=values, rounding=rounding)


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


def _open(path: Path) -> Arrays:
    reader = next(
        (
            READERS[s]
            for s in sorted(READERS, key=len, reverse=True)
            if path.name.lower().endswith(s)
        ),
        None,
    )
    check_file(str(path), path)
    if reader is None:
        raise InputError(
            str(path), f"extension {path.suffix or 'none'!r}", ", ".join(READERS)
        )
    with _readable(path):
        return reader(path)


def files_inside(path: Path) -> list[Path]:
    """Further files of which a file takes its arrays: those that a GRDECL deck includes."""
    return included(path) if READERS.get(path.suffix.lower()) is _grdecl else []


def check_file(field: str, path: Path) -> None:
    """Raises InputError naming `field` unless a regular file that fits into memory is there (no
    folder, device or pipe)."""
    try:
        status = path.stat()
    except OSError:
        there = (
            sorted(p.name for p in path.parent.glob("*") if p.is_file())[:8]
            if path.parent.is_dir()
            else []
        )
        near = f"; in {path.parent}: {', '.join(there)}" if there else ""
        raise InputError(
            field,
            "no such file" if field == str(path) else str(path),
            f"an existing file{near}",
        ) from None
    named = "" if field == str(path) else f"{path}, "
    if not stat.S_ISREG(status.st_mode):
        kind = "a folder" if stat.S_ISDIR(status.st_mode) else "a device or pipe"
        raise InputError(
            field, f"{named}{kind}", "a regular file: files must be regular files"
        )
    _check_size(field, f"{named}a file of", status.st_size)


def _check_size(field: str, what: str, size: int) -> None:
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if size > memory:
        raise InputError(
            field,
            f"{what} {size / 1e9:.3g} GB",
            f"at most the {memory / 1e9:.3g} GB of memory here",
        )


def _npy(path: Path) -> Arrays:
    values = np.load(path, allow_pickle=False)
    return {path.stem: lambda: Gridded(values)}


def _npz(path: Path) -> Arrays:
    if not zipfile.is_zipfile(path):
        raise ValueError("it is no zip archive")
    with zipfile.ZipFile(path) as members:
        for member in members.infolist():
            _check_size(
                f"{path}, array {member.filename}", "unpacked", member.file_size
            )
    archive = np.load(path, allow_pickle=False)
    return {name: lambda name=name: Gridded(archive[name]) for name in archive.files}  # type: ignore[misc]


def _mat(path: Path) -> Arrays:
    from scipy.io import loadmat

    try:
        content = loadmat(path)
    except NotImplementedError:
        raise InputError(
            str(path), "a MATLAB 7.3 (HDF5) file", "files saved with save(..., '-v7')"
        ) from None
    return {
        name: lambda v=v: Gridded(_dense(v))  # type: ignore[misc]
        for name, v in content.items()
        if not name.startswith("__")
    }


def _dense(values: Any) -> np.ndarray:
    """Sparse matrices of MATLAB as arrays."""
    return values if isinstance(values, np.ndarray) else values.toarray()


def _nifti(path: Path) -> Arrays:
    try:
        import nibabel
    except ImportError:
        raise InputError(
            str(path),
            "a NIfTI file without the nibabel package",
            "pip install 'npde_opt[examples]' (or pip install nibabel)",
        ) from None
    if path.name.lower().endswith(".gz"):
        _check_gzip(path)
    image = nibabel.load(path)
    _check_size(str(path), "unpacked", int(np.prod(image.shape)) * 8)  # type: ignore[attr-defined]
    return {"volume": lambda: _placed(image)}


def _check_gzip(path: Path) -> None:
    """Reads a file to its end, where the checksum is, to which nibabel does not come."""
    with gzip.open(path) as file:
        while file.read(1 << 20):
            pass


def _placed(image: Any) -> Gridded:
    """A NIfTI image by its sform, else its qform; one with neither has no place. Axes 4 and up of
    length 1 go."""
    values = np.asanyarray(image.dataobj)
    if any(n > 1 for n in values.shape[3:]):
        raise ValueError(f"{values.ndim} axes {values.shape}; one volume is needed")
    values = values.reshape((*values.shape, 1, 1)[:3], order="F")
    rounding = (
        SCALED if (image.dataobj.slope, image.dataobj.inter) != (1.0, 0.0) else None
    )
    if not (int(image.header["sform_code"]) or int(image.header["qform_code"])):
        return Gridded(values, rounding=rounding)
    steps, centre = image.affine[:3, :3], image.affine[:3, 3]
    unit = {"meter": "m", "micron": "um"}.get(
        name := image.header.get_xyzt_units()[0], name
    )
    corner = centre - steps.sum(axis=1) / 2
    found = aligned(values, steps, corner, unit="" if unit == "unknown" else unit)
    return dataclasses.replace(found, rounding=rounding)


def _eager(read: Callable[[Path], dict[str, Gridded]]) -> Callable[[Path], Arrays]:
    def reader(path: Path) -> Arrays:
        return {name: lambda v=v: v for name, v in read(path).items()}  # type: ignore[misc]

    return reader


def _grdecl(path: Path) -> Arrays:
    found = open_grdecl(path).items()
    return {name: lambda make=make: Gridded(make()) for name, make in found}  # type: ignore[misc]


READERS: dict[str, Callable[[Path], Arrays]] = {
    ".npy": _npy,
    ".npz": _npz,
    ".mat": _mat,
    ".nii": _nifti,
    ".nii.gz": _nifti,
    ".vti": _eager(read_xml_vtk),
    ".vtr": _eager(read_xml_vtk),
    ".vtk": _eager(read_legacy_vtk),
    ".grdecl": _grdecl,
    ".inc": _grdecl,
    ".prop": _grdecl,
    ".dat": _grdecl,
    ".data": _grdecl,
}


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
    if values.shape == shape:
        return values
    if values.ndim == 1 and values.size == int(np.prod(shape)):
        return values.reshape(shape, order="F")
    if thick(values.shape) == thick(shape):
        return values.reshape(shape, order="F")
    count = int(np.prod(shape))
    raise InputError(
        where,
        f"shape {values.shape}, {values.size:,} values",
        f"shape {shape}, {count:,} values{hint(values.shape, shape)}",
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

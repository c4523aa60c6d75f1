"""Fields that users have, as arrays [i_x, i_y, i_z]: NumPy, MATLAB, NIfTI, VTK and Eclipse (GRDECL) files.

Every reader gives the arrays of a file by name; `read_field` chooses one, checks it and says what is wrong in the
terms of the file.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from mpi4py import MPI

from npde_opt.errors import InputError, collective
from npde_opt.io.grdecl import open_grdecl
from npde_opt.io.vtk_reader import read_legacy_vtk, read_xml_vtk

Arrays = dict[str, Callable[[], np.ndarray]]


def read_field(path: str | os.PathLike, key: str | None = None, shape: Sequence[int] | None = None, *,
               allow_nan: bool = False, comm: MPI.Intracomm | None = None) -> np.ndarray:
    """One array of a file, indexed [x, y, z], in the file's number type (floats become float64, booleans stay).

    Args:
        path: .npy, .npz, .mat, .nii, .nii.gz, .vti, .vtr, .vtk, .grdecl, .inc, .prop, .dat, .data.
        key: which array of a file that holds several.
        shape: the shape that is needed. Axes of length 1 may be missing or extra, and a flat list of values
            (GRDECL) is folded with x fastest.
        allow_nan: accept NaN (data that were not observed); infinite values are never accepted.
        comm: read on rank 0 and send to the others (collective); without it the caller reads alone.

    Raises:
        InputError: naming the file and key and what is there, for a missing file, an unknown extension, a missing
            or ambiguous key, values that are no numbers, NaN or infinite values (how many and the first index), a
            wrong shape, or an optional package that is not installed.
    """
    if comm is None:
        return _read(Path(path), key, shape, allow_nan)
    field = None
    with collective(comm):
        if comm.rank == 0:
            field = _read(Path(path), key, shape, allow_nan)
    return comm.bcast(field, root=0)


def list_fields(path: str | os.PathLike) -> list[str]:
    """Names of the arrays in a file, in the file's order."""
    return list(_open(Path(path)))


def _read(path: Path, key: str | None, shape: Sequence[int] | None, allow_nan: bool) -> np.ndarray:
    arrays = _open(path)
    if not arrays:
        raise InputError(str(path), "a file without arrays", "a file that holds at least one array")
    listed = ", ".join(arrays)
    if key is None and len(arrays) > 1:
        raise InputError(f"key of {path}", "none", f"one of the {len(arrays)} arrays in the file: {listed}")
    name = next(iter(arrays)) if key is None else key
    if name not in arrays:
        raise InputError(f"key of {path}", repr(name), f"in the file: {listed}")
    where = f"{path}" if len(arrays) == 1 else f"{path}, array {name}"
    with _readable(path):
        values = np.asarray(arrays[name]())
    if values.dtype.kind not in "fiub":
        raise InputError(where, f"values of type {values.dtype}", "real numbers, integers or booleans")
    values = values.astype(float if values.dtype.kind == "f" else values.dtype.newbyteorder("="))
    _check_finite(where, values, allow_nan)
    values = values if shape is None else _fit(where, values, tuple(int(n) for n in shape))
    return np.asfortranarray(values)


class _readable:
    """Turns what a format's library raises on a damaged file into an InputError that names the file."""

    def __init__(self, path: Path):
        self.path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind, error, trace) -> None:
        if isinstance(error, InputError) or not isinstance(error, Exception):
            return
        if isinstance(error, PermissionError):
            raise InputError(str(self.path), "a file that may not be read", "a readable file") from error
        text = str(error).strip() or type(error).__name__
        raise InputError(str(self.path), f"a file that cannot be read ({text.splitlines()[0]})",
                         f"an undamaged {''.join(self.path.suffixes[-2:])} file") from error


def _open(path: Path) -> Arrays:
    reader = next((READERS[s] for s in sorted(READERS, key=len, reverse=True) if path.name.lower().endswith(s)), None)
    if path.is_dir() or not path.exists():
        there = sorted(p.name for p in path.parent.glob("*") if p.is_file())[:8] if path.parent.is_dir() else []
        allowed = "an existing file" + (f"; in {path.parent}: {', '.join(there)}" if there else "")
        raise InputError(str(path), "a folder" if path.is_dir() else "no such file", allowed)
    if reader is None:
        raise InputError(str(path), f"extension {path.suffix or 'none'!r}", ", ".join(READERS))
    with _readable(path):
        return reader(path)


def _npy(path: Path) -> Arrays:
    values = np.load(path, allow_pickle=False)
    return {path.stem: lambda: values}


def _npz(path: Path) -> Arrays:
    if not zipfile.is_zipfile(path):
        raise ValueError("it is no zip archive")
    archive = np.load(path, allow_pickle=False)
    return {name: lambda name=name: archive[name] for name in archive.files}  # type: ignore[misc]


def _mat(path: Path) -> Arrays:
    from scipy.io import loadmat

    try:
        content = loadmat(path)
    except NotImplementedError:
        raise InputError(str(path), "a MATLAB 7.3 (HDF5) file", "files saved with save(..., '-v7')") from None
    return {name: lambda v=v: v for name, v in content.items() if not name.startswith("__")}  # type: ignore[misc]


def _nifti(path: Path) -> Arrays:
    try:
        import nibabel
    except ImportError:
        raise InputError(str(path), "a NIfTI file without the nibabel package",
                         "pip install 'npde_opt[examples]' (or pip install nibabel)") from None
    image = nibabel.load(path)
    return {"volume": lambda: np.asanyarray(image.dataobj)}  # type: ignore[attr-defined]


def _eager(read: Callable[[Path], dict[str, np.ndarray]]) -> Callable[[Path], Arrays]:
    def reader(path: Path) -> Arrays:
        return {name: lambda v=v: v for name, v in read(path).items()}  # type: ignore[misc]
    return reader


READERS: dict[str, Callable[[Path], Arrays]] = {
    ".npy": _npy, ".npz": _npz, ".mat": _mat, ".nii": _nifti, ".nii.gz": _nifti, ".vti": _eager(read_xml_vtk),
    ".vtr": _eager(read_xml_vtk), ".vtk": _eager(read_legacy_vtk), ".grdecl": open_grdecl,
    ".inc": open_grdecl, ".prop": open_grdecl, ".dat": open_grdecl,
    ".data": open_grdecl}


def _check_finite(where: str, values: np.ndarray, allow_nan: bool) -> None:
    if values.dtype.kind != "f":
        return
    bad = np.isinf(values) if allow_nan else ~np.isfinite(values)
    count = int(bad.sum())
    if count:
        first = tuple(int(i) for i in np.argwhere(bad)[0])
        nans = int(np.isnan(values[bad]).sum())
        kinds = " and ".join(f"{n} {kind}" for n, kind in ((nans, "NaN"), (count - nans, "infinite")) if n)
        raise InputError(where, f"{kinds} of {values.size} values, the first at {list(first)}",
                         "finite values or NaN" if allow_nan else "finite values")


def _fit(where: str, values: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    if values.shape == shape:
        return values
    if values.ndim == 1 and values.size == int(np.prod(shape)):
        return values.reshape(shape, order="F")
    thick = [n for n in values.shape if n > 1]
    if thick == [n for n in shape if n > 1]:
        return values.reshape(shape, order="F")
    hint = "; it looks transposed: arrays are indexed [x, y, z]" if thick[::-1] == [n for n in shape if n > 1] else ""
    raise InputError(where, f"shape {values.shape}", f"shape {shape}{hint}")

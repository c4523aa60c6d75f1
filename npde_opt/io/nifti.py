"""NIfTI images, whole or by ranges of their indices."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np

from npde_opt.errors import InputError
from npde_opt.io.gridded import Gridded, upright
from npde_opt.io.missing import SCALED
from npde_opt.io.sizes import check_size
from npde_opt.io.stored import Sliced, Stored, Window


def open_nifti(path: Path) -> Any:
    """An image whose values have not been read; a compressed file is checked to its end."""
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
    check_size(str(path), "unpacked", int(np.prod(image.shape)) * 8)  # type: ignore[attr-defined]
    return image


def _check_gzip(path: Path) -> None:
    """Reads a file to its end, where the checksum is, to which nibabel does not come."""
    with gzip.open(path) as file:
        while file.read(1 << 20):
            pass


def sliced_nifti(image: Any) -> Stored:
    """A NIfTI image by its sform, else its qform; one with neither has no place. Axes 4 and up of
    length 1 go."""
    given = tuple(image.shape)
    if any(n > 1 for n in given[3:]):
        raise ValueError(f"{len(given)} axes {given}; one volume is needed")
    shape = (*given, 1, 1)[:3]
    scaled = (image.dataobj.slope, image.dataobj.inter) != (1.0, 0.0)
    steps, unit = np.eye(3), "unknown"
    placed = bool(int(image.header["sform_code"]) or int(image.header["qform_code"]))
    corner = np.zeros(3)
    if placed:
        steps, centre = image.affine[:3, :3], image.affine[:3, 3]
        corner = centre - steps.sum(axis=1) / 2
        name = image.header.get_xyzt_units()[0]
        unit = {"meter": "m", "micron": "um"}.get(name, name)

    def read(ranges: Window) -> np.ndarray:
        # Of axes that the file has, in its order.
        index = (*ranges, *[slice(0, 1)] * len(given))[: len(given)]
        values = np.asarray(image.dataobj[index])
        return values.reshape([s.stop - s.start for s in ranges], order="F")

    turn = upright(shape, steps, corner)
    return Sliced(
        shape=tuple(shape[i] for i in turn.index_of),
        dtype=np.dtype(float) if scaled else image.get_data_dtype(),
        edges=turn.edges if placed else None,
        kind="cells",
        unit="" if unit == "unknown" else unit,
        rounding=SCALED if scaled else None,
        upright=turn,
        read=read,
    )


def whole_nifti(image: Any) -> Gridded:
    """All values of an image with their place."""
    found = sliced_nifti(image)
    values = found.window(found.shape, tuple(slice(0, n) for n in found.shape))
    return Gridded(values, found.edges, found.kind, found.unit, found.rounding)

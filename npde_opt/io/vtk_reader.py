"""Arrays of VTK files on regular grids: XML .vti and .vtr (all encodings).

Cell and point arrays come as [i, j, k], with components in front where there are several, and with
the coordinates that the file gives them.
"""

from __future__ import annotations

import mmap
import os
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from npde_opt.aliases import FilePath
from npde_opt.errors import InputError
from npde_opt.io.gridded import Gridded, aligned, increasing, trimmed
from npde_opt.io.stored import Mapped, Stored, Streamed
from npde_opt.io.vtk_decoder import Decoder


def read_xml_vtk(path: FilePath) -> dict[str, Gridded]:
    """All cell and point arrays of a one-piece .vti or .vtr file by name, blanking arrays left out.

    Where an array of points has the name of one of cells, " (points)" is added to it. Raw appended
    values are views of the file.

    Raises:
        InputError: for other kinds of VTK files and several pieces.
        ValueError: for damaged files, and axes that are oblique (see `aligned`).
    """
    return {name: array.read() for name, array in open_xml_vtk(path).items()}


@dataclass(frozen=True, eq=False)
class VtkArray:
    """An array of a file that has not been read.

    Attributes:
        stored: what reads parts of it; None for text.
    """

    read: Callable[[], Gridded]
    stored: Callable[[], Stored | None]


def open_xml_vtk(path: FilePath) -> dict[str, VtkArray]:
    """As `read_xml_vtk`, before anything but the head of the file is read."""
    root, appended = _parse(content_of(path))
    pieces = root.findall(".//Piece")
    if root.get("type") not in ("ImageData", "RectilinearGrid") or len(pieces) != 1:
        raise InputError(
            str(path),
            f"a VTK file of type {root.get('type')} with {len(pieces)} pieces",
            "ImageData or RectilinearGrid in one piece",
        )
    encoded = root.find("AppendedData")
    decoder = Decoder(
        root, appended, encoded is not None and encoded.get("encoding") == "base64"
    )
    extent = [int(n) for n in pieces[0].get("Extent", "").split()]
    first, last = extent[::2], extent[1::2]
    points = [b - a + 1 for a, b in zip(first, last, strict=True)]
    place = (
        _image_place(root, first)
        if root.get("type") == "ImageData"
        else [
            _native(decoder.values(e))
            for e in pieces[0].findall("Coordinates/DataArray")
        ]
    )
    arrays: dict[str, VtkArray] = {}
    for section, kind in (("CellData", "cells"), ("PointData", "points")):
        for element in pieces[0].findall(f"{section}/DataArray"):
            name = element.get("Name", section)
            if name != "vtkGhostType":
                name = f"{name} (points)" if name in arrays else name
                read = partial(_read, decoder, element, points, place, kind)
                stored = partial(_stored, decoder, element, points, place, kind)
                arrays[name] = VtkArray(read, stored)
    return arrays


def _read(
    decoder: Decoder,
    element: ElementTree.Element,
    points: list[int],
    place: Image | list[np.ndarray],
    kind: str,
) -> Gridded:
    return placed(decoder.values(element), points, place, kind)


def _stored(
    decoder: Decoder,
    element: ElementTree.Element,
    points: list[int],
    place: Image | list[np.ndarray],
    kind: str,
) -> Stored | None:
    """A view of raw values, a stream of encoded ones; None for text, and for encoded values whose
    axes have to be turned."""
    if decoder.mapped(element):
        return Mapped.of(_read(decoder, element, points, place, kind))
    if element.get("format") == "ascii" or not _as_stored(place):
        return None
    # Of all values the place is asked, not the values.
    none = np.broadcast_to(np.zeros(1, decoder.dtype(element)), decoder.count(element))
    there = placed(none, points, place, kind)
    head = (there.shape, none.dtype, there.edges, kind, there.unit, None)
    return Streamed(*head, partial(decoder.pieces, element), rising=True)


def _as_stored(place: Image | list[np.ndarray]) -> bool:
    """Whether x, y, z increase with i, j, k."""
    if isinstance(place, list):
        return all(bool((np.diff(c) > 0).all()) for c in place)
    return bool((np.diag(np.diag(place.steps)) == place.steps).all()) and bool(
        (np.diag(place.steps) > 0).all()
    )


def content_of(path: FilePath) -> mmap.mmap | bytes:
    """The bytes of a file, which come into memory where they are read."""
    with open(path, "rb") as file:
        if not os.fstat(file.fileno()).st_size:
            return b""
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def _parse(content: mmap.mmap | bytes) -> tuple[ElementTree.Element, memoryview]:
    """The XML of a file, and its appended data, which may be bytes that XML does not allow."""
    start = re.search(rb"<AppendedData[^>]*>\s*_", content)
    if not start:
        return ElementTree.fromstring(content[:]), memoryview(b"")
    end = content.rfind(b"</AppendedData>")
    if end < start.end():
        raise ValueError("no end of its appended data; the file is cut short")
    appended = memoryview(content)[start.end() : end]
    return ElementTree.fromstring(content[: start.end() - 1] + content[end:]), appended


@dataclass(frozen=True)
class Image:
    """Coordinates of points by an affine map: corner + steps (i, j, k)."""

    steps: np.ndarray
    corner: np.ndarray


def _image_place(root: ElementTree.Element, first: list[int]) -> Image:
    """Of an ImageData whose piece starts at point `first`: Origin + Direction diag(Spacing) (i, j,
    k)."""
    image = root.find("ImageData")
    assert image is not None
    origin = _attribute(image, "Origin", "0 0 0", 3)
    spacing = _attribute(image, "Spacing", "1 1 1", 3)
    direction = _attribute(image, "Direction", "1 0 0 0 1 0 0 0 1", 9).reshape(3, 3)
    steps = direction * spacing
    return Image(steps, origin + steps @ np.asarray(first, float))


def _attribute(
    element: ElementTree.Element, name: str, default: str, count: int
) -> np.ndarray:
    numbers = np.array(element.get(name, default).split(), float)
    if numbers.size != count:
        raise ValueError(f"{name} has {numbers.size} numbers where {count} belong")
    return numbers


def placed(
    values: np.ndarray, points: list[int], place: Image | list[np.ndarray], kind: str
) -> Gridded:
    """Flat values of cells or points as an array with coordinates; `points` are their numbers along
    the axes."""
    flat = tuple(n == 1 for n in points)
    shape = points if kind == "points" else [max(n - 1, 1) for n in points]
    folded = _fold(values, shape)
    if isinstance(place, Image):
        return trimmed(aligned(folded, place.steps, place.corner, flat, kind))
    if [c.size for c in place] != points:
        raise ValueError(f"{[c.size for c in place]} coordinates for {points} points")
    return trimmed(increasing(folded, place, kind))


def _fold(values: np.ndarray, shape: list[int]) -> np.ndarray:
    components = values.size // int(np.prod(shape))
    if components < 1 or min(shape) < 1:
        raise ValueError(f"{values.size} values for {' x '.join(map(str, shape))}")
    return values.reshape(shape if components == 1 else [components, *shape], order="F")


def _native(values: np.ndarray) -> np.ndarray:
    return values.astype(values.dtype.newbyteorder("="), copy=False)

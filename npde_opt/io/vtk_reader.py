"""Arrays of VTK files on regular grids: XML .vti and .vtr (all encodings) and legacy .vtk
structured points.

Cell and point arrays come as [i, j, k], with components in front where there are several, and with
the coordinates that the file gives them.
"""

from __future__ import annotations

import base64
import mmap
import os
import re
import sys
import xml.etree.ElementTree as ElementTree
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar
from urllib.parse import unquote

import numpy as np

from npde_opt.aliases import FilePath
from npde_opt.errors import InputError
from npde_opt.io.gridded import Gridded, aligned, increasing, trimmed

NUMBERS = {
    "Float64": "f8",
    "Float32": "f4",
    "Int64": "i8",
    "Int32": "i4",
    "Int16": "i2",
    "Int8": "i1",
    "UInt64": "u8",
    "UInt32": "u4",
    "UInt16": "u2",
    "UInt8": "u1",
}
NATIVE = "<" if sys.byteorder == "little" else ">"
Bytes = TypeVar("Bytes", bytes, memoryview)
LEGACY = {
    "double": "f8",
    "float": "f4",
    "long": "i8",
    "vtkIdType": "i8",
    "int": "i4",
    "short": "i2",
    "char": "i1",
    "unsigned_char": "u1",
    "unsigned_short": "u2",
    "unsigned_int": "u4",
    "unsigned_long": "u8",
    "vtktypeint64": "i8",
}


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
        mapped: whether its values lie in the file as they are: `read` gives a view of them.
    """

    read: Callable[[], Gridded]
    mapped: bool


def open_xml_vtk(path: FilePath) -> dict[str, VtkArray]:
    """As `read_xml_vtk`, before anything but the head of the file is read."""
    root, appended = _parse(_content(path))
    pieces = root.findall(".//Piece")
    if root.get("type") not in ("ImageData", "RectilinearGrid") or len(pieces) != 1:
        raise InputError(
            str(path),
            f"a VTK file of type {root.get('type')} with {len(pieces)} pieces",
            "ImageData or RectilinearGrid in one piece",
        )
    encoded = root.find("AppendedData")
    decoder = _Decoder(
        root, appended, encoded is not None and encoded.get("encoding") == "base64"
    )
    extent = [int(n) for n in pieces[0].get("Extent", "").split()]
    first, last = extent[::2], extent[1::2]
    points = [b - a + 1 for a, b in zip(first, last, strict=True)]
    place = (
        _image_place(root, first)
        if root.get("type") == "ImageData"
        else [decoder.values(e) for e in pieces[0].findall("Coordinates/DataArray")]
    )
    arrays: dict[str, VtkArray] = {}
    for section, kind in (("CellData", "cells"), ("PointData", "points")):
        for element in pieces[0].findall(f"{section}/DataArray"):
            name = element.get("Name", section)
            if name != "vtkGhostType":
                name = f"{name} (points)" if name in arrays else name
                read = partial(_read, decoder, element, points, place, kind)
                arrays[name] = VtkArray(read, decoder.mapped(element))
    return arrays


def _read(
    decoder: _Decoder,
    element: ElementTree.Element,
    points: list[int],
    place: _Image | list[np.ndarray],
    kind: str,
) -> Gridded:
    return _place(decoder.values(element), points, place, kind)


def _content(path: FilePath) -> mmap.mmap | bytes:
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
class _Image:
    """Coordinates of points by an affine map: corner + steps (i, j, k)."""

    steps: np.ndarray
    corner: np.ndarray


def _image_place(root: ElementTree.Element, first: list[int]) -> _Image:
    """Of an ImageData whose piece starts at point `first`: Origin + Direction diag(Spacing) (i, j,
    k)."""
    image = root.find("ImageData")
    assert image is not None
    origin = _attribute(image, "Origin", "0 0 0", 3)
    spacing = _attribute(image, "Spacing", "1 1 1", 3)
    direction = _attribute(image, "Direction", "1 0 0 0 1 0 0 0 1", 9).reshape(3, 3)
    steps = direction * spacing
    return _Image(steps, origin + steps @ np.asarray(first, float))


def _attribute(
    element: ElementTree.Element, name: str, default: str, count: int
) -> np.ndarray:
    numbers = np.array(element.get(name, default).split(), float)
    if numbers.size != count:
        raise ValueError(f"{name} has {numbers.size} numbers where {count} belong")
    return numbers


def _place(
    values: np.ndarray, points: list[int], place: _Image | list[np.ndarray], kind: str
) -> Gridded:
    """Flat values of cells or points as an array with coordinates; `points` are their numbers along
    the axes."""
    flat = tuple(n == 1 for n in points)
    shape = points if kind == "points" else [max(n - 1, 1) for n in points]
    folded = _fold(values, shape)
    if isinstance(place, _Image):
        return trimmed(aligned(folded, place.steps, place.corner, flat, kind))
    if [c.size for c in place] != points:
        raise ValueError(f"{[c.size for c in place]} coordinates for {points} points")
    return trimmed(increasing(folded, place, kind))


def _fold(values: np.ndarray, shape: list[int]) -> np.ndarray:
    components = values.size // int(np.prod(shape))
    if components < 1 or min(shape) < 1:
        raise ValueError(f"{values.size} values for {' x '.join(map(str, shape))}")
    return values.reshape(shape if components == 1 else [components, *shape], order="F")


class _Decoder:
    """The four encodings of a DataArray (ascii, base64, appended raw, appended base64), each with
    or without zlib."""

    def __init__(
        self, root: ElementTree.Element, appended: memoryview, appended_base64: bool
    ):
        self.order = ">" if root.get("byte_order") == "BigEndian" else "<"
        self.header = np.dtype(
            self.order + ("u8" if root.get("header_type") == "UInt64" else "u4")
        )
        self.compressed = root.get("compressor") is not None
        if self.compressed and root.get("compressor") != "vtkZLibDataCompressor":
            raise ValueError(
                f"compressor {root.get('compressor')}; zlib or none can be read"
            )
        self.appended, self.appended_base64 = appended, appended_base64

    def mapped(self, element: ElementTree.Element) -> bool:
        """Whether `values` gives a view of the file."""
        plain = element.get("format") == "appended" and not self.appended_base64
        return plain and not self.compressed and self.order == NATIVE

    def values(self, element: ElementTree.Element) -> np.ndarray:
        dtype = np.dtype(self.order + NUMBERS[element.get("type", "")])
        if element.get("format") == "ascii":
            return _of_type(np.array((element.text or "").split(), dtype=float), dtype)
        data, coded = self.appended, self.appended_base64
        if element.get("format") == "appended":
            data = memoryview(data)[int(element.get("offset", 0)) :]
        else:
            data, coded = memoryview((element.text or "").strip().encode()), True
        raw = (self._inflate if self.compressed else self._plain)(data, coded)
        return np.frombuffer(raw, dtype).astype(dtype.newbyteorder("="), copy=False)

    def _plain(self, data: memoryview, coded: bool) -> memoryview | bytes:
        width = self.header.itemsize
        if coded:
            size = int(np.frombuffer(_decode(data, width), self.header)[0])
            return _decode(data, width + size)[width:]
        size = int(np.frombuffer(data[:width], self.header)[0])
        return _exactly(data[width : width + size], size)

    def _inflate(self, data: memoryview, coded: bool) -> bytes:
        width = self.header.itemsize
        count = int(
            np.frombuffer(_decode(data, width) if coded else data[:width], self.header)[
                0
            ]
        )
        width *= 3 + count
        head = np.frombuffer(
            _decode(data, width) if coded else data[:width], self.header
        )
        sizes = head[3:].astype(int)
        body: bytes | memoryview
        if coded:
            body = _decode(data[4 * ((width + 2) // 3) :], int(sizes.sum()))
        else:
            body = _exactly(data[width : width + int(sizes.sum())], int(sizes.sum()))
        ends = np.cumsum(sizes)
        return b"".join(
            zlib.decompress(body[end - n : end])
            for n, end in zip(sizes, ends, strict=True)
        )


def _of_type(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Numbers of a text in the type that the file says they have, if they are of it."""
    ends = np.iinfo(dtype) if dtype.kind in "iu" else None
    if ends is not None and not np.all(
        (values == np.rint(values)) & (values >= ends.min) & (values <= ends.max)
    ):
        raise ValueError(f"values that are no {dtype.newbyteorder('=').name}")
    return values.astype(dtype.newbyteorder("="))


def _decode(data: memoryview, size: int) -> bytes:
    return _exactly(base64.b64decode(data[: 4 * ((size + 2) // 3)])[:size], size)


def _exactly(data: Bytes, size: int) -> Bytes:
    if len(data) != size:
        raise ValueError(
            f"{len(data)} bytes where {size} belong; the file is cut short"
        )
    return data


def read_legacy_vtk(path: FilePath) -> dict[str, Gridded]:
    """All scalar and vector arrays of a legacy STRUCTURED_POINTS or RECTILINEAR_GRID file (ASCII or
    binary) by name."""
    reader = _Legacy(Path(path).read_bytes())
    if not reader.line().startswith("# vtk DataFile"):
        raise InputError(
            str(path),
            "a file that is no legacy VTK file",
            "# vtk DataFile ... in the first line",
        )
    reader.line()
    reader.binary = reader.line().upper() == "BINARY"
    kind = reader.words()
    if not kind or kind[-1].upper() not in ("STRUCTURED_POINTS", "RECTILINEAR_GRID"):
        raise InputError(
            str(path), " ".join(kind), "DATASET STRUCTURED_POINTS or RECTILINEAR_GRID"
        )
    return _legacy_arrays(reader)


def _legacy_arrays(reader: _Legacy) -> dict[str, Gridded]:
    """Reads the part below DATASET."""
    points: list[int] = []
    place = _LegacyPlace()
    belongs, arrays = "", dict[str, Gridded]()

    def put(name: str, values: np.ndarray) -> None:
        name = unquote(name)
        arrays[f"{name} (points)" if name in arrays else name] = _place(
            values, points, place.found(), belongs
        )

    while words := reader.words():
        head = words[0].upper()
        count = int(
            np.prod([n if belongs == "points" else max(n - 1, 1) for n in points])
        )
        if head == "DIMENSIONS":
            points = [int(n) for n in words[1:4]]
        elif head in ("ORIGIN", "SPACING", "ASPECT_RATIO"):
            place.given[head] = np.array(words[1:4], float)
        elif head in ("X_COORDINATES", "Y_COORDINATES", "Z_COORDINATES"):
            place.coordinates.append(reader.values(int(words[1]), words[2]))
        elif head in ("POINT_DATA", "CELL_DATA"):
            belongs = "points" if head == "POINT_DATA" else "cells"
        elif head == "SCALARS":
            components = int(words[3]) if len(words) > 3 else 1
            reader.words()
            put(words[1], reader.values(components * count, words[2]))
        elif head == "VECTORS":
            put(words[1], reader.values(3 * count, words[2]))
        elif head == "FIELD":
            for _ in range(int(words[2])):
                name, components_, tuples, number = reader.words()
                values = reader.values(int(components_) * int(tuples), number)
                if belongs and int(tuples) == count:
                    put(name, values)
                else:
                    arrays[unquote(name)] = Gridded(values)
    return arrays


class _LegacyPlace:
    """What the lines of a legacy file say about coordinates."""

    def __init__(self) -> None:
        self.given: dict[str, np.ndarray] = {}
        self.coordinates: list[np.ndarray] = []

    def found(self) -> _Image | list[np.ndarray]:
        if self.coordinates:
            return self.coordinates
        spacing = self.given.get("SPACING", self.given.get("ASPECT_RATIO", np.ones(3)))
        return _Image(np.diag(spacing), self.given.get("ORIGIN", np.zeros(3)))


class _Legacy:
    """A cursor over a legacy file: lines of words, and arrays in ASCII or big-endian binary."""

    def __init__(self, content: bytes):
        self.content, self.at, self.binary = content, 0, False

    def line(self) -> str:
        end = self.content.find(b"\n", self.at)
        end = len(self.content) if end < 0 else end
        text, self.at = self.content[self.at : end].decode("latin-1").strip(), end + 1
        return text

    def words(self) -> list[str]:
        """The next line that is not empty, in words; nothing at the end of the file. Metadata are
        skipped."""
        while self.at < len(self.content):
            words = self.line().split()
            if words == ["METADATA"]:
                while self.at < len(self.content) and self.line():
                    pass
            elif words:
                return words
        return []

    def values(self, count: int, number: str) -> np.ndarray:
        if count < 0:
            raise ValueError(f"{count} values")
        dtype = np.dtype(">" + LEGACY[number])
        if self.binary:
            raw = _exactly(
                self.content[self.at : self.at + count * dtype.itemsize],
                count * dtype.itemsize,
            )
            self.at += len(raw)
            return np.frombuffer(raw, dtype).astype(dtype.newbyteorder("="))
        found: list[str] = []
        while len(found) < count:
            if not (words := self.words()):
                raise ValueError(
                    f"{len(found)} values where {count} belong; the file is cut short"
                )
            found += words
        return _of_type(np.array(found, dtype=float), dtype)

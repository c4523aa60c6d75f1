"""Arrays of legacy VTK files, structured points and rectilinear grids, as text or binary.

Binary values are views of the file, big-endian as they lie there.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable
from functools import partial
from pathlib import Path
from urllib.parse import unquote

import numpy as np

from npde_opt.aliases import FilePath
from npde_opt.errors import InputError
from npde_opt.io.gridded import Gridded
from npde_opt.io.stored import Mapped, Stored
from npde_opt.io.vtk_decoder import exactly, of_type
from npde_opt.io.vtk_reader import Image, content_of, placed

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


def stored_legacy_vtk(path: Path) -> dict[str, Callable[[], Stored | None]]:
    """Views of the arrays of a binary file, None for those of a text."""
    with open(path, "rb") as file:
        binary = [next(file, b"") for _ in range(3)][2].strip().upper() == b"BINARY"
    found = read_legacy_vtk(path)
    return {n: partial(_view, array if binary else None) for n, array in found.items()}


def _view(array: Gridded | None) -> Stored | None:
    return None if array is None else Mapped.of(array)


def read_legacy_vtk(path: FilePath) -> dict[str, Gridded]:
    """All scalar and vector arrays of a legacy STRUCTURED_POINTS or RECTILINEAR_GRID file (ASCII or
    binary) by name."""
    reader = _Legacy(content_of(path))
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
        arrays[f"{name} (points)" if name in arrays else name] = placed(
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
            along = reader.values(int(words[1]), words[2])
            place.coordinates.append(along.astype(along.dtype.newbyteorder("=")))
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

    def found(self) -> Image | list[np.ndarray]:
        if self.coordinates:
            return self.coordinates
        spacing = self.given.get("SPACING", self.given.get("ASPECT_RATIO", np.ones(3)))
        return Image(np.diag(spacing), self.given.get("ORIGIN", np.zeros(3)))


class _Legacy:
    """A cursor over a legacy file: lines of words, and arrays in ASCII or big-endian binary."""

    def __init__(self, content: mmap.mmap | bytes):
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
            size = count * dtype.itemsize
            raw = exactly(memoryview(self.content)[self.at : self.at + size], size)
            self.at += size
            return np.frombuffer(raw, dtype)
        found: list[str] = []
        while len(found) < count:
            if not (words := self.words()):
                raise ValueError(
                    f"{len(found)} values where {count} belong; the file is cut short"
                )
            found += words
        return of_type(np.array(found, dtype=float), dtype)

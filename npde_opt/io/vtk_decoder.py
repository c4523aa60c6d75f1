"""The encodings of arrays in VTK XML files: text, base64, raw, each of the last two with or without
zlib.

Bytes of an array are a count of bytes and the values; packed ones are

    blocks, bytes of a block, bytes of the last one if it is less, packed bytes of each

in front of the blocks. In base64 the counts of packed values are coded by themselves.
"""

from __future__ import annotations

import base64
import sys
import xml.etree.ElementTree as ElementTree
import zlib
from collections.abc import Iterator
from typing import TypeVar

import numpy as np

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
TOGETHER = 3 << 18
"""Bytes that are decoded together, a multiple of 3 for base64."""
Bytes = TypeVar("Bytes", bytes, memoryview)


class Decoder:
    """Of the arrays of one file."""

    def __init__(
        self, root: ElementTree.Element, appended: memoryview, appended_base64: bool
    ):
        self.order = ">" if root.get("byte_order") == "BigEndian" else "<"
        wide = root.get("header_type") == "UInt64"
        self.header = np.dtype(self.order + ("u8" if wide else "u4"))
        self.compressed = root.get("compressor") is not None
        if self.compressed and root.get("compressor") != "vtkZLibDataCompressor":
            raise ValueError(
                f"compressor {root.get('compressor')}; zlib or none can be read"
            )
        self.appended, self.appended_base64 = appended, appended_base64

    def mapped(self, element: ElementTree.Element) -> bool:
        """Whether `values` gives a view of the file."""
        plain = element.get("format") == "appended" and not self.appended_base64
        return plain and not self.compressed

    def dtype(self, element: ElementTree.Element) -> np.dtype:
        """Of an array."""
        return np.dtype(self.order + NUMBERS[element.get("type", "")])

    def values(self, element: ElementTree.Element) -> np.ndarray:
        """All of an array."""
        dtype = self.dtype(element)
        if element.get("format") == "ascii":
            return of_type(np.array((element.text or "").split(), dtype=float), dtype)
        if self.mapped(element):
            return np.frombuffer(self._raw(element), dtype)
        return np.frombuffer(b"".join(self._pieces(element)), dtype)

    def count(self, element: ElementTree.Element) -> int:
        """How many values an array has that is no text."""
        data, coded = self._data(element)
        if not self.compressed:
            size = int(self._counts(data, coded, 0, 1)[0])
        else:
            blocks, each, last = (int(n) for n in self._counts(data, coded, 0, 3))
            size = blocks * each - (each - last if last else 0)
        return size // self.dtype(element).itemsize

    def pieces(self, element: ElementTree.Element) -> Iterator[np.ndarray]:
        """All of an array that is no text, in runs."""
        dtype, rest = self.dtype(element), b""
        for piece in self._pieces(element):
            have = rest + piece
            whole = len(have) - len(have) % dtype.itemsize
            yield np.frombuffer(have[:whole], dtype)
            rest = have[whole:]
        exactly(rest, 0)

    def _data(self, element: ElementTree.Element) -> tuple[memoryview, bool]:
        """Where an array begins, and whether it is base64."""
        if element.get("format") == "appended":
            begin = int(element.get("offset", 0))
            return memoryview(self.appended)[begin:], self.appended_base64
        return memoryview((element.text or "").strip().encode()), True

    def _counts(
        self, data: memoryview, coded: bool, first: int, count: int
    ) -> np.ndarray:
        """Numbers in front of an array."""
        width = self.header.itemsize
        size = width * (first + count)
        head = _decode(data, size) if coded else exactly(data[:size], size)
        return np.frombuffer(head, self.header)[first:]

    def _raw(self, element: ElementTree.Element) -> memoryview:
        data, _ = self._data(element)
        width, size = self.header.itemsize, int(self._counts(data, False, 0, 1)[0])
        return exactly(data[width : width + size], size)

    def _pieces(self, element: ElementTree.Element) -> Iterator[bytes]:
        data, coded = self._data(element)
        if self.compressed:
            yield from self._inflated(data, coded)
        elif not coded:
            yield bytes(self._raw(element))
        else:
            skip = self.header.itemsize
            left = skip + int(self._counts(data, coded, 0, 1)[0])
            for begin in range(0, left, TOGETHER):
                size = min(TOGETHER, left - begin)
                yield _decode(data[begin // 3 * 4 :], size)[skip:]
                skip = 0

    def _inflated(self, data: memoryview, coded: bool) -> Iterator[bytes]:
        count = int(self._counts(data, coded, 0, 1)[0])
        sizes = self._counts(data, coded, 3, count).astype(int)
        width = self.header.itemsize * (3 + count)
        body = data[4 * ((width + 2) // 3) if coded else width :]
        for end, size in zip(np.cumsum(sizes).tolist(), sizes.tolist(), strict=True):
            begin = end - size
            if coded:
                odd = begin % 3
                part = _decode(body[(begin - odd) // 3 * 4 :], odd + size)[odd:]
                yield zlib.decompress(part)
            else:
                yield zlib.decompress(exactly(body[begin:end], size))


def of_type(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Numbers of a text in the type that the file says they have, if they are of it."""
    ends = np.iinfo(dtype) if dtype.kind in "iu" else None
    if ends is not None and not np.all(
        (values == np.rint(values)) & (values >= ends.min) & (values <= ends.max)
    ):
        raise ValueError(f"values that are no {dtype.newbyteorder('=').name}")
    return values.astype(dtype.newbyteorder("="))


def _decode(data: memoryview, size: int) -> bytes:
    return exactly(base64.b64decode(data[: 4 * ((size + 2) // 3)])[:size], size)


def exactly(data: Bytes, size: int) -> Bytes:
    if len(data) != size:
        raise ValueError(
            f"{len(data)} bytes where {size} belong; the file is cut short"
        )
    return data

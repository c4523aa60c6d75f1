"""Pictures and labels in idx files, as those of MNIST: a header of big-endian integers,

    0x0000 08 n   (unsigned bytes, n axes)   size of each axis   values, the last axis fastest,

compressed by gzip or not. Brightness becomes 0 to 1.
"""

from __future__ import annotations

import contextlib
import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from npde_opt.aliases import FilePath
from npde_opt.errors import InputError
from npde_opt.training.samples import Box, Source, whole_labels

MAGIC = 0x0800
"""Of unsigned bytes; the number of axes is added."""
WHITE = 255.0
AT_ONCE = 1 << 22
"""Bytes of pictures that are read before those that nobody asked for are dropped."""
PARTS = {"train": "train", "test": "t10k"}
FOLDERS = (".", "mnist", "MNIST", "MNIST/raw")


class IdxPictures(Source):
    """Pictures of one file with the labels of another.

    Args:
        pictures, labels: the files.
        classes: of the labels.

    Raises:
        InputError: for files that are no idx files of pictures and of labels, cut, empty, of other
            numbers than each other, and labels that are no classes.
    """

    def __init__(self, name: str, pictures: Path, labels: Path, classes: int = 10):
        self.name, self.channels = name, 1
        self._file, self.files = pictures, [pictures, labels]
        self.count, rows, columns = header(pictures, 3)
        self.shape = (1, rows, columns)
        (there,) = header(labels, 1)
        if there != self.count:
            said = f"{there:,} labels in {labels.name}"
            raise InputError(
                name, said, f"{self.count:,}, as the pictures in {pictures.name}"
            )
        with opened(labels) as file:
            file.read(8)
            values = np.frombuffer(exactly(file, there, labels), np.uint8)
            at_end(file, labels)
        self.labels = whole_labels(f"{name} ({labels.name})", values, classes)
        self.classes = tuple(map(str, range(classes)))

    def _inputs(self, numbers: np.ndarray, box: Box, dtype: np.dtype) -> np.ndarray:
        _, rows, columns = self.shape
        empty = np.empty((1, *self.shape), np.uint8)[(slice(None), *box)]
        out = np.empty((len(numbers), 1, *empty.shape[1:]), dtype)
        # In the order of the file, whatever the order that is asked for.
        order = np.argsort(numbers, kind="stable")
        wanted, step = numbers[order], max(AT_ONCE // (rows * columns), 1)
        with opened(self._file) as file:
            file.read(16)
            for first in range(0, self.count, step):
                last = min(first + step, self.count)
                block = exactly(file, (last - first) * rows * columns, self._file)
                a, b = np.searchsorted(wanted, [first, last])
                values = np.frombuffer(block, np.uint8).reshape(-1, 1, 1, rows, columns)
                own = values[(wanted[a:b] - first, slice(None), *box)]
                out[order[a:b]] = own / WHITE
            at_end(file, self._file)
        return out


def mnist(folder: FilePath | None, part: str = "train") -> IdxPictures:
    """MNIST's pictures, in `folder` or its folder mnist.

    Args:
        part: 'train' (60,000) or 'test' (10,000).

    Raises:
        InputError: where there is no such folder or file, and as IdxPictures.
    """
    if folder is None:
        said = "the folder of MNIST's idx files (train-images-idx3-ubyte.gz ...), or NPDE_DATA"
        raise InputError("--data", "nothing", said)
    if part not in PARTS:
        raise InputError("part of MNIST", repr(part), ", ".join(PARTS))
    stem = PARTS[part]
    pictures = _find(Path(folder), f"{stem}-images", "idx3-ubyte")
    labels = _find(Path(folder), f"{stem}-labels", "idx1-ubyte")
    return IdxPictures(f"MNIST, {part}", pictures, labels)


def _find(folder: Path, stem: str, kind: str) -> Path:
    names = [f"{stem}{sign}{kind}{end}" for sign in "-." for end in ("", ".gz")]
    for place in FOLDERS:
        for name in names:
            if (folder / place / name).is_file():
                return folder / place / name
    folders = f"a folder with {names[0]} or {names[1]}, or with mnist/{names[0]}"
    allowed = f"{folders} (--data, NPDE_DATA)"
    raise InputError("--data", str(folder), allowed)


def header(path: Path, axes: int) -> list[int]:
    """Sizes of the axes.

    Raises:
        InputError: for another magic number, and sizes of 0.
    """
    with opened(path) as file:
        words = np.frombuffer(exactly(file, 4 + 4 * axes, path), ">u4")
    if words[0] != MAGIC + axes:
        said = f"the magic number 0x{int(words[0]):08x}"
        raise InputError(
            str(path), said, f"0x{MAGIC + axes:08x}, unsigned bytes on {axes} axes"
        )
    sizes = [int(n) for n in words[1:]]
    if 0 in sizes:
        raise InputError(
            str(path), "no values: sizes " + " x ".join(map(str, sizes)), "some"
        )
    return sizes


@contextlib.contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """Bytes of a file, unpacked where it is compressed, whatever its name says."""
    try:
        with open(path, "rb") as raw:
            packed = raw.read(2) == b"\x1f\x8b"
            raw.seek(0)
            if packed:
                with gzip.open(raw) as file:
                    yield file  # type: ignore[misc]
            else:
                yield raw
    except (OSError, EOFError, zlib.error) as error:
        reason = str(error).splitlines()[0] if str(error) else repr(error)
        said = f"a file that cannot be read ({reason})"
        raise InputError(
            str(path), said, "an undamaged idx file, compressed by gzip or not"
        ) from error


def exactly(file: BinaryIO, size: int, path: Path) -> bytes:
    """So many bytes. Raises InputError where the file ends before."""
    found = file.read(size)
    if len(found) < size:
        said = f"cut: {len(found):,} bytes where {size:,} more should be"
        raise InputError(str(path), said, "a whole idx file")
    return found


def at_end(file: BinaryIO, path: Path) -> None:
    """Raises InputError for bytes after the values."""
    if file.read(1):
        raise InputError(
            str(path), "more bytes than its header says", "a whole idx file"
        )

"""A .npz file whose arrays come in runs of values, so that whoever writes it never has all of one.

What the disk refuses is kept until the file is closed: who writes goes on taking runs from the
other ranks, and leaves none waiting.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Sequence
from typing import IO

import numpy as np

from npde_opt.aliases import FilePath


class NpzRuns:
    """An uncompressed archive of arrays of float64."""

    def __init__(self, path: FilePath):
        self._failure: Exception | None = None
        self._archive: zipfile.ZipFile | None = None
        self._array: IO[bytes] | None = None
        self._attempt(lambda: self._open(path))

    def _attempt(self, work: Callable[[], object]) -> None:
        """After a failure nothing more is tried."""
        if self._failure is not None:
            return
        try:
            work()
        except Exception as error:
            self._failure = error

    def _open(self, path: FilePath) -> None:
        self._archive = zipfile.ZipFile(path, "w")

    def begin(self, name: str, shape: Sequence[int]) -> None:
        """The next array."""
        self._attempt(lambda: self._begin(name, shape))

    def _begin(self, name: str, shape: Sequence[int]) -> None:
        assert self._archive is not None
        self._end()
        entry = zipfile.ZipInfo(f"{name}.npy")
        self._array = self._archive.open(entry, "w", force_zip64=True)
        head = {"descr": "<f8", "fortran_order": False, "shape": tuple(shape)}
        np.lib.format.write_array_header_1_0(self._array, head)

    def _end(self) -> None:
        if self._array is not None:
            self._array.close()
            self._array = None

    def add(self, values: np.ndarray) -> None:
        """The next values of the array, last axis fastest."""
        self._attempt(lambda: self._add(values))

    def _add(self, values: np.ndarray) -> None:
        assert self._array is not None
        self._array.write(np.ascontiguousarray(values, "<f8").tobytes())

    def close(self) -> None:
        """Raises what failed first."""
        self._attempt(self._end)
        if self._archive is not None:
            self._attempt(self._archive.close)
        if self._failure is not None:
            raise self._failure

"""Arrays of states whose memory is used again when nobody holds them any more.

A gradient makes and drops a trajectory of them. From the system, every page of each would be
cleared anew, which takes up to a fifth of the time of a gradient.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

LEAST, MOST = 1 << 17, 1 << 25
"""Bytes of an array that is kept: smaller ones are kept by the system's library, larger ones cost
as much to hold as they save."""
KEPT = 1 << 29
"""Bytes that are held at most for arrays to come."""


class _Lent:
    """Memory that numpy takes an array for. The array and its views keep it alive."""

    def __init__(self, of: Recycled, memory: np.ndarray, dtype: np.dtype):
        self.of, self.memory = of, memory
        interface = memory.view(dtype).__array_interface__
        self.__array_interface__ = interface | {"strides": None}

    def __del__(self) -> None:
        self.of.back(self.memory)


class Recycled:
    """Memory for arrays to come.

    Args:
        most: bytes that are held at most.
    """

    def __init__(self, most: int = KEPT):
        self.most, self.held = most, 0
        self._idle: dict[int, list[np.ndarray]] = {}

    def empty(self, shape: Sequence[int], dtype: np.dtype) -> np.ndarray:
        """An array with any values, as np.empty gives one. Its memory comes back with the last
        view of it."""
        size = prod(shape) * dtype.itemsize
        if not LEAST <= size <= MOST:
            return np.empty(shape, dtype)
        idle = self._idle.get(size)
        if idle:
            memory = idle.pop()
            self.held -= size
        else:
            memory = np.empty(size, np.uint8)
        return np.asarray(_Lent(self, memory, dtype)).reshape(shape)

    def zeros(self, shape: Sequence[int], dtype: np.dtype) -> np.ndarray:
        found = self.empty(shape, dtype)
        found.fill(0)
        return found

    def back(self, memory: np.ndarray) -> None:
        """Of an array that nobody holds any more."""
        if self.held + memory.size <= self.most:
            self.held += memory.size
            self._idle.setdefault(memory.size, []).append(memory)


STATES = Recycled()

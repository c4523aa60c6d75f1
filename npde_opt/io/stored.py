"""Arrays that lie in files, of which windows are read: nothing else of them comes into memory.

`Mapped` views the file's bytes by a memory map, `Sliced` asks a format's own reader for the part of
a file that holds a window. Both say where they lie like `Gridded`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from npde_opt.io.gridded import Gridded, Upright, box_text

Window = tuple[slice, ...]


@dataclass(frozen=True, eq=False)
class Stored:
    """An array in a file.

    Attributes:
        shape: [i, j, k], or [c, i, j, k] with components in front.
        dtype: of the values in the file.
        edges, kind, unit, rounding: as those of `Gridded`.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    edges: tuple[np.ndarray, ...] | None
    kind: str
    unit: str
    rounding: float | None

    @property
    def components(self) -> int:
        """As that of `Gridded`."""
        if self.edges is None or len(self.shape) == len(self.edges):
            return 1
        return self.shape[0]

    @property
    def box(self) -> str:
        """As that of `Gridded`."""
        if self.edges is None:
            return ""
        return box_text(self.edges) + (f" {self.unit}" if self.unit else "")

    def window(self, shape: Sequence[int], cells: Window) -> np.ndarray:
        """The values of some cells of the array folded to `shape`, x fastest: one that has axes of
        length 1 more or less, or is a flat list of its values."""
        raise NotImplementedError


@dataclass(frozen=True, eq=False)
class Mapped(Stored):
    """A view of a file's bytes."""

    values: np.ndarray

    @property
    def head(self) -> Stored:
        """What is known without the values."""
        place = (self.edges, self.kind, self.unit, self.rounding)
        return Stored(self.shape, self.dtype, *place)

    @classmethod
    def of(cls, found: Gridded) -> Mapped:
        """Of a Gridded whose values are such a view."""
        v = found.values
        place = (found.edges, found.kind, found.unit, found.rounding)
        return cls(v.shape, v.dtype, *place, v)

    def window(self, shape: Sequence[int], cells: Window) -> np.ndarray:
        return np.array(self.values.reshape(tuple(shape), order="F")[cells])


@dataclass(frozen=True, eq=False)
class Sliced(Stored):
    """What a reader of a format gives of index ranges.

    Attributes:
        upright: how the axes of the file become x, y and z.
        read: values of ranges of the file's axes.
    """

    upright: Upright
    read: Callable[[Window], np.ndarray]

    def window(self, shape: Sequence[int], cells: Window) -> np.ndarray:
        # Of the axes that the file has, and `shape` may lack or have more of, all are of length 1.
        ranges = iter([s for s, n in zip(cells, shape, strict=True) if n > 1])
        own = tuple(next(ranges) if n > 1 else slice(0, 1) for n in self.shape)
        found = self.upright.turned(self.read(self.upright.ranges(own, self.shape)))
        out = [s.stop - s.start for s in cells]
        return found.reshape(out, order="F")

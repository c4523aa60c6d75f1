"""Arrays that lie in files, of which windows are read: nothing else of them comes into memory.

`Mapped` views the file's bytes by a memory map, `Sliced` asks a format's own reader for the part of
a file that holds a window. `Streamed` is for files whose values can be had one after the other
only, packed or as text: one rank reads them, slab by slab, and hands each rank what is in its
window. All say where they lie like `Gridded`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from mpi4py import MPI

from npde_opt.io.gridded import Gridded, Upright, box_text

Window = tuple[slice, ...]
SLAB = 1 << 18
"""Values that a reader of a stream holds at a time, or one plane of them."""


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

    @property
    def head(self) -> Stored:
        """What is known without the values."""
        place = (self.edges, self.kind, self.unit, self.rounding)
        return Stored(self.shape, self.dtype, *place)

    def window(self, shape: Sequence[int], cells: Window) -> np.ndarray:
        """The values of some cells of the array folded to `shape`, x fastest: one that has axes of
        length 1 more or less, or is a flat list of its values."""
        raise NotImplementedError


@dataclass(frozen=True, eq=False)
class Mapped(Stored):
    """A view of a file's bytes."""

    values: np.ndarray

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


@dataclass(frozen=True, eq=False)
class Streamed(Stored):
    """Values that come one after the other.

    Attributes:
        pieces: flat runs of them in the file's order, from its begin.
        rising: whether the first index is the fastest in the file; the last is otherwise.
    """

    pieces: Callable[[], Iterator[np.ndarray]]
    rising: bool

    def window(self, shape: Sequence[int], cells: Window) -> np.ndarray:
        own = _Target(cells, self.dtype)
        for slab, values in self.slabs(shape):
            own.take(slab, values)
        return own.values

    def slabs(self, shape: Sequence[int]) -> Iterator[tuple[Window, np.ndarray]]:
        """All values of the array folded to `shape`, in runs of planes, with the cells that each
        run has.

        Raises:
            ValueError: where the file has fewer values or more.
        """
        thick = [d for d, n in enumerate(shape) if n > 1] or [0]
        slow = thick[-1] if self.rising else thick[0]
        size, planes = math.prod(shape), shape[slow]
        step = max(1, SLAB * planes // size)
        flow, rest = self.pieces(), np.empty(0, self.dtype)
        for first in range(0, planes, step):
            last = min(first + step, planes)
            cells = [slice(0, n) for n in shape]
            cells[slow] = slice(first, last)
            count = size // planes * (last - first)
            there, have = [rest], rest.size
            while have < count:
                piece = next(flow, None)
                if piece is None:
                    raise ValueError(f"fewer than its {size:,} values")
                there.append(piece)
                have += piece.size
            run = np.concatenate(there) if len(there) > 1 else rest
            values, rest = run[:count], run[count:]
            own = [s.stop - s.start for s in cells]
            yield (
                tuple(cells),
                values.reshape(own, order="F" if self.rising else "C"),
            )
        if rest.size or any(piece.size for piece in flow):
            raise ValueError(f"more than its {size:,} values")


class _Target:
    """A window that fills slab by slab."""

    def __init__(self, cells: Window, dtype: np.dtype):
        self.cells = cells
        self.values = np.empty([s.stop - s.start for s in cells], dtype, order="F")

    def take(self, slab: Window, values: np.ndarray) -> None:
        """What a slab has of the window."""
        common = shared_cells(self.cells, slab)
        if common is not None:
            here = tuple(_moved(c, w) for c, w in zip(common, self.cells, strict=True))
            self.values[here] = cut(slab, values, common)


def shared_cells(a: Window, b: Window) -> Window | None:
    """Cells that lie in both; None where there are none."""
    both = tuple(
        slice(max(s.start, t.start), min(s.stop, t.stop))
        for s, t in zip(a, b, strict=True)
    )
    return both if all(s.start < s.stop for s in both) else None


def cut(slab: Window, values: np.ndarray, cells: Window) -> np.ndarray:
    """Some of the cells of a slab's values."""
    return values[tuple(_moved(c, s) for c, s in zip(cells, slab, strict=True))]


def _moved(cells: slice, origin: slice) -> slice:
    return slice(cells.start - origin.start, cells.stop - origin.start)


def handed_out(
    comm: MPI.Intracomm,
    stored: Streamed | None,
    head: Stored,
    shape: Sequence[int],
    cells: Window,
) -> np.ndarray | None:
    """A window of a stream that rank 0 reads once, for all ranks; None on all where it is
    damaged. Collective.

    Args:
        stored: on rank 0.
    """
    windows = comm.gather(cells, root=0)
    own = _Target(cells, head.dtype)
    if comm.rank:
        while isinstance(message := comm.recv(source=0), tuple):
            own.take(*message)
        return own.values if message else None
    assert stored is not None and windows is not None
    whole = False
    # The others wait for what comes: nothing may end this without a last word to them.
    try:
        for slab, values in stored.slabs(shape):
            own.take(slab, values)
            for rank, window in enumerate(windows[1:], start=1):
                common = shared_cells(window, slab)
                if common is not None:
                    comm.send((common, np.array(cut(slab, values, common))), rank)
        whole = True
    except Exception:
        pass  # who reads all of it says what is wrong
    finally:
        for rank in range(1, comm.size):
            comm.send(whole, rank)
    return own.values if whole else None

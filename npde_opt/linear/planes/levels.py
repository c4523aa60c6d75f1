"""Levels of a multigrid hierarchy with values as planes, without index arrays: what the loops on
rows need, for symmetric stencils.

Coarsening and interpolation are those of geometric.py: coarse unknowns at every other cell,
A_coarse = P^T A P.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from npde_opt.grids import Grid
from npde_opt.linear.geometric import COARSEST, Level
from npde_opt.linear.planes import runs
from npde_opt.linear.planes.geometry import END, FIRST, FRONT, Geometry
from npde_opt.machine_code import Kept, Repeated
from npde_opt.operators.patterns import Offset

LOOPS = "npde_opt.linear.planes.rows"
PUT, TAKE, WRAP = Kept(LOOPS, "put"), Kept(LOOPS, "take"), Kept(LOOPS, "wrap")

SINGLE = np.float32
LINE = 16
"""Numbers in single precision of a line of the cache."""
MORE = 1.05
"""Rows become this much longer so that they begin with lines of the cache."""
BAND = 1 << 15
"""Cells of a band of rows."""

Planes = dict[Offset, np.ndarray]
"""Owned values [k, j, i] (x last) by offset; of symmetric stencils one of o and -o is enough."""


def first_half(offset: Offset) -> bool:
    """Whether it is 0 or its last component other than 0 is positive: one of o and -o."""
    return offset[::-1] >= (0,) * len(offset)


@dataclass(frozen=True)
class Line:
    """An axis that is halved: l_r and u_r for r = -1, 0, ... (see halving.py); None where it is
    not."""

    lower: np.ndarray
    upper: np.ndarray


class Shape:
    """The rows of a level (rows.py), and how its stencil goes over them.

    Args:
        cells: along x, y, z, with ghosts.
        periodic: by axis.
        offsets: of the stencil, the centre among them, with both of o and -o or one.
        inner: the owned cells [k, j, i].
        active: [k, j, i] with ghosts; None for all.
        skips: whether sweeps leave out what is inactive, where nothing else writes to it.
    """

    def __init__(
        self,
        cells: Sequence[int],
        periodic: Sequence[bool],
        offsets: Sequence[Offset],
        inner: tuple[slice, ...],
        active: np.ndarray | None = None,
        skips: bool = True,
    ):
        self.cells, self.periodic = tuple(cells), tuple(periodic)
        half = {o for o in offsets if first_half(o)}
        wide = any(sum(map(abs, o)) > 1 for o in half)
        if wide:
            half = {o for o in product((-1, 0, 1), repeat=len(cells)) if first_half(o)}
        self.offsets = sorted(half, key=lambda o: o[::-1])
        """The centre first, then in the order of rows.py."""
        pitch = self.cells[0] + 2
        aligned = -(-pitch // LINE) * LINE
        pitch = aligned if aligned <= MORE * pitch else pitch
        self.pitch = pitch
        strides = (1, pitch, pitch * (self.cells[1] + 2))[: len(cells)]
        self.size = FRONT + strides[-1] * (self.cells[-1] + 2) + LINE
        steps = [
            sum(s * o for s, o in zip(strides, o, strict=True))
            for o in self.offsets[1:]
        ]
        self.steps = np.array(steps, np.int64)
        whole = self._padded()[(slice(1, -1),) * (len(cells) - 1)]
        reach = max(steps) // pitch + 1 if wide or len(cells) == 3 else 1
        across = any(self.periodic[1:])
        first, end = int(whole.ravel()[0]), int(whole.ravel()[-1]) + 1
        reach, band = (0, end - first) if across else (reach, max(BAND // pitch, 1))
        plane = strides[2] if len(cells) == 3 else 0
        own = tuple(part.stop - part.start for part in inner[::-1])
        wraps = any(self.periodic) or own != self.cells
        numbers = self.cells[0], pitch, plane, first, end, reach, band, wide, wraps
        front = FRONT + 1
        ends = front + first * pitch, front + end * pitch
        everything = np.ones(self.cells[::-1], bool)
        self._runs = runs.runs(
            everything if active is None else active, inner, whole, front, pitch
        )
        some = active if skips else None
        self.segments = runs.segments(everything if some is None else some)
        """Of cells that sweeps go over, with numbers of rows, those outside among them."""
        self.segments[:, 0] = whole.ravel()[self.segments[:, 0]]
        starts = front + self.segments[:, 0] * pitch + self.segments[:, 1]
        lengths = self.segments[:, 2] - self.segments[:, 1]
        self._spans = (
            runs.chunks([ends])
            if some is None
            else runs.spans(starts, starts + lengths)
        )
        # A sweep that is behind others may begin behind the last row.
        rows_begin = front + pitch * np.arange(end + 2 * reach + band + 1)
        self._firsts = np.searchsorted(self._spans[:, 1], rows_begin, "right")
        self.whole = self._geometry((*numbers, 0, self.cells[0]), whole)
        self.geometry = self._geometry(
            (*numbers, inner[-1].start, own[0]), whole[inner[:-1]]
        )
        # By the precision of the field.
        self._put = defaultdict[np.dtype, Repeated](lambda: Repeated(PUT))
        self._take = defaultdict[np.dtype, Repeated](lambda: Repeated(TAKE))

    def _geometry(self, numbers: tuple[int, ...], own: np.ndarray) -> Geometry:
        return (
            np.array(numbers, np.int64),
            np.ascontiguousarray(own.ravel()),
            self._outside(),
            self.periodic[0],
            self._runs,
            self._spans,
            self._firsts,
        )

    def _padded(self) -> np.ndarray:
        """Numbers of all rows [z, y]."""
        padded = [n + 2 for n in self.cells[:0:-1]]
        found: np.ndarray = np.arange(int(np.prod(padded))).reshape(padded)
        return found

    def _outside(self) -> np.ndarray:
        """Rows outside, and those that they are the same as."""
        numbers = self._padded()
        sources: np.ndarray = numbers
        for axis, wraps in enumerate(self.periodic[:0:-1]):
            n = numbers.shape[axis] - 2
            place = np.arange(n + 2)
            if wraps:
                place[0], place[-1] = n, 1
            sources = np.take(sources, place, axis)
        changed = sources != numbers
        found: np.ndarray = np.stack([numbers[changed], sources[changed]], axis=1)
        return found

    def zeros(self, dtype: type[np.floating] | type[float]) -> np.ndarray:
        found: np.ndarray = self._aligned(1, dtype)[0]
        return found

    def couplings(self, dtype: type[np.floating] | type[float]) -> np.ndarray:
        """[o, cell], without the centre."""
        return self._aligned(len(self.offsets) - 1, dtype)

    def _aligned(
        self, count: int, dtype: type[np.floating] | type[float]
    ) -> np.ndarray:
        """Zeros [count, cell] of which the first begins a line of the cache."""
        size = -(-self.size // LINE) * LINE
        whole: np.ndarray = np.zeros(count * size + LINE, dtype)
        shift = -(whole.ctypes.data // whole.itemsize) % LINE
        found: np.ndarray = whole[shift : shift + count * size].reshape(count, size)
        return found

    def put(self, values: np.ndarray, factor: float, out: np.ndarray) -> None:
        """Values at owned active cells, x fastest, times a factor into a field."""
        self._put[out.dtype](values, factor, out, self.geometry)
        self.wrap(out)

    def take(self, field: np.ndarray, factor: float, values: np.ndarray) -> None:
        """A field at owned active cells, times a factor, to values, x fastest."""
        self._take[field.dtype](field, factor, values, self.geometry)

    def wrap(self, field: np.ndarray) -> None:
        """What lies outside along axes that are periodic and not cut."""
        if any(self.periodic):
            numbers = self.geometry[0]
            WRAP(field, self.geometry, numbers[FIRST], numbers[END])

    def view(self, field: np.ndarray) -> np.ndarray:
        """A field's cells [k, j, i] with ghosts."""
        lines = [n + 2 for n in self.cells[:0:-1]]
        size = math.prod(lines) * self.pitch
        whole = field[FRONT : FRONT + size].reshape(*lines, self.pitch)
        inside = (slice(1, -1),) * len(lines)
        found: np.ndarray = whole[(*inside, slice(1, self.cells[0] + 1))]
        return found


def one_half(planes: Planes, periodic: Sequence[bool]) -> Planes:
    """The first half of them, in whose values couplings to what lies outside become 0."""
    found = {o: values for o, values in planes.items() if first_half(o)}
    for offset, values in found.items():
        for d, s in enumerate(offset):
            if s and not periodic[d]:
                line = np.moveaxis(values, values.ndim - 1 - d, 0)
                line[slice(-s, None) if s > 0 else slice(None, -s)] = 0
    return found


def moved(values: np.ndarray, offset: Offset, periodic: Sequence[bool]) -> np.ndarray:
    """v[i + o], 0 outside."""
    found = values
    for d, s in enumerate(offset):
        axis = values.ndim - 1 - d
        if s and periodic[d]:
            found = np.roll(found, -s, axis)
        elif s:
            line = np.moveaxis(found, axis, 0)
            out = np.zeros_like(line)
            if s > 0:
                out[:-s] = line[s:]
            else:
                out[-s:] = line[:s]
            found = np.moveaxis(out, 0, axis)
    return found


def rows_before(cells: Sequence[int]) -> np.ndarray:
    """[axis - 1, row]: the row before along y, z; the last one before the first."""
    numbers: np.ndarray = np.arange(int(np.prod(cells[1:]))).reshape(cells[:0:-1])
    last = numbers.ndim - 1
    return np.stack([np.roll(numbers, 1, last - d).ravel() for d in range(last + 1)])


def halvings(grid: Grid) -> list[list[Line | None]]:
    """By level, finest first, which axes are halved to the next one, and how."""
    found = list[list[Line | None]]()
    level = Level(grid, grid.centers, grid.layout, None)
    while level.size > COARSEST:
        axes = level.axes_to_coarsen()
        if not axes:
            break
        made = level.halvings(axes)
        along = {h.axis: Line(h.lower, h.upper) for h in made}
        found.append([along.get(d) for d in range(grid.dim)])
        level = level.coarsened(made)
    return found


def axes_halved(halved: Sequence[Sequence[Line | None]]) -> list[list[bool]]:
    """By level, whether each axis is."""
    return [[line is not None for line in along] for along in halved]


def widened(offsets: Sequence[Offset], halved: Sequence[Line | None]) -> list[Offset]:
    """Offsets of the coarse stencil: all steps along axes that are halved."""
    found = set()
    for offset in offsets:
        ways = [
            (-1, 0, 1) if h is not None else (s,)
            for s, h in zip(offset, halved, strict=True)
        ]
        found |= set(product(*ways))
    return sorted(found)


def dense(planes: Planes, periodic: Sequence[bool]) -> np.ndarray:
    """The matrix of planes [k, j, i] as an array, from one of o and -o each."""
    cells = next(iter(planes.values())).shape
    index = np.arange(int(np.prod(cells))).reshape(cells)
    A = np.zeros((index.size,) * 2)
    for offset, values in planes.items():
        to = moved(index + 1, offset, periodic) - 1
        i, j, entries = index[to >= 0], to[to >= 0], values[to >= 0]
        np.add.at(A, (i, j), entries)
        if any(offset):
            np.add.at(A, (j, i), entries)
    return A

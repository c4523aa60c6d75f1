"""Levels of a multigrid hierarchy with values as planes, without index arrays: what the loops on
rows need, for symmetric stencils on grids of one rank.

Coarsening and interpolation are those of geometric.py: coarse unknowns at every other cell,
A_coarse = P^T A P.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

import numpy as np

from npde_opt.grids import Grid
from npde_opt.lazily import loaded_lazily
from npde_opt.linear.geometric import COARSEST, Level
from npde_opt.operators.stencils import Offset

if TYPE_CHECKING:
    from npde_opt.linear.planes import galerkin_loops, rows
    from npde_opt.linear.planes.galerkin_loops import Along, Couples
    from npde_opt.linear.planes.transfers import Transfer
else:
    galerkin_loops = loaded_lazily("npde_opt.linear.planes.galerkin_loops")
    rows = loaded_lazily("npde_opt.linear.planes.rows")

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
        cells: along x, y, z.
        periodic: by axis.
        offsets: of the stencil, the centre among them, with both of o and -o or one.
    """

    def __init__(
        self, cells: Sequence[int], periodic: Sequence[bool], offsets: Sequence[Offset]
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
        strides = (1, pitch, pitch * (self.cells[1] + 2))[: len(cells)]
        self.size = rows.FRONT + strides[-1] * (self.cells[-1] + 2) + LINE
        steps = [
            sum(s * o for s, o in zip(strides, o, strict=True))
            for o in self.offsets[1:]
        ]
        self.steps = np.array(steps, np.int64)
        self.rows = np.ascontiguousarray(
            self._padded()[(slice(1, -1),) * (len(cells) - 1)].ravel()
        )
        reach = max(steps) // pitch + 1 if wide or len(cells) == 3 else 1
        across = any(self.periodic[1:])
        first, end = int(self.rows[0]), int(self.rows[-1]) + 1
        reach, band = (0, end - first) if across else (reach, max(BAND // pitch, 1))
        plane = strides[2] if len(cells) == 3 else 0
        wraps = any(self.periodic)
        numbers = self.cells[0], pitch, plane, first, end, reach, band, wide, wraps
        self.geometry = (
            np.array(numbers, np.int64),
            self.rows,
            self._outside(),
            self.periodic[0],
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

    def wrap(self, field: np.ndarray) -> None:
        """Writes anew what lies outside."""
        if any(self.periodic):
            numbers = self.geometry[0]
            rows.wrap(field, self.geometry, numbers[rows.FIRST], numbers[rows.END])

    def put(self, values: np.ndarray, factor: float, out: np.ndarray) -> None:
        """Owned values, x fastest, times a factor into a field."""
        rows.put(values, factor, out, self.geometry)
        self.wrap(out)


def weights_along(line: Line | None) -> Along:
    """Of x."""
    lower, upper = (np.zeros(1),) * 2 if line is None else (line.lower, line.upper)
    return line is not None, lower.astype(SINGLE), upper.astype(SINGLE)


def galerkin(
    fine: Shape, halved: Sequence[Line | None]
) -> tuple[Along, Couples, Couples]:
    """What galerkin_loops.py needs of the interpolation, by axis."""
    axes = zip(fine.cells[1:], halved[1:], fine.periodic[1:], strict=True)
    found = [couples(*axis) for axis in axes]
    return weights_along(halved[0]), found[0], (found + [couples(1, None, False)])[1]


def transfer(fine: Shape, coarse: Shape, halved: Sequence[Line | None]) -> Transfer:
    """P between two levels (transfers.py)."""
    axes = list(zip(fine.cells[1:], halved[1:], fine.periodic[1:], strict=True))
    down, weights = _combined(
        [_parents(*axis[:2], True, axis[2]) for axis in axes], fine
    )
    up, up_weights = _combined(
        [_parents(*axis[:2], False, axis[2]) for axis in axes], coarse
    )
    last = np.maximum.accumulate(np.where(weights != 0, down, 0).max(axis=1))
    return (*weights_along(halved[0]), down, weights, last, up, up_weights)


def _combined(
    axes: Sequence[tuple[np.ndarray, np.ndarray]], shape: Shape
) -> tuple[np.ndarray, np.ndarray]:
    """Rows of a shape and weights of all axes together, the slowest first."""
    found, weights = np.zeros((1, 1), np.int64), np.ones((1, 1))
    for (own, w), n in zip(list(axes)[::-1], shape.cells[:0:-1], strict=True):
        together = (
            found[:, None, :, None] * (n + 2) + np.maximum(own, 0)[None, :, None, :] + 1
        )
        product_of = weights[:, None, :, None] * w[None, :, None, :]
        size = found.shape[0] * own.shape[0]
        found, weights = together.reshape(size, -1), product_of.reshape(size, -1)
    return found, weights.astype(SINGLE)


def _parents(
    n: int, line: Line | None, down: bool, wraps: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Along one axis of n fine cells: of every coarse cell the fine ones that give to it (down), or
    of every fine cell the coarse ones that it takes from; -1 where there is none, weights."""
    if line is None:
        return np.arange(n)[:, None], np.ones((n, 1))
    count = (n + 1) // 2
    if down:
        c = np.arange(count)
        cells = np.stack([2 * c, 2 * c + 1, 2 * c - 1], axis=1)
        weights = np.stack([np.ones(count), line.lower[1:], line.upper[:-1]], axis=1)
        inside = (cells >= 0) & (cells < n)
        if wraps and n % 2 == 0:
            cells[0, 2], inside[0, 2] = n - 1, True
    else:
        i = np.arange(n)
        r = i // 2
        odd = i % 2 == 1
        cells = np.stack([r, r + 1], axis=1)
        lower, upper = line.lower[r + 1], line.upper[r + 1]
        weights = np.stack(
            [np.where(odd, lower, 1.0), np.where(odd, upper, 0.0)], axis=1
        )
        if wraps:
            cells %= count
        inside = cells < count
    return np.where(inside, cells, -1), np.where(inside, weights, 0.0)


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


def couples(n: int, line: Line | None, wraps: bool) -> Couples:
    """Along one axis of n fine cells, see galerkin_loops.py."""
    count = n if line is None else (n + 1) // 2
    shape = count, 3, galerkin_loops.MOST
    i, j, step = (np.zeros(shape, np.int64) for _ in range(3))
    weights = np.zeros(shape)
    for c, beside in product(range(count), (0, 1, -1)):
        pairs = [
            (p, q, v * w)
            for (p, v), (q, w) in product(
                _children(c, line), _children(c + beside, line)
            )
            if v * w and abs(p - q) <= 1 and (wraps or (0 <= p < n and 0 <= q < n))
        ]
        for k, (p, q, weight) in enumerate(pairs):
            place = c, beside, k
            i[place], j[place], step[place] = p % n + 1, q % n + 1, q - p
            weights[place] = weight
    return i, j, step, weights.astype(SINGLE)


def _children(c: int, line: Line | None) -> list[tuple[int, float]]:
    """Fine cells that give to a coarse one, and their weights; c may be one beyond an end."""
    if line is None:
        return [(c, 1.0)]
    before = line.upper[c] if 0 <= c < line.upper.size else 0.0
    after = line.lower[c + 1] if -1 <= c < line.lower.size - 1 else 0.0
    return [(2 * c - 1, before), (2 * c, 1.0), (2 * c + 1, after)]


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

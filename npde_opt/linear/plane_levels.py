"""Levels of a multigrid hierarchy with values as planes, without index arrays: what the loops of
loops.py need, for symmetric stencils on whole grids of one rank.

Coarsening and interpolation are those of geometric.py: coarse unknowns at every other cell,
A_coarse = P^T A P, formed axis by axis in double precision.
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
    from npde_opt.linear import loops
else:
    loops = loaded_lazily("npde_opt.linear.loops")

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
    """The rows of a level, and how its stencil goes over them.

    Args:
        cells: along x, y, z.
        periodic: by axis.
        offsets: of the stencil, the centre among them, with both of o and -o or one.
    """

    def __init__(self, cells: Sequence[int], periodic: Sequence[bool], offsets: Sequence[Offset]):
        self.cells, self.periodic = tuple(cells), tuple(periodic)
        half = sorted({o for o in offsets if first_half(o)}, key=lambda o: o[::-1])
        self.offsets = half
        self.rows = int(np.prod(self.cells[1:], dtype=int))
        self.field = (self.rows + 1, self.cells[0] + 2)
        shift = np.array([o[0] for o in half], np.int64)
        ahead = [self._rows(o[1:]) for o in half]
        behind = [self._rows(tuple(-s for s in o[1:])) for o in half]
        self.tables = (np.stack(ahead, axis=1), np.stack(behind, axis=1), shift)

    def _rows(self, step: tuple[int, ...]) -> np.ndarray:
        """Of every row, 0 included, the one that is a step away, 0 for none."""
        found, inside = np.zeros(1, np.int64), np.ones(1, bool)
        # The slowest axis first.
        for n, s, wraps in zip(self.cells[:0:-1], step[::-1], self.periodic[:0:-1], strict=True):
            moved = np.arange(n) + s
            fits = np.ones(n, bool) if wraps else (moved >= 0) & (moved < n)
            found = (found[:, None] * n + moved % n).ravel()
            inside = (inside[:, None] & fits).ravel()
        return np.concatenate([[0], np.where(inside, found + 1, 0)])

    def bands(self, cells: int) -> tuple[int, int]:
        """(rows that a row reaches, rows of a band of so many cells); all rows where the first
        ones and the last reach each other."""
        if any(self.periodic[1:]):
            return 0, self.rows
        ahead = self.tables[0][1:]
        reach = int(np.max(np.where(ahead > 0, ahead - np.arange(1, self.rows + 1)[:, None], 0)))
        return reach, max(cells // self.cells[0], 1)

    def zeros(self, dtype: type[np.floating] | type[float]) -> np.ndarray:
        return np.zeros(self.field, dtype)

    def put(self, values: np.ndarray, out: np.ndarray) -> None:
        """Owned values, x fastest, into a field."""
        out[1:, 1:-1] = values.reshape(self.rows, -1)
        if self.periodic[0]:
            out[1:, 0], out[1:, -1] = out[1:, -2], out[1:, 1]

    def stencil(self, planes: Planes, dtype: type[np.floating], scale: float = 1.0) -> np.ndarray:
        """[o, row, x] of planes [k, j, i], times `scale`."""
        out = np.zeros((len(self.offsets), *self.field), dtype)
        for o, target in zip(self.offsets, out, strict=True):
            self.put(planes[o] * scale if scale != 1 else planes[o], target)
        return out


def transfers(fine: Shape, coarse: Shape, lines: Sequence[Line | None]) -> list[np.ndarray]:
    """Rows and weights of P^T (coarse rows, ...) and of P (fine rows, ...), by axes y and z."""
    down = [_parents(n, line, True, wraps) for n, line, wraps in _others(fine, lines)]
    up = [_parents(n, line, False, wraps) for n, line, wraps in _others(fine, lines)]
    return [*_combined(down, fine.cells[1:]), *_combined(up, coarse.cells[1:])]


def _others(fine: Shape, lines: Sequence[Line | None]) -> list[tuple[int, Line | None, bool]]:
    return list(zip(fine.cells[1:], lines[1:], fine.periodic[1:], strict=True))


def _parents(n: int, line: Line | None, down: bool, wraps: bool) -> tuple[np.ndarray, np.ndarray]:
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
        weights = np.stack([np.where(odd, lower, 1.0), np.where(odd, upper, 0.0)], axis=1)
        if wraps:
            cells %= count
        inside = cells < count
    return np.where(inside, cells, -1), np.where(inside, weights, 0.0)


def _combined(
    axes: Sequence[tuple[np.ndarray, np.ndarray]], cells: Sequence[int]
) -> tuple[np.ndarray, np.ndarray]:
    """Rows and weights of all axes together, the slowest first; row 0 for none."""
    rows, weights = np.zeros((1, 1), np.int64), np.ones((1, 1))
    for (own, w), n in zip(list(axes)[::-1], list(cells)[::-1], strict=True):
        together = rows[:, None, :, None] * n + np.maximum(own, 0)[None, :, None, :]
        product_of = weights[:, None, :, None] * w[None, :, None, :]
        size = rows.shape[0] * own.shape[0]
        rows, weights = together.reshape(size, -1), product_of.reshape(size, -1)
    rows = np.where(weights != 0, rows + 1, 0)
    nothing = np.zeros((1, rows.shape[1]))
    return (
        np.concatenate([nothing.astype(np.int64), rows]),
        np.concatenate([nothing, weights]),
    )


def one_half(planes: Planes, periodic: Sequence[bool]) -> Planes:
    """Of o and -o the one of the first half: A[i, i - o] = A[i - o, i]."""
    found: Planes = {}
    for offset, values in planes.items():
        if first_half(offset):
            found[offset] = values
        elif (other := _first(offset)) not in planes:
            found[other] = moved(values, other, periodic)
    return found


def without_outside(planes: Planes, periodic: Sequence[bool]) -> None:
    """Sets couplings to what lies outside the grid to 0."""
    for offset, values in planes.items():
        for d, s in enumerate(offset):
            if s and not periodic[d]:
                line = np.moveaxis(values, values.ndim - 1 - d, 0)
                line[slice(-s, None) if s > 0 else slice(None, -s)] = 0


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


def galerkin(planes: Planes, axis: int, line: Line, periodic: Sequence[bool]) -> Planes:
    """Planes of P^T A P where P halves one axis; as many of o and -o as are given."""
    size = next(iter(planes.values())).ndim
    place = size - 1 - axis
    others = {_first(_without(o, axis)) for o in planes}
    out: Planes = {}
    for other in sorted(others):
        names = [other[:axis] + (step,) + other[axis + 1 :] for step in (-1, 0, 1)]
        parts = [_seen(planes, name, periodic) for name in names]
        like = next(p for p in parts if p is not None)
        nothing = np.zeros_like(like) if any(p is None for p in parts) else like
        a, b, d = (_folded(nothing if p is None else p, place) for p in parts)
        count = (like.shape[place] + 1) // 2
        before, _, after = b.shape
        found = np.empty((3, before, count, after))
        weights = line.lower, line.upper, periodic[axis]
        if axis == 0:
            along = found[:, :, :, 0]
            loops.halve_rows(a[:, :, 0], b[:, :, 0], d[:, :, 0], *weights, along)
        else:
            loops.halve(a, b, d, *weights, found)
        shape = (*like.shape[:place], count, *like.shape[place + 1 :])
        out |= dict(zip(names, found.reshape(3, *shape), strict=True))
    return one_half(out, periodic)


def _without(offset: Offset, axis: int) -> Offset:
    return offset[:axis] + (0,) + offset[axis + 1 :]


def _first(offset: Offset) -> Offset:
    """That of o and -o which is of the first half."""
    return offset if first_half(offset) else tuple(-s for s in offset)


def _seen(planes: Planes, offset: Offset, periodic: Sequence[bool]) -> np.ndarray | None:
    """The plane of an offset, from the other side where only that one is given."""
    if offset in planes:
        return planes[offset]
    other = tuple(-s for s in offset)
    return moved(planes[other], offset, periodic) if other in planes else None


def _folded(values: np.ndarray, place: int) -> np.ndarray:
    """[before, i, after]"""
    before = int(np.prod(values.shape[:place], dtype=int))
    return np.ascontiguousarray(values).reshape(before, values.shape[place], -1)


def halvings(grid: Grid) -> list[list[Line | None]]:
    """By level, finest first, which axes are halved to the next one, and how."""
    found = list[list[Line | None]]()
    level = Level(grid, grid.centers, grid.layout, None)
    while level.size > COARSEST:
        axes = level.axes_to_coarsen()
        if not axes:
            break
        made = level.halvings(axes)
        lines = {h.axis: Line(h.lower, h.upper) for h in made}
        found.append([lines.get(d) for d in range(grid.dim)])
        level = level.coarsened(made)
    return found


def widened(offsets: Sequence[Offset], lines: Sequence[Line | None]) -> list[Offset]:
    """Offsets of the coarse stencil: all steps along axes that are halved."""
    found = set()
    for offset in offsets:
        ways = [(-1, 0, 1) if h is not None else (s,) for s, h in zip(offset, lines, strict=True)]
        found |= set(product(*ways))
    return sorted(found)

"""P^T and P between the boxes of two levels, as the loops of transfers.py take them.

P^T goes to the owned coarse cells; P to all fine cells of which the parents are there, ghosts among
them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from npde_opt.linear.planes.boxes import Box, Extent
from npde_opt.linear.planes.geometry import MOST, Along, Couples
from npde_opt.linear.planes.levels import SINGLE, Line, Shape

if TYPE_CHECKING:
    from npde_opt.linear.planes.transfers import Transfer

TOGETHER = 3
"""Rows that transfers.py sums at a time."""

Lines = Sequence[Line | None]
Place = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Along one axis: numbers of the targets; of what each takes from [target, n]; weights."""


def slots(line: Line, coarse: Extent, first: int, count: int) -> Line:
    """l_r and u_r for r = first, first + 1, ..."""
    r = first + np.arange(count)
    index = r % coarse.total + 1 if coarse.cut and coarse.periodic else r + 1
    return Line(line.lower[index], line.upper[index])


def restriction(
    boxes: tuple[Box, Box], shapes: tuple[Shape, Shape], halved: Lines
) -> Transfer:
    """P^T from the first to the second."""
    fine, coarse = (box.extents for box in boxes)
    f, c, line = fine[0], coarse[0], halved[0]
    first = 2 * c.first if line is not None else c.first
    along = _along(line, c, c.first - 1, c.count + 1)
    numbers = first - f.start, 1 + c.below, c.count
    axes = zip(halved[1:], fine[1:], coarse[1:], strict=True)
    places = [_children(line, *both) for line, *both in axes]
    return _transfer(numbers, along, places, shapes)


def prolongation(
    boxes: tuple[Box, Box], shapes: tuple[Shape, Shape], halved: Lines
) -> Transfer:
    """P from the second to the first."""
    fine, coarse = (box.extents for box in boxes)
    f, c, line = fine[0], coarse[0], halved[0]
    if line is None:
        first, end = max(f.start, c.start), min(f.end, c.end)
        parent = first
    else:
        first = max(f.start + f.start % 2, 2 * c.start)
        end = min(f.end, 2 * c.end - 1) if c.above else f.end
        parent = first // 2
    along = _along(line, c, parent - 1, (end - first) // 2 + 1)
    numbers = parent - c.start, first - f.start + 1, end - first
    axes = zip(halved[1:], fine[1:], coarse[1:], strict=True)
    places = [_parents(line, *both) for line, *both in axes]
    return _transfer(numbers, along, places, shapes[::-1])


def _along(line: Line | None, coarse: Extent, first: int, count: int) -> Line | None:
    return None if line is None else slots(line, coarse, first, count)


def _transfer(
    numbers: tuple[int, int, int],
    along: Line | None,
    places: Sequence[Place],
    shapes: tuple[Shape, Shape],
) -> Transfer:
    source, target = shapes
    line = along or Line(np.zeros(1), np.zeros(1))
    targets = np.zeros(1, np.int64)
    rows, weights = np.zeros((1, 1), np.int64), np.ones((1, 1))
    axes = zip(places[::-1], source.cells[:0:-1], target.cells[:0:-1], strict=True)
    for (own, taken, w), n, to in axes:
        targets = (targets[:, None] * (to + 2) + own + 1).ravel()
        size = targets.size
        place = np.maximum(taken, 0)[None, :, None, :] + 1
        rows = (rows[:, None, :, None] * (n + 2) + place).reshape(size, -1)
        both = weights[:, None, :, None] * w[None, :, None, :]
        weights = both.reshape(size, -1)
    # Nothing comes from rows without active cells, and nothing goes to them.
    weights = np.where(np.isin(rows, source.segments[:, 0]), weights, 0.0)
    begin, to_begin, count = numbers
    kept, parts = _parts(targets, target, to_begin - 1, count)
    targets, (rows, weights) = targets[kept], _together(rows[kept], weights[kept])
    last = np.maximum.accumulate(np.where(weights != 0, rows, 0).max(axis=1, initial=0))
    all_numbers = np.array(
        (begin, source.pitch, to_begin, target.pitch, count), np.int64
    )
    lower, upper = line.lower.astype(SINGLE), line.upper.astype(SINGLE)
    how = along is not None, all_numbers, lower, upper
    return (*how, targets, rows, weights.astype(SINGLE), last, parts)


def _together(rows: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Those of weight 0 behind the others, and as many as are summed at a time."""
    order = np.argsort(weights == 0, axis=1, kind="stable")
    more = (0, 0), (0, -rows.shape[1] % TOGETHER)
    sorted_rows = np.take_along_axis(rows, order, axis=1)
    sorted_weights = np.take_along_axis(weights, order, axis=1)
    # What has no weight is read all the same.
    sorted_rows = np.where(sorted_weights != 0, sorted_rows, sorted_rows[:, :1])
    return np.pad(sorted_rows, more, mode="edge"), np.pad(sorted_weights, more)


def _parts(
    targets: np.ndarray, shape: Shape, first: int, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """By segment in rows that are written: the row's number among them, and the cells in turn from
    cell `first` of a row on, from an even one."""
    row, begin, end = shape.segments.T
    order = np.argsort(targets, kind="stable")
    at = np.searchsorted(targets, row, sorter=order)
    found = order[np.minimum(at, targets.size - 1)]
    low, high = np.maximum(begin - first, 0), np.minimum(end - first, count)
    # A segment begins one cell before an active one, or with the row.
    low = low + low % 2
    there = (targets[found] == row) & (low < high)
    kept = found[there]
    back = np.argsort(kept, kind="stable")
    parts = np.stack([low, high], axis=1)[there][back]
    return kept[back], np.ascontiguousarray(parts.astype(np.int64))


def _children(line: Line | None, fine: Extent, coarse: Extent) -> Place:
    """Owned coarse cells, and the fine ones that give to them."""
    c = coarse.owned
    if line is None:
        return coarse.local(c), fine.local(c)[:, None], np.ones((c.size, 1))
    own = slots(line, coarse, coarse.first - 1, coarse.count + 1)
    cells = np.stack([2 * c, 2 * c + 1, 2 * c - 1], axis=1)
    weights = np.stack([np.ones(c.size), own.lower[1:], own.upper[:-1]], axis=1)
    weights = np.where(fine.exists(cells), weights, 0.0)
    return coarse.local(c), fine.local(cells), weights


def _parents(line: Line | None, fine: Extent, coarse: Extent) -> Place:
    """Fine cells, and the coarse ones that they take from."""
    f = np.arange(fine.start, fine.end)
    if line is None:
        cells, weights = f[:, None], np.ones((f.size, 1))
    else:
        r, odd = f // 2, f % 2 == 1
        first = int(r[0])
        own = slots(line, coarse, first, int(r[-1]) + 1 - first)
        lower, upper = own.lower[r - first], own.upper[r - first]
        cells = np.stack([r, r + 1], axis=1)
        weights = np.where(odd[:, None], np.stack([lower, upper], axis=1), [1.0, 0.0])
    local = coarse.local(cells)
    there = (local >= 0) & (local < coarse.size)
    kept = np.all(there | (weights == 0), axis=1)
    local = np.where(there, local, 0)
    return fine.local(f)[kept], local[kept], weights[kept]


def galerkin(fine: Box, coarse: Box, halved: Lines) -> tuple[Along, Couples, Couples]:
    """What galerkin_loops.py needs of the interpolation, by axis."""
    f, c, line = fine.extents[0], coarse.extents[0], halved[0]
    own = _along(line, c, c.first - 1, c.count + 1) or Line(np.zeros(1), np.zeros(1))
    first = (c.first if line is None else 2 * c.first) - f.start + 1
    weights = own.lower.astype(SINGLE), own.upper.astype(SINGLE)
    axes = zip(halved[1:], fine.extents[1:], coarse.extents[1:], strict=True)
    found = [_couples(*axis) for axis in axes]
    alone = Extent(1, 0, 1, 0, 0, periodic=False, cut=False)
    third = found[1] if len(found) > 1 else _couples(None, alone, alone)
    return (line is not None, first, *weights), found[0], third


def _couples(line: Line | None, fine: Extent, coarse: Extent) -> Couples:
    """Along one axis, see galerkin_loops.py."""
    shape = coarse.count, 3, MOST
    i, j, step = (np.zeros(shape, np.int64) for _ in range(3))
    weights = np.zeros(shape)
    n, here = fine.total, coarse.owned
    own, of_own = _gives(here, line)
    for beside in (0, 1, -1):
        other, of_other = _gives(here + beside, line)
        # All pairs of a coarse cell, [cell, pair].
        count = own.shape[1] * other.shape[1]
        p = np.repeat(own, other.shape[1], axis=1)
        q = np.tile(other, own.shape[1])
        weight = (of_own[:, :, None] * of_other[:, None]).reshape(-1, count)
        kept = (weight != 0) & (np.abs(p - q) <= 1)
        if not fine.periodic:
            kept &= (p >= 0) & (p < n) & (q >= 0) & (q < n)
        cell, pair = np.nonzero(kept)
        place = cell, beside, (np.cumsum(kept, axis=1) - 1)[cell, pair]
        p, q = p[cell, pair], q[cell, pair]
        i[place], j[place] = 1 + fine.local(p), 1 + fine.local(q)
        step[place], weights[place] = q - p, weight[cell, pair]
    return i, j, step, weights.astype(SINGLE)


def _gives(c: np.ndarray, line: Line | None) -> tuple[np.ndarray, np.ndarray]:
    """Fine cells [cell, n] that give to coarse ones, and their weights; c may be beyond an end."""
    if line is None:
        return c[:, None], np.ones((c.size, 1))
    before, after = _there(line.upper, c), _there(line.lower, c + 1)
    cells = 2 * c[:, None] + np.array([-1, 0, 1])
    return cells, np.stack([before, np.ones(c.size), after], axis=1)


def _there(values: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Those at these places; 0 beyond the ends."""
    there = (at >= 0) & (at < values.size)
    return np.where(there, values[np.where(there, at, 0)], 0.0)


def coarse_active(
    active: np.ndarray, boxes: tuple[Box, Box], halved: Lines
) -> np.ndarray:
    """Owned coarse cells that an active fine one gives to, [k, j, i].

    Args:
        active [k, j, i]: fine cells with ghosts.
    """
    found = active
    axes = zip(halved, boxes[0].extents, boxes[1].extents, strict=True)
    for d, (line, fine, coarse) in enumerate(axes):
        _, taken, weights = _children(line, fine, coarse)
        there = np.moveaxis(found, active.ndim - 1 - d, 0)
        gives = there[np.clip(taken, 0, fine.size - 1)]
        wide = weights.reshape(weights.shape + (1,) * (active.ndim - 1))
        found = np.moveaxis((gives & (wide != 0)).any(axis=1), 0, active.ndim - 1 - d)
    return found

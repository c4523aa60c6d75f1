"""Which cells of a level's rows (rows.py) loops go over.

Runs are the owned active cells, one after the other along a row: what vectors hold. Segments reach
over short gaps between the runs of a row and one cell beyond them, and spans over short gaps
between segments, rows without active cells among them: sweeps take a span at a time, which in gaps
finds and leaves zeros. Without a mask there is a run and a segment a row, and spans are chunks of
all rows.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

CHUNK = 2048
"""Cells that a sweep's loops go over before the next ones."""
GAP = 48
"""Cells that take as long as a loop's beginning."""

START, COUNT, OFFSET, PLACE, LINE = range(5)
"""Of a run: its first cell in a field; its cells; the cells of all runs before; its first cell
among those of the box, ghosts among them, x fastest; its line among those of the box."""


def runs(
    active: np.ndarray,
    inner: tuple[slice, ...],
    rows: np.ndarray,
    front: int,
    pitch: int,
) -> np.ndarray:
    """[run, 5] of the owned cells.

    Args:
        active [k, j, i]: with ghosts.
        inner: the owned ones.
        rows [k, j]: numbers of the lines' rows.
        front: where the first cell of row 0 is.
    """
    own = active[inner]
    line, first, count = _stretches(own.reshape(-1, own.shape[-1]))
    lines = np.arange(rows.size).reshape(rows.shape)[inner[:-1]].ravel()
    i = inner[-1].start + first
    start = front + rows[inner[:-1]].ravel()[line] * pitch + i
    place = lines[line] * active.shape[-1] + i
    found = start, count, np.cumsum(count) - count, place, lines[line]
    return np.ascontiguousarray(np.stack(found, axis=1).astype(np.int64))


def segments(active: np.ndarray) -> np.ndarray:
    """[segment, 3]: number of the line [k, j], first cell along it, and the one behind the last."""
    nx = active.shape[-1]
    line, first, count = _stretches(active.reshape(-1, nx))
    begin, end = np.maximum(first - 1, 0), np.minimum(first + count + 1, nx)
    opens = np.ones(line.size, bool)
    opens[1:] = (line[1:] != line[:-1]) | (begin[1:] - end[:-1] >= GAP)
    closes = np.append(opens[1:], True)[: line.size]
    return np.stack([line[opens], begin[opens], end[closes]], axis=1)


def spans(starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """[span, 2] over segments of fields, in order: first cells, and cells behind the last."""
    opens = np.ones(starts.size, bool)
    opens[1:] = starts[1:] - ends[:-1] >= GAP
    closes = np.append(opens[1:], True)[: starts.size]
    return chunks(zip(starts[opens], ends[closes], strict=True))


def chunks(parts: Sequence[tuple[int, int]] | zip[tuple[int, int]]) -> np.ndarray:
    """[span, 2] of at most CHUNK cells."""
    found = [
        (first, min(first + CHUNK, end))
        for begin, end in parts
        for first in range(begin, end, CHUNK)
    ]
    return np.array(found, np.int64).reshape(-1, 2)


def _stretches(lines: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of True along lines: numbers of the lines, first places, counts."""
    if lines.all():
        every = np.arange(lines.shape[0])
        return every, np.zeros_like(every), np.full_like(every, lines.shape[1])
    padded = np.zeros((lines.shape[0], lines.shape[1] + 2), np.int8)
    padded[:, 1:-1] = lines
    steps = np.diff(padded, axis=1)
    line, first = np.nonzero(steps == 1)
    _, end = np.nonzero(steps == -1)
    return line, first, end - first

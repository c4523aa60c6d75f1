"""y = s D A x of symmetric stencils of face neighbours, from planes, in a compiled loop: over cells
as they follow each other in memory, so that lines may be short. D is a diagonal, s a number."""

from __future__ import annotations

import numpy as np

from npde_opt.compiling import compiled

CHUNK = 1 << 12
"""Cells that all axes take their turns on, while they are in the cache."""


@compiled
def _first(
    centre: np.ndarray,
    a: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
    begin: int,
    end: int,
) -> None:
    """Of some cells y = the diagonal's part, and that of the neighbours that lie beside them."""
    n = x.size
    low, high = max(begin, 1), min(end, n - 1)
    if low < high:
        c, p, out = centre[low:high], x[low:high], y[low:high]
        after, above = a[low:high], x[low + 1 : high + 1]
        before, below = a[low - 1 : high - 1], x[low - 1 : high - 1]
        for i in range(out.size):
            out[i] = c[i] * p[i] + after[i] * above[i] + before[i] * below[i]
    if begin == 0:
        y[0] = centre[0] * x[0]
        if n > 1:
            y[0] += a[0] * x[1]
    if end == n and n > 1:
        y[n - 1] = centre[n - 1] * x[n - 1] + a[n - 2] * x[n - 2]


@compiled
def _add(a: np.ndarray, p: np.ndarray, out: np.ndarray) -> None:
    for i in range(out.size):
        out[i] += a[i] * p[i]


@compiled
def _scale(factor: float, weights: np.ndarray, out: np.ndarray) -> None:
    if weights.size > 0:
        for i in range(out.size):
            out[i] *= factor * weights[i]
    elif factor != 1.0:
        for i in range(out.size):
            out[i] *= factor


@compiled
def _further(
    a: np.ndarray, step: int, x: np.ndarray, y: np.ndarray, begin: int, end: int
) -> None:
    """Of some cells y += the part of the neighbours that lie a step before and after them."""
    low, high = max(begin, step), min(end, x.size - step)
    if low < high:
        out = y[low:high]
        after, above = a[low:high], x[low + step : high + step]
        before, below = a[low - step : high - step], x[low - step : high - step]
        for i in range(out.size):
            out[i] += after[i] * above[i] + before[i] * below[i]
    # Cells with one of the two.
    last, first = min(end, low, x.size - step), max(begin, high, step)
    if begin < last:
        _add(a[begin:last], x[begin + step : last + step], y[begin:last])
    if first < end:
        _add(a[first - step : end - step], x[first - step : end - step], y[first:end])


@compiled
def multiply(
    centre: np.ndarray,
    after: tuple[np.ndarray, ...],
    steps: tuple[int, ...],
    factor: float,
    weights: np.ndarray,
    rows: np.ndarray,
    found: np.ndarray,
) -> None:
    """Of every row x (n, cells), over pairs of cells inside a box; cells are flat, x fastest.

    Args:
        after: couplings to the cells after, by axis; 0 of the last cells along an axis, but for the
            last axis.
        steps: cells from one to the next along each of these axes.
        factor, weights: s, and D of each cell; none: 1.
    """
    for begin in range(0, centre.size, CHUNK):
        end = min(begin + CHUNK, centre.size)
        for n in range(len(rows)):
            x, y = rows[n], found[n]
            _first(centre, after[0], x, y, begin, end)
            for d in range(1, len(after)):
                _further(after[d], steps[d], x, y, begin, end)
            _scale(factor, weights[begin:end], y[begin:end])

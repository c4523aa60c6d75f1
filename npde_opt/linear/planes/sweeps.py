"""The two legs of a V-cycle on one level, in compiled loops: all sweeps go over a band of rows,
each as many rows behind the one before as neighbours are away, while the rows are in the cache.

Where rows are periodic the first need the last, and a band is all rows.
"""

from __future__ import annotations

import numpy as np

from npde_opt.compiling import compiled
from npde_opt.linear.planes.geometry import BAND, END, FIRST, REACH, Geometry, Number
from npde_opt.linear.planes.rows import beside, cells, dots, part, runs_before, wrap
from npde_opt.linear.planes.transfers import Transfer, prolong, restrict

Factors = tuple[Number, Number, Number]
"""Of the residual in the first step of Chebyshev's recursion; of the step before and of the
residual in the second."""


@compiled
def _scale(
    inverse: np.ndarray,
    b: np.ndarray,
    factor: Number,
    out: np.ndarray,
    geometry: Geometry,
    low: int,
    high: int,
) -> None:
    """out = factor D^-1 b"""
    begin, end = cells(geometry[0], low, high)
    spans = geometry[5]
    for n in range(geometry[6][low], spans.shape[0]):
        start, stop = max(spans[n, 0], begin), min(spans[n, 1], end)
        if start >= stop:
            break
        d, f, y = inverse[start:stop], b[start:stop], out[start:stop]
        for i in range(d.size):
            y[i] = factor * d[i] * f[i]
    wrap(out, geometry, low, high)


@compiled
def _relax(
    A: np.ndarray,
    inverse: np.ndarray,
    b: np.ndarray,
    x: np.ndarray,
    g: Number,
    h: Number,
    c: Number,
    out: np.ndarray,
    v: np.ndarray,
    geometry: Geometry,
    low: int,
    high: int,
) -> None:
    """out := g x + h out + c D^-1 (b - (A - D) x)"""
    begin, end = cells(geometry[0], low, high)
    spans = geometry[5]
    for n in range(geometry[6][low], spans.shape[0]):
        start, stop = max(spans[n, 0], begin), min(spans[n, 1], end)
        if start >= stop:
            break
        beside(A, x, geometry[0], start, stop - start, v)
        d, f, y, o = inverse[start:stop], b[start:stop], x[start:stop], out[start:stop]
        if h == 0:
            for i in range(o.size):
                o[i] = g * y[i] + c * d[i] * (f[i] - v[i])
        else:
            for i in range(o.size):
                o[i] = g * y[i] + h * o[i] + c * d[i] * (f[i] - v[i])
    wrap(out, geometry, low, high)


@compiled
def _residual(
    A: np.ndarray,
    inverse: np.ndarray,
    b: np.ndarray,
    x: np.ndarray,
    out: np.ndarray,
    v: np.ndarray,
    geometry: Geometry,
    low: int,
    high: int,
) -> None:
    """out = b - A x"""
    begin, end = cells(geometry[0], low, high)
    spans = geometry[5]
    for n in range(geometry[6][low], spans.shape[0]):
        start, stop = max(spans[n, 0], begin), min(spans[n, 1], end)
        if start >= stop:
            break
        beside(A, x, geometry[0], start, stop - start, v)
        d, f, y, o = inverse[start:stop], b[start:stop], x[start:stop], out[start:stop]
        for i in range(o.size):
            o[i] = f[i] - v[i] - y[i] / d[i]
    wrap(out, geometry, low, high)


@compiled
def down(
    A: np.ndarray,
    inverse: np.ndarray,
    b: np.ndarray,
    x: np.ndarray,
    coarse_b: np.ndarray,
    factors: Factors,
    transfer: Transfer,
    geometry: Geometry,
    y: np.ndarray,
    v: np.ndarray,
    row: np.ndarray,
) -> None:
    """x = q(D^-1 A) D^-1 b, coarse_b = P^T (b - A x); y is overwritten."""
    begin, a, c = factors
    numbers = geometry[0]
    zero, one = b.dtype.type(0), b.dtype.type(1)
    reach, end, last = numbers[REACH], numbers[END], transfer[7]
    first, coarse = numbers[FIRST], 0
    while first - 2 * reach < end:
        low, high = part(numbers, first, 0)
        _scale(inverse, b, begin, y, geometry, low, high)
        low, high = part(numbers, first, reach)
        _relax(A, inverse, b, y, one + a - c, zero, c, x, v, geometry, low, high)
        # Nobody needs y behind this sweep.
        low, high = part(numbers, first, 2 * reach)
        _residual(A, inverse, b, x, y, v, geometry, low, high)
        start = coarse
        while coarse < last.size and last[coarse] < high:
            coarse += 1
        restrict(y, transfer, start, coarse, row, coarse_b)
        first += numbers[BAND]


@compiled
def up(
    A: np.ndarray,
    inverse: np.ndarray,
    b: np.ndarray,
    x: np.ndarray,
    e: np.ndarray,
    factors: Factors,
    transfer: Transfer,
    geometry: Geometry,
    y: np.ndarray,
    v: np.ndarray,
    row: np.ndarray,
) -> tuple[float, float]:
    """x := x + P e, x := x + q(D^-1 A) D^-1 (b - A x); b^T x and x^T x. y is overwritten."""
    begin, a, c = factors
    numbers = geometry[0]
    zero, one = b.dtype.type(0), b.dtype.type(1)
    reach, end, targets = numbers[REACH], numbers[END], transfer[4]
    first, fine, done = numbers[FIRST], 0, 0
    both, own = 0.0, 0.0
    while first - 2 * reach < end:
        low, high = part(numbers, first, 0)
        start = fine
        while fine < targets.size and targets[fine] < high:
            fine += 1
        prolong(e, transfer, start, fine, row, x)
        wrap(x, geometry, low, high)
        low, high = part(numbers, first, reach)
        _relax(A, inverse, b, x, one - begin, zero, begin, y, v, geometry, low, high)
        low, high = part(numbers, first, 2 * reach)
        _relax(A, inverse, b, y, one + a - c, -a, c, x, v, geometry, low, high)
        count = done
        done = runs_before(geometry, done, high)
        p, q = dots(b, x, geometry, count, done)
        both += p
        own += q
        first += numbers[BAND]
    return both, own

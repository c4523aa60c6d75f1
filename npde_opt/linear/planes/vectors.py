"""Loops of conjugate gradients on rows (rows.py): the solution in double precision, everything else
in single, with A p as differences and b - A x in double."""

from __future__ import annotations

import numpy as np

from npde_opt.compiling import compiled
from npde_opt.linear.planes.rows import (
    BAND,
    END,
    FIRST,
    FRONT,
    NX,
    PITCH,
    REACH,
    WRAPS,
    Geometry,
    Number,
    beside,
    cells,
    dots,
    fluxes,
    part,
    wrap,
)
from npde_opt.linear.planes.sweeps import CHUNK


@compiled
def direction(
    A: np.ndarray,
    sums: np.ndarray,
    z: np.ndarray,
    beta: Number,
    p: np.ndarray,
    q: np.ndarray,
    v: np.ndarray,
    geometry: Geometry,
) -> float:
    """p := z + beta p, q = A p with the row sums of A; p^T A p."""
    numbers = geometry[0]
    first, reach, total = numbers[FIRST], numbers[REACH], 0.0
    while first - reach < numbers[END]:
        low, high = part(numbers, first, 0)
        begin, end = cells(numbers, low, high)
        w, y = z[begin:end], p[begin:end]
        for i in range(y.size):
            y[i] = w[i] + beta * y[i]
        wrap(p, geometry, low, high)
        low, high = part(numbers, first, reach)
        begin, end = cells(numbers, low, high)
        for start in range(begin, end, CHUNK):
            stop = min(start + CHUNK, end)
            fluxes(A, p, numbers, start, stop - start, v)
            s, y, o = sums[start:stop], p[start:stop], q[start:stop]
            found = p.dtype.type(0)
            for i in range(o.size):
                value = s[i] * y[i] + v[i]
                o[i] = value
                found += value * y[i]
            total += found
        first += numbers[BAND]
    if numbers[WRAPS]:
        # Outside there is what is inside, too.
        total = dots(q, p, geometry, 0, geometry[1].size)[0]
    return total


@compiled
def advance(
    x: np.ndarray,
    r: np.ndarray,
    p: np.ndarray,
    q: np.ndarray,
    step: float,
    alpha: Number,
    geometry: Geometry,
) -> float:
    """x += step p, r -= alpha q; r^T r."""
    numbers, rows, _, _ = geometry
    nx, total = numbers[NX], 0.0
    for n in range(rows.size):
        start = FRONT + rows[n] * numbers[PITCH] + 1
        stop = start + nx
        xs, rs, ps, qs = x[start:stop], r[start:stop], p[start:stop], q[start:stop]
        found = r.dtype.type(0)
        for i in range(nx):
            xs[i] += step * ps[i]
            value = rs[i] - alpha * qs[i]
            rs[i] = value
            found += value * value
        total += found
    return total


@compiled
def true_residual(
    A: np.ndarray,
    diagonal: np.ndarray,
    x: np.ndarray,
    b: np.ndarray,
    factor: float,
    r: np.ndarray,
    v: np.ndarray,
    geometry: Geometry,
) -> float:
    """r = factor (b - A x), b with x fastest; r^T r. What lies outside x is written anew."""
    numbers, rows, _, _ = geometry
    nx, total, at = numbers[NX], 0.0, 0
    wrap(x, geometry, numbers[FIRST], numbers[END])
    for n in range(rows.size):
        begin = FRONT + rows[n] * numbers[PITCH] + 1
        for start in range(begin, begin + nx, CHUNK):
            stop = min(start + CHUNK, begin + nx)
            beside(A, x, numbers, start, stop - start, v)
            f, d = b[at : at + stop - start], diagonal[start:stop]
            y, o = x[start:stop], r[start:stop]
            found = 0.0
            for i in range(o.size):
                value = factor * (f[i] - d[i] * y[i] - v[i])
                o[i] = value
                found += value * value
            total += found
            at += stop - start
    return total


@compiled
def row_sums(
    A: np.ndarray,
    diagonal: np.ndarray,
    scale: float,
    out: np.ndarray,
    geometry: Geometry,
) -> None:
    """out = scale A 1, formed in the precision of A."""
    numbers = geometry[0]
    begin, end = cells(numbers, numbers[FIRST], numbers[END])
    ones, v = np.ones(A.shape[1], A.dtype), np.empty(CHUNK, A.dtype)
    for start in range(begin, end, CHUNK):
        stop = min(start + CHUNK, end)
        beside(A, ones, numbers, start, stop - start, v)
        d, o = diagonal[start:stop], out[start:stop]
        for i in range(o.size):
            o[i] = scale * (d[i] + v[i])

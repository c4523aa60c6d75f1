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
    PLANE,
    REACH,
    WRAPS,
    Geometry,
    Number,
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
    centre: np.ndarray,
    couplings: tuple[np.ndarray, ...],
    before: np.ndarray,
    x: np.ndarray,
    b: np.ndarray,
    factor: float,
    r: np.ndarray,
    geometry: Geometry,
) -> float:
    """r = factor (b - A x), A and b with x fastest; r^T r. What lies outside x is written anew.

    Args:
        couplings, before: as in galerkin_loops.take.
    """
    numbers, rows, _, _ = geometry
    nx, total, steps = numbers[NX], 0.0, (numbers[PITCH], numbers[PLANE])
    v = np.empty(nx)
    wrap(x, geometry, numbers[FIRST], numbers[END])
    for n in range(rows.size):
        begin, part = FRONT + rows[n] * numbers[PITCH] + 1, slice(n * nx, (n + 1) * nx)
        y, d, f, e = x[begin - 1 :], centre[part], b[part], couplings[0][part]
        v[0] = e[0] * y[2] + e[nx - 1] * y[0]
        for i in range(1, nx):
            v[i] = e[i] * y[i + 2] + e[i - 1] * y[i]
        for axis in range(1, len(couplings)):
            last, step = before[axis - 1, n], steps[axis - 1]
            p, q = couplings[axis][part], couplings[axis][last * nx : (last + 1) * nx]
            after, back = x[begin + step :], x[begin - step :]
            for i in range(nx):
                v[i] += p[i] * after[i] + q[i] * back[i]
        own, out = x[begin : begin + nx], r[begin : begin + nx]
        found = 0.0
        for i in range(nx):
            value = factor * (f[i] - d[i] * own[i] - v[i])
            out[i] = value
            found += value * value
        total += found
    return total

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
    LEFT,
    NX,
    OWN,
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
    rows, done = geometry[1], 0
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
            if not numbers[WRAPS]:
                total += found
        if numbers[WRAPS]:
            # Outside there is what is inside, or another rank's.
            count = done
            while done < rows.size and rows[done] < high:
                done += 1
            total += dots(q, p, geometry, count, done)[0]
        first += numbers[BAND]
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
    nx, total, front = numbers[OWN], 0.0, FRONT + 1 + numbers[LEFT]
    for n in range(rows.size):
        start = front + rows[n] * numbers[PITCH]
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
def _number(row: int, numbers: np.ndarray) -> int:
    """Of a row among those that are not outside."""
    if numbers[PLANE] == 0:
        return row - 1
    lines = numbers[PLANE] // numbers[PITCH]
    found: int = (row // lines - 1) * (lines - 2) + row % lines - 1
    return found


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
    """r = factor (b - A x) and r^T r of owned cells; A with ghosts and b with x fastest. What lies
    outside x is written anew.

    Args:
        couplings, before: as in galerkin_loops.take.
    """
    numbers, rows, _, _ = geometry
    nx, left, count = numbers[NX], numbers[LEFT], numbers[OWN]
    total, steps = 0.0, (numbers[PITCH], numbers[PLANE])
    v, back_one = np.empty(count), left - 1 if left else nx - 1
    wrap(x, geometry, numbers[FIRST], numbers[END])
    for n in range(rows.size):
        begin = FRONT + rows[n] * numbers[PITCH] + 1 + left
        line = _number(rows[n], numbers)
        part = slice(line * nx + left, line * nx + left + count)
        y, d, f = x[begin - 1 :], centre[part], b[n * count : (n + 1) * count]
        e = couplings[0][part]
        v[0] = e[0] * y[2] + couplings[0][line * nx + back_one] * y[0]
        for i in range(1, count):
            v[i] = e[i] * y[i + 2] + e[i - 1] * y[i]
        for axis in range(1, len(couplings)):
            last, step = before[axis - 1, line] * nx + left, steps[axis - 1]
            p, q = couplings[axis][part], couplings[axis][last : last + count]
            after, back = x[begin + step :], x[begin - step :]
            for i in range(count):
                v[i] += p[i] * after[i] + q[i] * back[i]
        own, out = x[begin : begin + count], r[begin : begin + count]
        found = 0.0
        for i in range(count):
            value = factor * (f[i] - d[i] * own[i] - v[i])
            out[i] = value
            found += value * value
        total += found
    return total

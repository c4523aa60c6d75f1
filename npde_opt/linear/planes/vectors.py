"""Loops of conjugate gradients on rows (rows.py): the solution in double precision, everything else
in single, with A p as differences and b - A x in double."""

from __future__ import annotations

import numpy as np

from npde_opt.compiling import compiled
from npde_opt.linear.planes.geometry import (
    BAND,
    END,
    FIRST,
    NX,
    PITCH,
    PLANE,
    REACH,
    WRAPS,
    Geometry,
    Number,
)
from npde_opt.linear.planes.rows import cells, dots, fluxes, part, runs_before, wrap
from npde_opt.linear.planes.runs import COUNT, LINE, OFFSET, PLACE, START


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
    spans, firsts, done = geometry[5], geometry[6], 0
    while first - reach < numbers[END]:
        low, high = part(numbers, first, 0)
        begin, end = cells(numbers, low, high)
        for n in range(firsts[low], spans.shape[0]):
            start, stop = max(spans[n, 0], begin), min(spans[n, 1], end)
            if start >= stop:
                break
            w, y = z[start:stop], p[start:stop]
            for i in range(y.size):
                y[i] = w[i] + beta * y[i]
        wrap(p, geometry, low, high)
        low, high = part(numbers, first, reach)
        begin, end = cells(numbers, low, high)
        for n in range(firsts[low], spans.shape[0]):
            start, stop = max(spans[n, 0], begin), min(spans[n, 1], end)
            if start >= stop:
                break
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
            done = runs_before(geometry, done, high)
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
    runs, total = geometry[4], 0.0
    for n in range(runs.shape[0]):
        start, count = runs[n, START], runs[n, COUNT]
        stop = start + count
        xs, rs, ps, qs = x[start:stop], r[start:stop], p[start:stop], q[start:stop]
        found = r.dtype.type(0)
        for i in range(count):
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
    work: np.ndarray,
) -> float:
    """r = factor (b - A x) and r^T r of owned active cells, which b holds with x fastest; A with
    ghosts. What lies outside x is written anew.

    Args:
        couplings, before: as in galerkin_loops.take.
        work [cell of a row]: in double precision.
    """
    numbers, runs = geometry[0], geometry[4]
    nx, total, steps = numbers[NX], 0.0, (numbers[PITCH], numbers[PLANE])
    wrap(x, geometry, numbers[FIRST], numbers[END])
    for n in range(runs.shape[0]):
        begin, count, line = runs[n, START], runs[n, COUNT], runs[n, LINE]
        first, v = runs[n, PLACE], work[:count]
        part, i_first = slice(first, first + count), first - line * nx
        f = b[runs[n, OFFSET] : runs[n, OFFSET] + count]
        y, d, e = x[begin - 1 :], centre[part], couplings[0][part]
        # Before the first cell of a line lies the last one, where there is any.
        back_one = first - 1 if i_first else first + nx - 1
        v[0] = e[0] * y[2] + couplings[0][back_one] * y[0]
        for i in range(1, count):
            v[i] = e[i] * y[i + 2] + e[i - 1] * y[i]
        for axis in range(1, len(couplings)):
            last, step = before[axis - 1, line] * nx + i_first, steps[axis - 1]
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

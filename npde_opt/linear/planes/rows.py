"""Symmetric stencils on rows of cells along x (geometry.py), in compiled loops.

A stencil [o, cell] is couplings A[i, i + o] to one half of the neighbours; those to the other half
are the same values seen from there. Narrow ones have a neighbour an axis, wide ones all in the
order of x, then y, then z.
"""

from __future__ import annotations

import numpy as np

from npde_opt.compiling import compiled
from npde_opt.linear.planes.geometry import (
    BAND,
    END,
    FIRST,
    FRONT,
    NX,
    PITCH,
    PLANE,
    WIDE,
    Geometry,
)
from npde_opt.linear.planes.runs import COUNT, OFFSET, START


@compiled
def cells(numbers: np.ndarray, low: int, high: int) -> tuple[int, int]:
    """The cells of rows from `low` to before `high`."""
    return FRONT + low * numbers[PITCH] + 1, FRONT + high * numbers[PITCH] + 1


@compiled
def wrap(x: np.ndarray, geometry: Geometry, low: int, high: int) -> None:
    """Cells before and behind rows, and rows outside where these are all, take what is at the
    other end."""
    numbers, _, outside, along_x, _, _, _ = geometry
    pitch, nx = numbers[PITCH], numbers[NX]
    if along_x:
        for row in range(low, high):
            begin = FRONT + row * pitch
            x[begin] = x[begin + nx]
            x[begin + nx + 1] = x[begin + 1]
    for n in range(outside.shape[0]):
        to, source = FRONT + outside[n, 0] * pitch, FRONT + outside[n, 1] * pitch
        for i in range(nx + 2):
            x[to + i] = x[source + i]


@compiled
def part(numbers: np.ndarray, first: int, lag: int) -> tuple[int, int]:
    """The rows of a band that starts at `first`, of a sweep that is `lag` rows behind."""
    low, high, band = numbers[FIRST], numbers[END], numbers[BAND]
    return max(first - lag, low), max(min(first + band - lag, high), low)


@compiled
def _pair(
    a: np.ndarray, x: np.ndarray, step: int, start: int, count: int, v: np.ndarray
) -> None:
    """v += A[i, i + step] x[i + step] + A[i, i - step] x[i - step]"""
    own, other = a[start : start + count], a[start - step : start - step + count]
    p, q = (
        x[start + step : start + step + count],
        x[start - step : start - step + count],
    )
    for i in range(count):
        v[i] += own[i] * p[i] + other[i] * q[i]


@compiled
def _three(
    A: np.ndarray,
    o: int,
    x: np.ndarray,
    step: int,
    start: int,
    count: int,
    v: np.ndarray,
) -> None:
    """As _pair, of planes o, o + 1, o + 2 with steps of step - 1, step, step + 1."""
    a, b, c = A[o, start:], A[o + 1, start:], A[o + 2, start:]
    to, back = start + step, start - step
    d, e, f = A[o, back + 1 :], A[o + 1, back:], A[o + 2, back - 1 :]
    p, q, r = x[to - 1 :], x[to:], x[to + 1 :]
    s, t, u = x[back + 1 :], x[back:], x[back - 1 :]
    for i in range(count):
        ahead = a[i] * p[i] + b[i] * q[i] + c[i] * r[i]
        v[i] += ahead + d[i] * s[i] + e[i] * t[i] + f[i] * u[i]


@compiled
def beside(
    A: np.ndarray,
    x: np.ndarray,
    numbers: np.ndarray,
    start: int,
    count: int,
    v: np.ndarray,
) -> None:
    """v = sum of A[i, j] x[j] over j other than i, for `count` cells from `start` on."""
    pitch, plane = numbers[PITCH], numbers[PLANE]
    a, b = A[0, start:], A[0, start - 1 :]
    p, q = x[start + 1 :], x[start - 1 :]
    if numbers[WIDE] == 0:
        c, d = A[1, start:], A[1, start - pitch :]
        r, s = x[start + pitch :], x[start - pitch :]
        for i in range(count):
            v[i] = a[i] * p[i] + b[i] * q[i] + c[i] * r[i] + d[i] * s[i]
        if plane:
            _pair(A[2], x, plane, start, count, v)
        return
    for i in range(count):
        v[i] = a[i] * p[i] + b[i] * q[i]
    _three(A, 1, x, pitch, start, count, v)
    if plane:
        for row in range(3):
            _three(A, 4 + 3 * row, x, plane + (row - 1) * pitch, start, count, v)


@compiled
def fluxes(
    A: np.ndarray,
    x: np.ndarray,
    numbers: np.ndarray,
    start: int,
    count: int,
    v: np.ndarray,
) -> None:
    """v = sum of A[i, j] (x[j] - x[i]), of a narrow stencil: exact to rounding of the differences,
    which in single precision A x is not."""
    pitch, plane = numbers[PITCH], numbers[PLANE]
    a, b = A[0, start:], A[0, start - 1 :]
    c, d = A[1, start:], A[1, start - pitch :]
    x0, p, q = x[start:], x[start + 1 :], x[start - 1 :]
    r, s = x[start + pitch :], x[start - pitch :]
    for i in range(count):
        y = x0[i]
        along = a[i] * (p[i] - y) + b[i] * (q[i] - y)
        v[i] = along + c[i] * (r[i] - y) + d[i] * (s[i] - y)
    if plane:
        c, d = A[2, start:], A[2, start - plane :]
        r, s = x[start + plane :], x[start - plane :]
        for i in range(count):
            v[i] += c[i] * (r[i] - x0[i]) + d[i] * (s[i] - x0[i])


@compiled
def put(
    values: np.ndarray, factor: float, field: np.ndarray, geometry: Geometry
) -> None:
    """field = factor times values, x fastest, of owned active cells."""
    runs = geometry[4]
    for n in range(runs.shape[0]):
        begin, count, first = runs[n, START], runs[n, COUNT], runs[n, OFFSET]
        given, out = values[first : first + count], field[begin : begin + count]
        for i in range(count):
            out[i] = factor * given[i]


@compiled
def take(
    field: np.ndarray, factor: float, values: np.ndarray, geometry: Geometry
) -> None:
    """values, x fastest, of owned active cells = factor times the field."""
    runs = geometry[4]
    for n in range(runs.shape[0]):
        begin, count, first = runs[n, START], runs[n, COUNT], runs[n, OFFSET]
        found, given = values[first : first + count], field[begin : begin + count]
        for i in range(count):
            found[i] = factor * given[i]


@compiled
def dots(
    x: np.ndarray, y: np.ndarray, geometry: Geometry, first: int, last: int
) -> tuple[float, float]:
    """x^T y and y^T y of the runs from number `first` to before `last`."""
    runs = geometry[4]
    both, own = 0.0, 0.0
    for n in range(first, last):
        begin, count = runs[n, START], runs[n, COUNT]
        a, b = x[begin : begin + count], y[begin : begin + count]
        p, q = x.dtype.type(0), x.dtype.type(0)
        for i in range(count):
            p += a[i] * b[i]
            q += b[i] * b[i]
        both += p
        own += q
    return both, own


@compiled
def runs_before(geometry: Geometry, done: int, row: int) -> int:
    """How many runs lie before a row; `done` of them do so for sure."""
    numbers, runs = geometry[0], geometry[4]
    begin = FRONT + row * numbers[PITCH] + 1
    while done < runs.shape[0] and runs[done, START] < begin:
        done += 1
    return done


@compiled
def largest(x: np.ndarray, most: np.ndarray) -> float:
    """max |x|; NaN where there is one. `most` is one integer of 64 bits, work."""
    # Numbers without their signs are ordered as their bits, and NaN comes last.
    bits = x.view(np.int64)
    most[0] = 0
    for i in range(x.size):
        most[0] = max(most[0], bits[i] & 0x7FFFFFFFFFFFFFFF)
    return float(most.view(np.float64)[0])

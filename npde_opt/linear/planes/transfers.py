"""Interpolation and its transpose between two levels, row by row, in compiled loops.

A transfer is a tuple: whether x is halved; numbers; l_r and u_r along x for the cells in turn, with
one before (halving.py); the rows that are written; rows and weights [row written, ...] that are
summed to each, and the last of them and of all before; which of the cells in turn are written, the
first and the one behind the last (P writes from even ones on). Rows of cells with a parent or child
are read from one cell before the first one on.
"""

from __future__ import annotations

import numpy as np

from npde_opt.compiling import compiled
from npde_opt.linear.planes.geometry import FRONT

BEGIN, PITCH, TO_BEGIN, TO_PITCH, COUNT = range(5)
"""Where in a row reading begins, and cells from a row to the next, of what is read and of what is
written; cells that are written in a row."""
TOGETHER = 3
"""Rows are summed so many at a time; there are a multiple of them, in which those of weight 0 come
last."""

Transfer = tuple[
    bool,
    np.ndarray,
    np.ndarray,
    np.ndarray,
    np.ndarray,
    np.ndarray,
    np.ndarray,
    np.ndarray,
    np.ndarray,
]


@compiled
def _sum_of_rows(
    x: np.ndarray,
    rows: np.ndarray,
    weights: np.ndarray,
    n: int,
    front: int,
    pitch: int,
    out: np.ndarray,
) -> None:
    """out = sum of the n-th rows with their weights, three at a time, of which weights are 0 from
    some on; cells from `front` on in row 0."""
    count = out.size
    for k in range(0, rows.shape[1], TOGETHER):
        u, v, w = weights[n, k], weights[n, k + 1], weights[n, k + 2]
        if k and u == 0:
            break
        begin = front + rows[n, k] * pitch
        p = x[begin : begin + count]
        begin = front + rows[n, k + 1] * pitch
        q = x[begin : begin + count]
        begin = front + rows[n, k + 2] * pitch
        r = x[begin : begin + count]
        if k:
            for i in range(count):
                out[i] += u * p[i] + v * q[i] + w * r[i]
        elif v == 0:
            for i in range(count):
                out[i] = u * p[i]
        else:
            for i in range(count):
                out[i] = u * p[i] + v * q[i] + w * r[i]


@compiled
def restrict(
    r: np.ndarray,
    transfer: Transfer,
    first: int,
    end: int,
    row: np.ndarray,
    out: np.ndarray,
) -> None:
    """out = P^T r in rows from the first-th on."""
    halved, numbers, lower, upper, targets, rows, weights, _, parts = transfer
    front, pitch = FRONT + numbers[BEGIN], numbers[PITCH]
    for n in range(first, end):
        low, high = parts[n, 0], parts[n, 1]
        count = high - low
        size, shift = (2 * count + 1, 2 * low) if halved else (count + 1, low)
        _sum_of_rows(r, rows, weights, n, front + shift, pitch, row[:size])
        begin = FRONT + targets[n] * numbers[TO_PITCH] + numbers[TO_BEGIN]
        o = out[begin + low : begin + high]
        if halved:
            l, u = lower[low + 1 : high + 1], upper[low:high]
            for i in range(count):
                o[i] = row[2 * i + 1] + (u[i] * row[2 * i] + l[i] * row[2 * i + 2])
        else:
            for i in range(count):
                o[i] = row[i + 1]


@compiled
def prolong(
    e: np.ndarray,
    transfer: Transfer,
    first: int,
    end: int,
    row: np.ndarray,
    x: np.ndarray,
) -> None:
    """x += P e in rows from the first-th on."""
    halved, numbers, lower, upper, targets, rows, weights, _, parts = transfer
    front, pitch = FRONT + numbers[BEGIN], numbers[PITCH]
    for n in range(first, end):
        low, high = parts[n, 0], parts[n, 1]
        count = high - low
        size, shift = (count // 2 + 2, low // 2) if halved else (count + 1, low)
        _sum_of_rows(e, rows, weights, n, front + shift, pitch, row[:size])
        begin = FRONT + targets[n] * numbers[TO_PITCH] + numbers[TO_BEGIN]
        o = x[begin + low : begin + high]
        if halved:
            l, u = lower[shift + 1 :], upper[shift + 1 :]
            for i in range(count // 2):
                o[2 * i] += row[i + 1]
                o[2 * i + 1] += l[i] * row[i + 1] + u[i] * row[i + 2]
            if count % 2:
                o[count - 1] += row[count // 2 + 1]
        else:
            for i in range(count):
                o[i] += row[i + 1]

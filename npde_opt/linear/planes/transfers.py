"""Interpolation and its transpose between two levels, row by row, in compiled loops.

A transfer is a tuple: whether x is halved; numbers; l_r and u_r along x for the cells in turn, with
one before (halving.py); the rows that are written; rows and weights [row written, ...] that are
summed to each, and the last of them and of all before. Rows of cells with a parent or child are
read from one cell before the first one on.
"""

from __future__ import annotations

import numpy as np

from npde_opt.compiling import compiled
from npde_opt.linear.planes.rows import FRONT

BEGIN, PITCH, TO_BEGIN, TO_PITCH, COUNT = range(5)
"""Where in a row reading begins, and cells from a row to the next, of what is read and of what is
written; cells that are written in a row."""

Transfer = tuple[
    bool,
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
    numbers: np.ndarray,
    rows: np.ndarray,
    weights: np.ndarray,
    out: np.ndarray,
) -> None:
    """out = sum of rows with their weights."""
    first = True
    for k in range(rows.size):
        w = weights[k]
        if w != 0:
            begin = FRONT + rows[k] * numbers[PITCH] + numbers[BEGIN]
            y = x[begin : begin + out.size]
            if first:
                for i in range(out.size):
                    out[i] = w * y[i]
            else:
                for i in range(out.size):
                    out[i] += w * y[i]
            first = False


@compiled
def restrict(
    r: np.ndarray, transfer: Transfer, n: int, row: np.ndarray, out: np.ndarray
) -> None:
    """out = P^T r in the n-th row."""
    halved, numbers, lower, upper, targets, rows, weights, _ = transfer
    nx = numbers[COUNT]
    some = row[: 2 * nx + 1 if halved else nx + 1]
    _sum_of_rows(r, numbers, rows[n], weights[n], some)
    begin = FRONT + targets[n] * numbers[TO_PITCH] + numbers[TO_BEGIN]
    o = out[begin : begin + nx]
    if halved:
        for i in range(nx):
            o[i] = row[2 * i + 1] + (
                upper[i] * row[2 * i] + lower[i + 1] * row[2 * i + 2]
            )
    else:
        for i in range(nx):
            o[i] = row[i + 1]


@compiled
def prolong(
    e: np.ndarray, transfer: Transfer, n: int, row: np.ndarray, x: np.ndarray
) -> None:
    """x += P e in the n-th row."""
    halved, numbers, lower, upper, targets, rows, weights, _ = transfer
    nx = numbers[COUNT]
    some = row[: nx // 2 + 2 if halved else nx + 1]
    _sum_of_rows(e, numbers, rows[n], weights[n], some)
    begin = FRONT + targets[n] * numbers[TO_PITCH] + numbers[TO_BEGIN]
    o = x[begin : begin + nx]
    if halved:
        for i in range(nx // 2):
            o[2 * i] += row[i + 1]
            o[2 * i + 1] += lower[i + 1] * row[i + 1] + upper[i + 1] * row[i + 2]
        if nx % 2:
            o[nx - 1] += row[nx // 2 + 1]
    else:
        for i in range(nx):
            o[i] += row[i + 1]

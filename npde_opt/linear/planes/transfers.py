"""Interpolation and its transpose between two levels, row by row, in compiled loops.

A transfer is a tuple: whether x is halved, l_r and u_r along x for r = -1, 0, ... (halving.py);
rows and weights [coarse row, ...] that P^T sums, and the last of them and of all before; rows and
weights [fine row, ...] that P sums. Rows are those inside, in turn.
"""

from __future__ import annotations

import numpy as np

from npde_opt.compiling import compiled
from npde_opt.linear.planes.rows import FRONT, NX, PITCH, Geometry

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
    x: np.ndarray, pitch: int, rows: np.ndarray, weights: np.ndarray, out: np.ndarray
) -> None:
    """out = sum of rows with their weights, with the cells before and behind them."""
    first = True
    for k in range(rows.size):
        w = weights[k]
        if w != 0:
            begin = FRONT + rows[k] * pitch
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
    r: np.ndarray,
    pitch: int,
    transfer: Transfer,
    below: Geometry,
    n: int,
    row: np.ndarray,
    out: np.ndarray,
) -> None:
    """out = P^T r in the n-th row inside."""
    halved, lower, upper, rows, weights, _, _, _ = transfer
    _sum_of_rows(r, pitch, rows[n], weights[n], row)
    begin, nx = FRONT + below[1][n] * below[0][PITCH] + 1, below[0][NX]
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
    e: np.ndarray,
    pitch: int,
    transfer: Transfer,
    geometry: Geometry,
    n: int,
    row: np.ndarray,
    x: np.ndarray,
) -> None:
    """x += P e in the n-th row inside."""
    halved, lower, upper, _, _, _, rows, weights = transfer
    _sum_of_rows(e, pitch, rows[n], weights[n], row)
    begin, nx = FRONT + geometry[1][n] * geometry[0][PITCH] + 1, geometry[0][NX]
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

"""Upper triangles R with R^T R = A^T A, folded together by LAPACK's tpqrt: R := qr([R; block]).

A QR of blocks of rows reads every row once and keeps n^2 numbers. Where the block is a triangle
itself, tpqrt does half of the work; where there is no R yet, geqrf of the block does.
"""

from __future__ import annotations

import numpy as np
from mpi4py import MPI
from scipy.linalg import blas, lapack

PANEL, WIDE_PANEL = 32, 64
"""Columns that tpqrt treats at once, of fewer than WIDE and of more."""
WIDE = 1000
TILE = 128
"""Rows and columns of triangles that are multiplied as if they were none."""


def empty(n: int) -> np.ndarray:
    """R of no rows (n, n)."""
    return np.zeros((n, n), order="F")


def fold(R: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """R of the rows of R and of `rows` (m, n); both arrays are overwritten where they are in
    Fortran's order."""
    if rows.size and not R.any():
        return _begun(R, rows)
    return _tpqrt(R, rows, 0)


def _begun(R: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """R of `rows` alone, in the place of R, which is 0."""
    lwork, info = lapack.dgeqrf_lwork(*rows.shape)
    assert info == 0
    found, _, _, info = lapack.dgeqrf(rows, lwork=int(lwork), overwrite_a=1)
    assert info == 0
    there = min(rows.shape)
    # Column by column, as another array of this size is dearer than what is copied.
    for j in range(len(R)):
        R[: min(j + 1, there), j] = found[: min(j + 1, there), j]
    return R


def fold_triangle(R: np.ndarray, other: np.ndarray) -> np.ndarray:
    """R of the rows of two triangles (n, n), which are overwritten."""
    return _tpqrt(R, other, len(R))


def _tpqrt(R: np.ndarray, rows: np.ndarray, pentagon: int) -> np.ndarray:
    """`pentagon`: how many of the last rows are upper trapezoidal."""
    if not rows.size:
        return R
    panel = min(PANEL if len(R) < WIDE else WIDE_PANEL, len(R))
    found, _, _, info = lapack.dtpqrt(
        pentagon, panel, R, rows, overwrite_a=1, overwrite_b=1
    )
    assert info == 0
    triangle: np.ndarray = found
    return triangle


def product(A: np.ndarray, B: np.ndarray) -> np.ndarray:
    """A B of two upper triangles (n, n); what is below their diagonals is not looked at."""
    found = empty(len(A))
    _multiply(A, B, found)
    return found


def _multiply(A: np.ndarray, B: np.ndarray, out: np.ndarray) -> None:
    """By halves, [A D] [B E] = [AB  AE + DB']: products of which one factor is a triangle, a
                  [  A'] [  B']   [       A'B']
    third of the work of a product that knows of no zeros."""
    n, half = len(A), len(A) // 2
    if n <= TILE:
        out[:] = np.triu(A) @ np.triu(B)
        return
    first, last = slice(0, half), slice(half, n)
    _multiply(A[first, first], B[first, first], out[first, first])
    _multiply(A[last, last], B[last, last], out[last, last])
    between = blas.dtrmm(1.0, A[first, first], B[first, last])
    between += blas.dtrmm(1.0, B[last, last], A[first, last], side=1)
    out[first, last] = between


def pack(R: np.ndarray) -> np.ndarray:
    """The n (n + 1) / 2 numbers of a triangle, column by column."""
    return np.concatenate([R[: j + 1, j] for j in range(len(R))])


def unpack(numbers: np.ndarray, n: int) -> np.ndarray:
    """The triangle (n, n) of packed numbers.

    Raises:
        ValueError: for another number of them.
    """
    if numbers.shape != (n * (n + 1) // 2,):
        raise ValueError(f"{numbers.shape} packed numbers of a triangle of {n} columns")
    R, start = empty(n), 0
    for j in range(n):
        R[: j + 1, j] = numbers[start : start + j + 1]
        start += j + 1
    return R


def fold_ranks(comm: MPI.Intracomm, R: np.ndarray) -> np.ndarray | None:
    """R of the rows of all ranks on rank 0, None on others: a binary tree, one message of
    n (n + 1) / 2 numbers from every rank but one. Collective."""
    n, step = len(R), 1
    found = R.copy(order="F")
    while step < comm.size:
        if comm.rank % (2 * step) == step:
            comm.Send(pack(found), dest=comm.rank - step)
            return None
        if comm.rank + step < comm.size:
            numbers = np.empty(n * (n + 1) // 2)
            comm.Recv(numbers, source=comm.rank + step)
            found = fold_triangle(found, unpack(numbers, n))
        step *= 2
    return found

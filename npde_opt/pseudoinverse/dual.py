"""W = H^T (H H^T + ridge)^+ T where H is wide: its columns come in blocks, on any ranks.

    H^T = Q R,    a = (R^T R + ridge)^+ T,    W = H^T a

A rank keeps the triangle R (m, m) of the rows' number m, one block of columns, and its own rows of
W. Half of the digits that a = (R^T R)^+ T loses come back by

    a := a + (R^T R + ridge)^+ (T - H W - ridge a).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
from mpi4py import MPI
from scipy.linalg import svd

from npde_opt import reductions
from npde_opt.errors import InputError, collective
from npde_opt.pseudoinverse import triangle
from npde_opt.pseudoinverse.solution import EPS

Columns = Callable[[], Iterable[np.ndarray]]


def dual(
    columns: Columns,
    T: np.ndarray,
    comm: MPI.Intracomm = MPI.COMM_SELF,
    tolerance: float | None = None,
    ridge: float = 0.0,
) -> np.ndarray:
    """Own rows of W (own columns of H, k), of least norm. Collective.

    Args:
        columns: the own columns of H in blocks (m, any number); they are read three times.
        T: (m, k), the same on all ranks.
        tolerance: singular values of H up to so many times the largest are taken for 0; None: m
            times the rounding of a number.
        ridge: adds ridge |W|^2.

    Raises:
        InputError: for other shapes, numbers that are not finite, a ridge below 0.
    """
    m = len(T)
    if T.ndim != 2 or not m or not np.isfinite(T).all() or not ridge >= 0:
        told = f"shape {T.shape}, ridge {ridge}"
        raise InputError(
            "pseudoinverse: T", told, "(rows, targets), finite, and a ridge >= 0"
        )
    R = triangle.empty(m)
    for block in columns():
        R = triangle.fold(R, np.array(_checked(block, m).T, order="F"))
    V, s = _turned(comm, R)
    squares = s**2 + ridge
    cut = m * EPS if tolerance is None else tolerance
    kept = s > cut * s.max(initial=0.0) if ridge == 0 else squares > 0
    inverse = np.divide(1, squares, out=np.zeros(m), where=kept)

    def solved(missed: np.ndarray) -> np.ndarray:
        found: np.ndarray = V @ (inverse[:, None] * (V.T @ missed))
        return found

    a = solved(T)
    predicted = np.zeros(T.shape)
    for block in columns():
        predicted += block @ (block.T @ a)
    a += solved(T - reductions.total(comm, predicted) - ridge * a)
    parts = [block.T @ a for block in columns()]
    return np.concatenate(parts) if parts else np.empty((0, T.shape[1]))


def _checked(block: np.ndarray, m: int) -> np.ndarray:
    if block.ndim != 2 or len(block) != m or not np.isfinite(block).all():
        allowed = f"{m} rows, as many as T has, of finite numbers"
        raise InputError("pseudoinverse: columns", f"shape {block.shape}", allowed)
    return block


def _turned(comm: MPI.Intracomm, R: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """V (m, m) and the singular values of all ranks' columns, on all ranks."""
    found: tuple[np.ndarray, np.ndarray] | None = None
    whole = triangle.fold_ranks(comm, R)
    with collective(comm):
        if whole is not None:
            _, s, Vt = svd(whole)
            found = Vt.T, s
    told = comm.bcast(found)
    assert told is not None
    return told[0], told[1]

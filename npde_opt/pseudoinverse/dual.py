"""W = H^T (H H^T + ridge)^+ T where H is wide: its columns come in blocks, on any ranks.

    H^T = Q R,    a = (R^T R + ridge)^+ T,    W = H^T a

A rank keeps the triangle R (m, m) of the rows' number m, one block of columns, and its own rows of
W. Half of the digits that a = (R^T R)^+ T loses come back by

    a := a + (R^T R + ridge)^+ (T - H W - ridge a).

With H H^T = V s^2 V^T and l = ridge / (s^2 + ridge), the errors of the rows that are left are
V l V^T T, and the diagonal of 1 - the hat matrix that of V l V^T: from both come generalised
cross-validation and leave-one-out, at no pass over the columns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from mpi4py import MPI
from scipy.linalg import svd

from npde_opt import reductions
from npde_opt.aliases import Numbers
from npde_opt.errors import InputError, collective
from npde_opt.pseudoinverse import triangle
from npde_opt.pseudoinverse.settings import agree_on, matrix
from npde_opt.pseudoinverse.solution import EPS, SQUARED, Reduced, weights

Columns = Callable[[], Iterable[np.ndarray]]


@dataclass(frozen=True)
class Wide:
    """What the dual form found.

    Attributes:
        W: own rows (own columns of H, k), of least norm.
        ridge: its weight, one a target (k,); 0 for none.
        rank: singular values above the cut.
        cut: singular values up to it were taken for 0.
        singular_values: of H (rows,), largest first.
    """

    W: np.ndarray
    ridge: np.ndarray
    rank: int
    cut: float
    singular_values: np.ndarray


def dual(
    columns: Columns,
    T: np.ndarray,
    comm: MPI.Intracomm = MPI.COMM_SELF,
    tolerance: float | None = None,
    ridge: Numbers | str = 0.0,
) -> Wide:
    """W of a wide H. Collective.

    Args:
        columns: the own columns of H in blocks (m, any number); they are read three times.
        T: (m, k), the same on all ranks.
        tolerance: singular values of H up to so many times the largest are taken for 0; None: m
            times the rounding of a number.
        ridge: adds ridge |W|^2, a number, one a target, or chosen: 'gcv' by generalised
            cross-validation, 'loo' by leave-one-out over all rows; 'gcv-each' and 'loo-each'
            choose one a target.

    Raises:
        InputError: for other shapes, numbers that are not finite or whose squares are no
            ordinary numbers, a tolerance or ridge that is none; on all ranks.
    """

    def blocks() -> Iterator[np.ndarray]:
        for block in columns():
            yield matrix("columns", block, np.float64)

    with collective(comm):
        T = matrix("T", T, np.float64)
        R = _folded(blocks, T)
    agree_on(comm, T.shape, T.shape[1], tolerance, ridge)
    reductions.same(comm, float(T.sum()), "pseudoinverse: the sum of T")
    V, s = _turned(comm, R)
    m = len(T)
    largest = float(s.max(initial=0.0))
    if largest and not SQUARED[0] <= largest <= SQUARED[1]:
        told = f"a largest singular value of {largest:.1e}"
        allowed = f"from {SQUARED[0]:.0e} to {SQUARED[1]:.0e}: other units"
        raise InputError("pseudoinverse: columns", told, allowed)
    rows = _Rows(V, T, np.zeros(T.shape[1]), m, s=s)
    own = np.broadcast_to(weights(rows, ridge), T.shape[1:])
    cut = (m * EPS if tolerance is None else tolerance) * largest
    squares = s[:, None] ** 2 + own
    kept = np.where(own > 0, squares > 0, s[:, None] > cut)
    inverse = np.divide(1, squares, out=np.zeros(T.shape), where=kept)

    def solved(missed: np.ndarray) -> np.ndarray:
        found: np.ndarray = V @ (inverse * (V.T @ missed))
        return found

    a = solved(T)
    predicted = np.zeros(T.shape)
    for block in blocks():
        predicted += block @ (block.T @ a)
    a += solved(T - reductions.total(comm, predicted) - own * a)
    parts = [block.T @ a for block in blocks()]
    W = np.concatenate(parts) if parts else np.empty((0, T.shape[1]))
    return Wide(W, own, int((s > cut).sum()), cut, s)


@dataclass(frozen=True, kw_only=True)
class _Rows(Reduced):
    """A problem of as many columns as rows: C is T, R are the eigenvectors V of H H^T.

    Args:
        s: roots of its eigenvalues.
    """

    s: np.ndarray

    @cached_property
    def factors(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return self.R.T @ self.C, self.s, self.R

    def left_out(self, ridge: float) -> np.ndarray:
        turned, s, V = self.factors
        left = ridge / (s**2 + ridge)
        missed = V @ (left[:, None] * turned)
        free = V**2 @ left
        found: np.ndarray = ((missed / free[:, None]) ** 2).mean(axis=0)
        return found


def _folded(columns: Columns, T: np.ndarray) -> np.ndarray:
    """R of the own columns."""
    m = len(T)
    if T.ndim != 2 or not m or not np.isfinite(T).all():
        wanted = "(rows, targets), at least one of each, of finite numbers"
        raise InputError("pseudoinverse: T", f"shape {T.shape}", wanted)
    R = triangle.empty(m)
    for block in columns():
        R = triangle.fold(R, np.array(_checked(block, m).T, order="F"))
    return R


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

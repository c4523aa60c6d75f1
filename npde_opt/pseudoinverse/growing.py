"""A triangle R into which rows are folded by products of matrices, where these are as accurate.

Rows X that are like those of R are short in its coordinates, Y = X R^-1, and

    R^T R + X^T X = R^T (I + S) R,    S = sum Y^T Y,    so that    R := chol(I + S) R

which takes the flops of a QR, but in a triangular solve and a symmetric product of whole blocks
instead of panels of a few columns. I + S is well conditioned as long as no row has a large Y, and
its Cholesky factor loses nothing; and the solve is that of rows which differ from X, in each
column, by the rounding of |Y| |R|: the error of a QR as long as Y is not large. Where it is, or
R's columns depend on each other, the block is folded by tpqrt.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.linalg import blas, cholesky

from npde_opt.pseudoinverse import triangle
from npde_opt.pseudoinverse.solution import EPS

LARGE, GROWN = 4.0, 16.0
"""The most by which the mean of the diagonal of I + S grows, by rows that are taken at once and in
all. Rows alike let all of it grow; what counts is one that is unlike the others."""
MARGIN = 1.1
"""By how much the next rows may add more to it than the last, by guess."""
PANEL = 64
"""Columns that are solved for at once, others follow by products."""


class Growing:
    """R (n, n) of the rows so far; `R` is brought up to date where it is read."""

    def __init__(self, R: np.ndarray):
        self._set(R)

    def _set(self, R: np.ndarray) -> None:
        self._R = R
        self._S, self._size, self._grew = triangle.empty(len(R)), 0.0, 0.0
        self._steps: list[_Step] | None = _steps(R, 0) if _independent(R) else None

    @property
    def R(self) -> np.ndarray:
        self._update()
        return self._R

    def _update(self) -> None:
        if self._size:
            self._S[np.diag_indices(len(self._S))] += 1.0
            grown = cholesky(self._S, overwrite_a=True, check_finite=False)
            self._set(triangle.product(grown, self._R))

    def take(self, rows: Callable[[], np.ndarray]) -> None:
        """`rows()`: (m, n) in Fortran's order, to be overwritten; called once or more."""
        # Rows like those before them need not be tried first.
        if self._size + MARGIN * self._grew > GROWN * len(self._R):
            self._update()
        Y = self._short(rows)
        if Y is None and self._size:
            self._update()
            Y = self._short(rows)
        if Y is None:
            self._set(triangle.fold(self.R, rows()))
        else:
            self._S = blas.dsyrk(1.0, Y, trans=1, beta=1.0, c=self._S, overwrite_c=1)

    def _short(self, rows: Callable[[], np.ndarray]) -> np.ndarray | None:
        """X R^-1, None where S would become large."""
        if self._steps is None:
            return None
        Y = rows()
        with np.errstate(all="ignore"):
            _solve(self._steps, Y)
            flat = Y.ravel(order="F")
            grew = float(blas.ddot(flat, flat))
        n = len(self._R)
        if not (grew <= LARGE * n and self._size + grew <= GROWN * n):
            return None
        self._size, self._grew = self._size + grew, grew
        return Y


_Step = tuple[int, int, int, np.ndarray]
"""Columns a to b are done and leave those from b to c, by a part of R; or, with a = b, are
those from b to c themselves."""


def _steps(R: np.ndarray, at: int) -> list[_Step]:
    """Of a solve with R, whose first column is `at`: halves, by turns."""
    n = len(R)
    if n <= PANEL:
        return [(at, at, at + n, np.asfortranarray(R))]
    # Halves of whole cache lines.
    half = -(-n // 16) * 8
    between = np.asfortranarray(R[:half, half:])
    first, last = _steps(R[:half, :half], at), _steps(R[half:, half:], at + half)
    return [*first, (at, at + half, at + n, between), *last]


def _solve(steps: list[_Step], Y: np.ndarray) -> None:
    """Y := Y R^-1, in place."""
    for a, b, c, part in steps:
        if a == b:
            blas.dtrsm(1.0, part, Y[:, b:c], side=1, overwrite_b=1)
        else:
            blas.dgemm(-1.0, Y[:, a:b], part, beta=1.0, c=Y[:, b:c], overwrite_c=1)


def _independent(R: np.ndarray) -> bool:
    """Whether no column is, but for rounding, one of those before it."""
    # BLAS's length of a column overflows only where that itself does.
    sizes = np.array([blas.dnrm2(R[: j + 1, j]) for j in range(len(R))])
    return bool((abs(np.diag(R)) > len(R) * EPS * sizes).all())

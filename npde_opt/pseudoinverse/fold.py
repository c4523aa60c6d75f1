"""W = H^+ T by a QR of all rows: R := qr([R; block]), block after block (see growing.py).

Neither H nor Q exists. Rows may be taken out again: R^T R - X^T X = R^T (I - Y Y^T) R with
R^T Y = X^T.
"""

from __future__ import annotations

from functools import partial

import numpy as np
from scipy.linalg import cholesky, eigh, lstsq

from npde_opt.aliases import Numbers
from npde_opt.pseudoinverse import triangle
from npde_opt.pseudoinverse.growing import Growing
from npde_opt.pseudoinverse.rows import GONE, Rows, Solver, never_added
from npde_opt.pseudoinverse.sample import AllSampled
from npde_opt.pseudoinverse.settings import roots_of
from npde_opt.pseudoinverse.solution import EPS, Solution, solve


class Fold(Rows):
    """Least squares as accurate as a QR, and of least norm where columns depend on each other."""

    method = "qr"
    copies = 4

    @property
    def kept(self) -> np.ndarray:
        """R of this rank's rows."""
        return self._growing.R

    @kept.setter
    def kept(self, R: np.ndarray) -> None:
        self._growing = Growing(R)

    def _take(self, H: np.ndarray, T: np.ndarray, roots: np.ndarray | None) -> None:
        self._growing.take(partial(self._joined, H, T, roots))

    def _gathered(self) -> Solver | None:
        R = triangle.fold_ranks(self.comm, self.kept)
        return None if R is None else partial(self._solved, R)

    def _solved(
        self,
        kept: np.ndarray,
        sample: AllSampled | None,
        count: int,
        tolerance: float | None,
        ridge: Numbers | str,
    ) -> Solution:
        found = solve(self._reduced(kept, sample, count), tolerance, ridge)
        return self._with_intercept(found, kept)

    def remove(
        self, H: np.ndarray, T: np.ndarray, weights: np.ndarray | None = None
    ) -> None:
        """Takes rows out that were added here; not collective.

        Raises:
            InputError: as `add`, for rows that cannot be among those that were added, and where
                rows are sampled.
        """
        self._refuse_sampled()
        H, T = self._shaped(H, T)
        roots = roots_of(weights, len(H))
        self._begin(H, T, roots)
        for start in range(0, len(H), len(self.kept)):
            rows = slice(start, start + len(self.kept))
            self._take_out(
                self._joined(H[rows], T[rows], None if roots is None else roots[rows])
            )
        self.count -= len(H)

    def _take_out(self, X: np.ndarray) -> None:
        # In units of each column: features and targets may differ by any power of ten.
        units = np.linalg.norm(self.kept, axis=0)
        units[units == 0] = 1.0
        R, X = self.kept / units, X / units
        Y, _, _, _ = lstsq(R.T, X.T, cond=len(R) * EPS)
        sizes = np.sqrt((X**2).sum(axis=1))
        outside = np.sqrt(((R.T @ Y - X.T) ** 2).sum(axis=0)) > GONE * sizes
        left = None if outside.any() else _root(np.eye(len(R)) - Y @ Y.T)
        if left is None:
            raise never_added(len(X))
        rows = np.asfortranarray(left @ R * units)
        self.kept = triangle.fold(triangle.empty(len(R)), rows)


def _root(A: np.ndarray) -> np.ndarray | None:
    """L with L^T L = A, symmetric and not negative beyond GONE; None where it is. A is singular
    where a row that is taken out was the only one of its direction."""
    try:
        return np.asarray(cholesky(A + EPS * np.eye(len(A))))
    except np.linalg.LinAlgError:
        values, vectors = eigh(A)
        if values[0] < -GONE:
            return None
        root = np.sqrt(np.maximum(values, 0.0))[:, None] * vectors.T
        return np.asarray(root)

"""W = H^+ T over rows that come in blocks, on any ranks: [1 H T] = Q R, and W is in R.

    R = [ r  h  t ]        r, h, t: of the column of ones, where there is an intercept
        [    R  C ]        |H W - T|^2 = |R W - C|^2 + |S|^2
        [       S ]

Neither H nor Q exists: a rank keeps (n + k + 1)^2 numbers and one block of rows. Rows may be taken
out again (R^T R - X^T X = R^T (I - Y Y^T) R with R^T Y = X^T), and what was folded so far can be
written to a file and read.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
from mpi4py import MPI
from scipy.linalg import cholesky, lstsq

from npde_opt import reductions
from npde_opt.aliases import FilePath, Numbers
from npde_opt.errors import InputError, collective
from npde_opt.io.files import disk, whole_file
from npde_opt.pseudoinverse import triangle
from npde_opt.pseudoinverse.solution import EPS, GCV, GCV_EACH, Reduced, Solution, solve

ROWS = 4000
"""Rows that are folded at once."""
GONE = 1e-8
"""The share of a row that may lie outside what was folded where it is taken out."""


class Fold:
    """Rows of features H (n columns) and targets T (k columns), folded as they come.

    Args:
        features, targets: n and k.
        intercept: also find a constant for every target, on which no ridge acts.
        comm: the ranks among which the rows lie; each adds its own, also none.
        block: rows that are folded at once.

    Raises:
        InputError: for numbers that are not positive.
    """

    def __init__(
        self,
        features: int,
        targets: int,
        intercept: bool = False,
        comm: MPI.Intracomm = MPI.COMM_SELF,
        block: int = ROWS,
    ):
        for name, value in {"features": features, "targets": targets, "block": block}.items():
            if value < 1:
                raise InputError(f"pseudoinverse: {name}", value, "a positive integer")
        self.features, self.targets, self.block = features, targets, block
        self.first = int(intercept)
        self.comm, self.count = comm, 0
        self.R = triangle.empty(self.first + features + targets)

    def add(self, H: np.ndarray, T: np.ndarray, weights: np.ndarray | None = None) -> None:
        """Folds rows in; not collective.

        Args:
            H: (m, n). T: (m, k), or (m,) of one target.
            weights: (m,) of the squared errors; None: 1.

        Raises:
            InputError: for other shapes, numbers that are not finite, and weights below 0.
        """
        H, T = self._checked(H, T)
        roots = _roots(weights, len(H))
        for start in range(0, len(H), self.block):
            rows = slice(start, start + self.block)
            self.R = triangle.fold(self.R, self._joined(H[rows], T[rows], roots[rows]))
        self.count += len(H)

    def add_all(self, blocks: Iterable[tuple[np.ndarray, np.ndarray]]) -> None:
        """Folds (H, T) of an iterator in, one after the other."""
        for H, T in blocks:
            self.add(H, T)

    def remove(self, H: np.ndarray, T: np.ndarray, weights: np.ndarray | None = None) -> None:
        """Takes rows out that were added here; not collective.

        Raises:
            InputError: as `add`, and for rows that cannot be among those that were added.
        """
        H, T = self._checked(H, T)
        roots = _roots(weights, len(H))
        for start in range(0, len(H), len(self.R)):
            rows = slice(start, start + len(self.R))
            self._take_out(self._joined(H[rows], T[rows], roots[rows]))
        self.count -= len(H)

    def _take_out(self, X: np.ndarray) -> None:
        Y, _, _, _ = lstsq(self.R.T, X.T, cond=len(self.R) * EPS)
        sizes = np.sqrt((X**2).sum(axis=1))
        outside = np.sqrt(((self.R.T @ Y - X.T) ** 2).sum(axis=0)) > GONE * sizes
        try:
            if outside.any():
                raise np.linalg.LinAlgError
            left = cholesky(np.eye(len(self.R)) - Y @ Y.T + EPS * np.eye(len(self.R)))
        except np.linalg.LinAlgError:
            raise InputError(
                "pseudoinverse: rows to take out", f"{len(X)} rows", "rows that were added here"
            ) from None
        self.R = triangle.fold(triangle.empty(len(self.R)), np.asfortranarray(left @ self.R))

    def _joined(self, H: np.ndarray, T: np.ndarray, roots: np.ndarray) -> np.ndarray:
        """Rows of [1 H T], each times the root of its weight."""
        out = np.empty((len(H), len(self.R)), order="F")
        out[:, : self.first] = 1.0
        out[:, self.first : self.first + self.features] = H
        out[:, self.first + self.features :] = T
        out *= roots[:, None]
        return out

    def _checked(self, H: np.ndarray, T: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        H, T = np.asarray(H, float), np.asarray(T, float)
        if T.ndim == 1:
            T = T[:, None]
        for name, array, columns in (("H", H, self.features), ("T", T, self.targets)):
            if array.ndim != 2 or array.shape[1] != columns or len(array) != len(H):
                wanted = f"{len(H)} rows of {columns} numbers"
                raise InputError(f"pseudoinverse: {name}", f"shape {array.shape}", wanted)
            wrong = ~np.isfinite(array).all(axis=1)
            if wrong.any():
                row = self.count + int(np.argmax(wrong))
                told = f"{int(wrong.sum())} rows that are not finite, the first is row {row}"
                raise InputError(f"pseudoinverse: {name}", told, "finite numbers")
        return H, T

    def solve(self, tolerance: float | None = None, ridge: Numbers | str = 0.0) -> Solution:
        """W of the rows of all ranks; more rows may be added afterwards. Collective.

        Args:
            tolerance: singular values of H up to so many times the largest are taken for 0; None:
                n times the rounding of a number.
            ridge: adds ridge |W|^2, a number, one a target, or 'gcv' (generalised
                cross-validation), 'gcv-each' (one a target).

        Raises:
            InputError: for a tolerance or ridge that is none, and where there are no rows.
        """
        _check_settings(tolerance, ridge, self.targets)
        count = int(reductions.total(self.comm, self.count))
        if count == 0:
            raise InputError("pseudoinverse", "no rows", "at least one")
        found: Solution | None = None
        R = triangle.fold_ranks(self.comm, self.R)
        with collective(self.comm):
            if R is not None:
                found = self._solved(R, count, tolerance, ridge)
        sent = replace(found, problem=None) if found is not None else None
        told = self.comm.bcast(sent)
        return found if found is not None else told

    def _solved(
        self, R: np.ndarray, count: int, tolerance: float | None, ridge: Numbers | str
    ) -> Solution:
        first, last = self.first, self.first + self.features
        C, S = R[first:last, last:], R[last:, last:]
        problem = Reduced(
            np.asfortranarray(R[first:last, first:last]), C, (S**2).sum(axis=0), count, first
        )
        found = solve(problem, tolerance, ridge)
        if not first:
            return found
        missing = R[0, last:] - R[0, first:last] @ found.W
        return replace(found, intercept=missing / R[0, 0])

    def save(self, path: FilePath) -> None:
        """Writes what was folded here into a file (.npz), whole or not at all."""
        target = Path(path)
        with disk("pseudoinverse: file", target.parent), whole_file(target) as file:
            np.savez(
                file,
                R=triangle.pack(self.R),
                sizes=[self.features, self.targets, self.first, self.block, self.count],
            )

    @classmethod
    def load(cls, path: FilePath, comm: MPI.Intracomm = MPI.COMM_SELF) -> Fold:
        """What `save` wrote.

        Raises:
            InputError: for a file that is not there, or is none of these.
        """
        try:
            with np.load(path) as file:
                features, targets, first, block, count = (int(x) for x in file["sizes"])
                packed = file["R"]
            found = cls(features, targets, bool(first), comm, block)
            found.R, found.count = triangle.unpack(packed, len(found.R)), count
        except (OSError, KeyError, ValueError) as error:
            allowed = "a file that Fold.save wrote"
            raise InputError("pseudoinverse: file", f"{path} ({error})", allowed) from error
        return found


def _roots(weights: np.ndarray | None, rows: int) -> np.ndarray:
    if weights is None:
        return np.ones(rows)
    given = np.asarray(weights, float)
    if given.shape != (rows,) or not (np.isfinite(given) & (given >= 0)).all():
        said = f"shape {given.shape}, least {np.min(given, initial=np.inf)}"
        raise InputError("pseudoinverse: weights", said, f"{rows} finite numbers >= 0")
    roots: np.ndarray = np.sqrt(given)
    return roots


def _check_settings(tolerance: float | None, ridge: Numbers | str, targets: int) -> None:
    if tolerance is not None and not 0 <= tolerance < 1:
        raise InputError("pseudoinverse: tolerance", tolerance, "a number in [0, 1), or None")
    if isinstance(ridge, str):
        if ridge not in (GCV, GCV_EACH):
            raise InputError("pseudoinverse: ridge", repr(ridge), f"numbers, {GCV!r}, {GCV_EACH!r}")
        return
    given = np.asarray(ridge, float)
    if given.shape not in ((), (targets,)) or not (np.isfinite(given) & (given >= 0)).all():
        wanted = f"a number >= 0, or one a target ({targets})"
        raise InputError("pseudoinverse: ridge", given.tolist(), wanted)

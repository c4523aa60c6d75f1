"""Linear maps of vectors that are rows of arrays, in C order."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from mpi4py import MPI
from petsc4py import PETSc

MANY = 4
"""Rows from which on one product with all takes less time than one after the other."""


class MatrixProduct:
    """A x and A^T y with PETSc's matrix A, which it owns. Methods are collective, on all ranks of
    as many rows."""

    def __init__(self, A: PETSc.Mat):
        self.matrix, self._alone = A, A.getComm().getSize() == 1
        self.size, columns = A.getLocalSize()
        """Own rows of A."""
        self._x, self._y = (
            # Only looks at rows: this memory is never used.
            PETSc.Vec().createWithArray(np.empty(n), (n, None), comm=A.getComm())
            for n in (columns, self.size)
        )

    def apply(self, rows: np.ndarray, found: np.ndarray) -> None:
        """A x of every row x, into a row of `found`."""
        if len(rows) < MANY or not self._alone:
            _each(self.matrix.mult, rows, self._x, found, self._y)
            return
        X, Y = _columns(rows), _columns(found)
        self.matrix.matMult(X, Y)
        X.destroy()
        Y.destroy()

    def transpose(self, rows: np.ndarray, found: np.ndarray) -> None:
        """A^T y of every row y, into a row of `found`."""
        _each(self.matrix.multTranspose, rows, self._y, found, self._x)

    def destroy(self) -> None:
        for owned in (self._x, self._y, self.matrix):
            owned.destroy()


def _each(
    action: Callable[[PETSc.Vec, PETSc.Vec], None],
    rows: np.ndarray,
    x: PETSc.Vec,
    found: np.ndarray,
    y: PETSc.Vec,
) -> None:
    """Of one row after the other, of which x and y take the place."""
    for given, image in zip(rows, found, strict=True):
        x.placeArray(given)
        y.placeArray(image)
        action(x, y)
        x.resetArray()
        y.resetArray()


def _columns(rows: np.ndarray) -> PETSc.Mat:
    """Rows as the columns of a dense matrix, as which they lie in memory."""
    return PETSc.Mat().createDense(rows.shape[::-1], array=rows.T, comm=MPI.COMM_SELF)


def by_parts(
    action: Callable[[np.ndarray, np.ndarray], None],
    rows: np.ndarray,
    found: np.ndarray,
) -> None:
    """An action from rows to rows, of parts of longer rows, which may not lie in C order."""
    image = found if found.flags.c_contiguous else np.empty(found.shape)
    action(np.ascontiguousarray(rows), image)
    if image is not found:
        found[...] = image

"""A x of many vectors on one rank: one product of A with all of them, where calls take longer than
what they do."""

from __future__ import annotations

import numpy as np
from mpi4py import MPI
from petsc4py import PETSc


def products(A: PETSc.Mat, rows: np.ndarray) -> np.ndarray:
    """A x of every row x.

    Args:
        rows: (n, columns of A).

    Returns:
        (n, rows of A).
    """
    given = np.ascontiguousarray(rows)
    # Memory of numpy's, which has some at hand: pages that PETSc would ask the system for anew cost
    # five times what the product does.
    found = np.empty((len(rows), A.getSize()[0]))
    X, Y = _columns(given), _columns(found)
    A.matMult(X, Y)
    X.destroy()
    Y.destroy()
    return found


def _columns(rows: np.ndarray) -> PETSc.Mat:
    """Rows as the columns of a dense matrix, as which they lie in memory."""
    return PETSc.Mat().createDense(rows.shape[::-1], array=rows.T, comm=MPI.COMM_SELF)

"""B U and B^T D of one experiment at many times at once, where a rank has all cells."""

from __future__ import annotations

import numpy as np
from petsc4py import PETSc

from npde_opt.packages import scipy

DENSE = 1 << 18
"""Entries up to which B is an array: sparse ones take a quarter of a second to be loaded."""


class EveryTime:
    """Products of B (n x cells) of one rank with fields [t, cell], whose rows are of one time each.

    Args:
        matrix: B, which stays the caller's.
    """

    def __init__(self, matrix: PETSc.Mat):
        starts, cells, weights = matrix.getValuesCSR()
        self._cells, columns = np.unique(cells, return_inverse=True)
        rows = np.repeat(np.arange(starts.size - 1), np.diff(starts))
        shape = starts.size - 1, self._cells.size
        if shape[0] * shape[1] <= DENSE:
            self._rows = np.zeros(shape)
            np.add.at(self._rows, (rows, columns), weights)
        else:
            self._rows = scipy.sparse.csr_matrix((weights, (rows, columns)), shape)

    def see(self, fields: np.ndarray) -> np.ndarray:
        """[t, row]."""
        return np.asarray((self._rows @ fields[:, self._cells].T).T)

    def spread(self, data: np.ndarray, size: int) -> np.ndarray:
        """B^T D as fields [t, cell] of so many cells."""
        found = np.zeros((len(data), size))
        found[:, self._cells] = (self._rows.T @ data.T).T
        return found

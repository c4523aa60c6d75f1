"""B U and B^T D of several samples at once: one scatter of the cells that are seen, one product."""

from __future__ import annotations

import numpy as np
from mpi4py import MPI
from petsc4py import PETSc

from npde_opt.grids import Grid
from npde_opt.packages import scipy


class WideProduct:
    """Products of B (n x cells) with fields of two samples or more.

    Fields are owned values [s, i, j, k] with the samples fastest in memory, and are read where they
    are: a rank gets the cells that its rows of B see, all samples of a cell together. B stays the
    caller's.
    """

    def __init__(self, grid: Grid, matrix: PETSc.Mat):
        self.grid = grid
        starts, cells, weights = matrix.getValuesCSR()
        needed, columns = np.unique(cells, return_inverse=True)
        shape = (starts.size - 1, needed.size)
        self._rows = scipy.sparse.csr_matrix((weights, columns, starts), shape=shape)
        self._back = self._rows.T.tocsr()
        self._scatter = _scatter(grid, matrix, needed)
        self._units: dict[int, MPI.Datatype] = {}

    def see(self, fields: np.ndarray) -> np.ndarray:
        """B U (owned rows, samples). Collective."""
        samples = fields.shape[0]
        values = np.ascontiguousarray(fields.T.reshape(-1, samples), float)
        seen = np.empty((self._rows.shape[1], samples))
        message = self._unit(samples), values, seen, MPI.REPLACE
        self._scatter.bcastBegin(*message)
        self._scatter.bcastEnd(*message)
        return np.asarray(self._rows @ seen)

    def spread(self, data: np.ndarray) -> np.ndarray:
        """B^T D [s, i, j, k]. Collective."""
        samples, shape = data.shape[1], self.grid.local_shape
        seen = np.ascontiguousarray(self._back @ data)
        values = np.zeros((*shape[::-1], samples))
        message = self._unit(samples), seen, values, MPI.SUM
        self._scatter.reduceBegin(*message)
        self._scatter.reduceEnd(*message)
        return values.T

    def _unit(self, samples: int) -> MPI.Datatype:
        """All samples of a cell."""
        if samples not in self._units:
            self._units[samples] = MPI.DOUBLE.Create_contiguous(samples).Commit()
        return self._units[samples]

    def destroy(self) -> None:
        self._scatter.destroy()
        for unit in self._units.values():
            unit.Free()


def _scatter(grid: Grid, matrix: PETSc.Mat, needed: np.ndarray) -> PETSc.SF:
    """From the owned cells to those of which the numbers are given."""
    starts = np.asarray(matrix.getOwnershipRangesColumn())
    ranks = np.searchsorted(starts, needed, side="right") - 1
    remote = np.column_stack([ranks, needed - starts[ranks]]).astype(PETSc.IntType)
    made = PETSc.SF().create(grid.comm)
    made.setGraph(grid.layout.local_size, None, remote)
    return made

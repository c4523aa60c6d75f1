"""A X of a stencil matrix and a block of columns [s, i, j, k]: a sparse product on this rank's rows
for all columns at once, with the rows of other ranks from one exchange."""

from __future__ import annotations

import numpy as np
from mpi4py import MPI
from petsc4py import PETSc

from npde_opt.grids import Grid
from npde_opt.operators.stencils import StencilMatrix
from npde_opt.packages import scipy


class Exchange:
    """Rows of a block that other ranks own.

    Args:
        numbers: global numbers of the rows that this rank wants, sorted.
        owned: how many rows it owns; ranks own them one after the other.
    """

    def __init__(self, comm: MPI.Intracomm, numbers: np.ndarray, owned: int):
        self.count = numbers.size
        ends = np.cumsum(comm.allgather(owned))
        owner = np.searchsorted(ends, numbers, side="right")
        sizes = np.diff(ends, prepend=0)
        index = numbers - (ends - sizes)[owner]
        self._sf = PETSc.SF().create(comm)
        remote = np.stack([owner, index], axis=1).astype(PETSc.IntType)
        self._sf.setGraph(owned, None, remote.ravel())
        self._units: dict[int, MPI.Datatype] = {}

    def _unit(self, columns: int) -> MPI.Datatype:
        """A row as a datatype."""
        if columns not in self._units:
            self._units[columns] = MPI.DOUBLE.Create_contiguous(columns).Commit()
        return self._units[columns]

    def fetched(self, rows: np.ndarray) -> np.ndarray:
        """The wanted rows, from the owned ones [row, s]. Collective."""
        out = np.empty((self.count, rows.shape[1]))
        unit = self._unit(rows.shape[1])
        self._sf.bcastBegin(unit, rows, out, MPI.REPLACE)
        self._sf.bcastEnd(unit, rows, out, MPI.REPLACE)
        return out

    def add(self, wanted: np.ndarray, rows: np.ndarray) -> None:
        """The transpose: adds to the owned rows what ranks have for those that they want.
        Collective."""
        unit = self._unit(rows.shape[1])
        self._sf.reduceBegin(unit, wanted, rows, MPI.SUM)
        self._sf.reduceEnd(unit, wanted, rows, MPI.SUM)

    def destroy(self) -> None:
        self._sf.destroy()
        for unit in self._units.values():
            unit.Free()


class BlockProduct:
    """Products of one matrix with blocks; follows the matrix's values.

    Args:
        matrix: stays the caller's.
    """

    def __init__(self, matrix: StencilMatrix):
        self.matrix, self.grid = matrix, matrix.grid
        self._parts: tuple[scipy.sparse.csr_matrix, scipy.sparse.csr_matrix] | None = (
            None
        )
        self._exchange: Exchange | None = None
        if matrix.shared:
            self._wrap()
        else:
            self._x, self._y = self.grid.create_active(), self.grid.create_active()

    def _wrap(self) -> None:
        """The matrix's own arrays as those of scipy."""
        (i, j, a), (away_i, away_j, away_a) = self.matrix.rows()
        n = i.size - 1
        own = scipy.sparse.csr_matrix((a, j, i), shape=(n, n), copy=False)
        wanted, place = np.unique(away_j, return_inverse=True)
        entries = (away_a, place.astype(away_i.dtype), away_i)
        away = scipy.sparse.csr_matrix(entries, shape=(n, wanted.size), copy=False)
        assert np.shares_memory(own.data, a) and (
            not a.size or np.shares_memory(own.indices, j)
        )
        self._parts = own, away
        if self.grid.comm.size > 1:
            self._exchange = Exchange(self.grid.comm, wanted, n)

    def __call__(self, x: np.ndarray, transposed: bool = False) -> np.ndarray:
        """A X, or A^T X [s, i, j, k], 0 in inactive cells. Collective."""
        if self._parts is None:
            return self._one_by_one(x, transposed)
        own, away = self._parts
        rows = pack(self.grid, x)
        if transposed:
            out = own.T @ rows
            if self._exchange is not None:
                self._exchange.add(away.T @ rows, out)
        else:
            out = own @ rows
            if self._exchange is not None:
                out += away @ self._exchange.fetched(rows)
        return unpack(self.grid, out)

    def _one_by_one(self, x: np.ndarray, transposed: bool) -> np.ndarray:
        """Where PETSc holds the values in a way of its own."""
        mat, out = self.matrix.mat, np.empty_like(x)
        for column, result in zip(x, out, strict=True):
            self.grid.put(column, self._x)
            (mat.multTranspose if transposed else mat.mult)(self._x, self._y)
            self.grid.take(self._y, result[None])
        return out

    def destroy(self) -> None:
        if self._exchange is not None:
            self._exchange.destroy()
        if self._parts is None:
            self._x.destroy()
            self._y.destroy()


def pack(grid: Grid, x: np.ndarray) -> np.ndarray:
    """The rows [cell, s] of the owned active cells, of columns [s, i, j, k]; a view where all cells
    are active and samples are fastest in memory."""
    cells = x.T if grid.mask is None else x.T[grid.active.T]
    return np.ascontiguousarray(cells).reshape(-1, x.shape[0])


def unpack(grid: Grid, rows: np.ndarray) -> np.ndarray:
    """Columns [s, i, j, k] of rows [cell, s], 0 in inactive cells."""
    shape = (*grid.local_shape[::-1], rows.shape[1])
    if grid.mask is None:
        return rows.reshape(shape).T
    out = np.zeros(shape)
    out[grid.active.T] = rows
    return out.T

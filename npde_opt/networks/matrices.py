"""A whole operator of a layer as one assembled matrix: the truth that tests compare with, which can
be looked at and solved with.

Rows and columns go cell by cell in PETSc's order, the channels of a cell beside each other.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from mpi4py import MPI
from petsc4py import PETSc

from npde_opt.networks.place import Place
from npde_opt.packages import scipy


def assembled(
    source: Place, target: Place, sources: Sequence[np.ndarray], w: np.ndarray
) -> PETSc.Mat:
    """The matrix of a stencil W [c, d, tz, ty, tx]. Collective.

    Args:
        sources: by axis x, y, z the cells (own outputs, taps) that outputs read, -1 for none.
    """
    dim = source.dim
    # Axes of the entries: cells k, j, i of the target, then taps tz, ty, tx.
    columns, rows = list[np.ndarray](), list[np.ndarray]()
    for d, (cells, own) in enumerate(zip(sources, target.layout.owned(), strict=True)):
        shape = [1] * (2 * dim)
        shape[dim - 1 - d], shape[2 * dim - 1 - d] = cells.shape
        columns.append(cells.reshape(shape))
        rows.append(
            own.reshape([len(own) if a == dim - 1 - d else 1 for a in range(2 * dim)])
        )
    column = source.layout.global_index(columns)
    row = np.broadcast_to(target.layout.global_index(rows), column.shape)
    return entries(
        source, target, row, column, w.reshape(*w.shape[:2], *(1,) * dim, *w.shape[2:])
    )


def entries(
    source: Place, target: Place, row: np.ndarray, column: np.ndarray, w: np.ndarray
) -> PETSc.Mat:
    """The matrix of entries W [c, d, ...] between cells; those without a column are left out.

    Args:
        row, column: PETSc's numbers of cells, of the shape that W broadcasts to behind c, d.
    """
    c, d = w.shape[:2]
    channel = np.arange(c).reshape(c, *(1,) * (w.ndim - 1))
    other = np.arange(d).reshape(d, *(1,) * (w.ndim - 2))
    shape = (c, d, *column.shape)
    rows = np.broadcast_to(row * c + channel, shape).ravel()
    columns = np.broadcast_to(
        np.where(column < 0, -1, column * d + other), shape
    ).ravel()
    values = np.broadcast_to(w, shape).ravel()
    own = target.layout.local_size * c, source.layout.local_size * d
    return of_entries(target.comm, own, rows, columns, values)


def of_entries(
    comm: MPI.Intracomm | PETSc.Comm,
    own: tuple[int, int],
    rows: np.ndarray,
    columns: np.ndarray,
    values: np.ndarray,
) -> PETSc.Mat:
    """The matrix of entries, those at one place added up and those without a column left out. The
    caller destroys it. Collective.

    Args:
        own: rows and columns of this rank.
        rows, columns, values: one an entry.
    """
    kept, index = columns >= 0, PETSc.IntType
    found = PETSc.Mat().create(comm=comm)
    found.setSizes(((own[0], None), (own[1], None)))
    found.setType("aij")
    found.setPreallocationCOO(rows[kept].astype(index), columns[kept].astype(index))
    found.setValuesCOO(values[kept].astype(float), PETSc.InsertMode.ADD_VALUES)
    return found


def gathered(A: PETSc.Mat) -> scipy.sparse.csr_matrix | None:
    """All of a matrix on rank 0, None elsewhere. Collective."""
    starts, columns, values = A.getValuesCSR()
    pieces = A.comm.tompi4py().gather((np.diff(starts), columns, values))
    if pieces is None:
        return None
    lengths, every, entries = (
        np.concatenate(part) for part in zip(*pieces, strict=True)
    )
    ends = np.concatenate([[0], np.cumsum(lengths)])
    return scipy.sparse.csr_matrix((entries, every, ends), A.getSize())


def as_vec(place: Place, u: np.ndarray) -> PETSc.Vec:
    """One sample [c, k, j, i] in the order of the matrices. The caller destroys it."""
    vec = PETSc.Vec().createMPI(
        (place.layout.local_size * place.channels, None), comm=place.comm
    )
    vec.getArray()[...] = np.moveaxis(u, 0, -1).ravel()
    return vec


def from_vec(place: Place, vec: PETSc.Vec) -> np.ndarray:
    """The sample [c, k, j, i] of such a vector."""
    values = vec.getArray(readonly=True).reshape(*place.cells, place.channels)
    return np.ascontiguousarray(np.moveaxis(values, -1, 0))


def on_channels(A: PETSc.Mat, B: np.ndarray) -> PETSc.Mat:
    """A (x) B: the matrix with B[c, d] A from channel d to channel c, of A between cells; channels
    of a cell beside each other. The caller destroys it. Collective."""
    starts, columns, values = A.getValuesCSR()
    first, last = A.getOwnershipRange()
    rows = np.repeat(np.arange(first, last), np.diff(starts))
    c, d = np.nonzero(B)
    (n, _), (m, _) = A.getSizes()
    own = n * B.shape[0], m * B.shape[1]
    row = (B.shape[0] * rows + c[:, None]).ravel()
    column = (B.shape[1] * columns + d[:, None]).ravel()
    return of_entries(
        A.comm, own, row, column, np.multiply.outer(B[c, d], values).ravel()
    )

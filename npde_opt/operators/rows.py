"""Rows of padded entries as AIJ matrices, products of one-dimensional weights, and masses of
cells."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
from mpi4py import MPI
from petsc4py import PETSc

from npde_opt.grids import Grid, along
from npde_opt.grids.layout import Layout
from npde_opt.packages import scipy


def from_rows(
    comm: MPI.Intracomm,
    rows: int,
    columns: tuple[int, int | None],
    indices: np.ndarray,
    weights: np.ndarray,
    keep: np.ndarray,
) -> PETSc.Mat:
    """An AIJ matrix from `rows` owned rows of padded entries (rows, k) of which `keep` are stored.

    Entries of a row in one column are added: where an axis has one cell, or two and is periodic,
    neighbours on both sides are the same cell, and PETSc would keep the last entry only.
    """
    starts = np.append(0, np.cumsum(keep.sum(axis=1)))
    width = int(indices.max(initial=0)) + 1
    entries = (
        weights[keep],
        indices[keep].astype(PETSc.IntType),
        starts.astype(PETSc.IntType),
    )
    own = scipy.sparse.csr_matrix(entries, shape=(rows, width))
    own.sum_duplicates()
    csr = [x.astype(PETSc.IntType, copy=False) for x in (own.indptr, own.indices)]
    matrix = PETSc.Mat().createAIJ(
        ((rows, None), columns), csr=(*csr, own.data), comm=comm
    )
    matrix.assemble()
    return matrix


def from_entries(
    grid: Grid, size: int, rows: np.ndarray, columns: np.ndarray, weights: np.ndarray
) -> PETSc.Mat:
    """An AIJ matrix (size x cells) of which each rank owns an even share of the rows, from entries
    that lie on any ranks; those of one row and column are added. Collective."""
    sizes = (grid.layout.local_size, grid.layout.size)
    made = PETSc.Mat().createAIJ(((None, size), sizes), comm=grid.comm)
    made.setPreallocationCOO(rows.astype(PETSc.IntType), columns.astype(PETSc.IntType))
    made.setValuesCOO(weights)
    return made


def tensor_entries(
    parents: Sequence[tuple[np.ndarray, np.ndarray]], layout: Layout, dim: int
) -> tuple[np.ndarray, np.ndarray]:
    """Products of one-dimensional interpolation weights.

    `parents[d]` = (indices, weights), each (n_d, k). Returns (indices, weights), each (n_0 * ... ,
    k**dim), rows numbered x fastest.
    """
    indices, weights = [], []
    for picks in product(*(range(p[0].shape[1]) for p in parents)):
        cells = [
            along(p[0][:, k], d, dim)
            for d, (p, k) in enumerate(zip(parents, picks, strict=True))
        ]
        w: np.ndarray = np.ones((1,) * dim)
        for d, (p, k) in enumerate(zip(parents, picks, strict=True)):
            w = w * along(p[1][:, k], d, dim)
        indices.append(layout.global_index(cells).ravel(order="F"))
        weights.append(w.ravel(order="F"))
    return np.stack(indices, axis=1), np.stack(weights, axis=1)


def mass(grid: Grid) -> PETSc.Vec:
    """Volumes of the active cells."""
    vec = grid.create_active()
    grid.put(grid.volume, vec)
    return vec

"""Pure functions from a grid to sparse matrices: interpolation to points, prolongation between
grids, masses."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
import scipy.sparse
from mpi4py import MPI
from petsc4py import PETSc

from npde_opt.errors import InputError, collective
from npde_opt.grids import Grid, along
from npde_opt.layout import Layout
from npde_opt.locate import active_at, located


def from_rows(comm: MPI.Intracomm, rows: int, columns: tuple[int, int | None],
              indices: np.ndarray, weights: np.ndarray, keep: np.ndarray) -> PETSc.Mat:
    """An AIJ matrix from `rows` owned rows of padded entries (rows, k) of which `keep` are stored.

    Entries of a row in one column are added: where an axis has one cell, or two and is periodic,
    neighbours on both sides are the same cell, and PETSc would keep the last entry only.
    """
    starts = np.append(0, np.cumsum(keep.sum(axis=1)))
    width = int(indices.max(initial=0)) + 1
    entries = (weights[keep], indices[keep].astype(PETSc.IntType), starts.astype(PETSc.IntType))
    own = scipy.sparse.csr_matrix(entries, shape=(rows, width))
    own.sum_duplicates()
    csr = [x.astype(PETSc.IntType, copy=False) for x in (own.indptr, own.indices)]
    matrix = PETSc.Mat().createAIJ(((rows, None), columns), csr=(*csr, own.data), comm=comm)
    matrix.assemble()
    return matrix


def tensor_entries(parents: Sequence[tuple[np.ndarray, np.ndarray]], layout: Layout, dim: int):
    """Products of one-dimensional interpolation weights.

    `parents[d]` = (indices, weights), each (n_d, k). Returns (indices, weights), each (n_0 * ... , k**dim), rows
    numbered x fastest.
    """
    indices, weights = [], []
    for picks in product(*(range(p[0].shape[1]) for p in parents)):
        cells = [along(p[0][:, k], d, dim) for d, (p, k) in enumerate(zip(parents, picks, strict=True))]
        w: np.ndarray = np.ones((1,) * dim)
        for d, (p, k) in enumerate(zip(parents, picks, strict=True)):
            w = w * along(p[1][:, k], d, dim)
        indices.append(layout.global_index(cells).ravel(order="F"))
        weights.append(w.ravel(order="F"))
    return np.stack(indices, axis=1), np.stack(weights, axis=1)


def interpolation(grid: Grid, points: np.ndarray, field: str = "points",
                  nearest: bool = False) -> PETSc.Mat:
    """Multilinear interpolation from cell centres to points (n, dim): a Mat of n rows distributed
    over the ranks.

    Across the seam of a periodic axis it takes the last and the first cell; in the outer half
    cells of other axes it extrapolates linearly. Where some of the neighbours are inactive their
    weights go to the active ones. `locate.py` says where a point may lie, and what `nearest` is.

    Raises:
        InputError: naming `field`, for points outside the grid or in inactive cells.
    """
    points = np.atleast_2d(np.asarray(points, float))
    if points.ndim != 2 or points.shape[1] != grid.dim:
        raise InputError(field, f"shape {points.shape}", f"(n, {grid.dim})")
    places, _ = located(grid, points, field, nearest)
    share, extra = divmod(len(places), grid.comm.size)
    first = grid.comm.rank * share + min(grid.comm.rank, extra)
    own = places[first: first + share + (grid.comm.rank < extra)]
    around = [_around(grid, axis, own[:, axis]) for axis in range(grid.dim)]
    indices, weights, active = [], [], []
    for pairs in product(*around):  # a neighbour an axis
        cells = [cell for cell, _ in pairs]
        indices.append(grid.layout.global_index(cells))
        weights.append(np.prod([weight for _, weight in pairs], axis=0))
        active.append(active_at(grid, cells))
    w, on = np.stack(weights, axis=1), np.stack(active, axis=1)
    partial = ((w != 0) & ~on).any(axis=1)
    w[partial] = np.clip(w[partial], 0, None) * on[partial]  # that of the own cell is positive
    w[partial] /= w[partial].sum(axis=1, keepdims=True)
    size = (grid.layout.local_size, grid.layout.size)
    return from_rows(grid.comm, len(own), size, np.stack(indices, axis=1), w, w != 0)


def _around(grid: Grid, axis: int, x: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """The cells (one or two) that coordinates along an axis are interpolated from, and weights."""
    centers, n = grid.centers[axis], grid.shape[axis]
    if n == 1:
        return [(np.zeros(x.size, int), np.ones(x.size))]
    below = np.searchsorted(centers, x) - 1
    if not grid.periodic(axis):
        below = np.clip(below, 0, n - 2)
    length = grid.edges[axis][-1] - grid.edges[axis][0]
    lower = centers[below % n] - np.where(below < 0, length, 0.0)
    upper = centers[(below + 1) % n] + np.where(below == n - 1, length, 0.0)
    weight = (x - lower) / (upper - lower)
    return [(below % n, 1 - weight), ((below + 1) % n, weight)]


def prolongation(coarse: Grid, fine: Grid, cubic: bool = False) -> PETSc.Mat:
    """Interpolation of cell values from a coarse to a fine grid over the same box, mirrored at the sides (no slope
    there): multilinear, or by cubic polynomials through four cells an axis, whose curvature is that of the field.

    Where a linear stencil meets inactive coarse cells their weights are given to the active ones; where a cubic one
    does, the linear one takes its place. Rows of inactive cells are empty.
    """
    rows = fine.active.ravel(order="F")
    indices, weights = _stencils(coarse, fine, 2)
    if coarse.active_global is not None:
        weights = weights * _covered(coarse, fine, 2)
        total = weights.sum(axis=1, keepdims=True)
        with collective(fine.comm):
            if np.any(total[rows] == 0):
                raise InputError("grid.active", "an active cell without an active coarse neighbour",
                                 "a coarse mask that covers the fine one")
        weights = np.divide(weights, total, out=np.zeros_like(weights), where=total > 0)
    if cubic:
        wide, wide_weights = _stencils(coarse, fine, 4)
        if coarse.active_global is not None:
            linear = ~_covered(coarse, fine, 4).all(axis=1)
            wide[linear], wide_weights[linear] = indices[linear][:, :1], 0
            wide[linear, : indices.shape[1]], wide_weights[linear, : indices.shape[1]] = indices[linear], weights[linear]
        indices, weights = wide, wide_weights
    weights[~rows] = 0
    size = (coarse.layout.local_size, coarse.layout.size)
    return from_rows(fine.comm, fine.layout.local_size, size, indices, weights, weights != 0)


def _stencils(coarse: Grid, fine: Grid, points: int) -> tuple[np.ndarray, np.ndarray]:
    """Coarse cells and Lagrange weights (owned fine cells, points**dim) of interpolation through `points` an axis."""
    parents = []
    for d, (c, f) in enumerate(zip(coarse.centers, fine.centers, strict=True)):
        parents.append(line_stencil(c, coarse.edges[d], f[fine.local_slice[d]], points, coarse.periodic(d)))
    return tensor_entries(parents, coarse.layout, fine.dim)


def _covered(coarse: Grid, fine: Grid, points: int) -> np.ndarray:
    """Whether the cells of `_stencils` are active."""
    assert coarse.active_global is not None
    parents = [line_stencil(c, coarse.edges[d], f[fine.local_slice[d]], points, coarse.periodic(d))
               for d, (c, f) in enumerate(zip(coarse.centers, fine.centers, strict=True))]
    return tensor_mask(parents, coarse.active_global)


def line_stencil(nodes: np.ndarray, edges: np.ndarray, x: np.ndarray, points: int,
                 periodic: bool) -> tuple[np.ndarray, np.ndarray]:
    """Indices and Lagrange weights (x.size, points) of the nodes around each x, which go on mirrored or periodically
    beyond the edges."""
    n, half = nodes.size, points // 2
    k = np.searchsorted(nodes, x)[:, None] + np.arange(-half, half)
    turn, cell = np.divmod(k, n)
    if periodic:
        places = nodes[cell] + turn * (edges[-1] - edges[0])
    else:
        cell = np.where(turn % 2 == 0, cell, n - 1 - cell)
        places = np.where(turn == 0, nodes[cell], np.where(turn < 0, 2 * edges[0], 2 * edges[-1]) - nodes[cell])
        beyond = (turn < -1) | (turn > 1)
        places[beyond] = edges[-1] + (edges[-1] - edges[0]) * (1.0 + np.abs(k[beyond])) * np.sign(turn[beyond])
    weights = np.ones(k.shape)
    for a in range(points):
        for b in range(points):
            if a != b:
                weights[:, a] *= (x - places[:, b]) / (places[:, a] - places[:, b])
    for a in range(points):  # a mirrored or wrapped cell may be there twice
        for b in range(a):
            same = (cell[:, a] == cell[:, b]) & (weights[:, a] != 0)
            weights[same, b] += weights[same, a]
            weights[same, a] = 0
    return cell, weights


def tensor_mask(parents: Sequence[tuple[np.ndarray, np.ndarray]], mask: np.ndarray) -> np.ndarray:
    """The mask at the cells of `tensor_entries`, shape (rows, k**dim)."""
    corners = []
    for picks in product(*(range(p[0].shape[1]) for p in parents)):
        cells = [p[0][:, k] for p, k in zip(parents, picks, strict=True)]
        corners.append(mask[np.ix_(*cells)].ravel(order="F"))
    return np.stack(corners, axis=1)


def diagonal(grid: Grid, values: np.ndarray) -> PETSc.Vec:
    """A Vec of owned cell values [i, j, k]."""
    vec = grid.create_scalar()
    grid.view(vec)[...] = values
    return vec


def mass(grid: Grid) -> PETSc.Vec:
    """Volumes of the active cells."""
    vec = grid.create_active()
    grid.put(grid.volume, vec)
    return vec

"""Geometric multigrid hierarchies: A_coarse = P^T A P with multilinear P between every other cell centre.

Coarse unknowns sit at the cell centres 0, 2, 4, ... of each coarsened axis, so P has 1.5 entries a row and axis and
any size coarsens. Axes coarsen together only while their spacings are within a factor of two (semi-coarsening). Under
a mask a coarse unknown exists where one of the cells {2I, 2I+1} is active; weights of missing ones go to the others.
Coarse levels number existing unknowns only.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from petsc4py import PETSc

from npde_opt.grids import AXES, Grid
from npde_opt.layout import Layout
from npde_opt.operators import from_rows, tensor_entries, tensor_mask

COARSEST = 400
SHORTEST = 4


class Level:
    """One level: centre coordinates and periods an axis, ownership, and which unknowns exist (None: all)."""

    def __init__(self, centers: Sequence[np.ndarray], layout: Layout, mask: np.ndarray | None, compressed: bool):
        self.centers, self.layout, self.mask = tuple(centers), layout, mask
        self.compressed = compressed and mask is not None
        self.ids = self._number() if self.compressed else None

    def _number(self) -> np.ndarray:
        """Global numbers of the existing unknowns, rank by rank, x fastest; -1 elsewhere."""
        assert self.mask is not None
        ids = np.full(self.layout.shape, -1, PETSc.IntType, order="F")
        first = 0
        for rank in range(self.layout.rank_count):
            part = Layout(self.layout.counts, rank)
            box = tuple(slice(s, s + n) for s, n in zip(part.start, part.local_shape, strict=True))
            on = self.mask[box].ravel(order="F")
            numbers = np.where(on, first + np.cumsum(on) - 1, -1)
            ids[box] = numbers.reshape(part.local_shape, order="F")
            first += int(on.sum())
        return ids

    @property
    def size(self) -> int:
        return self.layout.size if self.mask is None else int(self.mask.sum())

    def sizes(self) -> tuple[int, int]:
        """Owned and global numbers of unknowns."""
        if self.mask is None or not self.compressed:
            return self.layout.local_size, self.layout.size
        box = np.ix_(*self.layout.owned())
        return int(self.mask[box].sum()), int(self.mask.sum())

    def spacing(self) -> list[float]:
        return [float(np.median(np.diff(c))) if c.size > 1 else np.inf for c in self.centers]

    def axes_to_coarsen(self) -> list[bool]:
        h = [s if c.size >= SHORTEST else np.inf for s, c in zip(self.spacing(), self.centers, strict=True)]
        return [np.isfinite(x) and x <= 2 * min(h) for x in h]

    def coarsened(self, axes: list[bool]) -> Level:
        mask = self.mask
        if mask is not None:
            for d, halve in enumerate(axes):
                mask = np.logical_or.reduceat(mask, np.arange(0, mask.shape[d], 2), axis=d) if halve else mask
        centers = [c[::2] if halve else c for c, halve in zip(self.centers, axes, strict=True)]
        return Level(centers, self.layout.coarsened(axes), mask, True)


def line_weights(grid: Grid, axis: int, fine: np.ndarray, cells: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Coarse parents and weights (n, 2) of fine points `cells` along a coarsened axis with centres `fine`."""
    coarse, n = fine[::2], fine.size
    left = cells // 2
    right, odd = left + 1, cells % 2 == 1
    end = right >= coarse.size
    inner = np.minimum(right, coarse.size - 1)
    span = np.where(end, 1.0, coarse[inner] - coarse[left])
    w = np.where(odd & ~end, (fine[cells] - coarse[left]) / span, 0.0)
    keep = 1 - w
    if grid.periodic(axis):
        w = np.where(odd & end, 0.5, w)
        keep, right = 1 - w, right % coarse.size
    elif grid.boundaries[AXES[axis] + "+"].kind == "dirichlet" and n % 2 == 0:
        keep = np.where(odd & end, 0.5, keep)
    return np.stack([left, np.where(w > 0, right, left)], axis=1), np.stack([keep, w], axis=1)


def transfer(grid: Grid, fine: Level, coarse: Level, axes: list[bool]) -> PETSc.Mat:
    """P from `coarse` to `fine`."""
    dim, owned = grid.dim, fine.layout.owned()
    parents = []
    for d, halve in enumerate(axes):
        if halve:
            parents.append(line_weights(grid, d, fine.centers[d], owned[d]))
        else:
            i = owned[d]
            parents.append((np.stack([i, i], axis=1), np.tile([1.0, 0.0], (i.size, 1))))
    indices, weights = tensor_entries(parents, coarse.layout, dim)
    if fine.mask is not None and coarse.mask is not None and coarse.ids is not None:
        full = weights.sum(axis=1, keepdims=True)
        on = tensor_mask(parents, coarse.mask, dim)
        weights = weights * on
        rows = fine.mask[np.ix_(*owned)].ravel(order="F")
        weights[~rows] = 0
        total = weights.sum(axis=1, keepdims=True)
        weights = np.divide(weights * full, total, out=np.zeros_like(weights), where=total > 0)
        numbers = np.empty_like(indices)
        for corner in range(2**dim):
            cells = [p[0][:, (corner >> d) & 1] for d, p in enumerate(parents)]
            numbers[:, corner] = coarse.ids[np.ix_(*cells)].ravel(order="F")
        indices = numbers
        if fine.compressed:
            indices, weights = indices[rows], weights[rows]
    return from_rows(grid.comm, len(indices), coarse.sizes(), indices, weights, weights != 0)


def hierarchy(grid: Grid) -> list[PETSc.Mat]:
    """Interpolation matrices, finest first; empty where the grid does not coarsen. The caller owns them."""
    level = Level(grid.centers, grid.layout, grid.active_global, False)
    matrices: list[PETSc.Mat] = []
    while level.size > COARSEST:
        axes = level.axes_to_coarsen()
        if not any(axes):
            break
        coarse = level.coarsened(axes)
        matrices.append(transfer(grid, level, coarse, axes))
        level = coarse
    return matrices

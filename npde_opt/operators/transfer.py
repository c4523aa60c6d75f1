"""u_fine = P u_coarse: prolongation of cell values between grids over the same box."""

from __future__ import annotations

import numpy as np
from petsc4py import PETSc

from npde_opt.errors import InputError, collective
from npde_opt.grids import Grid
from npde_opt.operators.rows import from_rows, tensor_entries, tensor_mask


def prolongation(coarse: Grid, fine: Grid, cubic: bool = False) -> PETSc.Mat:
    """Interpolation of cell values from a coarse to a fine grid over the same box, mirrored at the
    sides (no slope there): multilinear, or by cubic polynomials through four cells an axis, whose
    curvature is that of the field.

    Where a linear stencil meets inactive coarse cells their weights are given to the active ones;
    where a cubic one does, the linear one takes its place. Rows of inactive cells are empty.
    """
    rows = fine.active.ravel(order="F")
    indices, weights = _stencils(coarse, fine, 2)
    if coarse.mask is not None:
        weights = weights * _covered(coarse, fine, 2)
        total = weights.sum(axis=1, keepdims=True)
        with collective(fine.comm):
            if np.any(total[rows] == 0):
                raise InputError(
                    "grid.active",
                    "an active cell without an active coarse neighbour",
                    "a coarse mask that covers the fine one",
                )
        weights = np.divide(weights, total, out=np.zeros_like(weights), where=total > 0)
    if cubic:
        wide, wide_weights = _stencils(coarse, fine, 4)
        if coarse.mask is not None:
            linear = ~_covered(coarse, fine, 4).all(axis=1)
            wide[linear], wide_weights[linear] = indices[linear][:, :1], 0
            (
                wide[linear, : indices.shape[1]],
                wide_weights[linear, : indices.shape[1]],
            ) = (
                indices[linear],
                weights[linear],
            )
        indices, weights = wide, wide_weights
    weights[~rows] = 0
    size = (coarse.layout.local_size, coarse.layout.size)
    return from_rows(
        fine.comm, fine.layout.local_size, size, indices, weights, weights != 0
    )


def _stencils(coarse: Grid, fine: Grid, points: int) -> tuple[np.ndarray, np.ndarray]:
    """Coarse cells and Lagrange weights (owned fine cells, points**dim) of interpolation through
    `points` an axis."""
    parents = []
    for d, (c, f) in enumerate(zip(coarse.centers, fine.centers, strict=True)):
        parents.append(
            line_stencil(
                c, coarse.edges[d], f[fine.local_slice[d]], points, coarse.periodic(d)
            )
        )
    return tensor_entries(parents, coarse.layout, fine.dim)


def _covered(coarse: Grid, fine: Grid, points: int) -> np.ndarray:
    """Whether the cells of `_stencils` are active."""
    assert coarse.mask is not None
    parents = [
        line_stencil(
            c, coarse.edges[d], f[fine.local_slice[d]], points, coarse.periodic(d)
        )
        for d, (c, f) in enumerate(zip(coarse.centers, fine.centers, strict=True))
    ]
    return tensor_mask(parents, coarse.mask)


def line_stencil(
    nodes: np.ndarray, edges: np.ndarray, x: np.ndarray, points: int, periodic: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Indices and Lagrange weights (x.size, points) of the nodes around each x, which go on
    mirrored or periodically beyond the edges."""
    n, half = nodes.size, points // 2
    k = np.searchsorted(nodes, x)[:, None] + np.arange(-half, half)
    turn, cell = np.divmod(k, n)
    if periodic:
        places = nodes[cell] + turn * (edges[-1] - edges[0])
    else:
        cell = np.where(turn % 2 == 0, cell, n - 1 - cell)
        places = np.where(
            turn == 0,
            nodes[cell],
            np.where(turn < 0, 2 * edges[0], 2 * edges[-1]) - nodes[cell],
        )
        beyond = (turn < -1) | (turn > 1)
        places[beyond] = edges[-1] + (edges[-1] - edges[0]) * (
            1.0 + np.abs(k[beyond])
        ) * np.sign(turn[beyond])
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

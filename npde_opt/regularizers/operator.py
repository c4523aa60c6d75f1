"""-div(D grad p) + c p with no flux through the sides: what regularizers are built of, and checks
of their factors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from npde_opt.errors import InputError
from npde_opt.grids import Boundary, Grid
from npde_opt.operators.stencils import StencilMatrix
from npde_opt.parameters.draws import child
from npde_opt.reductions import smallest
from npde_opt.terms.diffusion import Diffusion

ENERGY = "natural"
"""Norm of the residual in solves with R: CG leaves r^T R^-1 r too small by the energy of its error,
which this norm bounds. The preconditioned norm does not; then what is built on R^-1
(optimizers/spectrum.py) may be indefinite."""


def closed(grid: Grid) -> Grid:
    """The grid with no flux through its sides (periodic ones kept)."""
    kept = {
        s: b if b.kind == "periodic" else Boundary() for s, b in grid.boundaries.items()
    }
    return grid.with_(boundaries=kept, components=1)


def operator(
    grid: Grid, diffusivities: Sequence[np.ndarray], reaction: np.ndarray | float
) -> StencilMatrix:
    """Stencil matrix of -div(D grad p) + reaction p, one owned diffusivity a direction."""
    matrix = StencilMatrix(grid)
    fill(matrix, grid, diffusivities, reaction)
    return matrix


def fill(
    matrix: StencilMatrix,
    grid: Grid,
    diffusivities: Sequence[np.ndarray],
    reaction: np.ndarray | float,
) -> None:
    names = [f"D{d}" for d in range(grid.dim)]
    planes = matrix.zeroed()
    Diffusion(grid, names).at(dict(zip(names, diffusivities, strict=True))).add_planes(
        planes
    )
    centre = planes[matrix.offsets[0]]
    centre += reaction * grid.volume
    matrix.refresh()


def checked_weights(grid: Grid, given: np.ndarray | float) -> np.ndarray:
    """Factors of the owned cells. Raises InputError for negative ones, with which nothing is
    smallest; collective."""
    weights = np.broadcast_to(np.asarray(given, float), grid.local_shape)
    least = smallest(grid.comm, float(weights[grid.active].min(initial=np.inf)))
    if not least >= 0:
        raise InputError(
            "regularization.cell_weights", least, "factors >= 0 in all active cells"
        )
    return weights


def checked_factors(grid: Grid, given: Sequence[float] | None) -> list[float]:
    """One a direction, 1 where none are given. Raises InputError for another number of them, and
    where one is not positive."""
    factors = [1.0] * grid.dim if given is None else [float(x) for x in given]
    if len(factors) != grid.dim or not min(factors) > 0:
        raise InputError(
            "regularization.directions", given, f"{grid.dim} positive factors"
        )
    return factors


def stencil_noise(matrix: StencilMatrix, grid: Grid, seed: int) -> np.ndarray:
    """Own cells [i, j, k] of a normal vector whose covariance is the matrix of `fill`:

        A = sum over faces t (e_a - e_b)(e_a - e_b)^T + diag(c),

    sqrt(t) z (e_a - e_b) of each face and sqrt(c) z of each cell, with standard normal z."""
    planes = {offset: plane.T for offset, plane in matrix.planes().items()}
    inside = (slice(1, -1),) * grid.dim
    # What is left of the diagonal once the faces are taken away is the reaction.
    rest = np.maximum(sum(planes.values()), 0.0)
    out = np.sqrt(rest) * _drawn(grid, seed)[inside]
    for d in range(grid.dim):
        drawn = _drawn(grid, child(seed, d + 1))
        before = inside[:d] + (slice(0, -2),) + inside[d + 1 :]
        lower, upper = (
            np.sqrt(np.maximum(-planes[_neighbour(grid.dim, d, side)], 0.0))
            for side in (-1, 1)
        )
        # A face's number is drawn in the cell before it.
        out += upper * drawn[inside] - lower * drawn[before]
    return np.asarray(out)


def _drawn(grid: Grid, seed: int) -> np.ndarray:
    """Standard normal numbers with one ghost cell all round."""
    vec = grid.standard_normal(seed)
    found = grid.ghosted(vec)
    vec.destroy()
    return found


def _neighbour(dim: int, axis: int, side: int) -> tuple[int, ...]:
    return tuple(side if d == axis else 0 for d in range(dim))

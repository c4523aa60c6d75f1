"""-div(D grad p) + c p with no flux through the sides: what regularizers are built of, and checks
of their factors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from npde_opt.errors import InputError
from npde_opt.grids import Boundary, Grid
from npde_opt.operators.stencils import StencilMatrix
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

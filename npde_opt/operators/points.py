"""u(x) = sum_c w_c(x) u_c: multilinear interpolation from cell centres to points."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
from petsc4py import PETSc

from npde_opt.errors import InputError
from npde_opt.grids import Grid
from npde_opt.grids.locate import located, located_here
from npde_opt.grids.posted import Posted
from npde_opt.grids.scattered import owners
from npde_opt.operators.rows import from_entries


def interpolation(
    grid: Grid, points: np.ndarray, field: str = "points", nearest: bool = False
) -> PETSc.Mat:
    """Multilinear interpolation from cell centres to points (n, dim): a Mat of n rows distributed
    over the ranks.

    Across the seam of a periodic axis it takes the last and the first cell; in the outer half
    cells of other axes it extrapolates linearly. Where some of the neighbours are inactive their
    weights go to the active ones. `locate.py` says where a point may lie, and what `nearest` is.

    Raises:
        InputError: naming `field`, for points outside the grid or in inactive cells.
    """
    places, numbers = placed(grid, points, field, nearest)
    cells, weights, kept = point_stencils(grid, places)
    rows = np.broadcast_to(numbers[:, None], kept.shape)
    count = len(np.atleast_2d(points))
    return from_entries(grid, count, rows[kept], cells[kept], weights[kept])


def placed(
    grid: Grid, points: np.ndarray, field: str = "points", nearest: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Of points (n, dim), the same on every rank, those in this rank's active cells, as places,
    and their numbers. Raises InputError as `located`, and for another shape. Collective."""
    points = np.atleast_2d(np.asarray(points, float))
    if points.ndim != 2 or points.shape[1] != grid.dim:
        raise InputError(field, f"shape {points.shape}", f"(n, {grid.dim})")
    places, cells = located(grid, points, field, nearest)
    own = np.flatnonzero(grid.owns(cells))
    return places[own], own


def placed_by_owner(
    grid: Grid,
    points: np.ndarray,
    numbers: np.ndarray,
    field: str = "points",
    nearest: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """As `placed`, of points (n, dim) of which each rank has others, numbered among all: the places
    in this rank's active cells, from wherever they come, and their numbers. Collective."""
    names = lambda k: f"{field}[{numbers[k]}]"  # noqa: E731
    places, cells = located_here(grid, grid.comm, points, names, nearest)
    if grid.comm.size == 1:
        return places, numbers
    posted = Posted(grid.comm, owners(grid.layout, cells)[0])
    return posted.there(places), posted.there(numbers)


def point_stencils(
    grid: Grid, places: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """PETSc's global numbers of the cells between whose centres places (n, dim) in owned active
    cells lie, their weights, and whether they have any: three arrays (n, up to 2**dim)."""
    around = [_around(grid, axis, places[:, axis]) for axis in range(grid.dim)]
    numbers, weights, active = [], [], []
    for pairs in product(*around):  # a neighbour an axis
        cells = [cell for cell, _ in pairs]
        numbers.append(grid.layout.global_index(cells))
        weights.append(np.prod([weight for _, weight in pairs], axis=0))
        active.append(_active_beside(grid, cells))
    w, on = np.stack(weights, axis=1), np.stack(active, axis=1)
    partial = ((w != 0) & ~on).any(axis=1)
    w[partial] = (
        np.clip(w[partial], 0, None) * on[partial]
    )  # that of the own cell is positive
    w[partial] /= w[partial].sum(axis=1, keepdims=True)
    return np.stack(numbers, axis=1), w, w != 0


def _active_beside(grid: Grid, cells: Sequence[np.ndarray]) -> np.ndarray:
    """Whether cells are active, which are owned or beside those."""
    places = [i - first + 1 for i, first in zip(cells, grid.start, strict=True)]
    for d, n in enumerate(grid.shape):
        if grid.periodic(d):
            places[d] = places[d] % n
    found: np.ndarray = grid.active_beside[tuple(places)]
    return found


def _around(
    grid: Grid, axis: int, x: np.ndarray
) -> list[tuple[np.ndarray, np.ndarray]]:
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

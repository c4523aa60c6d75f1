"""Faces of cells: their areas, lengths and the cells on both sides, by axis.

The owned cells' faces normal to axis d are one more along it than cells; values on both sides come
from arrays with one ghost all round.
"""

from __future__ import annotations

from functools import cache
from types import EllipsisType

import numpy as np

from npde_opt.grids import AXES, Grid, along, of_cells
from npde_opt.terms.state import Gradients


def face_factors(grid: Grid, d: int) -> list[np.ndarray]:
    """Of the areas of the owned cells' faces normal to axis d, one an axis."""
    shape = grid.geometry
    factors = [m[s] for m, s in zip(shape.measures, grid.local_slice, strict=True)]
    factors[d] = shape.faces[d][grid.start[d] : grid.stop[d] + 1]
    return factors


def closed_ends(grid: Grid, d: int) -> np.ndarray:
    """1 at the owned cells' faces normal to axis d that are Neumann sides, else 0."""
    closed = np.zeros(grid.local_shape[d] + 1)
    for side, (face, here) in zip("-+", inner_ends(grid, d), strict=False):
        if here and grid.boundaries[AXES[d] + side].kind == "neumann":
            closed[face] = 1.0
    return closed


def driven_sides(grid: Grid) -> list[tuple[int, int, Index, Index]]:
    """Of the owned Dirichlet and Robin sides: axis, end of the axis (0 or -1), and where the faces
    or cells there, and the ghosts beyond, lie in arrays."""
    found = list[tuple[int, int, Index, Index]]()
    for d in range(grid.dim):
        for side, (end, here) in zip("-+", inner_ends(grid, d), strict=False):
            kind = grid.boundaries[AXES[d] + side].kind
            if here and kind in ("dirichlet", "robin"):
                layer: list[slice | int] = [slice(None)] * grid.dim
                ghosts: list[slice | int] = [slice(1, -1)] * grid.dim
                layer[d] = ghosts[d] = end
                found.append((d, end, of_cells(layer), of_cells(ghosts)))
    return found


def whole_areas(grid: Grid, d: int) -> np.ndarray:
    """Areas of the owned cells' faces normal to axis d, Neumann sides too; 0 beside inactive
    cells."""
    areas = grid.outer(face_factors(grid, d))
    return areas if grid.mask is None else areas * both_active(grid, d)


def both_active(grid: Grid, d: int) -> np.ndarray:
    """Whether the cells on both sides of the owned cells' faces normal to axis d are active."""
    inner = [slice(1, -1)] * grid.dim
    below, above = inner.copy(), inner.copy()
    below[d], above[d] = slice(None, -1), slice(1, None)
    beside = grid.active_beside
    return np.asfortranarray(beside[tuple(below)] & beside[tuple(above)])


def faces(ghosted: np.ndarray, d: int, dim: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Values below and above the owned cells' faces normal to axis d, from a ghosted array.

    Args:
        dim: axes of the grid, the last ones of the array; 0: all of them.
    """
    below, above = _face_slices(dim or ghosted.ndim, d)
    return ghosted[below], ghosted[above]


Index = tuple[EllipsisType | slice | int, ...]


@cache
def _face_slices(dim: int, d: int) -> tuple[Index, Index]:
    """Of ghosted cells below and above faces."""
    inner = [slice(1, -1)] * dim
    below, above = inner.copy(), inner.copy()
    below[d], above[d] = slice(0, -1), slice(1, None)
    return of_cells(below), of_cells(above)


def sides(face_values: np.ndarray, d: int) -> tuple[np.ndarray, np.ndarray]:
    """Values on the lower and upper faces of the owned cells. d < 0 counts from the last axis."""
    lower, upper = _side_slices(face_values.ndim, d)
    return face_values[lower], face_values[upper]


@cache
def _side_slices(dim: int, d: int) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    lower, upper = [slice(None)] * dim, [slice(None)] * dim
    lower[d], upper[d] = slice(0, -1), slice(1, None)
    return tuple(lower), tuple(upper)


def jump(ghosted: np.ndarray, d: int, dim: int = 0) -> np.ndarray:
    """The difference across the owned cells' faces normal to axis d (see `faces`)."""
    below, above = faces(ghosted, d, dim)
    return above - below


def inner_ends(grid: Grid, d: int) -> list[tuple[int, bool]]:
    """(face, whether this rank has that side of the domain) of an axis that is not periodic."""
    if grid.periodic(d):
        return []
    return [(0, grid.start[d] == 0), (-1, grid.stop[d] == grid.shape[d])]


def add_ends(
    c: int, d: int, values: tuple[np.ndarray, np.ndarray], out: Gradients
) -> None:
    """Adds cotangents of the values outside the sides of axis d, found at the owned cells' faces
    normal to it: those of the points (below, above) of a face."""
    sought = out.outer or {}
    for sign, of in zip("-+", values, strict=True):
        side, _ = sought.get((c, AXES[d] + sign), (None, 0.0))
        if side is not None and side.here:
            out.add_outer(c, side.name, of[side.cells])


def face_spans(grid: Grid, d: int, outside: float) -> tuple[np.ndarray, np.ndarray]:
    """Twice the lengths between the owned cells' faces normal to axis d and the centres below and
    above them; `outside` beyond the sides."""
    (lower, upper), s, n = (
        2 * grid.geometry.halves[d],
        grid.local_slice[d],
        grid.shape[d],
    )
    first, last = s.start > 0 or grid.periodic(d), s.stop < n or grid.periodic(d)
    below = np.append(upper[s.start - 1] if first else outside, upper[s])
    above = np.append(lower[s], lower[s.stop % n] if last else outside)
    return along(below, d, grid.dim), along(above, d, grid.dim)


def half_lengths(grid: Grid, d: int) -> tuple[np.ndarray, np.ndarray]:
    """Between the centres of the owned cells and their lower and upper faces normal to axis d."""
    lower, upper = grid.geometry.halves[d][:, grid.local_slice[d]]
    return along(lower, d, grid.dim), along(upper, d, grid.dim)


def face_distances(grid: Grid, d: int) -> np.ndarray:
    """Between the points on both sides of the owned cells' faces normal to axis d; half a cell at
    the sides."""
    below, above = face_spans(grid, d, 0.0)
    return (below + above) / 2

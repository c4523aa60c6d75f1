"""Linear observations d = B u: each datum is a sum over points, d_i = sum_q w_iq u(x_iq).

A point value has one point, a mean over a box, a ball or a part of a side has quadrature points (the middles of the
pieces that the cells cut out of it), an integral the centres of all cells. They refer to places, not to cells, so one
description serves every grid of a hierarchy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from petsc4py import PETSc

from npde_opt.errors import InputError
from npde_opt.grids import AXES, Grid, along
from npde_opt.operators import cells_of, check_points, interpolation

CUTS = 4


@dataclass(frozen=True, eq=False)
class Functional:
    """sum_q weights[q] u(points[q]); points (n, dim) inside active cells, weights (n,)."""

    points: np.ndarray
    weights: np.ndarray


def point_values(points: np.ndarray) -> list[Functional]:
    """One functional a point (n, dim)."""
    return [Functional(x[None], np.ones(1)) for x in np.atleast_2d(np.asarray(points, float))]


def cell_sum(grid: Grid, cells: Sequence[np.ndarray], weights: np.ndarray) -> Functional:
    """sum of weights * u over active cells, given by one index array an axis."""
    return Functional(np.stack([c[i] for c, i in zip(grid.centers, cells, strict=True)], axis=1), weights)


def integral(grid: Grid, density: np.ndarray) -> Functional:
    """int w u over the active cells, w [i, j, k] on every rank."""
    weights = density * grid.outer(grid.widths)
    cells = np.nonzero(weights if grid.active_global is None else np.where(grid.active_global, weights, 0.0))
    return cell_sum(grid, cells, weights[cells])


def box_mean(grid: Grid, lower: Sequence[float], upper: Sequence[float], field: str = "box") -> Functional:
    """Mean over the active part of the box between two corners. Raises InputError where there is none."""
    middles, lengths = zip(*(_pieces(grid, d, a, b, field) for d, (a, b) in enumerate(
        zip(_corner(grid, lower, field), _corner(grid, upper, field), strict=True))), strict=True)
    return _mean(grid, list(middles), grid.outer(lengths), field)


def ball_mean(grid: Grid, at: Sequence[float], radius: float, field: str = "ball") -> Functional:
    """Mean over the active part of the ball: cells are cut into 4 along each axis. Raises InputError where it holds none."""
    center = _corner(grid, at, field)
    if not radius > 0:
        raise InputError(f"{field}.radius", radius, "a positive length")
    check_points(grid, center[None], f"{field}.at")
    middles, lengths = [], []
    for d, x in enumerate(center):
        e = grid.edges[d]
        fine = np.append((e[:-1, None] + np.diff(e)[:, None] * np.arange(CUTS) / CUTS).ravel(), e[-1])
        middle = (fine[1:] + fine[:-1]) / 2
        near = np.abs(middle - x) <= radius
        middles.append(middle[near])
        lengths.append(np.diff(fine)[near])
    distance = sum(along((m - x) ** 2, d, grid.dim) for d, (m, x) in enumerate(zip(middles, center, strict=True)))
    inside = grid.outer(lengths) * (distance <= radius**2)
    return _mean(grid, middles, inside, field) if np.any(inside) else Functional(center[None], np.ones(1))


def side_mean(grid: Grid, side: str, lower: Sequence[float] | None = None, upper: Sequence[float] | None = None,
              field: str = "side") -> Functional:
    """Mean over a side ('x-', ...) of the domain's box, or over its part between two corners. u at the side is
    extrapolated from the two nearest cells (one where the second is inactive).

    Raises:
        InputError: for no such side, one where u is given (Dirichlet) or that is periodic, or no active cell there.
    """
    if side not in grid.boundaries:
        raise InputError(f"{field}.side", repr(side), ", ".join(grid.boundaries))
    if grid.boundaries[side].kind not in ("neumann", "robin"):
        raise InputError(f"{field}.side", f"{side} ({grid.boundaries[side].kind})", "a Neumann or Robin side")
    axis = AXES.index(side[0])
    low = _corner(grid, [e[0] for e in grid.edges] if lower is None else lower, field)
    high = _corner(grid, [e[-1] for e in grid.edges] if upper is None else upper, field)
    middles, lengths = [], []
    for d, (a, b) in enumerate(zip(low, high, strict=True)):
        if d == axis:
            middle, length = grid.edges[d][[-1 if side[1] == "+" else 0]], np.ones(1)
        else:
            middle, length = _pieces(grid, d, a, b, field)
        middles.append(middle)
        lengths.append(length)
    return _mean(grid, middles, grid.outer(lengths), field)


def _corner(grid: Grid, x: Sequence[float], field: str) -> np.ndarray:
    corner = np.asarray(x, float)
    if corner.shape != (grid.dim,) or not np.isfinite(corner).all():
        raise InputError(field, list(x), f"{grid.dim} coordinates")
    return corner


def _pieces(grid: Grid, axis: int, lower: float, upper: float, field: str) -> tuple[np.ndarray, np.ndarray]:
    """Middles and lengths of what the cells of an axis cut out of an interval."""
    e = grid.edges[axis]
    if not e[0] <= lower < upper <= e[-1]:
        raise InputError(f"{field}, {AXES[axis]}", (float(lower), float(upper)), f"lower < upper within {e[0]:g} to {e[-1]:g}")
    a, b = np.maximum(e[:-1], lower), np.minimum(e[1:], upper)
    cut = b > a
    return ((a + b) / 2)[cut], (b - a)[cut]


def _mean(grid: Grid, middles: list[np.ndarray], sizes: np.ndarray, field: str) -> Functional:
    """The functional of points on a tensor grid, weighted by `sizes` where they lie in active cells, of sum 1."""
    points = np.stack([np.broadcast_to(along(m, d, grid.dim), sizes.shape)[sizes > 0] for d, m in enumerate(middles)],
                      axis=1)
    weights = sizes[sizes > 0]
    if grid.active_global is not None:
        on = grid.active_global[tuple(cells_of(grid, points))]
        points, weights = points[on], weights[on]
    if not weights.size:
        raise InputError(field, "a place without active cells", "one that holds some")
    return Functional(points, weights / weights.sum())


def observation_matrix(grid: Grid, functionals: Sequence[Functional], field: str = "points") -> PETSc.Mat:
    """B (data x cells), its rows cut evenly over the ranks. Collective.

    Raises:
        InputError: for a point outside the active cells.
    """
    counts = np.array([f.weights.size for f in functionals])
    P = interpolation(grid, np.concatenate([f.points for f in functionals]), field)
    if (counts == 1).all() and all(f.weights[0] == 1 for f in functionals):
        return P
    starts = np.concatenate([[0], np.cumsum(counts)])
    own = np.array_split(np.arange(counts.size), grid.comm.size)[grid.comm.rank]
    first, last = (own[0], own[-1] + 1) if own.size else (0, 0)
    csr = ((starts[first: last + 1] - starts[first]).astype(PETSc.IntType),
           np.arange(starts[first], starts[last], dtype=PETSc.IntType),
           np.concatenate([np.empty(0), *[functionals[i].weights for i in own]]))
    W = PETSc.Mat().createAIJ(((own.size, counts.size), P.getSizes()[0]), csr=csr, comm=grid.comm)
    W.assemble()
    B = W.matMult(P)
    W.destroy()
    P.destroy()
    return B

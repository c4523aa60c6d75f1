"""Linear observations d = B u: each datum is a sum over points, d_i = sum_q w_iq u(x_iq).

A point value has one point, a mean over a box, a ball or a part of a side has quadrature points (the middles of the
pieces that the cells cut out of it), an integral the centres of all cells. They refer to places, not
to cells, so one description serves every grid of a hierarchy: `nearest` says that a grid is another
one than that the place was given for, where what has no active cell is seen from the nearest one
(see locate.py). On periodic axes places go on beyond the ends: a ball or a box may lie across them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from petsc4py import PETSc

from npde_opt.errors import InputError
from npde_opt.grids import AXES, Grid, along
from npde_opt.grids.locate import SLACK, located, offsets, slack, wrapped
from npde_opt.operators import interpolation

CUTS = 4
ROUNDING = 1e-9
"""Points of a ball's outline are within it, whatever the roundings of their distance."""
Pieces = tuple[np.ndarray, np.ndarray, np.ndarray]
"""What the cells of an axis cut out of an interval: cells, middles and lengths of the pieces."""


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


def box_mean(grid: Grid, lower: Sequence[float], upper: Sequence[float], field: str = "box",
             nearest: bool = False) -> Functional:
    """Mean over the active part of the box between two corners. On a periodic axis it may go
    through the ends (from 0.9 to 1.1, or from 0.9 to 0.1, of an axis from 0 to 1).

    Raises:
        InputError: for corners outside the domain or in the wrong order, and unless `nearest`
            where the box holds no active cell.
    """
    low, high = _corner(grid, lower, field), _corner(grid, upper, field)
    pieces = [_pieces(grid, d, a, b, field) for d, (a, b) in enumerate(zip(low, high, strict=True))]
    return _mean(grid, pieces, None, field, nearest)


def ball_mean(grid: Grid, at: Sequence[float], radius: float, field: str = "ball",
              nearest: bool = False) -> Functional:
    """Mean over the active part of the ball: cells are cut into 4 along each axis, and of the
    parts those with their middle in the ball are taken.

    Raises:
        InputError: for a radius that is not positive, and unless `nearest` for a centre outside
            the active cells.
    """
    center = _corner(grid, at, field)
    if not radius > 0:
        raise InputError(f"{field}.radius", radius, "a positive length")
    places, _ = located(grid, center[None], [f"{field}.at"], nearest)
    pieces, distances = [], []
    for d in range(grid.dim):
        cells, middles, lengths = _cut(grid, d)
        away = np.abs(offsets(grid, d, middles, center[d])) / radius
        near = away <= 1 + ROUNDING
        pieces.append((cells[near], middles[near], lengths[near]))
        distances.append(away[near])
    squares = sum(along(r**2, d, grid.dim) for d, r in enumerate(distances))
    inside = np.asarray(squares) <= (1 + ROUNDING) ** 2
    if not inside.any():
        return Functional(places, np.ones(1))
    return _mean(grid, pieces, inside, field, nearest, places)


def _cut(grid: Grid, axis: int) -> Pieces:
    """The cells of an axis cut into CUTS pieces."""
    edges, widths = grid.edges[axis], grid.widths[axis]
    starts = edges[:-1, None] + widths[:, None] * np.arange(CUTS) / CUTS
    fine = np.append(starts.ravel(), edges[-1])
    return np.repeat(np.arange(widths.size), CUTS), (fine[1:] + fine[:-1]) / 2, np.diff(fine)


def side_mean(grid: Grid, side: str, lower: Sequence[float] | None = None,
              upper: Sequence[float] | None = None, field: str = "side",
              nearest: bool = False) -> Functional:
    """Mean over a side ('x-', ...) of the domain's box, or over its part between two corners. u at
    the side is extrapolated from the two nearest cells (one where the second is inactive).

    Raises:
        InputError: for no such side, one where u is given (Dirichlet) or that is periodic, and
            unless `nearest` where there is no active cell.
    """
    if side not in grid.boundaries:
        raise InputError(f"{field}.side", repr(side), ", ".join(grid.boundaries))
    if grid.boundaries[side].kind not in ("neumann", "robin"):
        raise InputError(f"{field}.side", f"{side} ({grid.boundaries[side].kind})",
                         "a Neumann or Robin side")
    axis, end = AXES.index(side[0]), -1 if side[1] == "+" else 0
    low = _corner(grid, [e[0] for e in grid.edges] if lower is None else lower, field)
    high = _corner(grid, [e[-1] for e in grid.edges] if upper is None else upper, field)
    pieces = []
    for d, (a, b) in enumerate(zip(low, high, strict=True)):
        on_side = np.arange(grid.shape[d])[[end]], grid.edges[d][[end]], np.ones(1)
        pieces.append(on_side if d == axis else _pieces(grid, d, a, b, field))
    return _mean(grid, pieces, None, field, nearest)


def _corner(grid: Grid, x: Sequence[float], field: str) -> np.ndarray:
    corner = np.asarray(x, float)
    if corner.shape != (grid.dim,) or not np.isfinite(corner).all():
        raise InputError(field, list(x), f"{grid.dim} coordinates")
    return corner


def _pieces(grid: Grid, axis: int, lower: float, upper: float, field: str) -> Pieces:
    """What the cells of an axis cut out of an interval; of slivers at its ends nothing."""
    edges, n, periodic = grid.edges[axis], grid.shape[axis], grid.periodic(axis)
    first, last = float(edges[0]), float(edges[-1])
    near = slack(edges, periodic)
    cells = np.arange(n)
    if periodic:
        length = upper - lower if upper > lower else upper - lower + (last - first)
        good = lower != upper and 0 < length <= last - first + near[0]
        lower = float(wrapped(np.asarray(lower), edges))
        upper = lower + min(length, last - first)
        edges, cells = np.append(edges, edges[1:] + (last - first)), np.append(cells, cells)
    else:
        good = first - near[0] <= lower < upper <= last + near[-1]
    if not good:
        raise InputError(f"{field}, {AXES[axis]}", (float(lower), float(upper)),
                         f"lower < upper within {first:g} to {last:g}")
    a, b = np.maximum(edges[:-1], lower), np.minimum(edges[1:], upper)
    cut = b - a > SLACK * np.minimum(np.diff(edges), upper - lower)
    middles = ((a + b) / 2)[cut]
    return cells[cut], wrapped(middles, grid.edges[axis]) if periodic else middles, (b - a)[cut]


def _mean(grid: Grid, pieces: Sequence[Pieces], inside: np.ndarray | None, field: str,
          nearest: bool, fallback: np.ndarray | None = None) -> Functional:
    """The functional of the middles of pieces (where `inside`, if given) in active cells, weighted
    by their sizes, of sum 1. Where there are none, a point: `fallback`, or that next to the
    middle of all."""
    cells, middles, lengths = zip(*pieces, strict=True)
    taken = np.ones([c.size for c in cells], bool) if inside is None else inside
    if grid.active_global is not None:
        taken = taken & grid.active_global[np.ix_(*cells)]
    if not taken.any():
        if not nearest:
            raise InputError(field, "a place without active cells", "one that holds some")
        middle = np.array([m[m.size // 2] for m in middles])
        places = located(grid, middle[None], [field], True)[0] if fallback is None else fallback
        return Functional(places, np.ones(1))
    points = np.stack([m[i] for m, i in zip(middles, np.nonzero(taken), strict=True)], axis=1)
    scaled = [x / x.max() for x in lengths]  # their product stays representable in any unit
    weights = grid.outer(scaled)[taken]
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

"""What is seen, as linear functionals: sum_q w_q u(x_q) over points, or sum_c w_c u_c over cells.

A value has one point; a mean over a box, a ball or a part of a side has quadrature points, the
middles of the pieces that the cells cut out of it. Patches, integrals, regions and voxels have
weights of cells. Places serve every grid of a hierarchy: `nearest` says that a grid is another one
than that the place was given for, where what has no active cell is seen from the nearest one (see
grids/locate.py). On periodic axes places go on beyond the ends, and a ball or a box may lie across.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from npde_opt import reductions
from npde_opt.distinct import distinct
from npde_opt.errors import InputError
from npde_opt.grids import AXES, Grid, along, sums_by_number
from npde_opt.grids.locate import located, offsets
from npde_opt.grids.overlap import multiply_along, overlap_lengths
from npde_opt.observations.functionals import Functionals
from npde_opt.observations.pieces import Pieces, at_end, between, cut
from npde_opt.observations.shares import even_starts
from npde_opt.operators.points import placed, placed_by_owner, point_stencils
from npde_opt.packages import scipy

ROUNDING = 1e-9
"""Points of a ball's outline are within it, whatever the roundings of their distance."""
Numbers = tuple[np.ndarray, ...]
"""One array an axis."""


def points_at(
    grid: Grid, points: np.ndarray, field: str = "points", nearest: bool = False
) -> Functionals:
    """u at points (n, dim), the same on every rank, interpolated between cell centres: see
    `operators.interpolation`.

    Raises:
        InputError: naming `field`, unless `nearest` for points in no active cell.
    """
    given = np.atleast_2d(np.asarray(points, float))
    if given.ndim != 2 or given.shape[1] != grid.dim:
        raise InputError(field, f"shape {given.shape}", f"(n, {grid.dim})")
    starts = even_starts(len(given), grid.comm.size)
    own = np.arange(*starts[grid.comm.rank : grid.comm.rank + 2])
    return points_of_ranks(grid, given[own], own, len(given), field, nearest)


def points_of_ranks(
    grid: Grid,
    points: np.ndarray,
    numbers: np.ndarray,
    count: int,
    field: str = "points",
    nearest: bool = False,
    unseen: np.ndarray | None = None,
) -> Functionals:
    """As `points_at`, of points (n, dim) of which each rank has others. Collective.

    Args:
        numbers: of the own points, among the `count` of all ranks.
        unseen: numbers of those that shall not be seen, of which no rank has the point.
    """
    places, there = placed_by_owner(grid, points, numbers, field, nearest)
    found = _sums(grid, places, there, np.ones(len(places)), count)
    return found if unseen is None else replace(found, unseen=unseen)


def _sums(
    grid: Grid, places: np.ndarray, numbers: np.ndarray, weights: np.ndarray, size: int
) -> Functionals:
    """Sums of weights * u(places) by number; places (n, dim) in this rank's active cells."""
    cells, shares, kept = point_stencils(grid, places)
    rows = np.broadcast_to(numbers[:, None], kept.shape)
    entries = weights[:, None] * shares
    return Functionals(size, rows[kept], cells[kept], entries[kept], comm=grid.comm)


def _sum(grid: Grid, places: np.ndarray, weights: np.ndarray) -> Functionals:
    """One sum over places of all ranks, each those in its active cells."""
    return _sums(grid, places, np.zeros(len(places), int), weights, 1)


def _value(
    grid: Grid, place: np.ndarray, field: str, nearest: bool = True
) -> Functionals:
    """u at one place (1, dim), or at the next one in an active cell."""
    own, _ = placed(grid, place, field, nearest)
    return _sum(grid, own, np.ones(len(own)))


def cell_sum(
    grid: Grid, cells: Sequence[np.ndarray], weights: np.ndarray
) -> Functionals:
    """Sum of weights * u over active cells, given on every rank by one index array an axis."""
    own = grid.owns(cells)
    columns = grid.layout.global_index([i[own] for i in cells])
    rows = np.zeros(columns.size, int)
    return Functionals(1, rows, columns, weights[own], comm=grid.comm)


def integral(grid: Grid, density: np.ndarray) -> Functionals:
    """int w u over the active cells, w [i, j, k] whole on every rank, or owned."""
    weights = grid.own("integral", density) * grid.volume
    owned = grid.active & (weights != 0)
    columns = _owned_numbers(grid)[owned]
    rows = np.zeros(columns.size, int)
    return Functionals(1, rows, columns, weights[owned], comm=grid.comm)


def _owned_numbers(grid: Grid) -> np.ndarray:
    """PETSc's global numbers of the owned cells [i, j, k]."""
    numbers = grid.layout.global_index(grid.layout.owned_mesh())
    return numbers.reshape(grid.local_shape, order="F")


def region_means(
    grid: Grid,
    regions: np.ndarray,
    least: int = 0,
    field: str = "regions",
    unseen: bool = False,
) -> Functionals:
    """Means by volume over the regions 0, 1, ... of an int array [i, j, k], whole on every rank or
    owned; -1 is in none. Collective.

    Args:
        least: so many regions at least, also where the last ones have no cell.
        unseen: regions without an active cell are unseen; else they are refused.

    Raises:
        InputError: naming `field`, for another shape and for regions without an active cell.
    """
    own = grid.own(field, regions)
    most = reductions.largest(grid.comm, float(own.max(initial=-1)))
    count = max(int(most) + 1, least)
    inside = grid.active & (own >= 0)
    numbers, volumes = own[inside], grid.volume[inside]
    total = reductions.total(grid.comm, sums_by_number(numbers, volumes, count))
    empty = np.flatnonzero(~(total > 0))
    if empty.size and not unseen:
        raise InputError(
            field,
            f"region {empty[0]} without an active cell",
            "regions of at least one active cell, numbered 0, 1, ... without gaps; -1 is in none",
        )
    columns = _owned_numbers(grid)[inside]
    weights = volumes / total[numbers]
    own = empty if grid.comm.rank == 0 else empty[:0]
    return Functionals(count, numbers, columns, weights, own, grid.comm)


def voxel_means(grid: Grid, edges: Sequence[np.ndarray]) -> Functionals:
    """Means by volume over the active part of the boxes between other edges of the same domain, x
    fastest. Those without an active cell are unseen. Collective."""
    shape = tuple(e.size - 1 for e in edges)
    pairs = enumerate(zip(edges, grid.edges, strict=True))
    scaled = [[grid.geometry.measured(d, e) for e in pair] for d, pair in pairs]
    overlaps = [overlap_lengths(*pair) for pair in scaled]
    owned = [o[:, s].tocoo() for o, s in zip(overlaps, grid.local_slice, strict=True)]
    box, cell, shared = _products(owned)
    # Only the boxes that owned cells have a part of, so that nothing is of global size.
    near = [distinct(o.row) for o in owned]
    volumes = _active_volumes(grid, [o[n] for o, n in zip(overlaps, near, strict=True)])
    place = tuple(np.searchsorted(n, b) for n, b in zip(near, box, strict=True))
    on = grid.active[cell]
    means = shared[on] / volumes[place][on]
    rows = np.ravel_multi_index(box, shape, order="F")[on]
    columns = _owned_numbers(grid)[cell][on]
    lost = [n[i] for n, i in zip(near, np.nonzero(volumes == 0), strict=True)]
    unseen = distinct(np.ravel_multi_index(lost, shape, order="F"))
    return Functionals(math.prod(shape), rows, columns, means, unseen, grid.comm)


def _products(
    overlaps: Sequence[scipy.sparse.coo_matrix],
) -> tuple[Numbers, Numbers, np.ndarray]:
    """Rows and columns by axis, and the product, of all combinations of one overlap an axis."""
    combined = np.meshgrid(*[np.arange(o.nnz) for o in overlaps], indexing="ij")
    picks = [numbers.ravel() for numbers in combined]
    rows = tuple(o.row[p] for o, p in zip(overlaps, picks, strict=True))
    columns = tuple(o.col[p] for o, p in zip(overlaps, picks, strict=True))
    factors = [o.data[p] for o, p in zip(overlaps, picks, strict=True)]
    return rows, columns, np.prod(factors, axis=0)


def _active_volumes(
    grid: Grid, overlaps: Sequence[scipy.sparse.csr_matrix]
) -> np.ndarray:
    """Volumes of the active parts of boxes, given by their overlaps with all cells of each axis.
    Collective."""
    if grid.mask is None:
        return grid.outer([np.asarray(o.sum(axis=1)).ravel() for o in overlaps])
    cells = [distinct(o.indices) for o in overlaps]
    volumes = grid.mask.at(cells).astype(float)
    for axis, (o, c) in enumerate(zip(overlaps, cells, strict=True)):
        volumes = multiply_along(o[:, c], volumes, axis)
    return volumes


def box_mean(
    grid: Grid,
    lower: Sequence[float],
    upper: Sequence[float],
    field: str = "box",
    nearest: bool = False,
) -> Functionals:
    """Mean over the active part of the box between two corners. On a periodic axis it may go
    through the ends (from 0.9 to 1.1, or from 0.9 to 0.1, of an axis from 0 to 1).

    Raises:
        InputError: for corners outside the domain or in the wrong order, and unless `nearest`
            where the box holds no active cell.
    """
    low, high = _corner(grid, lower, field), _corner(grid, upper, field)
    pieces = [between(grid, d, low[d], high[d], field) for d in range(grid.dim)]
    return _mean(grid, pieces, None, field, nearest)


def ball_mean(
    grid: Grid,
    at: Sequence[float],
    radius: float,
    field: str = "ball",
    nearest: bool = False,
) -> Functionals:
    """Mean over the active part of the ball: cells are cut into pieces along each axis, and of the
    boxes between them those with their middle in the ball are taken.

    Raises:
        InputError: for a radius that is not positive, and unless `nearest` for a centre outside
            the active cells.
    """
    center = _corner(grid, at, field)
    if not radius > 0:
        raise InputError(f"{field}.radius", radius, "a positive length")
    places, _ = located(grid, center[None], [f"{field}.at"], nearest)
    pieces, squares = [], np.zeros((1,) * grid.dim)
    for d in range(grid.dim):
        all_pieces = cut(grid, d)
        away = np.abs(offsets(grid, d, all_pieces.middles, center[d])) / radius
        near = away <= 1 + ROUNDING
        pieces.append(all_pieces.where(near))
        squares = squares + along(away[near] ** 2, d, grid.dim)
    inside = squares <= (1 + ROUNDING) ** 2
    if not inside.any():
        return _value(grid, places, field)
    return _mean(grid, pieces, inside, field, nearest, places)


def side_mean(
    grid: Grid,
    side: str,
    lower: Sequence[float] | None = None,
    upper: Sequence[float] | None = None,
    field: str = "side",
    nearest: bool = False,
) -> Functionals:
    """Mean over a side ('x-', ...) of the domain's box, or over its part between two corners. u at
    the side is extrapolated from the two nearest cells (one where the second is inactive).

    Raises:
        InputError: for no such side, one where u is given (Dirichlet) or that is periodic, and
            unless `nearest` where there is no active cell.
    """
    if side not in grid.boundaries:
        raise InputError(f"{field}.side", repr(side), ", ".join(grid.boundaries))
    kind = grid.boundaries[side].kind
    if kind not in ("neumann", "robin"):
        raise InputError(f"{field}.side", f"{side} ({kind})", "a Neumann or Robin side")
    low = _corner(grid, [e[0] for e in grid.edges] if lower is None else lower, field)
    high = _corner(grid, [e[-1] for e in grid.edges] if upper is None else upper, field)
    across = AXES.index(side[0])
    pieces = [
        at_end(grid, d, side[1] == "+")
        if d == across
        else between(grid, d, low[d], high[d], field)
        for d in range(grid.dim)
    ]
    return _mean(grid, pieces, None, field, nearest)


def _corner(grid: Grid, x: Sequence[float], field: str) -> np.ndarray:
    corner = np.asarray(x, float)
    if corner.shape != (grid.dim,) or not np.isfinite(corner).all():
        raise InputError(field, list(x), f"{grid.dim} coordinates")
    return corner


def _mean(
    grid: Grid,
    pieces: Sequence[Pieces],
    inside: np.ndarray | None,
    field: str,
    nearest: bool,
    fallback: np.ndarray | None = None,
) -> Functionals:
    """Mean over the boxes between pieces of all axes, as far as they are in active cells.

    Args:
        inside: which of the boxes are taken, by default all.
        nearest: where none is left, u at a place instead, else that is refused.
        fallback: this place; by default the one in an active cell that is next to their middle.
    """
    cells, _, measures = zip(*pieces, strict=True)
    # Their product stays representable in any unit.
    largest = [m.max(initial=0) for m in measures]
    own = [
        (a <= c) & (c < b) for c, a, b in zip(cells, grid.start, grid.stop, strict=True)
    ]
    taken = np.ones([int(o.sum()) for o in own], bool)
    if inside is not None:
        taken &= inside[np.ix_(*own)]
    mine = [p.where(o) for p, o in zip(pieces, own, strict=True)]
    local = [p.cells - a for p, a in zip(mine, grid.start, strict=True)]
    taken &= grid.active[np.ix_(*local)]
    picks = np.nonzero(taken)
    scaled = [p.measures / x for p, x in zip(mine, largest, strict=True)]
    weights = grid.outer(scaled)[picks]
    if reductions.anywhere(grid.comm, bool(taken.any())):
        points = np.stack(
            [p.middles[i] for p, i in zip(mine, picks, strict=True)], axis=1
        )
        whole = reductions.total(grid.comm, float(weights.sum()))
        return _sum(grid, points, weights / whole)
    if not nearest:
        raise InputError(field, "a place without active cells", "one that holds some")
    if fallback is None:
        fallback = np.array([[p.middles[p.middles.size // 2] for p in pieces]])
    return _value(grid, fallback, field)

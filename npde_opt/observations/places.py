"""What is seen, as linear functionals: sum_q w_q u(x_q) over points, or sum_c w_c u_c over cells.

A value has one point; a mean over a box, a ball or a part of a side has quadrature points, the
middles of the pieces that the cells cut out of it. Patches, integrals, regions and voxels have
weights of cells. Places serve every grid of a hierarchy: `nearest` says that a grid is another one
than that the place was given for, where what has no active cell is seen from the nearest one (see
grids/locate.py). On periodic axes places go on beyond the ends, and a ball or a box may lie across.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy.sparse

from npde_opt import reductions
from npde_opt.errors import InputError
from npde_opt.grids import AXES, Grid, along, sums_by_number
from npde_opt.grids.locate import SLACK, located, offsets, slack, wrapped
from npde_opt.grids.overlap import multiply_along, overlap_lengths
from npde_opt.observations.functionals import Functionals
from npde_opt.operators.points import even_share, placed, point_stencils

CUTS = 4
ROUNDING = 1e-9
"""Points of a ball's outline are within it, whatever the roundings of their distance."""
Pieces = tuple[np.ndarray, np.ndarray, np.ndarray]
"""What the cells of an axis cut out of an interval: cells, middles and lengths of the pieces."""


def points_at(
    grid: Grid, points: np.ndarray, field: str = "points", nearest: bool = False
) -> Functionals:
    """u at points (n, dim), interpolated between cell centres: see `operators.interpolation`.

    Raises:
        InputError: naming `field`, unless `nearest` for points in no active cell.
    """
    places = placed(grid, points, field, nearest)
    numbers = np.arange(len(places))
    return _sums(grid, places, numbers, np.ones(len(places)), len(places))


def _sums(
    grid: Grid, places: np.ndarray, numbers: np.ndarray, weights: np.ndarray, size: int
) -> Functionals:
    """Sums of weights * u(places) by number; places (n, dim) in active cells, on every rank."""
    own = even_share(grid.comm, len(places))
    cells, shares, kept = point_stencils(grid, places[own])
    rows = np.broadcast_to(numbers[own][:, None], kept.shape)
    entries = weights[own][:, None] * shares
    return Functionals(size, rows[kept], cells[kept], entries[kept])


def _sum(grid: Grid, places: np.ndarray, weights: np.ndarray) -> Functionals:
    """One sum over places."""
    return _sums(grid, places, np.zeros(len(places), int), weights, 1)


def cell_sum(grid: Grid, cells: Sequence[np.ndarray], weights: np.ndarray) -> Functionals:
    """Sum of weights * u over active cells, given on every rank by one index array an axis."""
    sides = zip(cells, grid.start, grid.stop, strict=True)
    own = np.all([(first <= i) & (i < end) for i, first, end in sides], axis=0)
    columns = grid.layout.global_index([i[own] for i in cells])
    return Functionals(1, np.zeros(columns.size, int), columns, weights[own])


def integral(grid: Grid, density: np.ndarray) -> Functionals:
    """int w u over the active cells, w [i, j, k] on every rank."""
    weights = density[grid.local_slice] * grid.volume
    owned = grid.active & (weights != 0)
    columns = _owned_numbers(grid)[owned]
    return Functionals(1, np.zeros(columns.size, int), columns, weights[owned])


def _owned_numbers(grid: Grid) -> np.ndarray:
    """PETSc's global numbers of the owned cells [i, j, k]."""
    numbers = grid.layout.global_index(grid.layout.owned_mesh())
    return numbers.reshape(grid.local_shape, order="F")


def region_means(
    grid: Grid, regions: np.ndarray, least: int = 0, field: str = "regions", unseen: bool = False
) -> Functionals:
    """Means by volume over the regions 0, 1, ... of an int array [i, j, k], given on every rank; -1
    is in none. Collective.

    Args:
        least: so many regions at least, also where the last ones have no cell.
        unseen: regions without an active cell are unseen; else they are refused.

    Raises:
        InputError: naming `field`, for another shape and for regions without an active cell.
    """
    if regions.shape != grid.shape:
        raise InputError(field, f"shape {regions.shape}", f"shape {grid.shape}")
    count = max(int(regions.max()) + 1, least)
    own = regions[grid.local_slice]
    inside = grid.active & (own >= 0)
    numbers, volumes = own[inside], grid.volume[inside]
    total = reductions.total(grid.comm, sums_by_number(numbers, volumes, count))
    empty = np.flatnonzero(~(total > 0))
    if empty.size and not unseen:
        raise InputError(
            field, f"region {empty[0]} without an active cell",
            "regions of at least one active cell, numbered 0, 1, ... without gaps; -1 is in none",
        )
    columns = _owned_numbers(grid)[inside]
    return Functionals(count, numbers, columns, volumes / total[numbers], empty)


def voxel_means(grid: Grid, edges: Sequence[np.ndarray]) -> Functionals:
    """Means by volume over the active part of the boxes between other edges of the same domain, x
    fastest. Those without an active cell are unseen. Collective."""
    shape = tuple(e.size - 1 for e in edges)
    overlaps = [overlap_lengths(e, g) for e, g in zip(edges, grid.edges, strict=True)]
    own = [o[:, s].tocoo() for o, s in zip(overlaps, grid.local_slice, strict=True)]
    # An entry for every combination of one overlap an axis.
    picks = [p.ravel() for p in np.meshgrid(*[np.arange(o.nnz) for o in own], indexing="ij")]
    box = [o.row[p] for o, p in zip(own, picks, strict=True)]
    cell = [o.col[p] for o, p in zip(own, picks, strict=True)]
    shared = np.prod([o.data[p] for o, p in zip(own, picks, strict=True)], axis=0)
    # Only the boxes that owned cells have a part of, so that nothing is of global size.
    near = [np.unique(o.row) for o in own]
    volumes = _active_volumes(grid, [o[n] for o, n in zip(overlaps, near, strict=True)])
    at = tuple(np.searchsorted(n, b) for n, b in zip(near, box, strict=True))
    on = grid.active[tuple(cell)]
    means = shared[on] / volumes[at][on]
    rows = np.ravel_multi_index(box, shape, order="F")[on]
    columns = _owned_numbers(grid)[tuple(cell)][on]
    empty = np.ravel_multi_index(
        [n[i] for n, i in zip(near, np.nonzero(volumes == 0), strict=True)], shape, order="F"
    )
    unseen = np.unique(np.concatenate(grid.comm.allgather(empty)))
    return Functionals(int(np.prod(shape)), rows, columns, means, unseen)


def _active_volumes(grid: Grid, overlaps: Sequence[scipy.sparse.csr_matrix]) -> np.ndarray:
    """Volumes of the active parts of boxes, given by their overlaps with all cells of each axis."""
    if grid.active_global is None:
        return grid.outer([np.asarray(o.sum(axis=1)).ravel() for o in overlaps])
    cells = [np.unique(o.indices) for o in overlaps]
    volumes = grid.active_global[np.ix_(*cells)].astype(float)
    for axis, (o, c) in enumerate(zip(overlaps, cells, strict=True)):
        volumes = multiply_along(o[:, c], volumes, axis)
    return volumes


def box_mean(grid: Grid, lower: Sequence[float], upper: Sequence[float], field: str = "box",
             nearest: bool = False) -> Functionals:
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
              nearest: bool = False) -> Functionals:
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
        return _sum(grid, places, np.ones(1))
    return _mean(grid, pieces, inside, field, nearest, places)


def _cut(grid: Grid, axis: int) -> Pieces:
    """The cells of an axis cut into CUTS pieces."""
    edges, widths = grid.edges[axis], grid.widths[axis]
    starts = edges[:-1, None] + widths[:, None] * np.arange(CUTS) / CUTS
    fine = np.append(starts.ravel(), edges[-1])
    return np.repeat(np.arange(widths.size), CUTS), (fine[1:] + fine[:-1]) / 2, np.diff(fine)


def side_mean(grid: Grid, side: str, lower: Sequence[float] | None = None,
              upper: Sequence[float] | None = None, field: str = "side",
              nearest: bool = False) -> Functionals:
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
          nearest: bool, fallback: np.ndarray | None = None) -> Functionals:
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
        return _sum(grid, places, np.ones(1))
    points = np.stack([m[i] for m, i in zip(middles, np.nonzero(taken), strict=True)], axis=1)
    scaled = [x / x.max() for x in lengths]  # their product stays representable in any unit
    weights = grid.outer(scaled)[taken]
    return _sum(grid, points, weights / weights.sum())

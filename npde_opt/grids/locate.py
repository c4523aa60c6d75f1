"""Where a place is on a grid: the active cell that holds a point, alike on all outlines.

A coordinate on a periodic axis of length L stands for the place x modulo L: it is wrapped into the
box. On other axes it must lie within the box. A cell holds the points of its closed box and those
that are nearer to it than SLACK of the narrower one of the two cells that meet there (or than a few
roundings of the coordinates, where that is more). A point on a face is taken for one of the upper
cell; where that is not active, or not there, for one of the lower cell. So points on the outline
of the box and of the active cells are found on all sides and corners, in any unit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import product
from typing import Protocol

import numpy as np
from mpi4py import MPI

from npde_opt import reductions
from npde_opt.errors import InputError, collective
from npde_opt.grids.geometry import AXES
from npde_opt.grids.scattered import Mask

SLACK = 1e-6
"""Of a cell's width: how far from it a point may lie and count as one of the cell."""
ROUNDINGS = 4
TIE = 1e-12
"""Relative difference of distances up to which cells are as near as each other."""
NONE = np.iinfo(np.int64).max
PLACES = """\
A *place* (of points, wells, electrodes, the ground, boxes, balls, parts of sides) is given by
coordinates. On a periodic axis they count modulo its length, wherever they lie, so that a ball, a
box (from 0.9 to 1.1, or from 0.9 to 0.1, of an axis from 0 to 1) or a well may go through the ends.
On other axes they lie within the box. A point on a face belongs to the upper cell, or to the lower
one where that is not active; up to 1e-6 of the narrower cell beside a face count as on it (or a few
roundings of the coordinates, where they are more). So all sides and corners of the box and of the
active cells are found, in any unit. On the case's own grid each place needs an active cell
(`grid.outside` says what else); on the
coarser grids of nested iteration and the finer one of simulated data a place without one goes to
the active cell with the nearest centre."""
"""What the format of a case says about them."""


class Cells(Protocol):
    """Boxes between edges, of which some are active: what a grid is here. Functions are collective
    over the ranks that share the mask. Points are the same on all of them, and what is found of
    them too, but where it says that each rank has others."""

    @property
    def dim(self) -> int: ...
    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def edges(self) -> tuple[np.ndarray, ...]: ...
    @property
    def centers(self) -> tuple[np.ndarray, ...]: ...
    @property
    def widths(self) -> tuple[np.ndarray, ...]: ...
    @property
    def mask(self) -> Mask | None: ...
    def periodic(self, axis: int) -> bool: ...


def slack(edges: np.ndarray, periodic: bool) -> np.ndarray:
    """At each edge of an axis, how far beyond it a point still counts as one of the cell before."""
    widths = np.diff(edges)
    outside = (widths[-1:], widths[:1]) if periodic else ([np.inf], [np.inf])
    narrower = np.minimum(np.append(outside[0], widths), np.append(widths, outside[1]))
    rounding = np.spacing(np.abs(edges).max())
    return np.maximum(SLACK * narrower, ROUNDINGS * rounding)


def wrapped(x: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Coordinates on a periodic axis, in [first, last edge)."""
    first, last = edges[0], edges[-1]
    inside = (x >= first) & (x < last)
    moved = first + np.mod(x - first, last - first)
    moved = np.where(moved >= last, first, moved)  # rounded up to the end of the axis
    return np.where(inside, x, moved)


def offsets(
    grid: Cells, axis: int, x: np.ndarray, center: float | np.ndarray
) -> np.ndarray:
    """x - center along an axis, the shortest way round where that is periodic."""
    away = x - center
    if not grid.periodic(axis):
        return away
    length = grid.edges[axis][-1] - grid.edges[axis][0]
    return away - length * np.round(away / length)


def located(
    grid: Cells,
    points: np.ndarray,
    field: str | Sequence[str] = "points",
    nearest: bool = False,
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Points (n, dim) as places inside the box, and the active cells that hold them, one index
    array an axis.

    Args:
        field: name of the points, or one name a point.
        nearest: take a point that lies in no active cell for the next place that does: the one in
            the active cell with the nearest centre. For grids other than the one that the points
            were given for, whose active cells differ.

    Raises:
        InputError: naming `field`, for points that are not finite, and unless `nearest` for those
            outside the box or in no active cell.
    """
    places = boxed(grid, points, field, nearest)
    holding, found = _active_holding(grid, places)
    without = np.flatnonzero(~found)
    if without.size and not nearest:
        k = int(without[0])
        raise InputError(
            _name(field, k),
            tuple(np.asarray(points)[k].tolist()),
            "a point in an active cell",
        )
    if without.size:
        places[without], moved = _nearest(grid, places[without])
        for cells, to in zip(holding, moved, strict=True):
            cells[without] = to
    return places, holding


def lost(grid: Cells, points: np.ndarray) -> np.ndarray:
    """Which points (n, dim) lie beyond the box or in no active cell. Raises InputError for points
    that are not finite."""
    places = boxed(grid, points, "points", nearest=True)
    beyond = np.zeros(len(places), bool)
    for axis, edges in enumerate(grid.edges):
        if not grid.periodic(axis):
            moved = np.abs(places[:, axis] - points[:, axis])
            beyond |= moved > slack(edges, False)[[0, -1]].max()
    return beyond | ~_active_holding(grid, places)[1]


def _active_holding(
    grid: Cells, places: np.ndarray
) -> tuple[list[np.ndarray], np.ndarray]:
    """The active cells that hold places (n, dim), one index array an axis, and which places have
    one."""
    holding = [np.zeros(len(places), int) for _ in range(grid.dim)]
    found = np.zeros(len(places), bool)
    for candidates in _candidates(grid, places):
        active = _active_at(grid, candidates) & ~found
        for cells, candidate in zip(holding, candidates, strict=True):
            cells[active] = candidate[active]
        found |= active
        if _for_all(grid, bool(found.all())):
            break
    return holding, found


def _for_all(grid: Cells, done: bool) -> bool:
    """Whether it is done on all ranks that look places up in a mask."""
    return done if grid.mask is None else reductions.everywhere(grid.mask.comm, done)


def located_here(
    grid: Cells,
    comm: MPI.Intracomm,
    points: np.ndarray,
    names: Callable[[int], str],
    nearest: bool = False,
) -> tuple[np.ndarray, list[np.ndarray]]:
    """As `located`, of points (n, dim) of which each rank has others. Collective.

    Args:
        names: the name of each of them.
    """
    with collective(comm):
        places = boxed(grid, points, Named(names), nearest)
    holding, found = _active_holding(grid, places)
    without = np.flatnonzero(~found)
    with collective(comm):
        if without.size and not nearest:
            k = int(without[0])
            given = tuple(np.asarray(points)[k].tolist())
            raise InputError(names(k), given, "a point in an active cell")
    # What lies in no active cell is looked for by all ranks.
    everyone = comm.allgather(places[without])
    counts = [len(part) for part in everyone]
    if nearest and any(counts):
        at, cells = _nearest(grid, np.concatenate(everyone))
        first = sum(counts[: comm.rank])
        own = slice(first, first + without.size)
        places[without] = at[own]
        for part, to in zip(holding, cells, strict=True):
            part[without] = to[own]
    return places, holding


class Named(Sequence[str]):
    """Names that are made when they are asked for."""

    def __init__(self, names: Callable[[int], str]):
        self.names = names

    def __getitem__(self, k: int) -> str:  # type: ignore[override]
        return self.names(k)

    def __len__(self) -> int:
        return 0


def _name(field: str | Sequence[str], k: int) -> str:
    return f"{field}[{k}]" if isinstance(field, str) else field[k]


def boxed(
    grid: Cells, points: np.ndarray, field: str | Sequence[str], nearest: bool = False
) -> np.ndarray:
    """Points (n, dim) as places in the box. Raises InputError as `located`."""
    places = np.array(points, float)
    for axis in range(grid.dim):
        places[:, axis] = _inside(grid, axis, places, field, nearest)
    return places


def _inside(
    grid: Cells,
    axis: int,
    points: np.ndarray,
    field: str | Sequence[str],
    nearest: bool,
) -> np.ndarray:
    """The coordinates of points along an axis, within its edges."""
    x, edges = points[:, axis], grid.edges[axis]
    first, last = float(edges[0]), float(edges[-1])
    finite = np.isfinite(x)
    if grid.periodic(axis) and finite.all():
        return wrapped(x, edges)
    near = slack(edges, False)
    good = finite & (nearest | ((x >= first - near[0]) & (x <= last + near[-1])))
    if not good.all():
        k = int(np.argmin(good))
        raise InputError(
            _name(field, k),
            tuple(points[k].tolist()),
            f"{AXES[axis]} from {first:g} to {last:g}",
        )
    return np.clip(x, first, last)


def _active_at(grid: Cells, cells: Sequence[np.ndarray]) -> np.ndarray:
    """Whether cells, given by one index array an axis, are active."""
    if grid.mask is None:
        return np.ones(cells[0].shape, bool)
    return grid.mask.listed(cells)


def _candidates(grid: Cells, places: np.ndarray) -> Iterator[list[np.ndarray]]:
    """The cells that hold places (n, dim): the upper ones first, then those beyond faces that a
    place lies on, then beyond edges and corners."""
    sides = [_holding(grid, axis, places[:, axis]) for axis in range(grid.dim)]
    for picks in sorted(product((0, 1), repeat=grid.dim), key=sum):
        yield [side[pick] for side, pick in zip(sides, picks, strict=True)]


def _holding(grid: Cells, axis: int, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The cells along an axis that hold coordinates x, and the others that do (or the same)."""
    edges, n, periodic = grid.edges[axis], grid.shape[axis], grid.periodic(axis)
    near = slack(edges, periodic)
    cell = np.clip(np.searchsorted(edges, x, side="right") - 1, 0, n - 1)
    step = np.where(x - edges[cell] <= near[cell], -1, 0)
    step = np.where((step == 0) & (edges[cell + 1] - x <= near[cell + 1]), 1, step)
    beside = cell + step
    return cell, beside % n if periodic else np.clip(beside, 0, n - 1)


def _nearest(grid: Cells, places: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
    """The places of active cells that are next to given ones, and these cells."""
    distances, numbers = _nearest_here(grid, places)
    if grid.mask is not None and grid.mask.comm.size > 1:
        comm = grid.mask.comm
        least = reductions.smallest(comm, distances)
        numbered = np.where(distances > least * (1 + TIE), np.inf, numbers)
        numbers = reductions.smallest(comm, numbered).astype(np.int64)
    cells = list(np.unravel_index(numbers, grid.shape))
    found = np.empty_like(places)
    for d, (c, i) in enumerate(zip(grid.centers, cells, strict=True)):
        half = grid.widths[d][i] / 2
        away = np.clip(offsets(grid, d, places[:, d], c[i]), -half, half)
        found[:, d] = c[i] + away
    return found, cells


def _nearest_here(grid: Cells, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distances (n,) of places to the centres of this rank's active cells, and the number of the
    nearest cell among all, the last axis fastest; of several as near the first one."""
    mask = grid.mask
    if mask is None:
        active = np.nonzero(np.ones(grid.shape, bool))
    else:
        local = zip(np.nonzero(mask.owned), mask.layout.start, strict=True)
        active = tuple(i + first for i, first in local)
    if not active[0].size:
        count = len(places)
        return np.full(count, np.inf), np.full(count, NONE)
    origin = np.array([e[0] for e in grid.edges])
    extent = np.array([e[-1] - e[0] for e in grid.edges])
    unit = extent.max()  # so that squares of distances are neither huge nor tiny
    centers = np.stack(
        [c[i] for c, i in zip(grid.centers, active, strict=True)], axis=1
    )
    around = [x / unit if grid.periodic(d) else 0.0 for d, x in enumerate(extent)]
    from scipy.spatial import (
        KDTree,
    )  # most runs do without, and need not wait for it to load

    tree, x = (
        KDTree((centers - origin) / unit, boxsize=around),
        (places - origin) / unit,
    )
    distances, _ = tree.query(x)
    alike = tree.query_ball_point(x, distances * (1 + TIE))
    numbers = np.ravel_multi_index(active, grid.shape)
    return distances, np.array([numbers[k].min() for k in alike], np.int64)

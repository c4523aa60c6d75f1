"""The pieces that the cells of one axis cut out of an interval."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from npde_opt.errors import InputError
from npde_opt.grids import AXES, Grid
from npde_opt.grids.locate import SLACK, slack, wrapped

CUTS = 4
"""Pieces a cell, of places that are not boxes."""


class Pieces(NamedTuple):
    """By piece: the cell that holds it, its middle, and its factor in volumes (its length, or the
    area of a ring)."""

    cells: np.ndarray
    middles: np.ndarray
    measures: np.ndarray

    def where(self, kept: np.ndarray) -> Pieces:
        return Pieces(self.cells[kept], self.middles[kept], self.measures[kept])


def at_end(grid: Grid, axis: int, upper: bool) -> Pieces:
    """The end of an axis, beside its last or its first cell; of measure 1."""
    end = -1 if upper else 0
    cells = np.arange(grid.shape[axis])
    return Pieces(cells[[end]], grid.edges[axis][[end]], np.ones(1))


def cut(grid: Grid, axis: int) -> Pieces:
    """All cells of an axis, each cut into CUTS equal pieces."""
    edges, widths = grid.edges[axis], grid.widths[axis]
    starts = edges[:-1, None] + widths[:, None] * np.arange(CUTS) / CUTS
    ends = np.append(starts.ravel(), edges[-1])
    cells = np.repeat(np.arange(widths.size), CUTS)
    measures = grid.geometry.measure(axis, ends[:-1], ends[1:])
    return Pieces(cells, (ends[1:] + ends[:-1]) / 2, measures)


def between(grid: Grid, axis: int, lower: float, upper: float, field: str) -> Pieces:
    """What cells cut out of an interval; on a periodic axis it may go through the ends.

    Raises:
        InputError: naming `field` and the axis, for an interval outside the axis, empty or turned.
    """
    edges, cells = grid.edges[axis], np.arange(grid.shape[axis])
    if grid.periodic(axis):
        lower, upper = _round(edges, lower, upper, f"{field}, {AXES[axis]}")
        # A second turn, for what goes on beyond the end of the first.
        edges = np.append(edges, edges[1:] + (edges[-1] - edges[0]))
        cells = np.append(cells, cells)
    else:
        _check(edges, lower, upper, f"{field}, {AXES[axis]}")
    starts, ends = np.maximum(edges[:-1], lower), np.minimum(edges[1:], upper)
    # Of slivers at the ends of the interval nothing: they come from roundings.
    narrower = np.minimum(np.diff(edges), upper - lower)
    measures = grid.geometry.measure(axis, starts, ends)
    pieces = Pieces(cells, (starts + ends) / 2, measures)
    found = pieces.where(ends - starts > SLACK * narrower)
    if grid.periodic(axis):
        return found._replace(middles=wrapped(found.middles, grid.edges[axis]))
    return found


def _check(edges: np.ndarray, lower: float, upper: float, field: str) -> None:
    near = slack(edges, False)
    if not edges[0] - near[0] <= lower < upper <= edges[-1] + near[-1]:
        raise _refused(edges, lower, upper, field)


def _round(
    edges: np.ndarray, lower: float, upper: float, field: str
) -> tuple[float, float]:
    """An interval of a periodic axis, from a point on the axis on. One that is turned goes through
    the ends."""
    whole = float(edges[-1] - edges[0])
    length = upper - lower if upper > lower else upper - lower + whole
    if lower == upper or not 0 < length <= whole + slack(edges, True)[0]:
        raise _refused(edges, lower, upper, field)
    start = float(wrapped(np.asarray(lower), edges))
    return start, start + min(length, whole)


def _refused(edges: np.ndarray, lower: float, upper: float, field: str) -> InputError:
    allowed = f"lower < upper within {edges[0]:g} to {edges[-1]:g}"
    return InputError(field, (float(lower), float(upper)), allowed)

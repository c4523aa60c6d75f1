"""Numbered regions on grids other than the case's own, where the smallest of them may have no
cell."""

from __future__ import annotations

import numpy as np

from npde_opt import reductions
from npde_opt.aliases import Plain
from npde_opt.cases.domain import Domain
from npde_opt.cases.fields import evaluate_part, labels
from npde_opt.cases.parts import Part
from npde_opt.cases.placing import cells
from npde_opt.cases.sought_tables import UnknownSection
from npde_opt.grids import Grid, sums_by_number
from npde_opt.grids.cuts import even
from npde_opt.parameters import ParameterSpace


def numbers(
    field: str, spec: Plain, domain: Domain, grid: Grid, least: int = 0
) -> tuple[np.ndarray, int]:
    """Numbers of regions [i, j, k] of a grid's owned cells, and how many regions the case's own
    grid has. Collective.

    Raises:
        InputError: for values that are no integers from `least`, or as large as the number of cells
            of the case's own grid.
    """
    most = int(np.prod(cells(domain.edges)))
    found = labels(field, spec, Part.of(grid), domain.sources, least, most)
    own = found
    if not domain.is_own(grid):
        own = labels(field, spec, _own(domain, grid), domain.sources, least, most)
    last = reductions.largest(grid.comm, float(own.max(initial=-1)))
    return found, int(last) + 1


def _own(domain: Domain, grid: Grid) -> Part:
    """The case's own cells, on the ranks of another grid."""
    layout = even(cells(domain.edges), grid.comm)
    return Part(list(domain.edges), layout.box, grid.comm)


def means(
    space: ParameterSpace,
    regions: np.ndarray,
    count: int,
    field: np.ndarray,
    domain: Domain,
    spec: Plain,
    where: str,
    u: UnknownSection,
) -> np.ndarray:
    """Means (count,) of a field over the regions of an unknown. Collective.

    Of one without an active cell that over its cells of the case's own grid, of one without any the
    mean over all.

    Args:
        regions: numbers of the owned cells.
        field: owned values.
        spec: of the field, as the case says it under the key `where`.
    """
    grid = space.grid
    on = grid.active
    sums = reductions.total(space.comm, _sums(regions[on], field[on], count))
    whole = sums[0].sum() / sums[1].sum()
    if not sums[1].all() and not domain.is_own(grid):
        part = _own(domain, grid)
        own = labels(f"unknown.{u.name}.regions", u.regions, part, domain.sources)
        values = evaluate_part(where, spec, part, domain.sources)
        mask = domain.active(domain.edges, grid.comm)
        here = np.ones(own.shape, bool) if mask is None else mask.owned
        parts = _sums(own[here], values[here], count)
        elsewhere = reductions.total(space.comm, parts)
        sums = np.where(sums[1] > 0, sums, elsewhere)
    return np.where(sums[1] > 0, sums[0] / np.maximum(sums[1], 1), whole)


def _sums(region: np.ndarray, values: np.ndarray, count: int) -> np.ndarray:
    """Sums of the values and numbers of cells by region."""
    ones = np.ones(values.shape)
    return np.array([sums_by_number(region, w, count) for w in (values, ones)])

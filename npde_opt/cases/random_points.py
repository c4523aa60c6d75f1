"""Points drawn uniformly over the places where several grids of one box are all active.

Points of the box are drawn until enough are active. Where few are, the rest is drawn cell by cell
from the common refinement of the grids: the same distribution, in bounded time. All ranks draw the
same points, and look them up in masks of which each has a part.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from npde_opt import reductions
from npde_opt.cases.resampling import cell_of
from npde_opt.errors import InputError
from npde_opt.grids.scattered import Mask

Masked = tuple[Sequence[np.ndarray], Mask]
"""A grid's edges and its active cells; of all grids on the same ranks."""
BATCH = 1 << 16
BATCHES = 32


def random_points(
    rng: np.random.Generator,
    count: int,
    edges: Sequence[np.ndarray],
    masks: Sequence[Masked],
    field: str,
) -> np.ndarray:
    """Points (count, dim) in the box between `edges`, in active cells of all `masks`. Collective.

    Raises:
        InputError: naming `field`, where no place is active in all.
    """
    lower = np.array([e[0] for e in edges])
    extent = np.array([e[-1] - e[0] for e in edges])
    if not masks:
        return lower + extent * rng.random((count, lower.size))
    found, missing = [np.empty((0, lower.size))], count
    for _ in range(BATCHES):
        points = lower + extent * rng.random((min(BATCH, 64 * missing), lower.size))
        points = points[active(masks, points)][:missing]
        found, missing = [*found, points], missing - len(points)
        if not missing:
            break
    if missing:
        found.append(_cell_by_cell(rng, missing, masks, field))
    return np.concatenate(found)


def active(masks: Sequence[Masked], points: np.ndarray) -> np.ndarray:
    """Whether points (n, dim) lie in active cells of all masks. Collective."""
    good = np.ones(len(points), bool)
    for edges, mask in masks:
        cells = [cell_of(x, e) for e, x in zip(edges, points.T, strict=True)]
        good &= mask.listed(cells)
    return good


def _cell_by_cell(
    rng: np.random.Generator, count: int, masks: Sequence[Masked], field: str
) -> np.ndarray:
    """Cells of the common refinement drawn by volume, and a point in each. Collective."""
    axes = [
        np.unique(np.concatenate(e))
        for e in zip(*(edges for edges, _ in masks), strict=True)
    ]
    comm = masks[0][1].comm
    # A rank has a slab of the first axis: slab after slab is the order of all cells.
    ends = np.arange(comm.size + 1) * (axes[0].size - 1) // comm.size
    own = slice(int(ends[comm.rank]), int(ends[comm.rank + 1]))
    middles = [(e[1:] + e[:-1]) / 2 for e in axes]
    middles[0] = middles[0][own]
    common = np.ones([x.size for x in middles], bool)
    for edges, mask in masks:
        common &= mask.at([cell_of(x, e) for x, e in zip(middles, edges, strict=True)])
    found = np.nonzero(common)
    cells = (found[0] + own.start, *found[1:])
    widths = [np.diff(e) for e in axes]
    parts = [w[i] / w.max() for w, i in zip(widths, cells, strict=True)]
    # Where in the sum of all volumes the cells of this rank end.
    volumes = np.cumsum(np.prod(parts, axis=0))
    sums = np.cumsum([0.0, *comm.allgather(float(volumes[-1:].sum()))])
    if not sums[-1] > 0:
        raise InputError(
            field,
            count,
            "a domain with places that are active on the case's grid and "
            "on the one that data are simulated on",
        )
    drawn, inside = sums[-1] * rng.random(count), rng.random((count, len(axes)))
    first, last = sums[comm.rank : comm.rank + 2]
    mine = np.flatnonzero((first <= drawn) & (drawn < last))
    at = np.searchsorted(volumes, drawn[mine] - first, side="right")
    at = np.minimum(at, volumes.size - 1)
    points = np.zeros((count, len(axes)))
    for d, (e, w, i) in enumerate(zip(axes, widths, cells, strict=True)):
        points[mine, d] = e[i[at]] + inside[mine, d] * w[i[at]]
    return reductions.total(comm, points)

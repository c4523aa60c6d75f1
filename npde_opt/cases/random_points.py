"""Points drawn uniformly over the places where several grids of one box are all active.

Points of the box are drawn until enough are active. Where few are, the rest is drawn cell by cell
from the common refinement of the grids: the same distribution, in bounded time.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from npde_opt.cases.resampling import cell_of, nearest_values
from npde_opt.errors import InputError

Mask = tuple[Sequence[np.ndarray], np.ndarray]
"""A grid's edges and its active cells [i, j, k]."""
BATCH = 1 << 16
BATCHES = 32


def random_points(
    rng: np.random.Generator,
    count: int,
    edges: Sequence[np.ndarray],
    masks: Sequence[Mask],
    field: str,
) -> np.ndarray:
    """Points (count, dim) in the box between `edges`, in active cells of all `masks`.

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


def active(masks: Sequence[Mask], points: np.ndarray) -> np.ndarray:
    """Whether points (n, dim) lie in active cells of all masks."""
    good = np.ones(len(points), bool)
    for edges, mask in masks:
        cells = [cell_of(x, e) for e, x in zip(edges, points.T, strict=True)]
        good &= mask[tuple(cells)]
    return good


def _cell_by_cell(
    rng: np.random.Generator, count: int, masks: Sequence[Mask], field: str
) -> np.ndarray:
    """Cells of the common refinement drawn by volume, and a point in each."""
    axes = [
        np.unique(np.concatenate(e))
        for e in zip(*(edges for edges, _ in masks), strict=True)
    ]
    common = np.ones([e.size - 1 for e in axes], bool)
    for edges, mask in masks:
        common &= nearest_values(mask, edges, axes) > 0.5
    cells = np.nonzero(common)
    if not cells[0].size:
        raise InputError(
            field,
            count,
            "a domain with places that are active on the case's grid and "
            "on the one that data are simulated on",
        )
    widths = [np.diff(e)[i] for e, i in zip(axes, cells, strict=True)]
    volumes = np.prod([w / w.max() for w in widths], axis=0)
    chosen = rng.choice(volumes.size, count, p=volumes / volumes.sum())
    inside = rng.random((count, len(axes)))
    lower = np.stack([e[i[chosen]] for e, i in zip(axes, cells, strict=True)], axis=1)
    return lower + inside * np.stack([w[chosen] for w in widths], axis=1)

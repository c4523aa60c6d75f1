"""Patches of cells: what wells, electrodes and grounds act on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from npde_opt.errors import InputError
from npde_opt.grids import Grid, along
from npde_opt.grids.locate import boxed, located, offsets


@dataclass(frozen=True, eq=False)
class Patch:
    """Weights of sum 1 on some cells, given by one index array an axis."""

    cells: tuple[np.ndarray, ...]
    weights: np.ndarray

    def add(self, grid: Grid, amount: float, out: np.ndarray) -> None:
        """Adds amount * weights to the owned values `out`."""
        own = [c - s for c, s in zip(self.cells, grid.start, strict=True)]
        here = np.all(
            [(i >= 0) & (i < n) for i, n in zip(own, grid.local_shape, strict=True)],
            axis=0,
        )
        out[tuple(i[here] for i in own)] += amount * self.weights[here]


def patch(
    grid: Grid, at: Sequence[float], radius: float, field: str, nearest: bool = False
) -> Patch:
    """A bump (1 - (r / radius)^2)^2 over the active cells with centres within `radius`, by volume,
    or the cell that holds the point where there are none. On periodic axes distances are the
    shortest ways round; `locate.py` says where a point may lie, and what `nearest` is. Collective.

    Raises:
        InputError: for a point outside the box, or one far from active cells unless `nearest`.
    """
    x = np.asarray(at, float)
    if x.shape != (grid.dim,) or not np.isfinite(x).all():
        raise InputError(field, list(at), f"{grid.dim} coordinates")
    boxed(grid, x[None], [field], nearest)
    away = [
        np.abs(offsets(grid, d, c, a))
        for d, (c, a) in enumerate(zip(grid.centers, x, strict=True))
    ]
    near = [np.flatnonzero(r < radius) for r in away]
    squares = np.asarray(
        sum(
            along((r[i] / radius if i.size else r[i]) ** 2, d, grid.dim)
            for d, (r, i) in enumerate(zip(away, near, strict=True))
        )
    )
    inside = squares < 1
    if grid.mask is not None:
        inside = inside & grid.mask.at(near)
    if not inside.any():
        _, cells = located(grid, x[None], [field], nearest)
        return Patch(tuple(cells), np.ones(1))
    measures = zip(grid.geometry.measures, near, strict=True)
    volumes = grid.outer([m[i] / m.max() for m, i in measures])  # in any unit
    weights = ((1 - squares) ** 2 * volumes)[inside]
    found = np.nonzero(inside)
    return Patch(
        tuple(i[f] for i, f in zip(near, found, strict=True)), weights / weights.sum()
    )

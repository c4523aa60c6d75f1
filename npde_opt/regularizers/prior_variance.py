"""Pointwise variance of the field with precision K M^-1 K, K = L + delta M, L = -div(D grad)
without flux through sides.

A side or an outline reflects: the variance doubles at it, and is fourfold in a corner. Divided by
this variance the prior is what its key says everywhere (`regularizers.BiLaplacian`).

On a box it is known from sums over axes (box_variance.py); under a mask their product with a ratio
of variances on coarse cells (masked_variance.py). No rank holds more than its box and what is near.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from npde_opt.grids import Grid
from npde_opt.regularizers.box_variance import Box
from npde_opt.regularizers.masked_variance import masked_ratio


def pointwise_variance(
    grid: Grid, diffusivities: Sequence[float], delta: float
) -> np.ndarray:
    """Variance in the owned cells [i, j, k] (1 in inactive ones).

    Args:
        grid: its sides are closed or periodic.
        diffusivities: D of each axis, in length^2 times the unit of delta.

    Collective.
    """
    periodic = tuple(grid.periodic(d) for d in range(grid.dim))
    box = Box(tuple(np.asarray(e) for e in grid.edges), periodic, grid.radial)
    found = box.variance(diffusivities, delta, grid.local_slice)
    if grid.mask is not None:
        found = found * masked_ratio(grid, box, grid.mask, diffusivities, delta)
        found = np.where(grid.active, found, 1.0)
    return np.asfortranarray(found)

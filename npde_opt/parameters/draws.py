"""Random numbers of parameters, the same on any number of ranks."""

from __future__ import annotations

import numpy as np

from npde_opt.draws import normal_numbers
from npde_opt.grids import Grid

ONE_STREAM = 1_000_000
"""Numbers up to which every rank draws all of them and keeps its own."""
WAVES = 4
"""Cosines an axis of a smooth random function; the shortest has a wave in two thirds of the box."""


def normal(seed: int, count: int, first: int, last: int) -> np.ndarray:
    """Numbers [first, last) of `count` independent standard normal ones: of one stream where all
    are few, else each rank draws its own (see npde_opt/draws.py)."""
    if count > ONE_STREAM:
        return normal_numbers([seed, count], np.arange(first, last))
    return np.random.default_rng([seed, count]).standard_normal(last)[first:]


def child(seed: int, number: int) -> int:
    """The seed of the numbered part of something: 0 has its own."""
    if number == 0:
        return seed
    return int(np.random.SeedSequence([seed, number]).generate_state(1)[0])


def waves(grid: Grid, seed: int) -> np.ndarray:
    """A smooth random function on the owned cells, of mean square 1 over the box:

        sum_k a_k / (1 + |k|^2) prod_i cos(pi k_i x_i),   a_k normal, k_i < WAVES,

    x_i from 0 to 1 along the box; whole waves along periodic axes.
    """
    numbers = np.indices((WAVES,) * grid.dim)
    size = 1.0 / (1.0 + (numbers**2).sum(axis=0))
    share = 0.5 ** (numbers > 0).sum(axis=0)
    total = np.random.default_rng([seed, grid.dim]).standard_normal(size.shape) * size
    total /= np.sqrt((size**2 * share).sum())
    for axis, (edges, own) in enumerate(zip(grid.edges, grid.local_slice, strict=True)):
        x = (grid.centers[axis][own] - edges[0]) / (edges[-1] - edges[0])
        half = 2 if grid.periodic(axis) else 1
        cosines = np.cos(np.pi * half * np.outer(x, np.arange(WAVES)))
        # The axis that is summed over is the first; what it becomes goes last.
        total = np.tensordot(total, cosines, axes=(0, 1))
    return total

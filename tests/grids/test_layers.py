"""Layers beside the own box that are under way while others work, beside those that are waited for
at once."""

from __future__ import annotations

import numpy as np
import pytest

from npde_opt.grids import Grid
from npde_opt.grids.layout import Layers, neighbours


@pytest.mark.parallel([1, 2, 3, 4])
@pytest.mark.parametrize("shape", [(12, 9), (3, 2), (5, 6, 7), (1, 4)])
@pytest.mark.parametrize("periodic", [False, True])
def test_layers_are_those_of_the_neighbours(shape, periodic):
    grid = Grid(shape)
    rng = np.random.default_rng(grid.comm.rank)
    every = [Layers(grid.layout, d, periodic, grid.comm) for d in range(grid.dim)]
    for _ in range(3):
        values = rng.standard_normal(grid.local_shape[::-1])
        given = values.copy()
        for layers in every:
            layers.post(values)
        values[...] = np.nan  # what is sent was copied
        for d, layers in enumerate(every):
            wanted = neighbours(given, grid.layout, d, periodic, grid.comm)
            for found, layer, end in zip(
                layers.finish(), wanted, layers.ends, strict=True
            ):
                assert values[end].shape == layer.shape
                np.testing.assert_array_equal(found, layer)


@pytest.mark.parallel([1, 2, 3, 4])
@pytest.mark.parametrize("shape", [(7,), (12, 9), (5, 6, 7)])
@pytest.mark.parametrize("ends", ["", "x", "xyz"])
def test_ghosts_of_a_field_are_those_of_columns(shape, ends):
    """Which are made in another way, all columns in one message."""
    axes = [a for a in "xyz"[: len(shape)] if a in ends]
    grid = Grid(shape, boundaries={a + s: "periodic" for a in axes for s in "-+"})
    whole = np.random.default_rng(1).standard_normal((2, *shape))
    own = np.asfortranarray(whole[(slice(None), *grid.local_slice)])
    for outside in (0.0, 1.5):
        wanted = grid.ghosted(own, outside)
        for column, given in zip(wanted, own, strict=True):
            found = grid.ghosted(np.asfortranarray(given), outside)
            np.testing.assert_array_equal(found, column)

"""Blocks of data: experiments that are observed alike are columns, seen by one product."""

import numpy as np
import pytest

from npde_opt.grids import Grid
from npde_opt.observations import Observations, at_points, snapshots, voxels

SHAPE = (7, 6)
MASK = np.ones(SHAPE, bool)
MASK[0, :3] = MASK[4, 4] = False
TIMES = np.array([0.0, 0.1, 0.3])
POINTS = np.array([[0.5, 0.1], [0.9, 0.9], [0.45, 0.6]])
COUNT = 6


def observations(quantity):
    """Experiments 0, 1, 2 and 5 are observed alike, so are 3 and 4."""
    grid = Grid(SHAPE, active=MASK)
    first = [
        at_points(grid, TIMES[1:], POINTS, quantity),
        snapshots(grid, TIMES[2:], quantity),
    ]
    second = [voxels(grid, TIMES[:2], [np.array([0, 0.4, 1])] * 2, quantity)]
    return Observations(grid, ("u", "v"), TIMES, [first] * 3 + [second] * 2 + [first])


def state(grid, seed, members):
    """[c, s, i, j] of the owned cells, samples fastest."""
    values = np.random.default_rng(seed).random((2, COUNT, *SHAPE))[:, list(members)]
    own = values[(..., *grid.local_slice)]
    return np.ascontiguousarray(own.transpose(0, 3, 2, 1)).transpose(0, 3, 2, 1)


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.parametrize("quantity", ["", "v", "exp(u*v)", "3"])
def test_columns_are_seen_as_experiments_are(quantity):
    observed = observations(quantity)
    assert [layout.members for layout in observed.layouts] == [(0, 1, 2, 5), (3, 4)]
    grid, members = observed.observers[0].grid, (0, 2, 3, 4, 5)
    u, du = state(grid, 0, members), state(grid, 1, members)
    data = [layout.noise(2) for layout in observed.layouts]
    found, expected = (
        [observed.zeros(), observed.zeros(), u * 0, u * 0] for _ in range(2)
    )
    for n in range(TIMES.size):
        observed.observe(members, n, u, found[0])
        observed.push(members, n, u, du, found[1])
        observed.pull(members, n, u, data, found[2])
        observed.second(members, n, u, du, data, found[3])
        for s, e in enumerate(members):
            own, change = np.array(u[:, s]), np.array(du[:, s])
            observed.observe([e], n, own, expected[0])
            observed.push([e], n, own, change, expected[1])
            observed.pull([e], n, own, data, expected[2][:, s])
            observed.second([e], n, own, change, data, expected[3][:, s])
    for a, b in zip(found[0] + found[1], expected[0] + expected[1], strict=True):
        np.testing.assert_allclose(a.values, b.values, rtol=1e-13)
        assert not a.values[:, 1].any() or 1 not in a.layout.members
    for a, b in zip(found[2:], expected[2:], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14)
    observed.destroy()


@pytest.mark.parallel([1, 2])
def test_a_part_has_its_columns_and_shares_the_observers():
    observed = observations("u")
    part = observed.over([1, 4, 5])
    assert [layout.members for layout in part.layouts] == [(1, 5), (4,)]
    assert part.observers == observed.observers
    assert [layout.members for layout in observed.over([3]).layouts] == [(3,)]
    assert observed.over([]).layouts == []
    grid = observed.observers[0].grid
    whole, own = observed.zeros(), part.zeros()
    u = state(grid, 0, range(COUNT))
    for n in range(TIMES.size):
        observed.observe(range(COUNT), n, u, whole)
        part.observe((1, 4, 5), n, state(grid, 0, (1, 4, 5)), own)
    everything, some = observed.by_experiment(whole), part.by_experiment(own)
    assert list(everything) == list(range(COUNT)) and list(some) == [1, 4, 5]
    for e, values in some.items():
        np.testing.assert_allclose(values, everything[e], rtol=1e-13)
    part.destroy()
    observed.observe([0], 1, np.array(u[:, 0]), whole)
    observed.destroy()


@pytest.mark.parallel([1, 2, 3])
def test_a_block_is_gathered_as_it_was_given():
    layout = observations("u").layouts[0]
    values = np.random.default_rng(0).standard_normal((layout.size, layout.columns))
    block = layout.block(values)
    np.testing.assert_array_equal(block.gather(), values)
    assert block.dot(block) == pytest.approx((values**2).sum(), rel=1e-13)
    twice = block.copy()
    twice.axpy(1.0, block)
    block.scale(2.0)
    np.testing.assert_array_equal(twice.values, block.values)

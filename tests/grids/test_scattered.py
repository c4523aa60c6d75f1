"""Arrays in boxes: read anywhere from any rank, masks halved, boxes of equal numbers of cells."""

from types import SimpleNamespace

import numpy as np
import pytest
from mpi4py import MPI

from npde_opt.errors import InputError
from npde_opt.grids import Grid
from npde_opt.grids.cuts import (
    NARROWEST,
    SHARE,
    arrangements,
    balanced,
    compact,
    widest,
)
from npde_opt.grids.numbering import Numbering
from npde_opt.grids.scattered import Mask, Scattered, halved
from npde_opt.grids.thinned import Thinned

SHAPE = (9, 8, 7)


def ball(shape, radius=1.0):
    x = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    return sum(c**2 for c in x) < radius**2


@pytest.mark.parallel([1, 2, 3, 8])
def test_every_rank_reads_what_it_asks_for():
    comm, whole = MPI.COMM_WORLD, np.arange(np.prod(SHAPE)).reshape(SHAPE)
    spread = Scattered.of(comm, Grid(SHAPE).layout, whole)
    rng = np.random.default_rng(comm.rank)
    for count in (5, 30, 0):
        # With repetitions; the last rank asks for nothing.
        count = 0 if comm.rank == comm.size - 1 and comm.size > 1 else count
        cells = [rng.integers(0, n, count) for n in SHAPE]
        np.testing.assert_array_equal(spread.at(cells), whole[np.ix_(*cells)])
    np.testing.assert_array_equal(spread.whole(), whole)


@pytest.mark.parallel([1, 3])
def test_a_pair_is_active_where_one_of_both_is():
    active = np.random.default_rng(1).random(SHAPE) < 0.3
    mask = halved(Grid(SHAPE, active=active).mask, [True, False, True])
    expected = np.logical_or.reduceat(active, np.arange(0, 9, 2), axis=0)
    expected = np.logical_or.reduceat(expected, np.arange(0, 7, 2), axis=2)
    np.testing.assert_array_equal(mask.whole(), expected)
    assert mask.size == expected.sum()


@pytest.mark.parallel([1, 2, 3, 8])
def test_unknowns_are_numbered_box_by_box():
    grid = Grid(SHAPE, active=ball(SHAPE))
    numbers = Numbering(grid.layout, grid.mask).at(
        [np.arange(-1, n + 1) for n in SHAPE]
    )
    inner = numbers[1:-1, 1:-1, 1:-1]
    assert (numbers >= 0).sum() == (inner >= 0).sum() == grid.active_size
    np.testing.assert_array_equal(inner >= 0, ball(SHAPE))
    own = inner[grid.local_slice].ravel(order="F")
    own = own[own >= 0]
    first = grid.comm.scan(own.size) - own.size
    np.testing.assert_array_equal(own, np.arange(first, first + own.size))


@pytest.mark.parametrize("ranks", [2, 6, 16])
def test_boxes_have_about_equal_numbers_of_active_cells(ranks):
    active = ball((40, 36, 30))
    cut = balanced(Mask.alone(active), ranks)
    sums = np.zeros([len(c) for c in cut.counts], int)
    for place in np.ndindex(*sums.shape):
        box = tuple(slice(e[p], e[p + 1]) for e, p in zip(cut.ends, place, strict=True))
        sums[place] = active[box].sum()
    assert sums.size == ranks and cut.fullest == sums.max()
    assert sums.max() <= SHARE * active.sum() / ranks
    for ends, n in zip(cut.ends, active.shape, strict=True):
        assert ends[0] == 0 and ends[-1] == n and (np.diff(ends) >= NARROWEST).all()


@pytest.mark.parametrize(
    "ranks, factor", [(216, 2.0), (216, 2.3), (343, 2.0), (343, 2.2)]
)
def test_boxes_without_active_cells_are_limited(ranks, factor):
    """A rank of a corner has arrays of its box, though hardly a cell is active."""
    active = ball((96, 96, 96), radius=0.2)
    mean = active.size / ranks
    cut = balanced(Mask.alone(active), ranks, largest=factor**3 * mean)
    free = balanced(Mask.alone(active), ranks)
    longest = [max(c) for c in cut.counts]
    processes = [len(c) for c in cut.counts]
    limits = widest(active.shape, processes, factor**3 * mean)
    assert all(n <= limit for n, limit in zip(longest, limits, strict=True))
    assert np.prod(limits) <= 1.2 * factor**3 * mean
    assert np.prod([max(c) for c in free.counts]) > 1.5 * np.prod(longest)
    assert [sum(c) for c in cut.counts] == list(active.shape)
    assert free.fullest <= cut.fullest


def test_slabs_are_not_looked_at():
    found = compact((100, 100, 100), 64)
    assert found[0] == (4, 4, 4) and (2, 4, 8) in found
    assert not [p for p in found if max(p) > 16]
    assert compact((3, 2), 5) == []


@pytest.mark.parallel([2, 3, 8])
def test_grids_are_coarsened_as_far_as_ranks_have_cells():
    """It ended in an error on more ranks than the coarsest grid can be cut into."""
    ranks = MPI.COMM_WORLD.size
    grid = Grid((2 * ranks,))
    coarse = grid.coarsen(1)
    assert coarse.shape == (ranks,) and coarse.coarsen(1) is None
    square = Grid((16, 16))
    while (coarse := square.coarsen(1)) is not None:
        square = coarse
        assert square.layout.local_size
    assert ranks <= square.size < 16 * 16


@pytest.mark.parallel([3])
def test_ranks_that_a_grid_cannot_be_cut_into_are_told_a_number_that_it_can():
    allowed = r"a number that grid \(2, 2\) can be cut into, such as 2"
    with pytest.raises(InputError, match=f"ranks: got 3; allowed: {allowed}"):
        Grid((2, 2))


def test_ranks_are_arranged_with_little_surface():
    assert arrangements((100, 10), 4)[0] == (4, 1)
    assert arrangements((10, 10, 10), 8)[0] == (2, 2, 2)
    assert arrangements((3, 2), 5) == []


@pytest.mark.parallel([2, 3, 8])
def test_a_grid_takes_balanced_boxes_on_any_ranks():
    active = ball((24, 20, 18))
    grid = Grid(active.shape, active=active)
    shares = grid.comm.allgather(grid.active_local_size)
    assert sum(shares) == grid.active_size == active.sum()
    assert max(shares) <= SHARE * np.mean(shares)
    np.testing.assert_array_equal(grid.active, active[grid.local_slice])
    padded = np.pad(active, 1, mode="edge")
    beside = tuple(slice(s.start, s.stop + 2) for s in grid.local_slice)
    np.testing.assert_array_equal(grid.active_beside, padded[beside])


@pytest.mark.parallel([1, 2, 3])
def test_figures_get_means_of_few_cells():
    values = np.random.default_rng(0).normal(size=(2, *SHAPE))
    active = values[0] > -0.5
    active[:2, :2, :2] = False  # a wider cell without an active one
    grid = Grid(SHAPE, active=active)
    thinned = Thinned(grid, most=80)
    assert [e.size - 1 for e in thinned.edges] == [5, 4, 4]
    found = thinned.gathered(values[(slice(None), *grid.local_slice)])
    shown = thinned.gathered(grid.active)
    if grid.comm.rank:
        assert found is None and shown is None
        return
    for at in np.ndindex(5, 4, 4):
        block = tuple(slice(2 * i, 2 * i + 2) for i in at)
        own = active[block]
        there = values[(slice(None), *block)]
        mean = there[:, own].mean(axis=1) if own.any() else there.mean(axis=(1, 2, 3))
        np.testing.assert_allclose(found[(slice(None), *at)], mean, rtol=1e-13)
        assert shown[at] == own.any()


@pytest.mark.parallel([1, 3])
def test_what_comes_to_one_rank_is_bounded(monkeypatch):
    """No more than `most` values, and what ranks share of wider cells twice."""
    grid = Grid((40, 40))
    sizes = []

    class Counted:
        def __getattr__(self, name):
            return getattr(grid.comm, name)

        def gather(self, sent, root):
            sizes.append(sent[1].size)
            return grid.comm.gather(sent, root=root)

    thinned = Thinned(grid, most=100)
    thinned.grid = SimpleNamespace(
        **{k: getattr(grid, k) for k in ("dim", "start", "stop", "shape")},
        active=grid.active,
        local_shape=grid.local_shape,
        comm=Counted(),
    )
    found = thinned.gathered(np.ones(grid.local_shape))
    totals = [grid.comm.allreduce(n) for n in sizes]
    assert totals and max(totals) <= 100 + 2 * 10 * (grid.comm.size - 1)
    if found is not None:
        np.testing.assert_array_equal(found, np.ones((10, 10)))

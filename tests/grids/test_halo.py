"""Ghosts of any width beside those of the whole array."""

import numpy as np
import pytest
from mpi4py import MPI

from npde_opt.grids import Grid
from npde_opt.grids.halo import Ghosts, with_halo


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.parametrize(
    "shape, periodic, width, lead",
    [
        ((7,), "x", 3, ()),
        ((5,), "", 4, (2, 3)),
        ((6, 5), "", 1, ()),
        ((6, 5), "y", (2, 3), (3,)),
        ((4, 7), "xy", (5, 0), (2, 2)),
        ((4, 3, 5), "xz", (1, 2, 6), (2,)),
    ],
)
def test_ghosts_are_those_of_the_whole_array(shape, periodic, width, lead):
    """Corners too, widths beyond a rank's cells and beyond all of an axis."""
    sides = {axis + side: "periodic" for axis in periodic for side in "-+"}
    grid = Grid(shape, boundaries=sides, comm=MPI.COMM_WORLD)
    widths = (width,) * grid.dim if isinstance(width, int) else width
    whole = np.random.default_rng(0).random((*lead, *shape))
    expected = whole
    for d, w in enumerate(widths):
        pad = [(0, 0)] * whole.ndim
        pad[len(lead) + d] = (w, w)
        wraps = "xyz"[d] in periodic
        expected = np.pad(expected, pad, "wrap") if wraps else np.pad(expected, pad)
    own = np.asfortranarray(whole[(..., *grid.local_slice)])
    found = with_halo(grid, own, width)
    box = [
        slice(s.start, s.stop + 2 * w)
        for s, w in zip(grid.local_slice, widths, strict=True)
    ]
    assert np.array_equal(found, expected[(..., *box)])
    assert found.flags.f_contiguous


@pytest.mark.parallel([1, 2, 3])
def test_the_precision_and_what_is_outside_are_kept():
    grid = Grid((5, 4), comm=MPI.COMM_WORLD)
    found = with_halo(grid, np.zeros(grid.local_shape, np.float32), 2, outside=-1.0)
    assert found.dtype == np.float32
    whole = np.pad(np.zeros((5, 4)), 2, constant_values=-1.0)
    box = tuple(slice(s.start, s.stop + 4) for s in grid.local_slice)
    assert np.array_equal(found, whole[box])


@pytest.mark.parallel([2, 3])
def test_messages_are_waited_for_where_they_are_read():
    """Who reads own cells does not wait; who reads nothing leaves no message behind."""
    comm = MPI.COMM_WORLD
    grid = Grid((1, 3 * comm.size), comm=comm)
    assert grid.layout.processes == (1, comm.size)
    rows, first, n = np.arange(3.0 * comm.size)[:, None], grid.start[1], 3
    dropped = Ghosts(grid, -1 - rows[first : first + n], (0, 1), nearest=(1,))
    ghosts = Ghosts(grid, rows[first : first + n], (0, 1), nearest=(1,))
    lower, upper = ((0, 1, 1), (0, 1, 1)), ((4, 1, 1), (0, 1, 1))
    assert not ghosts.waits(((1, 3, 1), (0, 1, 1)))
    assert ghosts.waits(lower) == (comm.rank > 0)
    assert ghosts.waits(upper) == (comm.rank < comm.size - 1)
    own = np.empty((3, 1))
    ghosts.read(own, (), ((1, 3, 1), (0, 1, 1)))
    assert not ghosts.finished
    del dropped
    found = np.empty((5, 1))
    ghosts.read(found, (), ghosts.whole())
    wanted = np.clip(np.arange(first - 1, first + 4), 0, len(rows) - 1)
    assert ghosts.finished and np.array_equal(found[:, 0], wanted)

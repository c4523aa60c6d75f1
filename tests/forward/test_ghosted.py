"""States that have their ghosts in memory."""

import numpy as np
import pytest
from mpi4py import MPI

from npde_opt.forward.ghosted import LINE, Store
from npde_opt.grids import Grid

COMM = MPI.COMM_WORLD
SIDES = {
    "neumann": {},
    "periodic": {"x-": "periodic", "x+": "periodic"},
    "both": {f"{a}{s}": "periodic" for a in "xy" for s in "-+"},
}
MODES = {
    "neumann": ("edge", "edge"),
    "periodic": ("wrap", "edge"),
    "both": ("wrap", "wrap"),
}


def drawn(grid, lead, dtype=float):
    """A state that is the same on any number of ranks."""
    whole = np.random.default_rng(0).standard_normal((*lead, *grid.shape)).astype(dtype)
    return whole, whole[(..., *grid.local_slice)].copy()


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.parametrize("sides", SIDES)
@pytest.mark.parametrize("lead", [(2,), (2, 3)])
def test_ghosts_are_the_neighbours(sides, lead):
    grid = Grid((7, 6), boundaries=SIDES[sides], comm=COMM)
    store = Store.of(grid)
    whole, own = drawn(grid, lead)
    state = store.state(own)
    state[...] = own
    found = store.filled(state)
    assert np.shares_memory(found, state)
    wanted = whole
    for axis, mode in zip((-2, -1), MODES[sides], strict=True):
        ends = [(0, 0)] * whole.ndim
        ends[axis] = (1, 1)
        wanted = np.pad(wanted, ends, mode=mode)
    box = [slice(a, b + 2) for a, b in zip(grid.start, grid.stop, strict=True)]
    part = wanted[(..., *box)]
    logical = found.transpose(0, *range(found.ndim - 1, 0, -1))
    inside = (slice(None),) * len(lead)
    for cross in ((slice(None), slice(1, -1)), (slice(1, -1), slice(None))):
        assert np.array_equal(logical[(*inside, *cross)], part[(*inside, *cross)])


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_a_state_of_its_own_memory_is_copied(dtype):
    grid = Grid((5, 4), comm=MPI.COMM_SELF)
    store = Store.of(grid)
    _, own = drawn(grid, (1,), dtype)
    found = store.around(own)
    assert not np.shares_memory(found, own) and found.dtype == dtype
    assert np.array_equal(found[:, 1:-1, 1:-1].transpose(0, 2, 1), own)


def test_memory_is_used_again_when_nobody_looks():
    grid = Grid((5, 4), comm=MPI.COMM_SELF)
    store = Store.of(grid)
    like = np.zeros((1, 5, 4))
    state = store.state(like)
    state[...] = 1.0
    part, address = state[0], state.__array_interface__["data"][0]
    del state
    # A part of the state is still looked at.
    other = store.state(like)
    assert other.__array_interface__["data"][0] != address
    other[...] = 2.0
    assert np.all(part == 1.0)
    del part
    again = [store.state(like) for _ in range(2)]
    assert address in [s.__array_interface__["data"][0] for s in again]


def test_a_view_of_a_part_is_no_state():
    grid = Grid((5, 4), comm=MPI.COMM_SELF)
    store = Store.of(grid)
    pair = store.state(np.zeros((2, 5, 4)))
    pair[...] = np.arange(40).reshape(2, 5, 4)
    found = store.around(pair[1:])
    assert not np.shares_memory(found, pair)
    assert np.array_equal(found[0, 1:-1, 1:-1].T, pair[1])


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("cells", [3, 62, 126, 130, 254, 510])
def test_long_rows_begin_with_a_line_of_the_cache(cells, dtype):
    grid = Grid((cells, 3), comm=MPI.COMM_SELF)
    store = Store.of(grid)
    _, own = drawn(grid, (2,), dtype)
    whole = store.around(own)
    ghosted = store.ghosted(whole, columns=False)
    assert ghosted.shape == (2, 5, cells + 2)
    assert np.array_equal(ghosted[:, 1:-1, 1:-1].transpose(0, 2, 1), own)
    if (cells + 2) * whole.itemsize <= 7 * LINE:
        assert whole.shape == ghosted.shape
        return
    for row in whole.reshape(-1, whole.shape[-1]):
        assert row[1:].__array_interface__["data"][0] % LINE == 0
    assert whole.strides[1] // LINE % 2 == 1
    kept, _ = store.rows(own, 2, kept=True)
    assert (kept.shape[-1] > cells + 2) == (cells == 510 and dtype == np.float64)
    assert cells + 2 <= whole.shape[-1] < cells + 2 + 2 * LINE // whole.itemsize

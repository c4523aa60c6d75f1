"""Pockets of active cells: found, kept, and refused where nothing fixes the solution in them."""

import numpy as np
import pytest
from mpi4py import MPI

from npde_opt.errors import InputError
from npde_opt.grids import Grid
from npde_opt.grids.pockets import check_fixed, largest_pocket, pockets
from npde_opt.grids.scattered import Mask

SPLIT = np.ones((6, 5), bool)
SPLIT[3] = False


def held(grid, *cells):
    out = np.zeros(grid.shape, bool)
    for cell in cells:
        out[cell] = True
    return out[grid.local_slice]


def found(mask, periodic=()):
    """Of the whole mask: how many, and the numbers of the first cells of the cells' pockets."""
    grid = Grid(mask.shape, active=mask)
    parts = pockets(grid.mask, periodic)
    first = np.append(-1, parts.first)[parts.labels].astype(float)
    return parts.count, MPI.COMM_WORLD.bcast(grid.to_natural(first), root=0)


def serial(mask, periodic=()):
    """By one rank, cell by cell."""
    first, count = np.full(mask.shape, -1), 0
    for start in map(tuple, np.argwhere(mask)):
        if first[start] >= 0:
            continue
        count += 1
        number, queue = np.ravel_multi_index(start, mask.shape), [start]
        first[start] = number
        while queue:
            cell = queue.pop()
            for d, n in enumerate(mask.shape):
                for step in (-1, 1):
                    i = cell[d] + step
                    if d < len(periodic) and periodic[d]:
                        i %= n
                    beside = (*cell[:d], i, *cell[d + 1 :])
                    if 0 <= i < n and mask[beside] and first[beside] < 0:
                        first[beside] = number
                        queue.append(beside)
    return count, first


@pytest.mark.parallel([1, 2, 3, 8])
@pytest.mark.parametrize("share", [0.3, 0.5, 0.62, 0.8])
@pytest.mark.parametrize("periodic", [(), (True, False, True)])
def test_pockets_are_those_of_one_rank(share, periodic):
    mask = np.random.default_rng(3).random((7, 9, 6)) < share
    count, first = found(mask, periodic)
    expected, numbers = serial(mask, periodic)
    assert count == expected
    np.testing.assert_array_equal(first, numbers)


def test_pockets_are_joined_by_faces_only():
    assert found(np.array([[1, 0], [0, 1]], bool))[0] == 2
    largest = largest_pocket(Mask.alone(SPLIT)).owned
    assert largest.sum() == 15 and largest[0].all()


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.parametrize("share", [0.3, 0.6])
def test_the_largest_pocket_is_kept(share):
    mask = np.random.default_rng(4).random((12, 11)) < share
    grid = Grid(mask.shape, active=mask)
    whole = largest_pocket(grid.mask).whole()
    _, first = serial(mask)
    numbers, sizes = np.unique(first[mask], return_counts=True)
    np.testing.assert_array_equal(whole, first == numbers[np.argmax(sizes)])


def test_periodic_sides_join():
    assert found(SPLIT, [True, False])[0] == 1
    assert found(SPLIT, [False, True])[0] == 2


@pytest.mark.parallel([1, 2, 3])
def test_each_pocket_needs_something_fixed():
    grid = Grid((6, 5), active=SPLIT, boundaries={"x-": "dirichlet"})
    with pytest.raises(
        InputError,
        match=r"1 of 2 separate parts \(10 of 25 cells, the first at cell \[4, 0\]\)",
    ):
        check_fixed(grid, held(grid))
    check_fixed(grid, held(grid, (5, 4)))
    check_fixed(grid, True)
    with pytest.raises(InputError, match="1 of 2"):
        check_fixed(grid, held(grid, (3, 0)))
    check_fixed(
        Grid(
            (6, 5),
            active=SPLIT,
            boundaries={"x-": "periodic", "x+": "periodic", "y-": "dirichlet"},
        ),
        held(grid),
    )


@pytest.mark.parallel([1, 2])
def test_a_side_without_active_cells_fixes_nothing():
    grid = Grid(
        (6, 5),
        active=np.roll(SPLIT, -3, axis=0) & (np.arange(6) < 5)[:, None],
        boundaries={"x+": "dirichlet"},
    )
    with pytest.raises(InputError, match="1 of 1 separate parts"):
        check_fixed(grid, held(grid))
    with pytest.raises(InputError, match="no Dirichlet or Robin side and no reaction"):
        check_fixed(Grid((6, 5)), held(Grid((6, 5))))

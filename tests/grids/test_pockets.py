"""Pockets of active cells: found, kept, and refused where nothing fixes the solution in them."""

import numpy as np
import pytest

from npde_opt.errors import InputError
from npde_opt.grids import Grid
from npde_opt.grids.pockets import check_fixed, label_pockets, largest_pocket

SPLIT = np.ones((6, 5), bool)
SPLIT[3] = False


def held(grid, *cells):
    out = np.zeros(grid.shape, bool)
    for cell in cells:
        out[cell] = True
    return out[grid.local_slice]


def test_pockets_are_joined_by_faces_only():
    mask = np.array([[1, 0], [0, 1]], bool)
    assert label_pockets(mask)[1] == 2
    assert label_pockets(np.ones((2, 2)))[1] == 1
    assert largest_pocket(SPLIT).sum() == 15 and largest_pocket(SPLIT)[0].all()


def test_periodic_sides_join():
    labels, count = label_pockets(SPLIT, [True, False])
    assert count == 1 and labels[0, 0] == labels[5, 0] == 1 and labels[3, 0] == 0
    assert label_pockets(SPLIT, [False, True])[1] == 2


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

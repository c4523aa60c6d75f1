"""Functionals are put together, picked and subtracted as rows of a matrix, on all ranks alike."""

import numpy as np
import pytest

from npde_opt.errors import InputError
from npde_opt.grids import Grid
from npde_opt.observations import (
    ball_mean,
    box_mean,
    cell_sum,
    difference,
    from_functionals,
    integral,
    points_at,
    region_means,
    side_mean,
    together,
    voxel_means,
)

MASK = np.ones((6, 8), bool)
MASK[:2, :2] = MASK[4, 5] = False
POINTS = np.array([[0.5, 0.5], [0.9, 0.1], [0.1, 0.9], [0.6, 0.7]])


def dense(grid, functionals):
    """The matrix of functionals, cells in PETSc's order, on every rank."""
    B = from_functionals(grid, (), functionals).matrix
    starts, columns, values = B.getValuesCSR()
    own = np.zeros((starts.size - 1, B.getSize()[1]))
    own[np.repeat(np.arange(starts.size - 1), np.diff(starts)), columns] = values
    return np.concatenate(grid.comm.allgather(own))


def of_all_kinds(grid):
    """Several functionals a kind."""
    halves = np.add.outer(np.arange(6) // 3, 2 * (np.arange(8) // 4))
    edges = [np.array([0.0, 0.45, 1.0]), np.array([0.0, 0.55, 1.0])]
    return {
        "points": points_at(grid, POINTS),
        "electrodes": together(
            [
                cell_sum(
                    grid,
                    [np.array([5, 5]), np.array([k, k + 1])],
                    np.array([0.25, 0.75]),
                )
                for k in range(4)
            ]
        ),
        "sides": together([side_mean(grid, side) for side in ("x-", "x+", "y-", "y+")]),
        "boxes": together(
            [box_mean(grid, (0.1 * k, 0.4), (1.0, 0.9)) for k in range(4)]
        ),
        "balls": together([ball_mean(grid, x, 0.2) for x in POINTS]),
        "integrals": together(
            [integral(grid, np.full((6, 8), 1.0 + k)) for k in range(4)]
        ),
        "regions": region_means(grid, halves),
        "voxels": voxel_means(grid, edges),
    }


KINDS = [
    "points",
    "electrodes",
    "sides",
    "boxes",
    "balls",
    "integrals",
    "regions",
    "voxels",
]


@pytest.mark.parallel([1, 2, 3])
def test_differences_between_places_of_any_two_kinds():
    grid = Grid((6, 8), active=MASK)
    found = of_all_kinds(grid)
    matrices = {kind: dense(grid, found[kind]) for kind in KINDS}
    for a in KINDS:
        for b in KINDS:
            expected = matrices[a] - matrices[b]
            made = dense(grid, difference(found[a], found[b]))
            np.testing.assert_allclose(made, expected, atol=1e-15)
            reference = difference(found[a], found[b][2])
            np.testing.assert_allclose(
                dense(grid, reference), matrices[a] - matrices[b][2], atol=1e-15
            )
            reference = difference(found[a][1], found[b])
            np.testing.assert_allclose(
                dense(grid, reference), matrices[a][1] - matrices[b], atol=1e-15
            )


@pytest.mark.parallel([1, 2, 3])
def test_four_terminal_measurements_are_differences_of_picked_electrodes():
    grid = Grid((6, 8), active=MASK)
    electrodes = of_all_kinds(grid)["electrodes"]
    pairs = np.array([[0, 1], [3, 1], [0, 1], [2, 0]])
    seen = dense(grid, electrodes)
    made = difference(electrodes[pairs[:, 0]], electrodes[pairs[:, 1]])
    np.testing.assert_allclose(
        dense(grid, made), seen[pairs[:, 0]] - seen[pairs[:, 1]], atol=1e-15
    )
    np.testing.assert_array_equal(dense(grid, electrodes[-1]), seen[-1:])
    np.testing.assert_array_equal(dense(grid, electrodes[1:3]), seen[1:3])
    np.testing.assert_array_equal(
        dense(grid, electrodes[np.array([True, False, False, True])]), seen[[0, 3]]
    )


@pytest.mark.parallel([1, 2, 3])
def test_together_they_are_in_the_order_given():
    grid = Grid((6, 8), active=MASK)
    found = of_all_kinds(grid)
    parts = [found[kind] for kind in KINDS]
    expected = np.concatenate([dense(grid, part) for part in parts])
    np.testing.assert_allclose(dense(grid, together(parts)), expected, atol=1e-15)
    np.testing.assert_allclose(dense(grid, parts), expected, atol=1e-15)
    assert together([]).size == 0


@pytest.mark.parallel([1, 2])
def test_a_difference_with_an_unseen_place_is_unseen():
    grid = Grid((6, 8), active=MASK)
    voxels = voxel_means(grid, grid.edges)
    hole = np.flatnonzero(~MASK.ravel(order="F"))
    made = difference(voxels, points_at(grid, POINTS[:1]))
    np.testing.assert_array_equal(made.unseen, hole)
    np.testing.assert_array_equal(np.flatnonzero(~dense(grid, made).any(axis=1)), hole)
    assert difference(
        voxels[hole[:2]], points_at(grid, POINTS[:2])
    ).unseen.tolist() == [0, 1]
    both = together([points_at(grid, POINTS), voxels])
    np.testing.assert_array_equal(both.every_unseen(), 4 + hole)


def test_what_cannot_be_subtracted_is_named():
    grid = Grid((6, 8))
    places = points_at(grid, POINTS)
    with pytest.raises(
        InputError, match=r"pairs: got 4 places less 2; allowed: as many"
    ):
        difference(places, places[:2], "pairs")
    with pytest.raises(InputError, match="observation: got nothing observed"):
        from_functionals(grid, (), [])

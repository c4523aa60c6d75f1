"""Means and integrals are exact where they should be, and the same on any number of ranks."""

import numpy as np
import pytest

from npde_opt.errors import InputError
from npde_opt.grids import Grid
from npde_opt.observations import (
    ball_mean,
    box_mean,
    cell_sum,
    from_functionals,
    integral,
    points_at,
    region_means,
    side_mean,
    voxel_means,
)

EDGES = [np.array([0.0, 0.1, 0.25, 0.5, 0.7, 1.0]), np.linspace(0, 2, 8)]
HOLE = np.ones((5, 7), bool)
HOLE[2, 3] = HOLE[0, 0] = False


def linear(x, y):
    return 3 + 2 * x - 5 * y


def observe(grid, functionals, f=linear):
    B = from_functionals(grid, (), functionals).matrix
    u, d = grid.create_scalar(), B.createVecLeft()
    grid.view(u)[...] = grid.evaluate(f)
    B.mult(u, d)
    return np.concatenate(grid.comm.allgather(d.getArray()))


@pytest.mark.parallel([1, 2, 3])
def test_means_of_a_linear_function():
    grid = Grid((5, 7), edges=EDGES)
    places = [
        points_at(grid, [[0.3, 1.1]]),
        box_mean(grid, (0.05, 0.3), (0.6, 1.9)),
        side_mean(grid, "x-"),
        side_mean(grid, "x+"),
        side_mean(grid, "y+", (0.2, 0), (0.9, 2)),
        ball_mean(grid, (0.5, 1.0), 0.3),
    ]
    middles = [(0.3, 1.1), (0.325, 1.1), (0, 1), (1, 1), (0.55, 2), (0.5, 1.0)]
    found, expected = observe(grid, places), [linear(*x) for x in middles]
    assert found[:-1] == pytest.approx(expected[:-1], rel=1e-12)
    assert found[-1] == pytest.approx(expected[-1], rel=2e-2)


@pytest.mark.parallel([1, 2])
def test_integrals_leave_inactive_cells_out():
    grid = Grid((5, 7), edges=EDGES, active=HOLE)
    area = np.multiply.outer(np.diff(EDGES[0]), np.diff(EDGES[1]))
    density = np.random.default_rng(0).random(grid.shape)
    u = linear(*np.meshgrid(*grid.centers, indexing="ij"))
    found = observe(
        grid, [integral(grid, density), integral(grid, np.ones(grid.shape))]
    )
    expected = [(density * u * area)[HOLE].sum(), (u * area)[HOLE].sum()]
    assert found == pytest.approx(expected, rel=1e-13)


@pytest.mark.parallel([1, 3])
def test_means_of_one_are_one_beside_inactive_cells():
    grid = Grid((5, 7), edges=EDGES, active=HOLE)
    places = [
        box_mean(grid, (0.2, 0.5), (0.6, 1.5)),
        ball_mean(grid, (0.3, 0.7), 0.35),
        side_mean(grid, "x-"),
    ]
    assert observe(grid, places, lambda x, y: 1 + 0 * x) == pytest.approx(
        1.0, rel=1e-13
    )


def test_a_ball_is_round():
    """Mean of r^2 over a disc is R^2/2, to second order in the cells."""
    errors = []
    for n in (16, 32):
        grid = Grid((n, n))
        ball = ball_mean(grid, (0.47, 0.52), 0.31)
        found = observe(grid, [ball], lambda x, y: (x - 0.47) ** 2 + (y - 0.52) ** 2)
        errors.append(abs(found[0] - 0.31**2 / 2))
    assert errors[0] < 2e-3 and errors[1] < 6e-4


@pytest.mark.parallel([1, 2, 3])
def test_thousands_of_points_are_one_set_of_functionals():
    grid = Grid((5, 7), edges=EDGES)
    points = np.random.default_rng(0).random((6000, 2)) * (1, 2)
    places = points_at(grid, points)
    assert len(places) == 6000
    assert observe(grid, [places]) == pytest.approx(
        linear(*points.T), rel=1e-12, abs=1e-12
    )
    assert sum(grid.comm.allgather(places.rows.size)) <= 4 * 6000


@pytest.mark.parallel([1, 2, 3])
def test_sums_over_cells_count_each_cell_once():
    grid = Grid((5, 7), edges=EDGES, active=HOLE)
    cells = [np.array([0, 1, 4, 1]), np.array([1, 1, 6, 1])]
    weights = np.array([1.0, 2.0, 4.0, 8.0])
    values = [
        linear(*[c[i] for c, i in zip(grid.centers, cell, strict=True)])
        for cell in zip(*cells, strict=True)
    ]
    found = observe(grid, [cell_sum(grid, cells, weights)])
    assert found == pytest.approx([weights @ values], rel=1e-13)


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.parametrize("active", [None, HOLE])
def test_means_over_regions_and_voxels_of_another_grid(active):
    grid = Grid((5, 7), edges=EDGES, active=active)
    on = np.ones((5, 7)) if active is None else active.astype(float)
    volume = np.multiply.outer(*[np.diff(e) for e in EDGES]) * on
    u = linear(*np.meshgrid(*grid.centers, indexing="ij"))
    regions = np.add.outer(np.arange(5) // 3, 2 * (np.arange(7) // 5))
    found = observe(grid, [region_means(grid, regions)])
    expected = [
        (u * volume)[regions == k].sum() / volume[regions == k].sum() for k in range(4)
    ]
    assert found == pytest.approx(expected, rel=1e-13)
    edges = [np.array([0, 0.05, 0.3, 0.6, 1.0]), np.array([0, 0.5, 0.9, 2.0])]
    shares = [
        np.clip(
            np.minimum(a[1:, None], b[1:]) - np.maximum(a[:-1, None], b[:-1]), 0, None
        )
        / np.diff(b)
        for a, b in zip(edges, EDGES, strict=True)
    ]
    parts = [shares[0] @ (f * volume) @ shares[1].T for f in (u, 1.0)]
    means = voxel_means(grid, edges)
    assert means.every_unseen().tolist() == []
    found = observe(grid, [means])
    assert found == pytest.approx((parts[0] / parts[1]).ravel(order="F"), rel=1e-12)


@pytest.mark.parallel([1, 2, 3])
def test_voxels_and_regions_without_an_active_cell_are_unseen():
    grid = Grid((5, 7), edges=EDGES, active=HOLE)
    own = voxel_means(grid, EDGES)
    holes = np.flatnonzero(~HOLE.ravel(order="F"))
    assert own.every_unseen().tolist() == holes.tolist()
    assert not np.isin(own.rows, holes).any()
    regions = region_means(grid, np.where(HOLE, 0, 1), unseen=True, least=3)
    assert regions.size == 3 and regions.every_unseen().tolist() == [1, 2]


def test_a_side_of_three_dimensions():
    grid = Grid((4, 5, 6), extent=(1, 2, 3))
    part = side_mean(grid, "z+", (0.1, 0.2, 0), (0.5, 0.8, 3))
    found = observe(grid, [part], lambda x, y, z: x + 10 * y + 100 * z)
    assert found == pytest.approx([0.3 + 5 + 300], rel=1e-12)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda g: box_mean(g, (0.5, 0), (0.2, 1), "boxes[0]"), "boxes[0], x"),
        (lambda g: box_mean(g, (0, 0), (1.2, 1), "boxes[0]"), "0 to 1"),
        (lambda g: box_mean(g, (0,), (1, 1), "boxes[0]"), "2 coordinates"),
        (
            lambda g: box_mean(g, (0.26, 0.9), (0.3, 1.1), "boxes[0]"),
            "without active cells",
        ),
        (lambda g: ball_mean(g, (1.5, 0.5), 0.1, "balls[0]"), "balls[0].at"),
        (lambda g: ball_mean(g, (0.5, 0.5), -1, "balls[0]"), "positive length"),
        (lambda g: side_mean(g, "w+", field="sides[0]"), "sides[0].side"),
        (lambda g: side_mean(g, "y-", field="sides[0]"), "dirichlet"),
        (lambda g: points_at(g, [[0.3, 1.0]], "points"), "points[0]"),
        (lambda g: points_at(g, [[0.3, 0.1, 0.2]], "points"), "(n, 2)"),
        (
            lambda g: region_means(g, np.zeros((5, 6), int), field="regions"),
            "shape (5, 7)",
        ),
        (
            lambda g: region_means(g, np.where(HOLE, 0, 1), field="regions"),
            "region 1 without an",
        ),
    ],
)
def test_what_cannot_be_observed_is_named(make, text):
    grid = Grid((5, 7), edges=EDGES, active=HOLE, boundaries={"y-": "dirichlet"})
    with pytest.raises(InputError) as error:
        make(grid)
    assert text in str(error.value)

"""Observations: means and integrals are exact where they should be, and the same on any number of ranks."""

import numpy as np
import pytest

from npde_opt.errors import InputError
from npde_opt.grids import Grid
from npde_opt.observations import (
    ball_mean,
    box_mean,
    integral,
    observation_matrix,
    point_values,
    side_mean,
)

EDGES = [np.array([0.0, 0.1, 0.25, 0.5, 0.7, 1.0]), np.linspace(0, 2, 8)]
HOLE = np.ones((5, 7), bool)
HOLE[2, 3] = HOLE[0, 0] = False


def linear(x, y):
    return 3 + 2 * x - 5 * y


def observe(grid, functionals, f=linear):
    B = observation_matrix(grid, functionals)
    u, d = grid.create_scalar(), B.createVecLeft()
    grid.view(u)[...] = grid.evaluate(f)
    B.mult(u, d)
    return np.concatenate(grid.comm.allgather(d.getArray()))


@pytest.mark.parallel([1, 2, 3])
def test_means_of_a_linear_function():
    grid = Grid((5, 7), edges=EDGES)
    found = observe(grid, [*point_values([[0.3, 1.1]]), box_mean(grid, (0.05, 0.3), (0.6, 1.9)), ball_mean(grid, (0.5, 1.0), 0.3),
                           side_mean(grid, "x-"), side_mean(grid, "x+"), side_mean(grid, "y+", (0.2, 0), (0.9, 2))])
    assert found == pytest.approx([linear(0.3, 1.1), linear(0.325, 1.1), linear(0.5, 1.0), linear(0, 1), linear(1, 1),
                                   linear(0.55, 2)], rel=2e-2)
    assert np.delete(found, 2) == pytest.approx(np.delete([linear(0.3, 1.1), linear(0.325, 1.1), 0, linear(0, 1), linear(1, 1),
                                                          linear(0.55, 2)], 2), rel=1e-12)


@pytest.mark.parallel([1, 2])
def test_integrals_leave_inactive_cells_out():
    grid = Grid((5, 7), edges=EDGES, active=HOLE)
    area = np.multiply.outer(np.diff(EDGES[0]), np.diff(EDGES[1]))
    density = np.random.default_rng(0).random(grid.shape)
    u = linear(*np.meshgrid(*grid.centers, indexing="ij"))
    found = observe(grid, [integral(grid, density), integral(grid, np.ones(grid.shape))])
    assert found == pytest.approx([(density * u * area)[HOLE].sum(), (u * area)[HOLE].sum()], rel=1e-13)


@pytest.mark.parallel([1, 3])
def test_means_of_one_are_one_beside_inactive_cells():
    grid = Grid((5, 7), edges=EDGES, active=HOLE)
    found = observe(grid, [box_mean(grid, (0.2, 0.5), (0.6, 1.5)), ball_mean(grid, (0.3, 0.7), 0.35), side_mean(grid, "x-")],
                    lambda x, y: 1 + 0 * x)
    assert found == pytest.approx(1.0, rel=1e-13)


def test_a_ball_is_round():
    """Mean of r^2 over a disc is R^2/2, to second order in the cells."""
    errors = []
    for n in (16, 32):
        grid = Grid((n, n))
        found = observe(grid, [ball_mean(grid, (0.47, 0.52), 0.31)], lambda x, y: (x - 0.47) ** 2 + (y - 0.52) ** 2)
        errors.append(abs(found[0] - 0.31**2 / 2))
    assert errors[0] < 2e-3 and errors[1] < 6e-4


def test_a_side_of_three_dimensions():
    grid = Grid((4, 5, 6), extent=(1, 2, 3))
    found = observe(grid, [side_mean(grid, "z+", (0.1, 0.2, 0), (0.5, 0.8, 3))], lambda x, y, z: x + 10 * y + 100 * z)
    assert found == pytest.approx([0.3 + 5 + 300], rel=1e-12)


@pytest.mark.parametrize(("make", "text"), [
    (lambda g: box_mean(g, (0.5, 0), (0.2, 1), "boxes[0]"), "boxes[0], x"),
    (lambda g: box_mean(g, (0, 0), (1.2, 1), "boxes[0]"), "0 to 1"),
    (lambda g: box_mean(g, (0,), (1, 1), "boxes[0]"), "2 coordinates"),
    (lambda g: box_mean(g, (0.26, 0.9), (0.3, 1.1), "boxes[0]"), "without active cells"),
    (lambda g: ball_mean(g, (1.5, 0.5), 0.1, "balls[0]"), "balls[0].at"),
    (lambda g: ball_mean(g, (0.5, 0.5), -1, "balls[0]"), "positive length"),
    (lambda g: side_mean(g, "w+", field="sides[0]"), "sides[0].side"),
    (lambda g: side_mean(g, "y-", field="sides[0]"), "dirichlet"),
])
def test_what_cannot_be_observed_is_named(make, text):
    grid = Grid((5, 7), edges=EDGES, active=HOLE, boundaries={"y-": "dirichlet"})
    with pytest.raises(InputError) as error:
        make(grid)
    assert text in str(error.value)

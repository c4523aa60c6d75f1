"""Where places are: alike on all outlines, modulo the length of periodic axes, in any unit."""

import numpy as np
import pytest

from npde_opt.cases.outline import outline, ring_levels
from npde_opt.cases.patches import patch
from npde_opt.cases.random_points import active, random_points
from npde_opt.errors import InputError
from npde_opt.grids import Grid
from npde_opt.grids.locate import located
from npde_opt.grids.scattered import Mask
from npde_opt.observations import ball_mean, box_mean, from_functionals, side_mean
from npde_opt.operators import interpolation
from npde_opt.terms.absorbing import absorbing_rate

UNITS = [1e-12, 1.0, 1e12]
ROUND = dict.fromkeys(("x-", "x+", "y-", "y+"), "periodic")
STRETCHED = np.array([0.0, 0.05, 0.2, 0.25, 0.4, 0.75, 0.75002, 0.9, 1.0])


def seen(grid, matrix, f):
    """B f on every rank."""
    x, y = grid.create_scalar(), matrix.createVecLeft()
    grid.view(x)[...] = grid.evaluate(f)
    matrix.mult(x, y)
    return np.concatenate(grid.comm.allgather(np.array(y.getArray())))


def outline_points():
    """Middles and corners of the square's outline, and 1 ulp in and out."""
    low, high, mid = 0.25, 0.75, 0.4
    exact = [
        (low, mid),
        (high, mid),
        (mid, low),
        (mid, high),
        (low, low),
        (high, high),
        (low, high),
        (high, low),
    ]
    return [
        tuple(np.nextafter(x, x + s) if s and x != mid else x for x in p)
        for p in exact
        for s in (-1, 0, 1)
    ]


@pytest.mark.parallel([1, 2])
@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("origin", [0.0, 1000.0])
@pytest.mark.parametrize(
    "edges", [np.linspace(0, 1, 9), STRETCHED], ids=["even", "stretched"]
)
def test_points_on_all_outlines_of_the_active_cells_are_found(edges, unit, origin):
    if edges is STRETCHED:
        mask = np.outer(
            (edges[:-1] >= 0.25) & (edges[1:] <= 0.75),
            (edges[:-1] >= 0.25) & (edges[1:] <= 0.75),
        )
    else:
        mask = np.zeros((8, 8), bool)
        mask[2:6, 2:6] = True
    grid = Grid((8, 8), edges=[(edges + origin) * unit] * 2, active=mask)
    points = (np.array(outline_points()) + origin) * unit
    _, cells = located(grid, points)
    assert mask[tuple(cells)].all()
    np.testing.assert_allclose(
        seen(grid, interpolation(grid, points), lambda x, y: 1 + 0 * x * y),
        1,
        rtol=1e-13,
    )
    for point in points:
        for radius in (0.0, 0.001 * unit, 0.1 * unit):
            found = patch(grid, point, radius, "well")
            assert mask[found.cells].all() and found.weights.sum() == pytest.approx(
                1, rel=1e-13
            )
        shares = grid.comm.allgather(ball_mean(grid, point, 0.1 * unit).weights.sum())
        assert sum(shares) == pytest.approx(1, rel=1e-13)


@pytest.mark.parametrize("unit", UNITS)
def test_the_outline_of_the_box_is_the_same_on_all_sides(unit):
    grid = Grid((8, 8), extent=(unit, unit))
    out = 1e-7 * unit / 8
    points = np.array(
        [
            (a, b)
            for a in (-out, unit + out, 0.5 * unit)
            for b in (-out, unit + out, 0.5 * unit)
        ]
    )
    places, cells = located(grid, points)
    assert places.min() >= 0 and places.max() <= unit
    assert cells[0].tolist() == [0, 0, 0, 7, 7, 7, 4, 4, 4]
    for bad in ((1 + 1e-5, 0.5), (0.5, -1e-5), (np.nan, 0.5), (np.inf, 0.5)):
        with pytest.raises(InputError, match=r"points\[0\]"):
            located(grid, np.array([bad]) * unit)


def test_a_point_beyond_the_tolerance_is_not_found():
    mask = np.zeros((8, 8), bool)
    mask[2:6, 2:6] = True
    grid = Grid((8, 8), active=mask)
    for point in (
        (0.75 + 1e-5, 0.4),
        (0.25 - 1e-5, 0.4),
        (0.4, 0.75 + 1e-5),
        (0.4, 0.25 - 1e-5),
    ):
        with pytest.raises(InputError, match="active cell"):
            interpolation(grid, np.array([point]))
        with pytest.raises(InputError, match="well.at: "):
            patch(grid, point, 0.0, "well.at")


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.parametrize("n", [1, 2, 3, 8, 9])
def test_points_on_a_periodic_axis_wrap(n):
    grid = Grid(
        (n, 4),
        extent=(2.0, 1.0),
        origin=(-0.5, 0.0),
        boundaries=dict.fromkeys(("x-", "x+"), "periodic"),
    )
    x = np.array([-0.5, 1.5, -2.5, 3.5, 0.1, 2.1, -1.9])
    found = seen(
        grid,
        interpolation(grid, np.stack([x, np.full(7, 0.5)], axis=1)),
        lambda x, y: np.cos(np.pi * (x - 0.3)) + 0 * y,
    )
    np.testing.assert_allclose(found[:4], found[0], rtol=1e-13)
    np.testing.assert_allclose(found[4:], found[4], rtol=1e-13)
    if n >= 8:
        assert found[0] == pytest.approx(np.cos(0.8 * np.pi), abs=0.1)


@pytest.mark.parallel([1, 2, 3])
def test_across_the_ends_interpolation_is_between_the_last_and_the_first_cell():
    edges = np.array([0.0, 0.1, 0.4, 0.8, 1.0])
    grid = Grid((4,), edges=[edges], boundaries=dict.fromkeys(("x-", "x+"), "periodic"))
    c = grid.centers[0]
    B = interpolation(grid, np.array([[0.0], [0.02], [0.97]]))
    field = np.array([3.0, -1.0, 2.0, 7.0])
    y = B.createVecLeft()
    B.mult(grid.from_natural(field), y)
    gap = c[0] + 1 - c[3]
    expected = [
        field[3] + (field[0] - field[3]) * (x - c[3]) / gap for x in (1.0, 1.02, 0.97)
    ]
    np.testing.assert_allclose(
        np.concatenate(grid.comm.allgather(np.array(y.getArray()))),
        expected,
        rtol=1e-13,
    )


@pytest.mark.parallel([1, 2])
@pytest.mark.parametrize("shift", [0.5, 1.0, -3.0, 7.25])
def test_places_are_equal_by_translation_on_periodic_axes(shift):
    grid = Grid((16, 12), boundaries=ROUND)

    def waves(x, y):
        return np.cos(2 * np.pi * (x - 0.02)) * (2 + np.sin(2 * np.pi * y))

    def moved(x, y):
        return waves(x - shift, y)

    made = [
        (
            ball_mean(grid, (0.02, 0.97), 0.2),
            ball_mean(grid, (0.02 + shift, 0.97), 0.2),
        ),
        (
            box_mean(grid, (-0.1, 0.8), (0.15, 1.1)),
            box_mean(grid, (shift - 0.1, -0.2), (shift + 0.15, 0.1)),
        ),
        (
            box_mean(grid, (0.9, 0.8), (0.15, 0.1)),
            box_mean(grid, (shift - 0.1, 0.8), (shift + 0.15, 1.1)),
        ),
    ]
    for one, other in made:
        a = seen(grid, from_functionals(grid, (), [one]).matrix, waves)
        b = seen(grid, from_functionals(grid, (), [other]).matrix, moved)
        assert a == pytest.approx(b, rel=1e-12, abs=1e-13)
    one, other = (
        patch(grid, (0.02, 0.97), 0.2, "well"),
        patch(grid, (0.02 + shift, 0.97), 0.2, "well"),
    )
    fields = [np.zeros(grid.shape), np.zeros(grid.shape)]
    for values, found in zip(fields, (one, other), strict=True):
        values[found.cells] = found.weights
    np.testing.assert_allclose(
        np.roll(fields[0], round(16 * shift), axis=0), fields[1], atol=1e-13
    )
    assert fields[0][0].sum() > 0 and fields[0][-1].sum() > 0


def test_a_part_of_a_side_wraps_along_it():
    grid = Grid((16, 4), boundaries={"x-": "periodic", "x+": "periodic"})
    ends = [(1.1, 1), (0.1, 1)]
    parts = [side_mean(grid, "y+", (0.9, 0), end) for end in ends]
    B = from_functionals(grid, (), parts).matrix
    found = seen(grid, B, lambda x, y: np.cos(2 * np.pi * x) + 0 * y)
    assert found == pytest.approx(np.sin(0.2 * np.pi) / (0.2 * np.pi), rel=2e-2)
    for lower, upper in ((0.5, 0.5), (0.2, 1.3)):
        with pytest.raises(InputError, match="lower < upper"):
            box_mean(grid, (lower, 0), (upper, 1))


def test_a_box_that_only_touches_active_cells_has_none_whatever_the_rounding():
    mask = np.zeros((8, 8), bool)
    mask[2:6, 2:6] = True
    grid = Grid((8, 8), active=mask)
    for end in (0.75, np.nextafter(0.75, 0)):
        with pytest.raises(InputError, match="without active cells"):
            box_mean(grid, (end, 0.3), (0.9, 0.5))


@pytest.mark.parallel([1, 2])
def test_on_another_grid_the_nearest_active_cell_is_taken():
    mask = np.ones((16, 16), bool)
    mask[:6] = False
    grid = Grid((16, 16), active=mask)
    places, cells = located(
        grid, np.array([[0.1, 0.33], [-3.0, 0.53], [0.9, 0.9]]), nearest=True
    )
    assert [c.tolist() for c in cells] == [[6, 6, 14], [5, 8, 14]]
    assert places[0] == pytest.approx([0.375, 0.33]) and places[2] == pytest.approx(
        [0.9, 0.9]
    )
    for found in (patch(grid, (0.1, 0.3), 0.05, "well", True),):
        assert mask[found.cells].all()
    for make in (
        lambda: ball_mean(grid, (0.1, 0.3), 0.05, nearest=True),
        lambda: box_mean(grid, (0.1, 0.3), (0.2, 0.4), nearest=True),
        lambda: side_mean(grid, "x-", nearest=True),
    ):
        B = from_functionals(grid, (), [make()]).matrix
        assert seen(grid, B, lambda x, y: 2 + 0 * x * y) == pytest.approx(2)


def test_nearest_goes_round_a_periodic_axis():
    mask = np.zeros((8, 2), bool)
    mask[6] = True
    grid = Grid((8, 2), active=mask, boundaries={"x-": "periodic", "x+": "periodic"})
    places, cells = located(grid, np.array([[0.01, 0.2]]), nearest=True)
    assert cells[0].tolist() == [6] and places[0, 0] == pytest.approx(0.875)


def test_random_points_are_those_of_one_after_the_other():
    mask = np.random.default_rng(3).random((9, 7)) > 0.6
    mask = Mask.alone(mask)
    edges = [np.linspace(0, 2, 10), np.linspace(-1, 1, 8)]
    rng, expected = np.random.default_rng(5), []
    while len(expected) < 200:
        x = np.array([rng.uniform(e[0], e[-1]) for e in edges])
        if active([(edges, mask)], x[None])[0]:
            expected.append(x)
    found = random_points(
        np.random.default_rng(5), 200, edges, [(edges, mask)], "random"
    )
    np.testing.assert_array_equal(found, expected)


def test_random_points_where_few_cells_are_active():
    mask = np.zeros((400, 400, 40), bool)
    mask[17, 300, 20] = mask[399, 0, 0] = True
    edges = [np.linspace(0, 1, n + 1) for n in mask.shape]
    half = np.zeros((200, 200, 20), bool)
    half[8, 150, 10] = True
    coarse = [e[::2] for e in edges]
    both = [(edges, Mask.alone(mask)), (coarse, Mask.alone(half))]
    found = random_points(np.random.default_rng(0), 3000, edges, both, "random")
    assert active(both, found).all() and len(found) == 3000
    assert ((found * mask.shape) % 1).mean(axis=0) == pytest.approx([0.5] * 3, abs=0.03)
    half[8, 150, 10] = False
    both[1] = coarse, Mask.alone(half)
    with pytest.raises(InputError, match="random"):
        random_points(np.random.default_rng(0), 3, edges, both, "random")


def test_electrodes_lie_on_the_outline_or_are_refused():
    plane, edges = np.ones((16, 16), bool), [np.linspace(0, 1, 17)] * 2
    points = outline(np.nonzero(plane), edges, 16, 0.0)
    assert len(np.unique(points.round(9), axis=0)) == 16
    assert np.abs(points - 0.5).max(axis=1) == pytest.approx(15 / 32)
    for count, radius in ((257, 0.0), (200, 0.0), (4, 3.0)):
        with pytest.raises(InputError, match="electrodes.count"):
            outline(np.nonzero(plane), edges, count, radius)
    crescent = plane.copy()
    crescent[6:, 4:12] = False
    with pytest.raises(InputError, match="electrodes.count"):
        outline(np.nonzero(crescent), edges, 8, 0.0)
    with pytest.raises(InputError, match="electrodes.rings"):
        ring_levels(Mask.alone(np.ones((2, 2, 3), bool)), 4)


@pytest.mark.parallel([1, 2])
def test_an_absorbing_layer_of_a_periodic_axis_goes_on_beyond_its_end():
    grid = Grid((20,), boundaries=dict.fromkeys(("x-", "x+"), "periodic"))
    one, other, both = (
        absorbing_rate(grid, dict.fromkeys(sides, 0.2), 1.0)
        for sides in (("x-",), ("x+",), ("x-", "x+"))
    )
    np.testing.assert_allclose(one, both, atol=1e-12)
    np.testing.assert_allclose(other, both, atol=1e-12)
    walls = Grid((20,), boundaries=dict.fromkeys(("x-", "x+"), "dirichlet"))
    whole = walls.comm.bcast(
        walls.to_natural(absorbing_rate(walls, {"x-": 0.2}, 1.0)), root=0
    )
    assert whole[0] > 0 and whole[-1] == 0

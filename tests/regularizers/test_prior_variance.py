"""A prior's variance is what its key says: diagonals of its inverse against the variance,
everywhere."""

import numpy as np
import pytest

from npde_opt.grids import Grid
from npde_opt.regularizers import BiLaplacian
from npde_opt.regularizers.prior_variance import Box, pointwise_variance

PERIODIC = {"x-": "periodic", "x+": "periodic"}


def stretched(n, length):
    return length * np.linspace(0, 1, n + 1) ** 1.5


def outline(shape):
    """A disc with a bay, and a slab of one cell beside it."""
    where = np.meshgrid(*[(np.arange(n) + 0.5) / n - 0.5 for n in shape], indexing="ij")
    inside = sum(x**2 for x in where) < 0.2
    inside &= ~((np.abs(where[1]) < 0.06) & (where[0] > 0))
    inside[:, 0] = True
    return inside


def diagonal(R, grid, cells):
    """(H^-1)_ii."""
    found, z = [], grid.create_scalar()
    for cell in cells:
        one = np.zeros(grid.shape)
        one[cell] = 1.0
        e = grid.from_natural(one)
        R.inverse(e, z)
        found.append(grid.gather(z)[cell])
        e.destroy()
    z.destroy()
    return np.array(found)


def some_cells(grid, count=12):
    """Corners, and others at random; active."""
    active = np.ones(grid.shape, bool) if grid.mask is None else grid.mask.whole()
    on = np.argwhere(active)
    rng = np.random.default_rng(2)
    picked = [
        on[0],
        on[-1],
        *on[rng.choice(len(on), min(count, len(on)), replace=False)],
    ]
    return [tuple(int(i) for i in cell) for cell in picked]


GRIDS = {
    "line": {"shape": (60,), "extent": (30.0,)},
    "ring": {"shape": (60,), "extent": (30.0,), "boundaries": PERIODIC},
    "box": {"shape": (24, 18), "extent": (24.0, 18.0)},
    "stretched": {
        "shape": (24, 18),
        "edges": [stretched(24, 24.0), stretched(18, 20.0)],
    },
    "periodic": {"shape": (24, 18), "extent": (24.0, 18.0), "boundaries": PERIODIC},
    "stretched ring": {
        "shape": (24, 18),
        "edges": [stretched(24, 24.0), stretched(18, 20.0)],
        "boundaries": PERIODIC,
    },
    "one cell": {"shape": (24, 1), "extent": (24.0, 1.0)},
    "three": {"shape": (10, 9, 8), "extent": (20.0, 18.0, 8.0)},
    "outline": {"shape": (24, 20), "extent": (24.0, 20.0), "active": outline((24, 20))},
    "periodic outline": {
        "shape": (24, 20),
        "extent": (24.0, 20.0),
        "active": outline((24, 20)),
        "boundaries": PERIODIC,
    },
    "outline of three": {
        "shape": (10, 9, 8),
        "extent": (20.0, 18.0, 8.0),
        "active": outline((10, 9, 8)),
    },
}


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.parametrize("name", list(GRIDS))
def test_the_variance_is_the_same_everywhere(name):
    given = dict(GRIDS[name])
    grid = Grid(given.pop("shape"), **given)
    for length, directions in ((4.0, None), (1.0, [4.0, 0.5, 2.0][: grid.dim])):
        R = BiLaplacian(
            grid, 1.0, correlation_length=length, variance=2.5, directions=directions
        )
        R.solver.ksp.setTolerances(rtol=1e-10)
        np.testing.assert_allclose(diagonal(R, grid, some_cells(grid)), 2.5, rtol=2e-3)
        R.destroy()


@pytest.mark.parallel([1, 2])
@pytest.mark.parametrize(
    ("shape", "length"), [((150, 120), 20.0), ((150, 120), 6.0), ((34, 30, 26), 12.0)]
)
def test_large_outlines_are_within_a_tenth(shape, length):
    active = outline(shape)
    if len(shape) == 3:
        active[:, 0] = (
            False  # the gap beside it is narrower than the cells on which the variance is found
        )
    grid = Grid(shape, extent=tuple(map(float, shape)), active=active)
    assert np.count_nonzero(active) > 4000
    R = BiLaplacian(grid, 1.0, correlation_length=length, variance=1.0)
    np.testing.assert_allclose(diagonal(R, grid, some_cells(grid, 25)), 1.0, atol=0.1)
    R.destroy()


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.parametrize("name", ["box", "outline", "stretched ring"])
def test_the_scaled_operator_is_symmetric_positive_and_inverted(name):
    given = dict(GRIDS[name])
    grid = Grid(given.pop("shape"), **given)
    R = BiLaplacian(grid, 1.0, correlation_length=3.0, variance=0.3)
    x, y, hx, hy, back = (grid.standard_normal(s) for s in range(5))
    for vec in (x, y):
        grid.view(vec)[...] *= grid.active
    R.hessian(x, x, hx)
    R.hessian(y, y, hy)
    assert hx.dot(y) == pytest.approx(hy.dot(x), rel=1e-11) and hx.dot(x) > 0
    R.solver.ksp.setTolerances(rtol=1e-12)
    R.inverse(hx, back)
    back.axpy(-1.0, x)
    assert back.norm() < 1e-8 * x.norm()
    R.destroy()


@pytest.mark.parallel([1, 2])
def test_gamma_and_delta_are_taken_as_they_are():
    grid = Grid((12, 10))
    R = BiLaplacian(grid, 1.0, gamma=0.1, delta=2.0)
    one, out = grid.create_scalar(), grid.create_scalar()
    one.set(1.0)
    R.hessian(one, one, out)
    np.testing.assert_allclose(grid.view(out), 4.0 * grid.volume, rtol=1e-9)
    R.destroy()


def test_the_box_formula_is_the_sum_over_its_modes():
    box = Box((stretched(7, 3.0), np.linspace(0, 2, 6)), (False, True))
    pairs = [box._eigenpairs(d, D) for d, D in enumerate((0.3, 1.2))]
    rates = pairs[0][0][:, None] + pairs[1][0] + 0.7
    expected = np.einsum(
        "ia,jb,ab->ij", pairs[0][1] ** 2, pairs[1][1] ** 2, rates**-2.0
    )
    found = box.variance((0.3, 1.2), 0.7, (slice(None), slice(None)))
    np.testing.assert_allclose(found, expected, rtol=1e-4)


@pytest.mark.parallel([1, 2])
def test_units_do_not_matter():
    small, large = (Grid((20, 16), extent=(20.0 * s, 16.0 * s)) for s in (1e-9, 1e9))
    a, b = (
        pointwise_variance(g, [s**2 * 9.0] * 2, 1.0) * s**2
        for g, s in ((small, 1e-9), (large, 1e9))
    )
    np.testing.assert_allclose(a, b, rtol=1e-9)

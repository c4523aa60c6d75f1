"""Stencil matrices, interpolation and prolongation against plain references."""

import numpy as np
import pytest
import scipy.sparse as sp
from mpi4py import MPI

from npde_opt.errors import InputError
from npde_opt.grids import Grid
from npde_opt.operators import CellProlongation, interpolation, mass
from npde_opt.operators.stencils import StencilMatrix
from npde_opt.regularizers import operator

SHAPES = [(9,), (6, 7), (4, 5, 6)]


def vec_of(grid, values):
    return grid.from_natural(values)


def fields(shape, count):
    return np.random.default_rng(1).standard_normal((count, *shape))


def reference(shape, values, active, periodic):
    """The stencil as a scipy matrix, numbered x fastest."""
    n, dim = int(np.prod(shape)), len(shape)
    number = np.arange(n).reshape(shape, order="F")
    A = sp.lil_matrix((n, n))
    for cell in np.ndindex(*shape):
        row = number[cell]
        if not active[cell]:
            continue
        A[row, row] += values[0][cell]
        for d in range(dim):
            for side, step in enumerate((-1, 1)):
                other = list(cell)
                other[d] += step
                if periodic[d]:
                    other[d] %= shape[d]
                if 0 <= other[d] < shape[d] and active[tuple(other)]:
                    A[row, number[tuple(other)]] += values[1 + 2 * d + side][cell]
    return A.tocsr()


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("periodic", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_stencil_matrix_is_the_reference(shape, periodic, masked):
    rng = np.random.default_rng(0)
    active = rng.random(shape) > 0.3 if masked else np.ones(shape, bool)
    sides = {"x-": "periodic", "x+": "periodic"} if periodic else {}
    grid = Grid(shape, boundaries=sides, active=active)
    values, x = fields(shape, 1 + 2 * len(shape)), rng.standard_normal(shape)
    matrix = StencilMatrix(grid)
    A = reference(shape, values, active, [periodic] + [False] * (len(shape) - 1))
    for factor in (3.0, 1.0):
        entries = matrix.entries()
        entries[...] = factor * values[(slice(None), *grid.local_slice)]
        matrix.set_values(entries)
    given, out = grid.create_active(), grid.create_active()
    grid.put(x[grid.local_slice], given)
    for multiply, B in ((matrix.mat.mult, A), (matrix.mat.multTranspose, A.T)):
        multiply(given, out)
        expected = (B @ np.where(active, x, 0.0).ravel(order="F")).reshape(
            shape, order="F"
        )
        np.testing.assert_allclose(
            grid.take(out), expected[grid.local_slice], rtol=1e-12, atol=1e-12
        )
    matrix.destroy()


WIDE = ((0, 0), (-2, 0), (2, 0), (0, -1), (0, 1), (1, 1), (-1, -1))


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.parametrize("offsets", [None, WIDE])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("periodic", [False, True])
def test_values_are_taken_at_once_as_part_by_part(
    periodic, masked, offsets, monkeypatch
):
    shape, found = (11, 9), []
    active = np.random.default_rng(0).random(shape) > 0.3 if masked else None
    sides = {"x-": "periodic", "x+": "periodic"} if periodic else {}
    for chunk in (1 << 15, 7):
        monkeypatch.setattr("npde_opt.operators.patterns.CHUNK", chunk)
        grid = Grid(shape, boundaries=sides, active=active)
        matrix = StencilMatrix(grid, offsets=offsets)
        values = fields(shape, len(matrix.offsets))[(slice(None), *grid.local_slice)]
        for factor in (3.0, 1.0):
            matrix.set_values(factor * values)
        assert (matrix.pattern.places is None) == (grid.layout.local_size > chunk)
        found.append(matrix.mat.getValuesCSR())
        matrix.destroy()
    for at_once, parts in zip(*found, strict=True):
        np.testing.assert_array_equal(at_once, parts)


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("count", [2, 5])
@pytest.mark.parametrize("light", [False, True])
def test_products_with_rows_are_those_with_vectors(light, count, scaled, monkeypatch):
    """One after the other, and all with one product or one message."""
    monkeypatch.setattr("npde_opt.operators.stencils.PLANES", 0 if light else 1 << 13)
    grid = Grid((6, 5), boundaries={"x-": "periodic", "x+": "periodic"})
    D = [np.exp(f)[grid.local_slice] for f in fields((6, 5), 2)]
    matrix = operator(grid, D, 0.3)
    x, y, weights = (grid.create_active() for _ in range(3))
    rows = np.random.default_rng(grid.comm.rank).random((count, x.getLocalSize()))
    weights.setArray(1 + rows[0])
    found, form = np.empty(rows.shape), {}
    if scaled:
        form = {"factor": 3.0, "weights": weights}
    matrix.products(rows, found, **form)
    for row, image in zip(rows, found, strict=True):
        x.setArray(row)
        matrix.mat.mult(x, y)
        if scaled:
            y.pointwiseMult(y, weights)
            y.scale(3.0)
        np.testing.assert_allclose(image, y.getArray(), rtol=1e-13, atol=1e-14)
        wanted = y.copy()
        matrix.product(x, y, **form)
        np.testing.assert_allclose(y.getArray(), wanted.getArray(), rtol=1e-13)
    matrix.destroy()


@pytest.mark.parallel([1, 2, 3])
def test_diffusion_operator_is_symmetric_and_has_the_volumes_as_row_sums():
    edges = [np.linspace(0, 1, 9) ** 2, np.linspace(0, 2, 8)]
    active = np.random.default_rng(2).random((8, 7)) > 0.2
    grid = Grid((8, 7), edges=edges, active=active)
    D = np.exp(fields((8, 7), 2))[(slice(None), *grid.local_slice)]
    matrix = operator(grid, list(D), 1.0)
    assert matrix.mat.isSymmetric(1e-13) if grid.comm.size == 1 else True
    one, out = grid.create_active(), grid.create_active()
    one.set(1.0)
    matrix.mat.mult(one, out)
    np.testing.assert_allclose(grid.take(out), grid.take(mass(grid)), rtol=1e-10)
    assert out.sum() == pytest.approx(
        float((np.outer(*[np.diff(e) for e in edges]) * active).sum()), rel=1e-10
    )


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.parametrize("shape", SHAPES)
def test_interpolation_is_exact_for_multilinear_fields(shape):
    edges = [np.linspace(0, 1, n + 1) ** 1.3 * 2 - 1 for n in shape]
    grid = Grid(shape, edges=edges)
    points = np.random.default_rng(4).uniform(-1, 1, (37, len(shape)))
    points[0], points[1] = -1, 1

    def f(*x):
        out = 1.0
        for d, c in enumerate(x):
            out = out * (2 + (d + 1) * c)
        return out

    x = grid.create_scalar()
    grid.view(x)[...] = grid.evaluate(f)
    B = interpolation(grid, points)
    assert B.getSize() == (37, grid.size)
    y = B.createVecLeft()
    B.mult(x, y)
    np.testing.assert_allclose(
        np.concatenate(grid.comm.allgather(y.getArray())),
        f(*points.T),
        rtol=1e-11,
        atol=1e-11,
    )


@pytest.mark.parallel([1, 2, 3])
def test_one_point_on_any_number_of_ranks():
    grid = Grid((8, 8))
    B = interpolation(grid, np.array([0.3, 0.6]))
    y = B.createVecLeft()
    B.mult(vec_of(grid, np.full((8, 8), 2.0)), y)
    assert y.getSize() == 1 and y.sum() == pytest.approx(2.0)


@pytest.mark.parallel([1, 2, 3])
def test_interpolation_under_a_mask_takes_active_neighbours_only():
    active = np.ones((10, 8), bool)
    active[4:6, 3:5] = False
    grid = Grid((10, 8), active=active)
    points = np.random.default_rng(6).random((60, 2))
    cells = (points * [10, 8]).astype(int)
    points = points[active[tuple(cells.T)]]
    field = np.where(active, 3.5, 1e6)
    B = interpolation(grid, points)
    y = B.createVecLeft()
    B.mult(vec_of(grid, field), y)
    np.testing.assert_allclose(y.getArray(), 3.5, rtol=1e-12)


@pytest.mark.parallel([1, 2])
@pytest.mark.parametrize(
    "points, message",
    [
        ([[0.5, 0.5], [1.2, 0.5]], r"points\[1\].*x from 0 to 1"),
        ([[0.5, -0.1]], r"points\[0\].*y from 0 to 1"),
        ([[np.nan, 0.5]], r"points\[0\]"),
        ([[0.5, 0.5, 0.5]], r"\(n, 2\)"),
        ([[0.05, 0.05]], "active cell"),
    ],
)
def test_points_that_cannot_be_are_named(points, message):
    active = np.ones((8, 8), bool)
    active[0, 0] = False
    with pytest.raises(InputError, match=message):
        interpolation(Grid((8, 8), active=active), np.array(points))


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.parametrize("shape", [(17,), (16, 19), (16, 5, 17)])
def test_prolongation_is_exact_for_linear_fields_inside_and_keeps_constants(shape):
    fine = Grid(shape, extent=[1.0, 2.0, 3.0][: len(shape)])
    coarse = fine.coarsen(8)
    assert coarse.shape == tuple((n + 1) // 2 if n >= 16 else n for n in shape)
    P = CellProlongation(coarse, fine)
    x, y = coarse.create_scalar(), fine.create_scalar()
    x.set(2.5)
    P.mult(x, y)
    np.testing.assert_allclose(y.getArray(), 2.5, rtol=1e-13)

    def f(*x):
        return sum((d + 1.0) * c for d, c in enumerate(x))

    coarse.view(x)[...] = coarse.evaluate(f)
    P.mult(x, y)
    clamped = [
        np.clip(c, k[0], k[-1])
        for c, k in zip(fine.coordinates(), coarse.centers, strict=True)
    ]
    np.testing.assert_allclose(
        fine.view(y), np.broadcast_to(f(*clamped), fine.local_shape), rtol=1e-12
    )


@pytest.mark.parallel([1, 2, 3])
def test_cubic_prolongation_is_exact_for_cubics_inside_and_of_order_four():
    errors = []
    for n in (32, 64):
        fine = Grid((n, n + 2), boundaries={"y-": "periodic", "y+": "periodic"})
        coarse = fine.coarsen(8)
        P = CellProlongation(coarse, fine, cubic=True)
        x, y = coarse.create_scalar(), fine.create_scalar()
        coarse.view(x)[...] = coarse.evaluate(lambda x, y: x**3 - 2 * x**2 + 0 * y)
        P.mult(x, y)
        inner = (
            (fine.coordinates()[0] > 4 / n)
            & (fine.coordinates()[0] < 1 - 4 / n)
            & (fine.view(y) > -9)
        )
        exact = fine.evaluate(lambda x, y: x**3 - 2 * x**2 + 0 * y)
        np.testing.assert_allclose(fine.view(y)[inner], exact[inner], atol=1e-13)

        def f(x, y):
            return np.cos(np.pi * x) * np.sin(2 * np.pi * y)

        coarse.view(x)[...] = coarse.evaluate(f)
        P.mult(x, y)
        errors.append(
            fine.comm.allreduce(
                float(np.abs(fine.view(y) - fine.evaluate(f)).max()), op=MPI.MAX
            )
        )
    assert errors[0] / errors[1] > 13


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.parametrize("cubic", [False, True])
def test_prolongation_under_a_mask(cubic):
    active = np.random.default_rng(3).random((20, 18)) > 0.4
    fine = Grid((20, 18), active=active)
    coarse = fine.coarsen(8)
    mask = coarse.mask.whole()
    np.testing.assert_array_equal(mask[0, 0], active[:2, :2].any())
    P = CellProlongation(coarse, fine, cubic)
    x, y = (
        vec_of(coarse, np.where(mask, 7.0, 1e6)),
        fine.create_scalar(),
    )
    P.mult(x, y)
    np.testing.assert_allclose(fine.gather(y), np.where(active, 7.0, 0.0), rtol=1e-13)


@pytest.mark.parallel([1, 2, 3])
def test_prolongation_refuses_a_coarse_mask_that_leaves_holes():
    hole = np.ones((8, 8), bool)
    hole[:4, :4] = False
    with pytest.raises(InputError, match="grid.active"):
        CellProlongation(Grid((8, 8), active=hole), Grid((16, 16)))


@pytest.mark.parallel([1, 2, 3])
def test_natural_order_and_noise_do_not_depend_on_ranks():
    values = fields((7, 6, 5), 1)[0]
    whole, alone = Grid((7, 6, 5)), Grid((7, 6, 5), comm=MPI.COMM_SELF)
    np.testing.assert_array_equal(whole.gather(whole.from_natural(values)), values)
    np.testing.assert_array_equal(
        whole.gather(whole.standard_normal(3)), alone.gather(alone.standard_normal(3))
    )

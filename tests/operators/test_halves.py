"""Symmetric stencils that are kept as planes: products, and when PETSc's matrix is made."""

import numpy as np
import pytest
from petsc4py import PETSc

from npde_opt.grids import Grid
from npde_opt.linear.recipes import LinearSolver
from npde_opt.operators import stencils
from npde_opt.operators.stencils import StencilMatrix
from npde_opt.terms.advection import Advection
from npde_opt.terms.diffusion import Diffusion

SHAPES = [(13, 8), (9, 1), (6, 5, 7), (3, 4, 3)]
AROUND = {f"{axis}{side}": "periodic" for axis in "xy" for side in "-+"}


@pytest.fixture(autouse=True)
def _light(monkeypatch):
    """On grids of any size."""
    monkeypatch.setattr(stencils, "PLANES", 1)


@pytest.fixture
def options():
    """PETSc's options; what a test sets under the prefix is taken back."""
    database = PETSc.Options()
    yield database
    for key in database.getAll():
        if key.startswith("t_"):
            database.delValue(key)


def filled(grid, seed=0):
    D = np.exp(np.random.default_rng(seed).standard_normal(grid.shape))
    matrix = StencilMatrix(grid)
    planes = matrix.zeroed()
    Diffusion(grid).at({"D": D[grid.local_slice]}).add_planes(planes)
    centre = planes[matrix.offsets[0]]
    centre += grid.volume
    matrix.refresh()
    return matrix


def image(grid, action):
    x = grid.standard_normal(5)
    given, out = grid.create_active(), grid.create_active()
    grid.put(grid.view(x), given)
    action(given, out)
    return grid.take(out).copy()


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.parametrize("sides", [{}, {"x-": "dirichlet"}, AROUND])
@pytest.mark.parametrize("shape", SHAPES)
def test_products_are_those_of_the_matrix(shape, sides):
    if sides is AROUND and min(shape) < 3:
        pytest.skip("cells that are their own neighbours have no planes")
    grid = Grid(shape, boundaries=sides)
    matrix = filled(grid)
    found = image(grid, matrix.product)
    backwards = image(grid, matrix.operator.multTranspose)
    planes, largest = matrix.planes(), matrix.largest_row()
    diagonal = grid.create_active()
    matrix.diagonal(diagonal)
    assert matrix._mat is None
    wanted = image(grid, matrix.mat.mult)
    for values in (found, backwards, image(grid, matrix.product)):
        np.testing.assert_allclose(values, wanted, rtol=1e-12, atol=1e-12)
    norm = matrix.mat.norm(PETSc.NormType.NORM_INFINITY)
    assert largest == pytest.approx(norm, rel=1e-12)
    again = matrix.mat.getDiagonal()
    np.testing.assert_array_equal(again.getArray(), diagonal.getArray())
    matrix.freeze()
    for offset, values in matrix.planes().items():
        np.testing.assert_array_equal(planes[offset], values)
    matrix.destroy()


@pytest.mark.parallel([1, 2])
def test_new_values_replace_the_ones_before_with_and_without_a_matrix():
    grid = Grid((12, 9))
    matrix, other = filled(grid), filled(grid, 1)
    wanted = image(grid, other.product)
    values = other.entries()
    matrix.set_values(values)
    np.testing.assert_allclose(image(grid, matrix.product), wanted, rtol=1e-13)
    matrix.mat  # noqa: B018
    matrix.set_values(2 * values)
    np.testing.assert_allclose(image(grid, matrix.product), 2 * wanted, rtol=1e-12)
    for item in (matrix, other):
        item.destroy()


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.parametrize("axis", [0, 1])
def test_a_seam_that_is_not_symmetric_is_seen(axis):
    """Of the first cells with those before, on other ranks or the last ones."""
    grid = Grid((12, 9), boundaries=AROUND)
    matrix = filled(grid)
    assert matrix._half is not None
    values = matrix.entries()
    before = matrix.offsets.index(tuple(-int(d == axis) for d in range(2)))
    if grid.layout.position[axis] == 0:
        first = (slice(None),) * axis + (slice(1),)
        values[before][first] *= 2
    matrix.set_values(values)
    assert matrix._half is None
    x, y = (image(grid, m.multTranspose) for m in (matrix.operator, matrix.mat))
    np.testing.assert_array_equal(x, y)
    matrix.destroy()


def test_what_is_known_is_not_read_back_from_the_matrix(monkeypatch):
    matrix = filled(Grid((12, 9)))
    planes = {o: v.copy() for o, v in matrix.planes().items()}
    matrix.mat  # noqa: B018
    monkeypatch.setattr(StencilMatrix, "_read", None)
    for offset, values in matrix.kept_planes().items():
        np.testing.assert_array_equal(planes[offset], values)
    matrix.destroy()


@pytest.mark.parallel([1, 2])
def test_matrices_that_are_not_symmetric_are_petscs():
    grid = Grid((12, 9))
    matrix = StencilMatrix(grid)
    flow = np.ones(grid.local_shape)
    planes = matrix.zeroed()
    Diffusion(grid).at({"D": flow}).add_planes(planes)
    term = Advection(grid, velocity=(1.0, 0.5))
    term.at({}).add_planes(planes)
    matrix.refresh()
    assert matrix._mat is not None
    assert matrix.operator.getType() == "python"
    x, y = (image(grid, m.multTranspose) for m in (matrix.operator, matrix.mat))
    np.testing.assert_array_equal(x, y)
    matrix.destroy()


@pytest.mark.parallel([1, 2])
def test_solves_on_planes_need_no_matrix_until_an_option_asks_for_one(options):
    grid = Grid((40, 32), boundaries={"x-": "dirichlet"})
    for option, made in ((None, False), ("ksp_type", False), ("pc_type", True)):
        matrix = filled(grid)
        if option:
            options["t_" + option] = {"ksp_type": "cg", "pc_type": "jacobi"}[option]
        solver = LinearSolver(matrix, grid, "t_", "planes", rtol=1e-10)
        b, x, r = (grid.create_active() for _ in range(3))
        b.setRandom()
        for _ in range(2):
            matrix.set_values(2 * matrix.entries())
            solver.update()
            solver.solve(b, x)
            matrix.product(x, r)
            r.axpy(-1, b)
            assert r.norm() < 1e-7 * b.norm()
        assert (matrix._mat is not None) is made
        solver.destroy()
        matrix.destroy()

"""The cycle and the conjugate gradients on planes against the assembled matrices."""

import numpy as np
import pytest
from mpi4py import MPI
from petsc4py import PETSc

from npde_opt.errors import InputError, SolverError
from npde_opt.forward import Equation, Experiment, Steady
from npde_opt.grids import Grid
from npde_opt.linear import LinearSolver
from npde_opt.linear.geometric import Hierarchy
from npde_opt.linear.planes import gradients, levels, stages
from npde_opt.linear.planes.cycle import PlaneCycle
from npde_opt.linear.planes.levels import dense
from npde_opt.misfits import LeastSquares
from npde_opt.objective import Objective
from npde_opt.observations import at_points
from npde_opt.operators.stencils import StencilMatrix
from npde_opt.parameters import ParameterSpace, Unknown
from npde_opt.terms import Diffusion
from npde_opt.verify import dot_product_test, taylor_test

WALLS = dict.fromkeys(("x-", "x+", "y-", "y+"), "dirichlet")
ALONG_X = {"x-": "periodic", "x+": "periodic"}
ALONG_Y = {"y-": "periodic", "y+": "periodic"}
STRETCHED = [np.cumsum(np.r_[0, 1.1 ** np.arange(24)]), np.linspace(0, 30, 22) ** 1.2]
GRIDS = {
    "walls": ((64, 48), WALLS, None),
    "periodic along x, odd": ((37, 50), ALONG_X, None),
    "periodic along x, even": ((50, 37), ALONG_X | {"y-": "dirichlet"}, None),
    "periodic along y, odd": ((40, 37), ALONG_Y, None),
    "periodic": ((38, 41), ALONG_X | ALONG_Y, None),
    "stretched": ((24, 21), WALLS, STRETCHED),
    "long cells": ((16, 120), WALLS, [np.linspace(0, 4, 17), np.linspace(0, 1, 121)]),
    "volume": ((12, 13, 14), {}, None),
    "volume, periodic": (
        (12, 13, 14),
        {"z-": "periodic", "z+": "periodic"} | ALONG_X,
        None,
    ),
    "volume, one axis": ((16, 11, 40), ALONG_X | {"y-": "dirichlet"}, None),
}
MASKED = {
    "masked": ((53, 48), ALONG_X | {"y-": "dirichlet"}, None),
    "masked volume": ((14, 15, 13), {}, None),
}
"""An ellipsoid with a cut and a few cells by themselves."""
PREFIX = "planetest_"


def problem(name, unit=1.0, spread=1.0, decay=0.3):
    shape, boundaries, edges = (GRIDS | MASKED)[name]
    active = inside(shape) if name in MASKED else None
    grid = Grid(
        shape, boundaries=boundaries, edges=edges, active=active, comm=MPI.COMM_SELF
    )
    k = unit * np.exp(spread * np.random.default_rng(0).standard_normal(shape))
    matrix = StencilMatrix(grid)
    fill(matrix, k, unit * decay)
    return grid, matrix


def inside(shape):
    x = np.stack(np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij"))
    found = (x**2).sum(0) < 1.2
    found[shape[0] // 2, shape[1] // 2 :] = False
    found[-1] |= np.random.default_rng(5).random(shape[1:]) < 0.3
    return found


def fill(matrix, k, decay):
    planes = matrix.zeroed()
    Diffusion(matrix.grid, "k").at({"k": np.asfortranarray(k)}).add_planes(planes)
    planes[matrix.offsets[0]] += decay * matrix.grid.volume
    matrix.refresh()


def solver_of(grid, matrix, **settings):
    solver = LinearSolver(matrix, grid, PREFIX, "planes", **settings)
    solver.update()
    return solver


@pytest.mark.parametrize("name", GRIDS)
def test_coarse_matrices_are_those_of_the_hierarchy(name):
    grid, matrix = problem(name)
    cycle = PlaneCycle(grid, matrix.offsets)
    cycle.update(matrix.planes())
    hierarchy = Hierarchy(grid)
    hierarchy.update(matrix)
    assert len(cycle.levels) == len(hierarchy.matrices) + 1 > 1
    for level, coarse in zip(cycle.levels[1:], hierarchy.matrices, strict=True):
        wanted = coarse.mat.convert("dense").getDenseArray()
        found = dense(level.planes(), cycle.periodic) / cycle.scale
        assert np.allclose(found, wanted, rtol=0, atol=5e-7 * np.abs(wanted).max())


@pytest.mark.parametrize("name", GRIDS | MASKED)
def test_the_cycle_is_symmetric_and_positive(name):
    grid, matrix = problem(name)
    cycle = PlaneCycle(grid, matrix.offsets)
    cycle.update(matrix.planes())
    x, y = matrix.mat.createVecs()
    drawn = np.random.default_rng(1).standard_normal((4, x.getLocalSize()))
    images = []
    for one in drawn:
        x.setArray(one)
        cycle.apply(None, x, y)
        images.append(y.getArray().copy())
    products = drawn @ np.array(images).T
    size = np.abs(np.diag(products)).max()
    assert np.allclose(products, products.T, rtol=0, atol=1e-5 * size)
    assert np.all(np.linalg.eigvalsh(products) > 0)


@pytest.mark.parametrize("name", GRIDS | MASKED)
def test_one_call_does_what_the_legs_of_all_levels_do(name, monkeypatch):
    grid, matrix = problem(name)
    cycle = PlaneCycle(grid, matrix.offsets)
    cycle.update(matrix.kept_planes())
    top, rng = cycle.top, np.random.default_rng(3)
    found = []
    for cells in (stages.CELLS, 0, stages.CELLS):
        monkeypatch.setattr(stages, "CELLS", cells)
        top.shape.put(rng.standard_normal(grid.active_size), 1.0, top.b)
        given = top.inner(top.b).copy()
        sums = cycle.cycle()
        assert (cycle.stage._whole is not None) == (len(cycle.levels) > 1)
        found.append((given, top.inner(top.x).copy(), np.array(sums)))
        top.free()  # other fields, which the table has to follow
        rng = np.random.default_rng(3)
    for own in found[1:]:
        for one, other in zip(found[0], own, strict=True):
            np.testing.assert_allclose(
                other, one, rtol=2e-5, atol=1e-6 * abs(one).max()
            )


@pytest.mark.parametrize("name", ["volume", "masked", "masked volume"])
def test_bounds_of_eigenvalues_hold_and_are_tight(name, monkeypatch):
    """Coarse cells beyond a rim reach few fine ones, and are coupled many times what they have on
    their diagonals: Gershgorin's bound is large there."""
    monkeypatch.setattr(levels, "COARSEST", 100)
    monkeypatch.setattr(PlaneCycle, "_hard", lambda self, planes: "")
    grid, matrix = problem(name)
    cycle = PlaneCycle(grid, matrix.offsets)
    cycle.update(matrix.planes())
    below = cycle.levels[1:]
    for level in below:
        A = dense(level.planes(), cycle.periodic)
        d = np.diag(A)
        root = np.where(d > 0, d, 1) ** -0.5
        largest = np.linalg.eigvalsh(root[:, None] * A * root).max()
        assert largest * (1 - 1e-5) <= min(level.bounds) <= 3.7
    assert name not in MASKED or max(level.bounds[0] for level in below) > 4


@pytest.mark.parametrize("norm", ["preconditioned", "natural", "unpreconditioned"])
@pytest.mark.parametrize("name", GRIDS | MASKED)
def test_solves(name, norm):
    grid, matrix = problem(name)
    solver = solver_of(grid, matrix, norm=norm, rtol=1e-10)
    assert solver.ksp.getType() == "python"
    b, x = matrix.mat.createVecs()
    b.setArray(np.random.default_rng(2).standard_normal(b.getLocalSize()))
    solver.solve(b, x)
    few = solver.ksp.getIterationNumber()
    r = b.duplicate()
    matrix.mat.mult(x, r)
    r.aypx(-1, b)
    assert r.norm() <= 1e-8 * b.norm()
    # Cells by themselves at a rim cost as many again.
    assert 1 < few <= (40 if name in MASKED else 25)
    plain = LinearSolver(matrix, grid, "plain_", "geometric", rtol=1e-12)
    plain.update()
    other = x.duplicate()
    plain.solve(b, other)
    other.axpy(-1.0, x)
    assert other.norm() <= 1e-7 * x.norm()
    plain.destroy()
    # From the answer nothing is left to do.
    solver.ksp.setInitialGuessNonzero(True)
    solver.solve(b, x)
    assert solver.ksp.getIterationNumber() <= 1
    solver.destroy()


def test_takes_new_values():
    grid, matrix = problem("walls")
    solver = solver_of(grid, matrix, rtol=1e-10)
    fill(matrix, 1 + np.random.default_rng(3).random(grid.shape), 0.1)
    solver.update()
    b, x = matrix.mat.createVecs()
    b.set(1.0)
    solver.solve(b, x)
    r = b.duplicate()
    matrix.mat.mult(x, r)
    r.aypx(-1, b)
    assert r.norm() <= 1e-8 * b.norm()
    solver.destroy()


@pytest.mark.parametrize(
    ("unit", "right"),
    [(1e-30, 1e20), (1e30, 1e-25), (1.0, 1e-60), (1.0, 1e-170), (1e30, 1e150)],
)
@pytest.mark.parametrize("one_call", [True, False])
def test_units_do_not_matter(unit, right, one_call, monkeypatch):
    if not one_call:
        monkeypatch.setattr(stages.Stage, "_is_one_call", False)
    found = []
    for k, f in ((1.0, 1.0), (unit, right)):
        grid, matrix = problem("walls", k)
        solver = solver_of(grid, matrix, rtol=1e-9)
        b, x = matrix.mat.createVecs()
        b.set(f)
        solver.solve(b, x)
        found.append((x.getArray() * k / f, solver.ksp.getIterationNumber()))
        solver.destroy()
    assert np.allclose(found[0][0], found[1][0], rtol=1e-8)
    assert found[0][1] == found[1][1]


@pytest.mark.parametrize("shape", [(90, 90, 1), (150, 150, 2), (300, 40, 3)])
def test_few_cells_along_one_axis(shape):
    """Of which no line is left out by those that the values are judged by."""
    grid = Grid(shape, boundaries={"x-": "dirichlet"}, comm=MPI.COMM_SELF)
    matrix = StencilMatrix(grid)
    planes = matrix.zeroed()
    ones = np.ones(grid.local_shape, order="F")
    Diffusion(grid, "k").at({"k": ones}).add_planes(planes)
    matrix.refresh()
    solver = solver_of(grid, matrix)
    b, x = grid.create_active(), grid.create_active()
    b.set(1.0)
    solver.solve(b, x)
    assert solver.true_residual < 1e-5
    solver.destroy()


def test_contrasts_of_a_hundred_million():
    grid, matrix = problem("walls", spread=3.0)
    solver = solver_of(grid, matrix, rtol=1e-10)
    b, x = matrix.mat.createVecs()
    b.set(1.0)
    solver.solve(b, x)
    assert solver.ksp.getIterationNumber() <= 60
    assert solver.true_residual <= 1e-6
    solver.destroy()


def test_a_right_side_of_zero_and_one_of_nan():
    grid, matrix = problem("walls")
    solver = solver_of(grid, matrix)
    b, x = matrix.mat.createVecs()
    x.set(1.0)
    solver.solve(b, x)
    assert x.norm() == 0
    b.set(np.nan)
    with pytest.raises(SolverError):
        solver.solve(b, x)
    solver.destroy()


def test_other_krylov_methods_take_the_cycle():
    grid, matrix = problem("walls")
    PETSc.Options()[PREFIX + "ksp_type"] = "cg"
    try:
        solver = solver_of(grid, matrix, rtol=1e-10)
        assert solver.ksp.getType() == "cg"
        b, x = matrix.mat.createVecs()
        b.set(1.0)
        solver.solve(b, x)
        assert solver.ksp.getIterationNumber() <= 20
        solver.destroy()
    finally:
        PETSc.Options().delValue(PREFIX + "ksp_type")


def test_too_few_iterations_are_told():
    grid, matrix = problem("walls")
    solver = solver_of(grid, matrix, rtol=1e-12)
    solver.ksp.setTolerances(max_it=2)
    b, x = matrix.mat.createVecs()
    b.set(1.0)
    with pytest.raises(SolverError, match="after 2 iterations"):
        solver.solve(b, x)
    solver.destroy()


def test_a_residual_that_is_small_enough_ends_a_solve():
    """The tolerance in the residual's own unit, which corrections of a step are solved to."""
    grid, matrix = problem("walls")
    solver = LinearSolver(matrix, grid, PREFIX, "planes", norm="unpreconditioned")
    solver.update()
    b, x = matrix.mat.createVecs()
    b.set(1.0)
    taken = []
    for atol in (1e-300, 1e-3 * b.norm()):
        solver.ksp.setTolerances(atol=atol)
        solver.solve(b, x)
        taken.append(solver.ksp.getIterationNumber())
    r = b.duplicate()
    matrix.mat.mult(x, r)
    r.aypx(-1.0, b)
    assert 1e-8 * b.norm() < r.norm() <= 1e-3 * b.norm() and taken[1] < taken[0]
    solver.destroy()


def test_what_does_not_fit_is_refused():
    grid, matrix = problem("walls")
    with pytest.raises(InputError, match="planes"):
        LinearSolver(matrix, grid, PREFIX, "planes", symmetric=False)


@pytest.mark.parametrize("masked", [False, True])
def test_derivatives(masked):
    """Solved to 1e-13, which single precision alone is far from."""
    PETSc.Options()["state_ksp_rtol"] = "1e-13"
    active = inside((26, 24)) if masked else None
    grid = Grid((26, 24), boundaries=WALLS, active=active, comm=MPI.COMM_SELF)
    space = ParameterSpace(grid, [Unknown("D", "log")])
    points = np.random.default_rng(5).random((7, 2)) * 0.3 + 0.15
    run = Experiment(load=np.asfortranarray(grid.volume * grid.active))
    seen = [at_points(grid, (), points)]
    forward = Steady(
        space, Equation(grid, [Diffusion(grid, "D")]), {}, [run], seen, recipe="planes"
    )
    data = np.random.default_rng(6).standard_normal((len(points), 1))
    J = Objective(forward, [LeastSquares(data, 0.2, forward.layouts[0])], {})
    m, dm = space.create_vec(), space.create_vec()
    for seed, vec in enumerate((m, dm)):
        space.own(vec, "D")[...] = np.random.default_rng(seed).random(grid.shape)
    orders = taylor_test(J, m, dm)
    assert orders.problems() == [], orders
    lin = forward.linearize(m)
    assert (
        dot_product_test(lin, dm, [predicted.copy() for predicted in lin.data]) <= 1e-10
    )
    lin.destroy()
    J.destroy()
    PETSc.Options().delValue("state_ksp_rtol")


@pytest.mark.parametrize("shape", [(128, 129), (256, 256)])
def test_a_mean_that_only_a_small_mass_holds(shape):
    """No flux all round: what single precision rounds is as large as the mass."""
    grid = Grid(shape)
    matrix = StencilMatrix(grid)
    planes = matrix.zeroed()
    Diffusion(grid).at({"D": np.ones(grid.local_shape)}).add_planes(planes)
    planes[matrix.offsets[0]] += 1e-3 * grid.volume
    matrix.refresh()
    solver = LinearSolver(matrix, grid, PREFIX, "planes", norm="unpreconditioned")
    b, x = grid.create_active(), grid.create_active()
    grid.put(grid.view(grid.standard_normal(1)), b)
    solver.update()
    solver.solve(b, x)
    assert solver.iterations <= 10


@pytest.mark.parallel([1])
def test_solves_that_keep_no_work_are_the_same(monkeypatch):
    grid, matrix = problem("walls")
    found = []
    for large in (1 << 30, 1):
        monkeypatch.setattr(gradients, "LARGE", large)
        solver = solver_of(grid, matrix, rtol=1e-10)
        b, x = matrix.mat.createVecs()
        b.set(1.0)
        for _ in range(2):
            solver.solve(b, x)
            found.append(x.getArray().copy())
        assert ("b" in vars(solver.planes.top)) is (large > 1)
        solver.destroy()
    for other in found[1:]:
        np.testing.assert_array_equal(found[0], other)


@pytest.mark.parametrize("size", [1, 2, 63, 64, 65, 200])
def test_inverses_by_halves(size, monkeypatch):
    monkeypatch.setattr(stages, "SMALL", 8)
    drawn = np.random.default_rng(size).standard_normal((size, size))
    A = drawn @ drawn.T + size * np.diag(np.geomspace(1e-3, 1e3, size))
    given, found = A.copy(), stages.inverted(A, 1e-6)
    assert np.array_equal(A, given)
    wanted = np.linalg.inv(A)
    scale = np.sqrt(np.outer(np.diag(wanted), np.diag(wanted)))
    assert np.abs((found - wanted) / scale).max() < 1e-9
    # What is singular but for rounding is inverted from its eigenvalues, which are no less.
    singular = (size + 1) * np.eye(size + 1) - 1
    largest = np.linalg.eigvalsh(stages.inverted(singular, 1e-6)).max()
    assert 0 < largest < 1.1e6
    assert np.isnan(stages.inverted(np.full((size, size), np.nan), 1e-6)).all()

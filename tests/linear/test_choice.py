"""A factorization or a cycle: what is chosen on a table of problems, and that counts correct it."""

import numpy as np
import pytest
from mpi4py import MPI
from petsc4py import PETSc

from npde_opt.errors import SolverError
from npde_opt.forward import Equation, Evolution, Experiment, Steady
from npde_opt.forward.schemes import SCHEMES
from npde_opt.grids import Grid
from npde_opt.linear import LinearSolver
from npde_opt.linear.choice import Reuse, choice, fills_planes
from npde_opt.misfits import LeastSquares
from npde_opt.objective import Objective
from npde_opt.observations import at_points, snapshots
from npde_opt.operators.stencils import StencilMatrix
from npde_opt.parameters import ParameterSpace, Unknown
from npde_opt.regularizers.quadratic import Gradient
from npde_opt.terms import Diffusion
from npde_opt.verify import dot_product_test, taylor_test

PREFIX = "choose_"
ENDS = {"x-": "dirichlet", "x+": "dirichlet"}
GRADIENT, NEWTON, STEPS, PRIOR = (
    Reuse(10, 2),
    Reuse(10, 10),
    Reuse(10, 100),
    Reuse(1, 200),
)
TABLE = [
    ((64, 64), "geometric", GRADIENT, "direct"),
    ((128, 128), "planes", GRADIENT, "planes"),
    ((128, 128), "planes", STEPS, "direct"),
    ((128, 128), "planes", PRIOR, "direct"),
    ((256, 256), "planes", NEWTON, "planes"),
    ((512, 512), "planes", STEPS, "planes"),
    ((2048, 2048), "planes", PRIOR, "planes"),
    ((2000, 12), "planes", GRADIENT, "direct"),  # a strip: small separators
    ((12, 12, 12), "geometric", STEPS, "direct"),
    ((32, 32, 32), "planes", NEWTON, "planes"),
    ((24, 24, 24), "geometric", GRADIENT, "geometric"),
]


@pytest.mark.parametrize(("shape", "cycle", "reuse", "expected"), TABLE)
def test_the_table_of_problems(shape, cycle, reuse, expected):
    grid = Grid(shape, boundaries=ENDS)
    assert choice(grid, cycle, True, reuse).recipe == expected


@pytest.mark.parallel([1, 2])
@pytest.mark.parametrize(
    ("reuse", "expected"),
    [(Reuse(10, 6), "planes"), (STEPS, "direct"), (PRIOR, "direct")],
)
def test_two_ranks_choose_as_one_does(reuse, expected):
    """With factors of our own on both, and messages that cost what they do."""
    grid = Grid((128, 128), boundaries=ENDS)
    solver = LinearSolver(StencilMatrix(grid), grid, PREFIX, reuse=reuse)
    assert solver.recipe == expected
    solver.destroy()


def test_factors_that_take_too_much_memory_are_never_chosen():
    grid = Grid((1200, 1200), boundaries=ENDS)
    assert not choice(grid, "planes", True, Reuse(1, 10**9)).is_passed(1e6)


def system(shape, spread):
    """Diffusion through cells whose logarithms spread so far."""
    grid = Grid(shape, boundaries=ENDS)
    matrix = StencilMatrix(grid)
    D = np.exp(spread * np.random.default_rng(0).standard_normal(shape))
    Diffusion(grid).at({"D": D[grid.local_slice]}).add_planes(matrix.zeroed())
    matrix.refresh()
    return grid, matrix


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.parametrize(("spread", "after"), [(0.0, "geometric"), (5.0, "direct")])
def test_what_takes_too_many_iterations_is_factored_next(spread, after, monkeypatch):
    """Cells of random conductivities over many decades: the cycle takes dozens of iterations."""
    monkeypatch.setattr("npde_opt.linear.choice.MESSAGES", 0.0)
    grid, matrix = system((40, 36), spread)
    solver = LinearSolver(
        matrix, grid, PREFIX, norm="unpreconditioned", reuse=Reuse(1, 1)
    )
    b, x, r = (grid.create_active() for _ in range(3))
    grid.put(grid.view(grid.standard_normal(1)), b)
    used = []
    for _ in range(2):
        solver.update()
        solver.solve(b, x)
        used.append(solver.recipe)
        matrix.mat.mult(x, r)
        r.axpy(-1, b)
        assert r.norm() < 1e-7 * b.norm()
    assert used == ["geometric", after]
    assert solver.asked.startswith(
        "direct (direct: " if after == "direct" else "1e-08 on"
    )
    assert "by geometric at" in solver.asked
    solver.destroy()


@pytest.mark.parallel([1, 2])
@pytest.mark.parametrize("option", ["ksp_type cg", "pc_type mg", "recipe geometric"])
def test_what_is_asked_for_is_taken(option):
    key, value = option.split()
    grid, matrix = system((40, 36), 0.0)
    PETSc.Options()[PREFIX + key] = value
    try:
        solver = LinearSolver(matrix, grid, PREFIX, reuse=PRIOR)
    finally:
        PETSc.Options().delValue(PREFIX + key)
    assert solver.recipe == "geometric" and solver.choice is None
    solver.destroy()


def forward_map(kind, recipe="auto"):
    """Diffusion between two sides, steady or in four implicit steps."""
    grid = Grid((20, 18), boundaries=ENDS)
    space = ParameterSpace(grid, [Unknown("D", "log")])
    equation = Equation(grid, [Diffusion(grid, "D")])
    if kind == "steady":
        seen = [at_points(grid, (), np.array([[0.4, 0.5], [0.7, 0.2]]))]
        run = Experiment(boundary={"x+": 1.0})
        return Steady(space, equation, {}, [run], seen, recipe=recipe)
    run, seen = Experiment({"u": "x*(1 - x)"}), [snapshots(grid, [1.0])]
    how, times = SCHEMES["imex-euler"], np.linspace(0, 1, 5)
    return Evolution(space, equation, {}, [run], seen, how, times, recipe=recipe)


@pytest.mark.parallel([1, 2])
@pytest.mark.parametrize("kind", ["steady", "evolution"])
def test_forward_maps_say_how_often_they_solve(kind):
    forward = forward_map(kind)
    at = forward.linearize(forward.space.from_values({"D": 0.1}))
    assert forward.asked()["state"].startswith("direct (direct: ")
    at.destroy()
    forward.destroy()


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.parametrize("kind", ["steady", "evolution"])
@pytest.mark.parametrize("recipe", ["auto", "direct", "geometric", "planes"])
def test_derivatives_through_every_path(kind, recipe):
    if recipe == "planes" and MPI.COMM_WORLD.size > 1:
        pytest.skip("too few cells a rank for planes")
    PETSc.Options()["state_ksp_rtol"] = "1e-13"
    forward = forward_map(kind, recipe)
    (layout,) = forward.layouts
    data = np.full((layout.size, 1), 0.3)
    J = Objective(forward, [LeastSquares(data, 0.2, layout)], {})
    space = forward.space
    m, dm = space.create_vec(), space.create_vec()
    for seed, vec in enumerate((m, dm)):
        whole = np.random.default_rng(seed).random(space.grid.shape)
        space.own(vec, "D")[...] = whole[space.grid.local_slice] - seed / 2
    orders = taylor_test(J, m, dm)
    assert orders.problems() == [], orders
    lin = forward.linearize(m)
    predicted = [found.copy() for found in lin.data]
    assert dot_product_test(lin, dm, predicted) <= 1e-10
    lin.destroy()
    J.destroy()
    PETSc.Options().delValue("state_ksp_rtol")


@pytest.mark.parallel([1, 2])
def test_conductors_are_factored_before_any_solve():
    """Levels that follow the values take several times as long as plain ones."""
    grid = Grid((128, 120), boundaries=ENDS)
    D = np.ones(grid.shape)
    D[30:32, 5:90] = D[30:100, 40:42] = 1e6
    matrix = StencilMatrix(grid)
    Diffusion(grid).at({"D": D[grid.local_slice]}).add_planes(matrix.zeroed())
    matrix.refresh()
    solver = LinearSolver(matrix, grid, PREFIX, reuse=Reuse(10, 2))
    first = solver.recipe
    solver.update()
    b, x = grid.create_active(), grid.create_active()
    b.set(1.0)
    solver.solve(b, x)
    assert (first, solver.recipe, solver.iterations) == ("planes", "direct", 1)
    assert solver.true_residual < 1e-5
    solver.destroy()


@pytest.mark.parallel([1, 2])
def test_what_the_cycle_cannot_solve_is_factored_at_once(monkeypatch):
    """More iterations than are allowed, seen the first time."""
    monkeypatch.setattr("npde_opt.linear.choice.MESSAGES", 0.0)
    grid, matrix = system((128, 120), 3.0)
    solver = LinearSolver(
        matrix, grid, PREFIX, norm="unpreconditioned", reuse=Reuse(10, 2)
    )
    first = solver.recipe
    b, x = grid.create_active(), grid.create_active()
    grid.put(grid.view(grid.standard_normal(1)), b)
    solver.update()
    solver.ksp.setTolerances(max_it=4)
    solver.solve(b, x)
    assert (first, solver.recipe) == ("planes", "direct")
    assert solver.true_residual < 1e-6
    solver.solve_transpose(b, x)


def test_a_matrix_type_of_the_users_is_solved_by_the_cycle():
    name = PREFIX + "mat_type"
    PETSc.Options()[name] = "sell"
    try:
        grid = Grid((40, 36), boundaries=ENDS)
        matrix = StencilMatrix(grid, PREFIX)
        Diffusion(grid).at({"D": np.ones(grid.local_shape)}).add_planes(matrix.zeroed())
        matrix.refresh()
        solver = LinearSolver(matrix, grid, PREFIX, reuse=Reuse(10, 100))
        b, x = grid.create_active(), grid.create_active()
        b.set(1.0)
        solver.update()
        solver.solve(b, x)
    finally:
        PETSc.Options().delValue(name)
    assert solver.recipe == "geometric"


def test_a_singular_matrix_is_told_whatever_the_recipe():
    J = Gradient(Grid((40, 36)), 1.0, mass_weight=0.0)
    b, x = J.grid.create_active(), J.grid.create_active()
    b.set(1.0)
    with pytest.raises(SolverError):
        J.precondition(b, b, x)


def test_many_matrices_have_room_for_small_factors_only():
    grid = Grid((256, 256), boundaries=ENDS)
    assert np.isfinite(choice(grid, "planes", True, Reuse(10, 100)).limit)
    assert not np.isfinite(choice(grid, "planes", True, Reuse(10, 100, 24)).limit)


@pytest.mark.parallel([1, 2])
def test_loops_over_rows_under_a_mask_want_more_cells_where_ranks_exchange_them():
    half = np.zeros((160, 160), bool)
    half[:, :80] = True
    assert fills_planes(Grid((160, 160))) and fills_planes(Grid((1280, 160)))
    masked = Grid((160, 160), active=half)
    assert fills_planes(masked) == (MPI.COMM_WORLD.size == 1)
    assert fills_planes(Grid((1280, 320), active=np.tile(half, (8, 2))))
    assert not fills_planes(Grid((160, 640), active=np.pad(half, ((0, 0), (0, 480)))))

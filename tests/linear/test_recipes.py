"""Recipes: each solves, those that cannot say so."""

import numpy as np
import pytest
from petsc4py import PETSc

from npde_opt.errors import InputError, SolverError
from npde_opt.grids import Boundary, Grid
from npde_opt.linear import RECIPES, LinearSolver, halving
from npde_opt.linear.direct import direct_options, has_package, is_there
from npde_opt.linear.geometric import Hierarchy
from npde_opt.operators.stencils import StencilMatrix
from npde_opt.terms import Advection, Diffusion

SIDES = {"x-": "dirichlet", "y+": Boundary("robin", 2.0)}
PREFIX = "lintest_"
MINE = [r for r in RECIPES if r not in ("hypre", "planes") and is_there(r)]


@pytest.fixture
def options():
    """PETSc's options; what a test sets under the prefix is taken back."""
    database = PETSc.Options()
    yield database
    for key in database.getAll():
        if key.startswith(PREFIX):
            database.delValue(key)


def problem(shape=(30, 32), sides=SIDES, active=None, velocity=None, contrast=1.0):
    grid = Grid(shape, boundaries=sides, active=active)
    D = np.exp(contrast * np.random.default_rng(0).standard_normal(shape))[
        grid.local_slice
    ]
    matrix = StencilMatrix(grid)
    planes = matrix.zeroed()
    Diffusion(grid).at({"D": D}).add_planes(planes)
    if velocity:
        Advection(grid, velocity).at({}).add_planes(planes)
    matrix.refresh()
    return grid, matrix


def residual(grid, mat, solver, transpose=False):
    b, x, r = (grid.create_active() for _ in range(3))
    grid.put(grid.view(grid.standard_normal(1)), b)
    (solver.solve_transpose if transpose else solver.solve)(b, x)
    (mat.multTranspose if transpose else mat.mult)(x, r)
    r.axpy(-1, b)
    return r.norm() / b.norm()


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.parametrize("velocity", [None, (5.0, -2.0)])
@pytest.mark.parametrize("recipe", [*MINE, "auto"])
def test_each_recipe_solves(recipe, velocity, options):
    grid, matrix = problem(velocity=velocity)
    options[PREFIX + "ksp_rtol"] = "1e-11"
    solver = LinearSolver(matrix, grid, PREFIX, recipe, symmetric=velocity is None)
    solver.update()
    assert solver.recipe == ("geometric" if recipe == "auto" else recipe)
    for transpose in (False, True):
        assert residual(grid, matrix.mat, solver, transpose) < 1e-8
    assert solver.solves == 2 and 2 <= solver.iterations <= 120
    solver.destroy()


@pytest.mark.parallel([1, 2])
@pytest.mark.parametrize("recipe", MINE)
def test_new_values_are_solved_with_after_an_update(recipe):
    grid, matrix = problem()
    solver = LinearSolver(matrix, grid, PREFIX, recipe, rtol=1e-10)
    solver.update()
    residual(grid, matrix.mat, solver)
    planes = matrix.zeroed()
    D = np.exp(np.random.default_rng(5).standard_normal(grid.shape))[grid.local_slice]
    Diffusion(grid).at({"D": D}).add_planes(planes)
    matrix.refresh()
    solver.update()
    assert residual(grid, matrix.mat, solver) < 1e-7
    solver.destroy()


def test_the_option_wins_and_the_options_are_left_as_they_were(options):
    grid, matrix = problem((12, 12))
    options[PREFIX + "recipe"] = "gamg"
    options[PREFIX + "ksp_type"] = "gmres"
    before = options.getAll()
    solver = LinearSolver(matrix, grid, PREFIX, "direct")
    solver.update()
    assert (
        solver.recipe == "gamg"
        and solver.ksp.getType() == "gmres"
        and solver.ksp.getPC().getType() == "gamg"
    )
    assert options.getAll() == before
    solver.destroy()


@pytest.mark.parallel([1, 2])
@pytest.mark.parametrize("method", ["fgmres", "minres", "bcgs"])
@pytest.mark.parametrize("norm", [None, "natural"])
def test_other_krylov_methods_measure_as_they_can(method, norm, options):
    grid, matrix = problem()
    options[PREFIX + "ksp_type"] = method
    solver = LinearSolver(matrix, grid, PREFIX, rtol=1e-10, norm=norm)
    solver.update()
    assert solver.ksp.getType() == method
    assert residual(grid, matrix.mat, solver) < 1e-7
    solver.destroy()


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.parametrize("velocity", [None, (5.0, -2.0)])
@pytest.mark.parametrize("shift", [0.0, -700.0])
def test_direct_solves_factorize_symmetric_matrices_as_such(velocity, shift):
    """Indefinite ones too: L D L^T meets the pivots of LU."""
    grid, matrix = problem(velocity=velocity)
    values = matrix.entries()
    values[0] += shift * grid.volume
    matrix.set_values(values)
    solver = LinearSolver(matrix, grid, PREFIX, "direct", symmetric=velocity is None)
    solver.update()
    assert all(
        residual(grid, matrix.mat, solver, transpose) < 1e-10
        for transpose in (False, True)
    )
    if grid.comm.size == 1:
        assert solver.ksp.getPC().getType() == ("lu" if velocity else "cholesky")
    solver.destroy()


@pytest.mark.parallel([1, 2])
@pytest.mark.parametrize(
    ("norm", "text"),
    [
        ("preconditioned", "1e-08 on the preconditioned residual"),
        ("unpreconditioned", "1e-08 on the true residual"),
        ("natural", "1e-08 on the natural norm of the residual"),
    ],
)
def test_a_tolerance_names_its_norm(norm, text, options):
    grid, matrix = problem()
    options[PREFIX + "ksp_norm_type"] = norm
    solver = LinearSolver(matrix, grid, PREFIX)
    solver.update()
    residual(grid, matrix.mat, solver)
    assert solver.tolerance.text == text
    solver.destroy()


@pytest.mark.parallel([1, 2])
def test_an_unknown_recipe_is_refused():
    grid, matrix = problem((8, 8))
    with pytest.raises(InputError, match="lintest_recipe.*geometric"):
        LinearSolver(matrix, grid, PREFIX, "cholmad")


@pytest.mark.parallel([1, 2])
@pytest.mark.parametrize(
    ("recipe", "package"),
    [("hypre", "hypre"), ("cholmod", "suitesparse"), ("mumps", "mumps")],
)
def test_what_petsc_lacks_is_named(recipe, package, monkeypatch):
    monkeypatch.setattr("npde_opt.linear.direct.has_package", lambda name: False)
    grid, matrix = problem((8, 8))
    with pytest.raises(InputError, match=f"{recipe}.*--download-{package}.*direct"):
        LinearSolver(matrix, grid, PREFIX, recipe)


@pytest.mark.parametrize("ranks", [1, 3])
def test_packages_factorize_what_they_can(ranks):
    """CHOLMOD the whole matrix on every rank, MUMPS its rows where they are."""
    cholmod = direct_options("cholmod", PREFIX, ranks, True)
    inner = "redundant_" if ranks > 1 else ""
    assert cholmod[f"{inner}pc_factor_mat_solver_type"] == "cholmod"
    assert cholmod[f"{inner}pc_type"] == "cholesky"
    assert ("redundant" in cholmod.values()) == (ranks > 1)
    mumps = direct_options("mumps", PREFIX, ranks, False)
    assert mumps["pc_type"] == "lu" and mumps["pc_factor_mat_solver_type"] == "mumps"
    with pytest.raises(InputError, match="cholmod.*symmetric.*mumps"):
        direct_options("cholmod", PREFIX, ranks, False)


@pytest.mark.skipif(not has_package("hypre"), reason="this PETSc has no hypre")
def test_hypre_solves():
    grid, matrix = problem()
    solver = LinearSolver(matrix, grid, PREFIX, "hypre", rtol=1e-10)
    solver.update()
    assert residual(grid, matrix.mat, solver) < 1e-7


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.parametrize("transpose", [False, True])
def test_no_convergence_is_an_error_with_the_prefix(transpose):
    grid, matrix = problem(velocity=(1.0, 1.0))
    solver = LinearSolver(
        matrix, grid, PREFIX, "geometric", symmetric=False, rtol=1e-14
    )
    solver.ksp.setTolerances(max_it=1)
    solver.update()
    with pytest.raises(SolverError, match="lintest_.*DIVERGED.*ksp_max_it"):
        residual(grid, matrix.mat, solver, transpose)
    solver.destroy()


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.parametrize("case", ["plain", "large", "periodic", "masked", "3-D"])
def test_the_cycle_is_that_of_petscs_multigrid_with_the_same_sweeps(case, options):
    shape = {"3-D": (12, 11, 13), "large": (300, 250)}.get(case, (33, 40))
    sides = dict.fromkeys(("x-", "x+"), "periodic") if case == "periodic" else SIDES
    active = np.random.default_rng(2).random(shape) > 0.3 if case == "masked" else None
    grid, matrix = problem(shape, sides, active, contrast=0.5)
    own, petsc = (LinearSolver(matrix, grid, PREFIX, "geometric") for _ in range(2))
    own.update()
    options[PREFIX + "pc_type"] = "mg"
    b, x, y = (grid.create_active() for _ in range(3))
    for seed in (1, 2):
        planes = matrix.zeroed()
        D = np.exp(np.random.default_rng(seed).standard_normal(grid.shape))[
            grid.local_slice
        ]
        Diffusion(grid).at({"D": D}).add_planes(planes)
        planes[matrix.offsets[0]][...] += 1e-3
        matrix.refresh()
        grid.put(grid.view(grid.standard_normal(seed)), b)
        for solver, z in ((own, x), (petsc, y)):
            solver.update()
            solver.ksp.getPC().apply(b, z)
        assert (own.ksp.getPC().getType(), petsc.ksp.getPC().getType()) == (
            "python",
            "mg",
        )
        size = y.norm()
        y.axpy(-1, x)
        assert y.norm() < 1e-12 * size
    own.destroy()
    petsc.destroy()


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.parametrize(
    "option", ["pc_type mg", "mg_levels_pc_type jacobi", "mat_type seqaij"]
)
def test_options_of_petscs_multigrid_are_obeyed(option, options):
    key, value = option.split()
    options[PREFIX + key] = value
    grid = Grid((30, 32), boundaries=SIDES)
    if key == "mat_type" and grid.comm.size > 1:
        value = options[PREFIX + key] = "mpiaij"
    matrix = StencilMatrix(grid, PREFIX)
    planes = matrix.zeroed()
    Diffusion(grid).at({"D": np.ones(grid.layout.local_shape)}).add_planes(planes)
    matrix.refresh()
    solver = LinearSolver(matrix, grid, PREFIX, rtol=1e-10)
    solver.update()
    pc = solver.ksp.getPC()
    assert pc.getType() == "mg"
    if key == "mg_levels_pc_type":
        assert pc.getMGSmoother(1).getPC().getType() == "jacobi"
    else:
        assert residual(grid, matrix.mat, solver) < 1e-7
    solver.destroy()


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.parametrize(
    "shape, share", [((32, 31), 0.35), ((10, 9, 12), 0.3), ((900,), 0.0)]
)
def test_geometric_with_a_random_mask(shape, share):
    active = np.random.default_rng(2).random(shape) > share
    sides = {"x-": "dirichlet", "x+": "dirichlet"}
    grid, matrix = problem(shape, sides, active=active if share else None)
    values = matrix.entries()
    values[0] += 1e-3
    matrix.set_values(values)
    solver = LinearSolver(matrix, grid, PREFIX, "geometric", rtol=1e-10)
    solver.update()
    assert solver.recipe == "geometric"
    assert residual(grid, matrix.mat, solver) < 1e-7
    assert solver.iterations < 60
    solver.destroy()


@pytest.mark.parallel([1, 2, 3])
def test_iterations_hardly_grow_with_the_grid():
    counts = []
    for n in (24, 48, 96):
        grid, matrix = problem(
            (n, n), {"x-": "dirichlet", "x+": "dirichlet"}, contrast=0.3
        )
        solver = LinearSolver(matrix, grid, PREFIX, "geometric")
        solver.update()
        residual(grid, matrix.mat, solver)
        counts.append(solver.iterations)
        solver.destroy()
    assert counts[-1] <= counts[0] + 8 and counts[-1] < 25


@pytest.mark.parametrize("periodic", [False, True])
def test_interpolations_keep_constants_away_from_dirichlet_sides(periodic):
    grid = Grid(
        (30, 25), boundaries={"x-": "periodic", "x+": "periodic"} if periodic else {}
    )
    levels = Hierarchy(grid)
    assert levels.coarsening.restrictions
    for R in levels.coarsening.restrictions:
        y, x = R.createVecs()
        x.set(2.0)
        R.multTranspose(x, y)
        np.testing.assert_allclose(y.getArray(), 2.0, rtol=1e-13)


DOMAINS = {
    "odd, Dirichlet above": ((41, 64), {"x-": "dirichlet", "y+": "dirichlet"}, 0.0),
    "periodic and odd": (
        (33, 47),
        dict.fromkeys(("x-", "x+", "y-", "y+"), "periodic"),
        0.0,
    ),
    "mask": ((50, 61), {"x-": "dirichlet"}, 0.4),
    "mask, periodic": ((51, 60), {"x-": "periodic", "x+": "periodic"}, 0.4),
    "3-D, mask": ((20, 11, 13), {"x-": "dirichlet"}, 0.3),
    "line": ((1000,), {"x-": "dirichlet"}, 0.0),
}


@pytest.mark.parallel([1, 2, 3, 4])
@pytest.mark.parametrize(
    "velocity, slab", [(False, halving.SLAB), (True, halving.SLAB), (True, 30)]
)
@pytest.mark.parametrize("domain", DOMAINS)
def test_coarse_matrices_are_galerkin_products(domain, velocity, slab, monkeypatch):
    monkeypatch.setattr(halving, "SLAB", slab)
    shape, sides, share = DOMAINS[domain]
    active = np.random.default_rng(2).random(shape) >= share if share else None
    grid, matrix = problem(
        shape, sides, active, (3.0, -2.0, 1.0)[: len(shape)] if velocity else None
    )
    levels, fine = Hierarchy(grid), matrix.mat.duplicate(copy=True)
    levels.update(matrix)
    assert levels.matrices
    for R, coarse in zip(levels.coarsening.restrictions, levels.matrices, strict=True):
        expected = fine.ptap(R.transpose(PETSc.Mat()))
        rest = expected.copy()
        rest.axpy(
            -1, coarse.mat, structure=PETSc.Mat.Structure.DIFFERENT_NONZERO_PATTERN
        )
        assert rest.norm() <= 1e-13 * expected.norm()
        fine = expected
    levels.destroy()


@pytest.mark.parallel([1, 2])
@pytest.mark.parametrize("share", [0.0, 0.3])
def test_values_are_read_back_after_freezing(share):
    active = np.random.default_rng(2).random((30, 32)) >= share if share else None
    grid, matrix = problem(active=active)
    before = {offset: plane.copy() for offset, plane in matrix.planes().items()}
    matrix.freeze()
    inner = {
        (0, 0): ...,
        (1, 0): np.s_[:, :-1],
        (-1, 0): np.s_[:, 1:],
        (0, 1): np.s_[:-1],
        (0, -1): np.s_[1:],
    }
    whole = grid.comm.size == 1
    for offset, plane in matrix.planes().items():
        part = inner[offset] if whole else ...
        if whole or offset == (0, 0):
            np.testing.assert_array_equal(plane[part], before[offset][part])


@pytest.mark.parallel([1, 2])
def test_other_matrix_types_take_their_values_as_coo(options):
    grid, matrix = problem()
    options[PREFIX + "mat_type"] = "baij"
    other = StencilMatrix(grid, PREFIX)
    values = other.entries()
    values[...] = matrix.entries()
    other.set_values(values)
    x = grid.standard_normal(3)
    y, z = x.duplicate(), x.duplicate()
    matrix.mat.mult(x, y)
    other.mat.mult(x, z)
    assert other.mat.getType().endswith("baij")
    assert (y - z).norm() <= 1e-13 * y.norm()


@pytest.mark.parallel([1, 2])
def test_pipelined_methods_beside_single_precision(options):
    grid, matrix = problem()
    for method in ("pipecg", "groppcg"):
        options[PREFIX + "ksp_type"] = method
        solver = LinearSolver(matrix, grid, PREFIX, "planes")
        with pytest.raises(InputError, match=f"got {method}; allowed: pipefcg"):
            solver.update()
    options[PREFIX + "ksp_rtol"] = "1e-11"
    for method, recipe in (("pipefcg", "planes"), ("pipecg", "geometric")):
        options[PREFIX + "ksp_type"] = method
        solver = LinearSolver(matrix, grid, PREFIX, recipe)
        solver.update()
        assert residual(grid, matrix.mat, solver) < 1e-6

"""Options of PETSc: misspelt names and wrong values are refused before work starts, those that
nothing uses are named."""

import numpy as np
import pytest
from petsc4py import PETSc

from npde_opt.errors import InputError, SolverError
from npde_opt.grids import Grid
from npde_opt.linear import LinearSolver
from npde_opt.petsc_options import check_options, unused, unused_text
from npde_opt.regularizers import operator


@pytest.fixture
def given():
    """Sets options for one test."""
    database, mine = PETSc.Options(), []

    def add(name, value=""):
        mine.append(name)
        database.setValue(name, value)

    yield add
    for name in mine:
        database.delValue(name)


@pytest.mark.parametrize(
    ("name", "guess"),
    [
        ("stat_ksp_rtol", "state_ksp_rtol"),
        ("ksp_rtol", "state_ksp_rtol"),
        ("sate_pc_type", "state_pc_type"),
        ("rge_ksp_type", "reg_ksp_type"),
        ("ta_type", "tao_type"),
        ("pc_type", "state_pc_type"),
    ],
)
def test_a_misspelt_prefix_is_refused_with_what_was_meant(given, name, guess):
    given(name, "1e-9")
    with pytest.raises(InputError, match=f"-{name}: .*did you mean -{guess}"):
        check_options()


@pytest.mark.parametrize(
    "name",
    [
        "log_view",
        "malloc_debug",
        "info",
        "on_error_abort",
        "options_left",
        "vec_type",
        "state_x",
        "vecload_block_size",
    ],
)
def test_what_petsc_reads_itself_passes(given, name):
    given(name, "seq" if name == "vec_type" else "")
    check_options()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("state_mat_type", "foo"),
        ("reg_ksp_type", "foo"),
        ("state_pc_type", "foo"),
        ("state_mg_levels_pc_type", "foo"),
        ("tao_type", "foo"),
        ("vec_type", "foo"),
        ("state_ksp_max_it", "abc"),
        ("reg_ksp_rtol", "1e-x"),
        ("state_ksp_type", ""),
    ],
)
def test_a_type_or_number_that_none_is_is_refused(given, name, value):
    given(name, value)
    with pytest.raises(InputError, match=f"-{name}: "):
        check_options()


def system(prefix="try_", **settings):
    grid = Grid((24, 20), boundaries={"x-": "dirichlet"})
    matrix = operator(grid, [np.ones(grid.local_shape)] * 2, 1.0)
    return grid, matrix, LinearSolver(matrix, grid, prefix, **settings)


@pytest.mark.parallel([1, 2])
@pytest.mark.parametrize(
    ("name", "value"),
    [("try_ksp_norm_type", "foo"), ("try_pc_type", "foo"), ("try_ksp_max_it", "x")],
)
def test_a_value_that_petsc_refuses_is_wrong_input_on_all_ranks(given, name, value):
    given(name, value)
    _, _, solver = system()
    with pytest.raises(InputError, match=f"-{name}: got {value}"):
        solver.update()


@pytest.mark.parallel([1, 2])
def test_options_that_nothing_used_are_named(given):
    given("state_ksp_nothing", "3")
    given("state_ksp_max_it", "77")
    _, _, solver = system("state_")
    solver.update()
    assert unused() == ["state_ksp_nothing"] and "-state_ksp_nothing" in unused_text()
    PETSc.Options().delValue("options_left")
    solver.destroy()


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.parametrize("recipe", ["geometric", "gamg", "direct"])
def test_the_true_residual_of_every_solve_is_known(recipe):
    grid, matrix, solver = system(recipe=recipe)
    solver.update()
    b, x, r = (grid.create_active() for _ in range(3))
    largest = 0.0
    for seed in range(3):
        noise = grid.standard_normal(seed)
        grid.put(grid.view(noise), b)
        (solver.solve if seed % 2 else solver.solve_transpose)(b, x)
        matrix.mat.mult(x, r)
        r.aypx(-1.0, b)
        largest = max(largest, r.norm() / b.norm())
    assert solver.true_residual == pytest.approx(largest, rel=1e-6) and largest < 1e-5
    solver.destroy()


class Wrong:
    """A preconditioner that leaves out the half of a residual: then CG converges in its own norm,
    to something else."""

    def apply(self, pc, r, z):
        r.copy(z)
        first, last = z.getOwnershipRange()
        values, numbers = z.getArray(), np.arange(first, last)
        values[numbers % 2 == 1] = 0.0


@pytest.mark.parallel([1, 2])
@pytest.mark.parametrize("adjoint", [False, True])
def test_a_solve_that_is_wrong_in_silence_is_an_error(given, adjoint):
    grid, matrix, solver = system(recipe="gamg")
    given("try_pc_type", "none")
    solver.update()
    pc = solver.ksp.getPC()
    pc.setType(PETSc.PC.Type.PYTHON)
    pc.setPythonContext(Wrong())
    b, x = grid.create_active(), grid.create_active()
    noise = grid.standard_normal(1)
    grid.put(grid.view(noise), b)
    with pytest.raises(
        SolverError,
        match="'try_' failed: the true residual .* is .* where 1e-08 was asked",
    ):
        (solver.solve_transpose if adjoint else solver.solve)(b, x)
    solver.destroy()


def test_a_tolerance_on_the_true_residual_is_kept(given):
    given("try_ksp_norm_type", "unpreconditioned")
    given("try_ksp_rtol", "1e-10")
    grid, _, solver = system()
    solver.update()
    b, x = grid.create_active(), grid.create_active()
    b.set(1.0)
    solver.solve(b, x)
    assert solver.true_residual < 2e-10
    solver.destroy()

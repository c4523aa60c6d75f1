"""Factors of our own against dense matrices and PETSc's, on boxes of all kinds."""

import numpy as np
import pytest
import scipy.sparse as sp
from mpi4py import MPI
from petsc4py import PETSc

from npde_opt.grids import Grid
from npde_opt.linear import LinearSolver
from npde_opt.linear.choice import Reuse, pays_loading
from npde_opt.linear.dissection import factors
from npde_opt.linear.dissection.parts import Cuts, cut
from npde_opt.linear.dissection.plan import Plan
from npde_opt.linear.dissection.shared import SharedFactors, shared_factors
from npde_opt.linear.measured import measured, take
from npde_opt.operators.stencils import StencilMatrix
from npde_opt.terms import Diffusion

PREFIX = "dissect_"
ENDS = {"x-": "dirichlet", "x+": "dirichlet"}
AROUND_X = {"x-": "periodic", "x+": "periodic"}
AROUND = {**AROUND_X, "y-": "periodic", "y+": "periodic"}
BOXES = [
    ((48, 48), ENDS),
    ((53, 41), ENDS),
    ((150, 15), {"y-": "dirichlet"}),
    ((48, 50), {**AROUND_X, "y-": "dirichlet"}),
    ((56, 48), AROUND),
    ((9, 8, 10), ENDS),
    ((8, 12, 9), AROUND),
]


def random_cells(grid, spread):
    """Whose logarithms spread so far."""
    return np.exp(spread * np.random.default_rng(0).standard_normal(grid.shape))


def diffusion(grid, D, mass=0.0):
    """div(D grad), and a mass."""
    matrix = StencilMatrix(grid)
    entries = matrix.zeroed()
    Diffusion(grid).at({"D": D[grid.local_slice]}).add_planes(entries)
    entries[(0,) * grid.dim][...] += mass * grid.volume
    matrix.refresh()
    return matrix


def side(grid, seed=1):
    b = grid.create_active()
    grid.put(grid.view(grid.standard_normal(seed)), b)
    return b


def relative(matrix, b, x):
    r = b.duplicate()
    matrix.mat.mult(x, r)
    r.aypx(-1, b)
    return r.norm() / b.norm()


def solved(grid, matrix, **how):
    """x, its true residual, and the solver."""
    solver = LinearSolver(matrix, grid, PREFIX, "direct", **how)
    solver.update()
    b, x = side(grid), grid.create_active()
    solver.solve(b, x)
    return x, relative(matrix, b, x), solver


def by_petsc(grid, matrix):
    PETSc.Options()[PREFIX + "pc_type"] = "cholesky"
    try:
        found = solved(grid, matrix)
    finally:
        PETSc.Options().delValue(PREFIX + "pc_type")
    assert found[2].factors is None
    return found


@pytest.mark.parametrize(("shape", "boundaries"), BOXES)
@pytest.mark.parametrize("spread", [0.0, 3.0])
def test_equal_to_petsc(shape, boundaries, spread):
    grid = Grid(shape, boundaries=boundaries)
    matrix = diffusion(grid, random_cells(grid, spread), mass=1.0)
    x, residual, own = solved(grid, matrix)
    y, other, _ = by_petsc(grid, matrix)
    assert own.factors is not None
    assert residual < 10 * other + 1e-14
    y.axpy(-1, x)
    assert y.norm() < 1e-9 * x.norm()


@pytest.mark.parametrize("stretch", [1.0, 1.15])
@pytest.mark.parametrize("masked", [False, True])
def test_contrast_of_1e8_masks_and_stretched_cells(stretch, masked):
    widths = stretch ** np.abs(np.arange(48) - 24.0)
    edges = np.concatenate([[0.0], np.cumsum(widths)]) / widths.sum()
    along = 2 * (np.arange(48) + 0.5) / 48 - 1
    active = np.add.outer(along**2, along**2) < 0.9 if masked else None
    grid = Grid((48, 48), edges=[edges, edges], boundaries=ENDS, active=active)
    channels = np.where(np.arange(48) % 8 < 2, 1e8, 1.0)
    matrix = diffusion(grid, np.tile(channels, (48, 1)), mass=1e-3)
    _, residual, own = solved(grid, matrix)
    _, other, _ = by_petsc(grid, matrix)
    assert own.factors is not None
    assert residual < 10 * other + 1e-14


@pytest.mark.parametrize(
    ("shape", "periodic"),
    [
        ((17, 23), (False, False)),
        ((16, 18), (True, True)),
        ((30, 7), (False, False)),
        ((9, 15), (True, False)),
        ((40, 3), (False, True)),
        ((3, 16), (False, True)),
        ((9, 8, 10), (False, True, False)),
        ((8, 9, 8), (True, False, True)),
        ((100, 4), (False, False)),
        ((2, 9, 11), (True, False, False)),
    ],
)
def test_random_values_against_sparse_lu(shape, periodic):
    A, values = random_system(shape, periodic)
    grid = Grid(shape[::-1])
    found = factors.BoxFactors(grid, Plan(shape, periodic))
    found.values[:] = values
    assert found.factor()
    b = np.random.default_rng(3).standard_normal(A.shape[0])
    x = np.empty_like(b)
    found.solve(b, x)
    assert np.linalg.norm(A @ x - b) < 1e-12 * np.linalg.norm(b)
    found.solve(b, b)
    assert np.array_equal(b, x)


def random_system(shape, periodic):
    """Random couplings over three decades, as a matrix and as values of a plan."""
    rng, numbers = np.random.default_rng(0), np.arange(np.prod(shape)).reshape(shape)
    size = numbers.size
    A = sp.lil_matrix((size, size))
    A.setdiag(rng.uniform(1e-3, 1e-2, size))
    values = [np.zeros(size)]
    for d, wraps in enumerate(periodic):
        c = 10 ** rng.uniform(-1.5, 1.5, shape)
        if not wraps:
            np.moveaxis(c, d, 0)[-1] = 0
        values.append(-c.ravel())
        beside = np.roll(numbers, -1, d).ravel()
        for i, j, own in zip(numbers.ravel(), beside, c.ravel(), strict=True):
            A[i, i] += own
            A[j, j] += own
            A[i, j] -= own
            A[j, i] -= own
    values[0] = A.diagonal()
    return A.tocsr(), np.concatenate([*values, [0.0, 1.0]])


def test_parts_tile_the_axis():
    for cells in range(2, 60):
        for parts in (1, 2, 4, 8):
            for periodic in (False, True):
                c = Cuts(cells, parts, periodic)
                if not c.possible:
                    continue
                seen = [c.places(p) for p in range(parts)]
                own = np.concatenate([s[1:-1][s[1:-1] >= 0] for s in seen])
                assert sorted([*own, *c.planes]) == list(range(cells))
                for s in seen:
                    there = s[s >= 0]
                    assert np.all(np.isin(np.abs(np.diff(there)), [1, cells - 1]))


def test_what_cannot_be_cut_in_eight():
    assert cut((5, 5), (False, False)) is None
    assert cut((64, 64), (False, False)) is not None
    with pytest.raises(ValueError, match="no order for a box"):
        Plan((3, 3), (True, True))


def test_values_that_are_not_positive_definite_are_petscs():
    """The present path takes them, with its own answer, and good values come back."""
    grid = Grid((48, 48), boundaries=ENDS)
    good, D = diffusion(grid, np.ones(grid.shape)), random_cells(grid, 1.0)
    matrix = diffusion(grid, D)
    solver = LinearSolver(matrix, grid, PREFIX, "direct")
    b, x = side(grid), grid.create_active()
    for shift in (0.0, -40.0, 0.0):
        entries = matrix.zeroed()
        Diffusion(grid).at({"D": D[grid.local_slice]}).add_planes(entries)
        entries[0, 0][...] += shift * grid.volume
        matrix.refresh()
        solver.update()
        solver.solve(b, x)
        assert relative(matrix, b, x) < 1e-10
        assert solver.factors.factor() == (shift == 0)
    solver.destroy()
    good.destroy()


def test_values_that_are_not_finite_are_no_factors():
    grid = Grid((48, 48), boundaries=ENDS)
    matrix = diffusion(grid, np.ones(grid.shape))
    _, _, solver = solved(grid, matrix)
    for wrong in (np.nan, np.inf):
        for place in (0, 48 * 24 + 23, 48 * 48 + 100):
            kept = solver.factors.values[place]
            solver.factors.values[place] = wrong
            assert not solver.factors.factor()
            solver.factors.values[place] = kept
    assert solver.factors.factor()


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.parametrize("recipe", ["direct", "auto"])
def test_who_takes_them(recipe):
    """One rank does, more share them; small grids do not; solves are counted and measured."""
    grid = Grid((64, 64), boundaries=ENDS)
    matrix = diffusion(grid, np.ones(grid.shape), mass=1.0)
    solver = LinearSolver(matrix, grid, PREFIX, recipe, reuse=Reuse(10, 100))
    solver.update()
    assert solver.recipe == "direct"
    assert solver.factors is not None
    assert (solver.present_factors is not None) == (grid.comm.size == 1)
    b, x = side(grid), grid.create_active()
    with measured() as solves:
        solver.solve(b, x)
        take("state", matrix.operator, b, x, solver.iterations)
        solver.solve_transpose(b, x)
    assert solver.solves == 2 and solver.iterations == 2
    assert solver.asked.startswith("direct")
    assert solves["state"].residual < 1e-12 and solver.true_residual < 1e-12
    small = Grid((20, 20), boundaries=ENDS)
    other = LinearSolver(diffusion(small, np.ones((20, 20))), small, PREFIX, "direct")
    assert other.factors is None


@pytest.mark.parametrize("loaded", [False, True])
@pytest.mark.parametrize("recipe", ["direct", "auto"])
def test_a_handful_of_solves_loads_no_loops(recipe, loaded, monkeypatch):
    """PETSc factors where the process has none, with the same answer; for many solves, and on grids
    where that takes longer, they are loaded."""
    monkeypatch.setattr("npde_opt.linear.recipes.is_loaded", lambda: loaded)
    grid, found = Grid((64, 64), boundaries=ENDS), []
    matrix = diffusion(grid, random_cells(grid, 1.0))
    for brief, own in ((1, loaded), (1000, True), (0, True)):
        solver = LinearSolver(
            matrix, grid, PREFIX, recipe, reuse=Reuse(10, 6), brief=brief
        )
        solver.update()
        assert solver.recipe == "direct" and (solver.factors is not None) == own
        b, x = side(grid), grid.create_active()
        solver.solve(b, x)
        found.append(x.getArray().copy())
        solver.destroy()
    for x in found[1:]:
        np.testing.assert_allclose(x, found[0], rtol=1e-9, atol=1e-9 * abs(x).max())
    assert not pays_loading(grid, 1) and pays_loading(Grid((24, 24, 24)), 1)


def test_options_of_petsc_are_petscs():
    grid = Grid((64, 64), boundaries=ENDS)
    matrix = diffusion(grid, np.ones(grid.shape), mass=1.0)
    for key in ("pc_factor_levels", "ksp_type", "mg_levels_pc_type"):
        PETSc.Options()[PREFIX + key] = "0" if "levels" in key else "preonly"
        solver = LinearSolver(matrix, grid, PREFIX, "direct")
        PETSc.Options().delValue(PREFIX + key)
        assert solver.factors is None


def test_the_loops_need_no_numba_once_they_are_compiled():
    """What is kept as machine code takes integers of 32 bits, too."""
    grid = Grid((48, 48), boundaries=ENDS)
    box = factors.box_factors(grid, diffusion(grid, np.ones(grid.shape)))
    assert factors.FACTOR.native(box._factored) is not None
    x = np.zeros(grid.size)
    assert factors.SOLVE.native((*box.tables, x, x)) is not None


@pytest.mark.parallel([2, 3, 4])
@pytest.mark.parametrize(("shape", "boundaries"), BOXES)
def test_ranks_share_the_factors_of_one(shape, boundaries):
    """What they find is what one rank finds, to the last bit, of new values, too."""
    grid, alone = (
        Grid(shape, boundaries=boundaries, comm=comm)
        for comm in (MPI.COMM_WORLD, MPI.COMM_SELF)
    )
    for mass in (0.3, 5.0):
        ours, theirs = (
            solved(g, diffusion(g, random_cells(g, 1.0), mass)) for g in (grid, alone)
        )
        assert isinstance(ours[2].factors, SharedFactors)
        assert ours[2].present_factors is None
        assert ours[1] < 1e-10
        assert ours[2].iterations == theirs[2].iterations == 1
        wanted = alone.take(theirs[0])[grid.local_slice]
        np.testing.assert_array_equal(grid.take(ours[0]), wanted)


@pytest.mark.parallel([2, 3])
def test_ranks_that_share_take_petsc_where_values_are_not_definite():
    grid = Grid((48, 48), boundaries=ENDS)
    matrix = diffusion(grid, np.ones(grid.shape), mass=-0.5 / grid.volume)
    _, left, solver = solved(grid, matrix)
    assert left < 1e-8 and not solver._factored
    # Masks are PETSc's, too.
    x, y = np.meshgrid(*(np.linspace(-1, 1, 48),) * 2, indexing="ij")
    masked = Grid((48, 48), boundaries=ENDS, active=x**2 + y**2 < 1)
    assert shared_factors(masked, diffusion(masked, np.ones(masked.shape))) is None


@pytest.mark.parallel([2, 3])
def test_ranks_that_share_solve_with_one_array():
    grid = Grid((48, 50), boundaries=ENDS)
    matrix = diffusion(grid, random_cells(grid, 1.0))
    x, _, solver = solved(grid, matrix)
    own = side(grid).getArray().copy()
    solver.factors.solve(own, own)
    np.testing.assert_array_equal(own, x.getArray())

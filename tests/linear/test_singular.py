"""A matrix that is singular to rounding is told by whoever factors it; a stiff one is solved."""

import numpy as np
import pytest
from mpi4py import MPI
from petsc4py import PETSc

from npde_opt.errors import SolverError
from npde_opt.grids import Grid
from npde_opt.linear import LinearSolver
from npde_opt.linear.banded import Banded
from npde_opt.linear.factored import Factored
from npde_opt.linear.lu import Lu, Ordering
from npde_opt.operators.stencils import StencilMatrix
from npde_opt.terms import Diffusion

PREFIX = "lost_"
HELD = {"x-": "dirichlet"}


def system(shape, sides, D, seed):
    """A diffusion, and a right-hand side with a part along constants."""
    grid = Grid(shape, boundaries=sides)
    matrix = StencilMatrix(grid)
    planes = matrix.zeroed()
    Diffusion(grid).at({"D": np.asfortranarray(D[grid.local_slice])}).add_planes(planes)
    matrix.refresh()
    b = grid.create_active()
    values = np.random.default_rng(seed).standard_normal(shape)
    grid.put(values[grid.local_slice], b)
    return grid, matrix, b


def by_own(grid, matrix, b):
    return solved(grid, matrix, b)


def by_petsc(grid, matrix, b):
    PETSc.Options()[PREFIX + "pc_factor_levels"] = "0"
    try:
        return solved(grid, matrix, b)
    finally:
        PETSc.Options().delValue(PREFIX + "pc_factor_levels")


def by_lu(grid, matrix, b):
    return solved(grid, matrix, b, symmetric=False)


def solved(grid, matrix, b, symmetric=True):
    solver = LinearSolver(matrix, grid, PREFIX, "direct", symmetric)
    solver.update()
    x = b.duplicate()
    solver.solve(b, x)
    return x.getArray().copy()


def by_kept_lu(grid, matrix, b):
    return Lu(matrix.mat, Ordering(), PREFIX, 1).solve(b).getArray().copy()


def by_columns(grid, matrix, b):
    factored = Factored(grid.comm, PREFIX)
    factored.update(matrix.mat.getValuesCSR())
    rows = np.stack([b.getArray()] * 3, axis=1)
    return factored.solve(rows)[:, 0]


def by_bands(grid, matrix, b):
    entries = {(0, 0, o): v for o, v in matrix.planes().items()}
    return Banded(entries, 1, PREFIX).solve(b.getArray()[None])[0]


BOXES = {"own": by_own, "petsc": by_petsc, "lu": by_lu}
ONE_RANK = {"kept lu": by_kept_lu, "columns": by_columns}
WAYS = {**BOXES, **ONE_RANK}


def told(way, systems):
    """How many are told."""
    found = 0
    for given in systems:
        try:
            way(*given)
        except SolverError as error:
            assert error.prefix == PREFIX
            found += 1
    return found


def loose(shape, seed):
    """What nothing holds."""
    spread = (0.5, 2.0)[seed % 2]
    D = np.exp(spread * np.random.default_rng(seed).standard_normal(shape))
    return system(shape, {}, D, seed)


@pytest.mark.parametrize("way", list(WAYS))
def test_what_nothing_holds_is_an_error(way):
    """But for an x that rounding happens to leave right in the energy, one of a hundred."""
    shapes = (48, 48), (20, 20), (12, 12, 12)
    systems = [loose(shape, seed) for shape in shapes for seed in range(6)]
    assert told(WAYS[way], systems) >= 15


def test_so_is_a_line_that_nothing_holds():
    assert told(by_bands, [loose((50,), seed) for seed in range(8)]) >= 6


@pytest.mark.parallel([2, 3])
@pytest.mark.parametrize("way", list(BOXES))
def test_ranks_tell_it_together(way):
    assert told(BOXES[way], [loose((48, 48), seed) for seed in range(8)]) >= 6
    MPI.COMM_WORLD.Barrier()


@pytest.mark.parametrize("way", [*WAYS, "bands"])
@pytest.mark.parametrize("contrast", [1e8, 1e10, 1e12])
@pytest.mark.parametrize("shape", [(60,), (48, 48), (12, 12, 12)])
def test_conductors_are_solved(way, contrast, shape):
    """With the rounding that |A| |x| leaves, which is little of the energy."""
    if (way == "bands") != (len(shape) == 1):
        return
    D = np.exp(0.3 * np.random.default_rng(2).standard_normal(shape))
    D[3:5] *= contrast
    given = system(shape, HELD, D, 3)
    x = {**WAYS, "bands": by_bands}[way](*given)
    r, found = given[2].duplicate(), given[2].duplicate()
    found.setArray(x)
    given[1].mat.mult(found, r)
    r.aypx(-1.0, given[2])
    assert abs(r.dot(found)) <= 1e-2 * abs(given[2].dot(found))

"""The cycle and the conjugate gradients on planes on several ranks against one."""

import numpy as np
import pytest
from mpi4py import MPI
from on_planes import ALONG_X, ALONG_Y, GRIDS, PREFIX, problem
from petsc4py import PETSc

from npde_opt.errors import InputError
from npde_opt.grids import Grid
from npde_opt.linear import LinearSolver
from npde_opt.linear.planes import gathering, stages
from npde_opt.linear.planes.boxes import fits
from npde_opt.linear.planes.cycle import PlaneCycle
from npde_opt.operators.stencils import StencilMatrix
from npde_opt.terms import Diffusion


def solved(name, comm, active=None, **settings):
    """The solution [i, j, k] on rank 0, iterations, the true residual."""
    grid, matrix = problem(name, comm, active)
    solver = LinearSolver(matrix, grid, PREFIX, "planes", rtol=1e-10, **settings)
    solver.update()
    b, x = grid.create_active(), grid.create_active()
    f = np.random.default_rng(2).standard_normal(grid.shape)[grid.local_slice]
    grid.put(np.asfortranarray(f), b)
    solver.solve(b, x)
    found = grid.to_natural(grid.take(x))
    few, left = solver.ksp.getIterationNumber(), solver.true_residual
    # A guess is on the ranks, too.
    solver.ksp.setInitialGuessNonzero(True)
    solver.solve(b, x)
    assert solver.ksp.getIterationNumber() <= 1
    solver.destroy()
    matrix.destroy()
    return found, few, left


@pytest.fixture
def spread(monkeypatch):
    """Levels of few cells are spread, too."""
    monkeypatch.setattr(gathering, "SPREAD", 40)


@pytest.mark.parallel([2, 3])
@pytest.mark.parametrize("norm", ["preconditioned", "unpreconditioned"])
@pytest.mark.parametrize("name", GRIDS)
def test_as_many_iterations_and_the_same_solution_as_on_one_rank(name, norm, spread):
    alone, few, _ = solved(name, MPI.COMM_SELF, norm=norm)
    found, many, left = solved(name, MPI.COMM_WORLD, norm=norm)
    assert many == few
    assert left <= 1e-7
    if found is not None:
        assert np.allclose(found, alone, rtol=0, atol=1e-8 * np.abs(alone).max())


@pytest.mark.parallel([2, 3])
@pytest.mark.parametrize("name", ["walls", "volume"])
def test_masks(name, spread):
    shape = GRIDS[name][0]
    x = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    active = sum(a**2 for a in x) < 1.2
    alone, few, _ = solved(name, MPI.COMM_SELF, active)
    found, many, left = solved(name, MPI.COMM_WORLD, active)
    assert abs(many - few) <= 1
    assert left <= 1e-7
    if found is not None:
        assert np.allclose(found, alone, rtol=0, atol=1e-8 * np.abs(alone).max())


@pytest.mark.parallel([2, 3])
def test_coarse_levels_lie_on_fewer_ranks(monkeypatch):
    grid, matrix = problem("long cells, two axes apart", MPI.COMM_WORLD)
    sizes = {}
    for cells in (1, 250, 10000):
        monkeypatch.setattr(gathering, "SPREAD", cells)
        solver = LinearSolver(matrix, grid, PREFIX, "planes")
        sizes[cells] = len(solver.planes.levels)
        solver.destroy()
    assert sizes[1] > sizes[250] > sizes[10000] == 2


@pytest.mark.parallel([2, 3])
def test_taken_by_itself_where_ranks_have_cells_enough():
    grid = Grid((128, 64))
    matrix = StencilMatrix(grid)
    solver = LinearSolver(matrix, grid, PREFIX)
    assert solver.recipe == "planes"
    solver.destroy()


@pytest.mark.parallel([2, 3])
def test_odd_periodic_axes_that_are_cut_are_refused():
    grid = Grid((41, 37), boundaries=ALONG_X | ALONG_Y)
    assert not fits(grid.layout, (True, True))
    with pytest.raises(InputError, match="periodic ones are even"):
        LinearSolver(StencilMatrix(grid), grid, PREFIX, "planes")


@pytest.mark.parallel([2, 3])
def test_other_krylov_methods_take_the_cycle_and_new_values(spread):
    grid, matrix = problem("walls", MPI.COMM_WORLD)
    PETSc.Options()[PREFIX + "ksp_type"] = "cg"
    try:
        solver = LinearSolver(matrix, grid, PREFIX, "planes", rtol=1e-10)
        solver.update()
        planes = matrix.zeroed()
        Diffusion(grid, "k").at({"k": 1 + grid.volume}).add_planes(planes)
        matrix.refresh()
        solver.update()
        b, x = matrix.mat.createVecs()
        b.set(1.0)
        solver.solve(b, x)
        assert solver.ksp.getType() == "cg"
        assert solver.ksp.getIterationNumber() <= 12
        assert solver.true_residual <= 1e-8
        solver.destroy()
    finally:
        PETSc.Options().delValue(PREFIX + "ksp_type")


WAYS = "one call", "legs", "one call on some"


def cycled(cycle, b, way, monkeypatch):
    """x of the finest level and the sums over ranks, with a call or legs on this rank."""
    rank = cycle.grid.comm.rank
    legs = way == "legs" or (way == "one call on some" and rank == 0)
    monkeypatch.setattr(stages, "CELLS", 0 if legs else 1 << 20)
    top = cycle.top
    top.shape.put(b, 1.0, top.b)
    sums = cycle.cycle()
    assert legs or cycle.stage._whole is not None
    return top.inner(top.x).copy(), cycle.grid.comm.allreduce(np.array(sums))


@pytest.mark.parallel([2, 3, 4])
@pytest.mark.parametrize("name", GRIDS)
@pytest.mark.parametrize("cells", [40, 10000])
@pytest.mark.parametrize("masked", [False, True])
def test_one_call_does_what_the_legs_do(name, cells, masked, monkeypatch):
    """Levels on all ranks and on fewer, with messages in compiled loops on all ranks or on some."""
    monkeypatch.setattr(gathering, "SPREAD", cells)
    monkeypatch.setattr(PlaneCycle, "_hard", lambda self, planes: "")
    x = np.meshgrid(*(np.linspace(-1, 1, n) for n in GRIDS[name][0]), indexing="ij")
    active = sum(a**2 for a in x) < 1.2 if masked else None
    grid, matrix = problem(name, MPI.COMM_WORLD, active)
    if not fits(grid.layout, tuple(grid.periodic(d) for d in range(grid.dim))):
        pytest.skip("refused on so many ranks")
    cycle = PlaneCycle(grid, matrix.offsets)
    planes = matrix.kept_planes()
    rng = np.random.default_rng(grid.comm.rank)
    for factor in (1.0, 3.0):
        # New values, and other fields, which the messages have to follow.
        cycle.update({o: factor * v for o, v in planes.items()})
        b = rng.standard_normal(grid.active_local_size)
        one, *others = (cycled(cycle, b, way, monkeypatch) for way in WAYS)
        for other in others:
            for found, wanted in zip(other, one, strict=True):
                size = abs(wanted).max(initial=1e-300)
                np.testing.assert_allclose(found, wanted, rtol=2e-5, atol=2e-6 * size)
        cycle.top.free()


@pytest.mark.parallel([2, 3])
def test_legs_where_mpi_cannot_be_called_by_loops(monkeypatch):
    monkeypatch.setattr(stages, "calls", lambda: None)
    grid, matrix = problem("walls", MPI.COMM_WORLD)
    cycle = PlaneCycle(grid, matrix.offsets)
    cycle.update(matrix.kept_planes())
    cycle.top.shape.put(np.ones(grid.active_local_size), 1.0, cycle.top.b)
    sums = cycle.cycle()
    assert cycle.stage._whole is None
    assert grid.comm.allreduce(sums[0]) > 0


@pytest.mark.parallel([2, 3])
def test_what_mpi_says_is_raised(monkeypatch):
    grid, matrix = problem("walls", MPI.COMM_WORLD)
    cycle = PlaneCycle(grid, matrix.offsets)
    cycle.update(matrix.kept_planes())
    whole = cycle.stage.in_one_call
    # No request has such a number.
    whole._phases[:, 1] = -1
    with pytest.raises(MPI.Exception):
        whole.run()

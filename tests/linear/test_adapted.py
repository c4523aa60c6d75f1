"""Levels that follow the values, where the plain ones of a cycle on planes would lose them."""

import numpy as np
import pytest
from mpi4py import MPI
from petsc4py import PETSc

from npde_opt.forward import Equation, Experiment, Steady
from npde_opt.grids import Grid
from npde_opt.linear import LinearSolver
from npde_opt.linear.planes import estimate, strength
from npde_opt.linear.planes.adapted import Step
from npde_opt.linear.planes.levels import Line
from npde_opt.misfits import LeastSquares
from npde_opt.objective import Objective
from npde_opt.observations import at_points
from npde_opt.operators.stencils import StencilMatrix
from npde_opt.parameters import ParameterSpace, Unknown
from npde_opt.terms import Diffusion
from npde_opt.verify import dot_product_test, taylor_test

WALLS = {axis + side: "dirichlet" for axis in "xyz" for side in "-+"}
PREFIX = "adaptedtest_"


def padded(core, pad):
    """Edges of `core` cells of 1, and of cells that grow by 1.4 on both sides."""
    widths = 1.4 ** np.arange(1, pad + 1)
    return np.r_[0, np.cumsum(np.r_[widths[::-1], np.ones(core), widths])]


def noise(shape, spread=1.0):
    return np.exp(spread * np.random.default_rng(0).standard_normal(shape))


def walls(dim):
    return {side: kind for side, kind in WALLS.items() if side[0] in "xyz"[:dim]}


def padding(dim, core, pad, comm):
    edges = padded(core, pad)
    shape = (edges.size - 1,) * dim
    grid = Grid(shape, edges=[edges] * dim, boundaries=walls(dim), comm=comm)
    return grid, (noise(shape),) * dim, 0.0


def strips(every, comm):
    active = np.ones((60, 62), bool)
    active[every - 1 :: every] = False
    grid = Grid((60, 62), active=active, boundaries=walls(2), comm=comm)
    return grid, (noise(grid.shape, 0.5),) * 2, 0.01


def channels(comm):
    grid = Grid((64, 64), boundaries=walls(2), comm=comm)
    k = noise(grid.shape)
    k[12], k[:, 21], k[32:34, 10:-10] = 1e6 * k[12], 1e6 * k[:, 21], 1e6
    return grid, (k, k), 0.0


def inclusions(comm):
    grid = Grid((64, 64), boundaries=walls(2), comm=comm)
    k, draws = np.ones(grid.shape), np.random.default_rng(3)
    for _ in range(20):
        i, j, a, b = (*draws.integers(0, 54, 2), *draws.integers(3, 10, 2))
        k[i : i + a, j : j + b] = 1e8
    return grid, (k, k), 0.0


def across(comm):
    grid = Grid((48, 60), boundaries={"x-": "periodic", "x+": "periodic"}, comm=comm)
    k = noise(grid.shape, 0.5)
    return grid, (k, 1000 * k), 0.1


PROBLEMS = {
    "padding": (lambda comm: padding(2, 48, 10, comm), 15),
    "padding in 3-D": (lambda comm: padding(3, 10, 6, comm), 15),
    "strips of two": (lambda comm: strips(3, comm), 15),
    "strips of three": (lambda comm: strips(4, comm), 15),
    "channels": (channels, 30),
    "inclusions": (inclusions, 30),
    "one axis a thousand times": (across, 15),
}
"""And iterations to 1e-8 that are allowed."""


def matrix_of(problem, comm):
    grid, k, decay = problem(comm)
    matrix, names = StencilMatrix(grid), ("kx", "ky", "kz")[: grid.dim]
    own = [np.asfortranarray(v[grid.local_slice]) for v in k]
    planes = matrix.zeroed()
    values = dict(zip(names, own, strict=True))
    Diffusion(grid, names).at(values).add_planes(planes)
    planes[matrix.offsets[0]] += decay * grid.volume
    matrix.refresh()
    return grid, matrix


def solved(problem, comm, recipe="planes", **settings):
    """The solver, the solution [i, j, k] on rank 0 and iterations."""
    grid, matrix = matrix_of(problem, comm)
    solver = LinearSolver(matrix, grid, PREFIX, recipe, **settings)
    solver.update()
    b, x = grid.create_active(), grid.create_active()
    f = np.random.default_rng(2).standard_normal(grid.shape)[grid.local_slice]
    grid.put(np.asfortranarray(f), b)
    solver.solve(b, x)
    found, few = grid.to_natural(grid.take(x)), solver.iterations
    solver.destroy()
    matrix.destroy()
    return solver, found, few


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.parametrize("name", PROBLEMS)
def test_few_iterations_and_the_solution_of_factors(name):
    problem, allowed = PROBLEMS[name]
    solver, found, few = solved(problem, MPI.COMM_WORLD)
    assert solver.planes.reason
    assert not any(level.A.size for level in solver.planes.levels)
    assert few <= allowed
    _, wanted, _ = solved(problem, MPI.COMM_SELF, "direct")
    if found is not None:
        assert np.allclose(found, wanted, rtol=0, atol=3e-6 * np.abs(wanted).max())


@pytest.mark.parallel([2, 3])
def test_as_many_iterations_as_on_one_rank():
    for name in ("padding", "strips of three", "padding in 3-D"):
        _, _, alone = solved(PROBLEMS[name][0], MPI.COMM_SELF)
        _, _, many = solved(PROBLEMS[name][0], MPI.COMM_WORLD)
        assert many == alone


@pytest.mark.parallel([1, 2, 3])
def test_derivatives_through_levels_that_follow_the_values(monkeypatch):
    taken, restrict = list[int](), Step.restrict

    def counted(self, r):
        taken.append(r.size)
        return restrict(self, r)

    monkeypatch.setattr(Step, "restrict", counted)
    PETSc.Options()["state_ksp_rtol"] = "1e-12"
    grid, _, _ = padding(2, 20, 8, MPI.COMM_WORLD)
    lower, upper = grid.edges[0][8], grid.edges[0][-9]
    space = ParameterSpace(grid, [Unknown("D", "log")])
    points = lower + (upper - lower) * np.random.default_rng(5).random((9, 2))
    source = grid.evaluate(lambda x, y: 1.0 * (np.hypot(x - lower, y - lower) < 12))
    run = Experiment(load=np.asfortranarray(grid.volume * source))
    seen = [at_points(grid, (), points)]
    forward = Steady(
        space, Equation(grid, [Diffusion(grid, "D")]), {}, [run], seen, recipe="planes"
    )
    data = np.random.default_rng(6).standard_normal((len(points), 1))
    J = Objective(forward, [LeastSquares(data, 0.2, forward.layouts[0])], {})
    m, dm = (space.standard_normal(seed) for seed in (11, 12))
    lin = forward.linearize(m)
    assert dot_product_test(lin, dm, [d.copy() for d in lin.data]) <= 1e-10
    assert MPI.COMM_WORLD.allreduce(len(taken)) > 10
    lin.destroy()
    orders = taylor_test(J, m, dm)
    assert orders.problems() == [], orders
    J.destroy()
    PETSc.Options().delValue("state_ksp_rtol")


def test_smooth_and_rough_fields_keep_the_plain_levels():
    for spread in (0.0, 1.0):
        for extent in ((1, 1), (2, 1), (1, 50)):
            grid = Grid((96, 90), extent=extent, comm=MPI.COMM_SELF)
            solver, _, few = solved(
                lambda _, g=grid, s=spread: (g, (noise(g.shape, s),) * 2, 0.1),
                MPI.COMM_SELF,
            )
            assert solver.planes.reason == ""
            assert few <= 20


def test_slow_plain_levels_give_way_within_a_solve(monkeypatch):
    """What the estimate does not see: here nothing."""
    monkeypatch.setattr("npde_opt.linear.planes.estimate.reason", lambda losses: "")
    solver, found, few = solved(PROBLEMS["padding"][0], MPI.COMM_SELF)
    assert "iterations" in solver.planes.reason
    assert few <= 45
    _, wanted, _ = solved(PROBLEMS["padding"][0], MPI.COMM_SELF, "direct")
    assert np.allclose(found, wanted, rtol=0, atol=1e-6 * np.abs(wanted).max())


@pytest.mark.parametrize("wraps", [(False, False, False), (True, False, True)])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_products_along_one_axis(axis, wraps):
    """P^T A P, P^T r and P e against arrays, of a wide stencil; the last cell is taken out."""
    rng, cells = np.random.default_rng(axis), (6, 5, 7)
    planes = {}
    for offset in np.ndindex(3, 3, 3):
        planes[tuple(o - 1 for o in offset)] = rng.standard_normal(cells)
    for offset, values in planes.items():
        for d, (step, wrap) in enumerate(zip(offset, wraps, strict=True)):
            if step and not wrap:
                line = np.moveaxis(values, 2 - d, 0)
                line[slice(-step, None) if step > 0 else slice(None, -step)] = 0
    kept = {0: [0, 2, 3, 5], 1: [0, 1, 3], 2: [0, 2, 4]}[axis]
    step = Step(planes, axis, np.array(kept), wraps[axis])
    coarse = step.coarse

    def column(n):
        e = np.zeros(int(np.prod(coarse)))
        e[n] = 1
        return step.prolong(e.reshape(coarse)).ravel()

    P = np.stack([column(n) for n in range(int(np.prod(coarse)))], axis=1)
    r = rng.standard_normal(cells)
    assert np.allclose(step.restrict(r).ravel(), P.T @ r.ravel())
    assert np.all(P.sum(axis=1) <= 1 + 1e-12) and np.all(P >= 0)
    A, B = (whole(p) for p in (planes, step.galerkin(planes, wraps)))
    assert np.allclose(B, P.T @ A @ P)


def whole(planes):
    """As an array; nothing is coupled to what is outside."""
    index = np.arange(next(iter(planes.values())).size)
    index = index.reshape(next(iter(planes.values())).shape)
    found = np.zeros((index.size,) * 2)
    for offset, values in planes.items():
        to = index
        for d, step in enumerate(offset):
            to = np.roll(to, -step, 2 - d)
        np.add.at(found, (index.ravel(), to.ravel()), values.ravel())
    return found


def test_few_lines_of_long_cells_among_many_are_seen():
    edges = padded(400, 10)
    n = edges.size - 1
    area = np.diff(edges)[:, None] * np.ones(32)
    along_x = np.append(2 / (np.diff(edges)[1:] + np.diff(edges)[:-1]), 0)
    planes = {(0, 1): area.T, (1, 0): np.tile(along_x, (32, 1))}
    line = Line(np.zeros(n), np.zeros(n))
    assert "x" in estimate.reason(estimate.losses(planes, [line, line]))


def test_lines_of_long_cells_are_kept():
    weak = np.array([9, 9, 0, 0, 0, 0, 9])
    shares = [(weak, np.full(7, 10)), (np.zeros(4), np.full(4, 10))]
    x, y = strength.kept(shares, few=5)
    assert x.tolist() == [0, 1, 3, 5, 6] and y.tolist() == [0, 1, 2, 3]

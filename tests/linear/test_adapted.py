"""Levels that follow the values, where the plain ones of a cycle on planes would lose them."""

import numpy as np
import pytest
from mpi4py import MPI
from petsc4py import PETSc
from scipy import ndimage

from npde_opt.forward import Equation, Experiment, Steady
from npde_opt.grids import Grid
from npde_opt.grids.layout import Layout
from npde_opt.linear import LinearSolver
from npde_opt.linear.planes import adapted, estimate, strength
from npde_opt.linear.planes.adapted import AdaptedStage, Interpolation
from npde_opt.linear.planes.boxes import Box
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


def swapped(comm):
    """100 times as much along y as along x, or the other way round, in a chessboard of regions."""
    grid = Grid((64, 60), boundaries=walls(2), comm=comm)
    k, (x, y) = noise(grid.shape, 0.5), np.indices(grid.shape)
    turned = (x // 16 + y // 15) % 2 == 0
    return grid, (np.where(turned, 100, 1) * k, np.where(turned, 1, 100) * k), 0.0


def rim(comm):
    """A ring of one and a half cells."""
    grid = Grid((56, 56), boundaries=walls(2), comm=comm)
    x, y = (np.indices(grid.shape) + 0.5) / 56
    k = np.where(abs(np.hypot(x - 0.5, y - 0.5) - 0.35) < 0.75 / 56, 1e6, 1.0)
    return grid, (k, k), 0.0


def white(comm):
    grid = Grid((14, 13, 12), boundaries=walls(3), comm=comm)
    k = 1e6 ** np.random.default_rng(1).random(grid.shape)
    return grid, (k, k, k), 0.0


PROBLEMS = {
    "padding": (lambda comm: padding(2, 48, 10, comm), 10),
    "padding in 3-D": (lambda comm: padding(3, 10, 6, comm), 10),
    "strips of two": (lambda comm: strips(3, comm), 10),
    "strips of three": (lambda comm: strips(4, comm), 10),
    "channels": (channels, 12),
    "inclusions": (inclusions, 15),
    "one axis a thousand times": (across, 10),
    "directions that swap": (swapped, 12),
    "rim": (rim, 12),
    "every cell by itself, in 3-D": (white, 15),
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


@pytest.mark.parametrize("name", PROBLEMS)
def test_few_iterations_and_the_solution_of_factors(name, monkeypatch):
    problem, allowed = PROBLEMS[name]
    if name == "directions that swap":
        monkeypatch.setattr("npde_opt.linear.planes.gradients.SLOW", 0)
    solver, found, few = solved(problem, MPI.COMM_SELF)
    assert solver.planes.reason
    assert not any(level.A.size for level in solver.planes.levels)
    assert few <= allowed
    _, wanted, _ = solved(problem, MPI.COMM_SELF, "direct")
    assert np.allclose(found, wanted, rtol=0, atol=3e-6 * np.abs(wanted).max())


@pytest.mark.parametrize(
    ("problem", "told"),
    [
        (channels, "lines solved at once on planes of 4096, "),
        (lambda comm: padding(2, 48, 0, comm), "Chebyshev smoothing on planes of "),
    ],
)
def test_what_is_viewed_is_what_runs(problem, told, tmp_path):
    grid, matrix = matrix_of(problem, MPI.COMM_SELF)
    solver = LinearSolver(matrix, grid, PREFIX, "planes")
    solver.update()
    viewer = PETSc.Viewer().createASCII(str(tmp_path / "seen"), comm=MPI.COMM_SELF)
    solver.planes.view(None, viewer)
    viewer.destroy()
    assert told in (tmp_path / "seen").read_text()
    solver.destroy()
    matrix.destroy()


@pytest.mark.parallel([2, 3])
@pytest.mark.parametrize(
    "name", ["padding", "strips of three", "padding in 3-D", "rim"]
)
def test_as_many_iterations_and_the_same_solution_as_on_one_rank(name):
    solver, found, many = solved(PROBLEMS[name][0], MPI.COMM_WORLD)
    assert solver.planes.reason
    assert not any(level.A.size for level in solver.planes.levels)
    _, wanted, alone = solved(PROBLEMS[name][0], MPI.COMM_SELF)
    assert abs(many - alone) <= 1
    if found is not None:
        assert np.allclose(found, wanted, rtol=0, atol=3e-6 * np.abs(wanted).max())


@pytest.mark.parallel([1, 2, 3])
def test_derivatives_through_levels_that_follow_the_values(monkeypatch):
    taken, restrict = list[int](), Interpolation.restrict

    def counted(self, r, out):
        taken.append(r.size)
        restrict(self, r, out)

    monkeypatch.setattr(Interpolation, "restrict", counted)
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
    assert few <= 40
    _, wanted, _ = solved(PROBLEMS["padding"][0], MPI.COMM_SELF, "direct")
    assert np.allclose(found, wanted, rtol=0, atol=3e-6 * np.abs(wanted).max())


def stencil(cells, wraps):
    """Random couplings between all neighbours [k, j, i], which are negative; rows have a sum of
    up to 0.1."""
    rng, planes = np.random.default_rng(len(cells)), {}
    centre = (0,) * len(cells)
    for index in np.ndindex((3,) * len(cells)):
        offset = tuple(o - 1 for o in index)
        if offset <= centre:
            continue
        planes[offset] = values = -rng.random(cells)
        for d, (step, wrap) in enumerate(zip(offset, wraps, strict=True)):
            if step and not wrap:
                line = np.moveaxis(values, len(cells) - 1 - d, 0)
                line[slice(-step, None) if step > 0 else slice(None, -step)] = 0
        back = tuple(len(cells) - 1 - d for d in range(len(cells)))
        planes[tuple(-o for o in offset)] = np.roll(values, offset, back)
    planes[centre] = 0.1 * rng.random(cells) - sum(planes.values())
    return planes


def level_of(planes, wraps):
    half = {o: values for o, values in planes.items() if o >= (0,) * len(wraps)}
    return adapted._level(half, wraps)


def field(cells, values):
    found = cells.zeros()
    cells.view(found)[...] = values.reshape(cells.cells[::-1])
    return found


@pytest.mark.parametrize("wraps", [(False, False, False), (True, False, True)])
@pytest.mark.parametrize("axes", [{0}, {1, 2}, {0, 1, 2}])
def test_interpolations_against_arrays(axes, wraps):
    """P^T A P, P^T r and P e of a wide stencil; the last cell along x is taken out."""
    fine = level_of(stencil((6, 5, 8), wraps), wraps)
    kept = {0: [0, 2, 3, 5, 6], 1: [0, 1, 3, 4], 2: [0, 2, 4]}
    between = Interpolation(fine, {d: np.array(kept[d]) for d in axes})
    coarse = between.coarse
    count = int(np.prod(coarse.cells))

    def prolonged(n):
        found = fine.cells.zeros()
        between.prolong(field(coarse, np.arange(count) == n), found)
        return fine.cells.view(found).ravel()

    P = np.stack([prolonged(n) for n in range(count)], axis=1)
    r = np.random.default_rng(1).standard_normal(fine.size)
    out = coarse.zeros()
    between.restrict(field(fine.cells, r), out)
    assert np.allclose(coarse.view(out).ravel(), P.T @ r)
    assert np.all(P.sum(axis=1) <= 1 + 1e-12) and np.all(P >= 0)
    A, B = fine.dense(), between.galerkin().dense()
    assert np.allclose(A, whole(fine.planes()))
    assert np.allclose(B, P.T @ A @ P)
    # What all axes take out solves its equation.
    numbers = np.unravel_index(np.arange(fine.size), (6, 5, 8))[::-1]
    out = np.all(
        [~np.isin(numbers[d], kept[d]) & (d in axes) for d in range(3)], axis=0
    )
    assert np.allclose((A @ P)[out], 0, atol=1e-12) and out.any() == (axes == {0, 1, 2})


def test_conductors_keep_what_is_constant_in_them():
    """A bent channel of one cell: the coarse matrix knows that it is cheap to be constant there."""
    grid = Grid((9, 9), comm=MPI.COMM_SELF)
    D = np.ones((9, 9))
    D[3, :6], D[3:, 5] = 1e6, 1e6
    matrix, planes = StencilMatrix(grid), {}
    Diffusion(grid, "D").at({"D": D}).add_planes(matrix.zeroed())
    planes = {o: np.array(v) for o, v in matrix.planes().items()}
    fine = level_of(planes, (False, False))
    every = np.arange(0, 9, 2)
    P = list[np.ndarray]()
    between = Interpolation(fine, {0: every, 1: every})
    for n in range(25):
        found = fine.cells.zeros()
        between.prolong(field(between.coarse, np.arange(25.0) == n), found)
        P.append(fine.cells.view(found).ravel())
    P, inside = np.stack(P, axis=1), D.T.ravel() > 1
    # The nearest function with 1 in the channel, measured by its energy.
    e = np.linalg.lstsq(P[inside], np.ones(inside.sum()), rcond=None)[0]
    assert np.allclose(P[inside] @ e, 1, atol=1e-4)


@pytest.mark.parametrize("wraps", [(False, False), (True, False, True), (True, True)])
@pytest.mark.parametrize("run", [1, 16, 256])
def test_the_cycle_is_symmetric_and_definite(wraps, run, monkeypatch):
    monkeypatch.setattr(adapted, "COARSEST", 12)
    monkeypatch.setattr(adapted, "RUN", run)
    monkeypatch.setattr(adapted, "ALIKE", 0.0)
    cells = (9, 8) if len(wraps) == 2 else (5, 4, 7)
    stage = stage_of(stencil(cells, wraps), wraps)
    M = as_matrix(stage, cells)
    assert M.dtype == float and np.allclose(M, M.T, atol=1e-12 * np.abs(M).max())
    found = np.linalg.eigvals(M @ stage.levels[0].dense()).real
    assert found.min() > 0 and found.max() < 1.5


def test_lines_that_hang_on_rounding_keep_double_precision():
    """Some lines of coarse levels under this mask are singular but for it: in single precision the
    preconditioner was indefinite."""
    active = np.random.default_rng(0).random((36, 48)) > 0.15
    parts, _ = ndimage.label(active)
    active = parts == 1 + np.bincount(parts.ravel())[1:].argmax()
    edges = np.r_[0, np.cumsum(np.r_[1.79 ** np.arange(11, 0, -1), np.ones(37)])]

    def holes(comm):
        sides = {"x+": "dirichlet"}
        cells = {"edges": [np.arange(37.0), edges], "active": active}
        grid = Grid((36, 48), boundaries=sides, comm=comm, **cells)
        k = noise((36, 48), 0.5)
        return grid, (k, 6 * k), 0.0

    assert solved(holes, MPI.COMM_SELF)[2] <= 15


def stage_of(planes, wraps):
    half = {o: v for o, v in planes.items() if o >= (0,) * len(wraps)}
    cells = next(iter(planes.values())).shape
    layout = Layout(tuple((n,) for n in cells[::-1]), 0)
    stage = AdaptedStage(Box(MPI.COMM_SELF, layout, [0], wraps, 4), list(half))
    stage.take(half, 1.0)
    assert len(stage.levels) > 1
    return stage


def as_matrix(stage, cells):
    columns = np.eye(int(np.prod(cells)))
    return np.stack([stage._cycle(b.reshape(cells)).ravel().copy() for b in columns])


@pytest.mark.parametrize("wraps", [(False, False), (True, False, True)])
def test_the_cycle_in_single_precision_is_that_in_double(wraps, monkeypatch):
    monkeypatch.setattr(adapted, "COARSEST", 12)
    cells = (9, 8) if len(wraps) == 2 else (5, 4, 7)
    planes, found = stencil(cells, wraps), []
    for alike in (1e15, 0.0):
        monkeypatch.setattr(adapted, "ALIKE", alike)
        found.append(as_matrix(stage_of(planes, wraps), cells))
    single, double = found
    assert (single.dtype, double.dtype) == (np.float32, np.float64)
    assert np.allclose(single, double, rtol=0, atol=1e-5 * np.abs(double).max())


@pytest.mark.parametrize(
    "weak, held, kept",
    [
        (1e-2, 0.1, np.float32),
        (1e-9, 0.1, np.float64),
        # Rounding of the diagonal would be as much as what holds the state.
        (1e-2, 1e-7, np.float64),
    ],
)
def test_what_rounding_would_change_keeps_double_precision(
    weak, held, kept, monkeypatch
):
    monkeypatch.setattr(adapted, "COARSEST", 12)
    planes = {(0, 0): np.full((9, 8), held)}
    for o, size in (((1, 0), 1.0), ((0, 1), weak)):
        behind = np.full((9, 8), -size)
        behind[(slice(None), -1) if o[0] else -1] = 0
        before = np.roll(behind, o[::-1], (0, 1))
        planes |= {o: behind, (-o[0], -o[1]): before}
        planes[0, 0] = planes[0, 0] - behind - before
    stage = stage_of(planes, (False, False))
    assert {level.A.dtype.type for level in stage.levels} == {kept}


def swept(fine, b, x, d, back):
    """One line after the other, by arrays."""
    cells, dim = fine.cells.cells, len(fine.cells.cells)
    A, places = fine.dense(), np.indices(cells).reshape(dim, -1, order="F")
    across = [e for e in range(dim) if e != d]
    key = places[across].sum(axis=0) % 2
    if d > 0:
        # Even lines of other rows, then their even places in these.
        key = 2 * (places[across[1:]].sum(axis=0) % 2) + places[0] % 2
    x = x.copy()
    lines = np.ravel_multi_index(places[across][::-1], [cells[e] for e in across[::-1]])
    order = sorted(set(zip(key, lines, strict=True)), reverse=back)
    for _, line in order:
        own = np.flatnonzero(lines == line)
        T = A[np.ix_(own, own)]
        x[own] += np.linalg.solve(T, b[own] - A[own] @ x)
    return x


@pytest.mark.parametrize("cells", [(6, 5, 4), (5, 9), (40, 3, 2)])
@pytest.mark.parametrize("together", [1, 2, 9])
@pytest.mark.parametrize("back", [False, True])
def test_sweeps_against_one_line_after_the_other(cells, together, back):
    dim = len(cells)
    planes = stencil(cells[::-1], (False,) * dim)
    fine = level_of(planes, (False,) * dim)
    fine.cells.together = min(together, fine.cells.counts[1])
    b, x = np.random.default_rng(0).standard_normal((2, fine.size))
    for d in range(dim):
        fine.b[:], fine.x[:] = field(fine.cells, b), field(fine.cells, x)
        fine._sweep(d, back)
        found = fine.cells.view(fine.x).ravel()
        assert np.allclose(found, swept(fine, b, x, d, back), atol=1e-13)
    fine.x[:] = field(fine.cells, x)
    fine.cells.wrap(fine.x)
    r = fine.cells.view(fine.residual()).ravel()
    assert np.allclose(r, b - fine.dense() @ x, atol=1e-13)


@pytest.mark.parametrize("d", [0, 1, 2])
@pytest.mark.parametrize("back", [False, True])
def test_lines_that_a_sweep_comes_to_last_are_solved(d, back):
    fine = level_of(stencil((4, 5, 6), (False,) * 3), (False,) * 3)
    b, x = np.random.default_rng(0).standard_normal((2, fine.size))
    fine.b[:], fine.x[:] = field(fine.cells, b), field(fine.cells, x)
    fine._sweep(d, back)
    r = b - fine.dense() @ fine.cells.view(fine.x).ravel()
    lines = np.moveaxis(r.reshape(4, 5, 6), 2 - d, -1)
    # [k, j], [k, i] and [j, i].
    last = {0: (3, 4), 1: (3, 5), 2: (3, 5)}[d]
    assert np.allclose(lines[(0, 0) if back else last], 0)
    assert not np.allclose(r, 0)


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

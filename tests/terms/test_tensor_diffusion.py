"""Full diffusion tensors: known solutions, symmetry, and exact derivatives."""

import numpy as np
import pytest
from mpi4py import MPI
from petsc4py import PETSc

from npde_opt.errors import InputError, SolverError
from npde_opt.forward import SCHEMES, Equation, Evolution, Experiment, Steady
from npde_opt.forward.linear_part import LinearPart, LinearPoint
from npde_opt.grids import Grid
from npde_opt.misfits import LeastSquares
from npde_opt.objective import Objective
from npde_opt.observations import at_points
from npde_opt.parameters import ParameterSpace, Shared, Unknown
from npde_opt.terms import Diffusion, TensorDiffusion
from npde_opt.verify import dot_product_test, manufactured_order, taylor_test

RANKS = pytest.mark.parallel([1, 2, 3])
POINTS = np.random.default_rng(5).random((9, 2)) * 0.9 + 0.05
AROUND = dict.fromkeys(("x-", "x+", "y-", "y+"), "dirichlet")
FULL = (("a", "b"), ("b", "c + x"))
BOX = (("a", "b", 0.2), ("b", "c", "b*b"), (0.2, "b*b", 2.0))


@pytest.fixture
def tight():
    options = PETSc.Options()
    options["state_ksp_rtol"] = "1e-13"
    yield
    options.delValue("state_ksp_rtol")


@pytest.fixture
def direct():
    PETSc.Options()["state_recipe"] = "direct"
    yield
    PETSc.Options().delValue("state_recipe")


def matrix(grid, term, k=None):
    """A, dense, the same on every rank; in the order of the natural numbers on one rank."""
    part = LinearPart(Equation(grid, [term]))
    point = LinearPoint(part, k or {})
    part.assemble(point.points)
    dense = part.matrices[0].mat.convert(PETSc.Mat.Type.DENSE, PETSc.Mat())
    rows = np.vstack(grid.comm.allgather(np.array(dense.getDenseArray())))
    part.destroy()
    return rows


def drawn(grid, seed, low, high):
    whole = low + (high - low) * np.random.default_rng(seed).random(grid.shape)
    return whole[grid.local_slice]


@RANKS
@pytest.mark.parametrize("shape", [(6, 5), (4, 3, 3)])
def test_the_matrix_is_symmetric_and_positive_definite(shape):
    """Also with a thousandfold jump of D from cell to cell, a hole and an axis that is periodic."""
    active = np.random.default_rng(2).random(shape) > 0.15
    sides = {"x-": "periodic", "x+": "periodic", "y-": "dirichlet"}
    grid = Grid(shape, boundaries=sides, active=active)
    scale = np.exp(7 * np.random.default_rng(0).random(shape))[grid.local_slice]
    k = {"s": scale, "b": drawn(grid, 1, -0.9, 0.9)}
    tensors = {
        2: (("s", "b*s"), ("b*s", "s")),
        3: (("s", "b*s/2", 0), ("b*s/2", "s", "-b*s/2"), (0, "-b*s/2", "s")),
    }
    A = matrix(grid, TensorDiffusion(grid, tensors[len(shape)]), k)
    np.testing.assert_allclose(A, A.T, atol=1e-12 * np.abs(A).max())
    assert np.linalg.eigvalsh(A / np.abs(A).max()).min() > -1e-12
    diagonal = [
        [f"{d}*s" if d == e else 0 for e in range(len(shape))]
        for d in range(len(shape))
    ]
    for d in range(len(shape)):
        diagonal[d][d] = f"{d + 1}*s"
    found = matrix(grid, TensorDiffusion(grid, diagonal), k)
    names = [f"D{d}" for d in range(len(shape))]
    plain = Diffusion(grid, names)
    expected = matrix(grid, plain, {n: (d + 1) * scale for d, n in enumerate(names)})
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


def error_of(n):
    """u = sin(pi x) sin(pi y): a tensor of 10 and 1 turned by an angle that varies."""
    grid = Grid((n, n), boundaries=AROUND)
    x, y = grid.coordinates()
    turn = "0.5 + x*y"
    entries = (
        (f"1 + 9*cos({turn})**2", f"9*cos({turn})*sin({turn})"),
        (f"9*cos({turn})*sin({turn})", f"1 + 9*sin({turn})**2"),
    )
    t = 0.5 + x * y
    D = (1 + 9 * np.cos(t) ** 2, 9 * np.cos(t) * np.sin(t), 1 + 9 * np.sin(t) ** 2)
    slope = (-9 * np.sin(2 * t), 9 * np.cos(2 * t), 9 * np.sin(2 * t))
    wave = np.sin(np.pi * x) * np.sin(np.pi * y)
    ux, uy = (
        np.pi * np.cos(np.pi * x) * np.sin(np.pi * y),
        np.pi * np.sin(np.pi * x) * np.cos(np.pi * y),
    )
    uxx = uyy = -(np.pi**2) * wave
    uxy = np.pi**2 * np.cos(np.pi * x) * np.cos(np.pi * y)
    f = -(D[0] * uxx + 2 * D[1] * uxy + D[2] * uyy)
    f = f - (
        slope[0] * y * ux + slope[1] * y * uy + slope[1] * x * ux + slope[2] * x * uy
    )
    space = ParameterSpace(grid, [Unknown("unused", block=Shared())])
    equation = Equation(grid, [TensorDiffusion(grid, entries)])
    seen = at_points(grid, (), POINTS)
    forward = Steady(space, equation, {}, [Experiment(load=f * grid.volume)], [seen])
    at = forward.linearize(space.from_values({"unused": 1.0}))
    off = float((((at.final[0][0] - wave) ** 2) * grid.volume).sum())
    at.destroy()
    forward.destroy()
    return float(np.sqrt(grid.comm.allreduce(off)))


@pytest.mark.parallel([1, 2])
def test_a_turned_tensor_converges_at_second_order(tight):
    assert manufactured_order(lambda n: error_of(n), (16, 32)) > 1.8
    assert error_of(32) < 5e-3


def wall_error(n):
    """D = [[2, 1], [1, 2]] and u = sin(2 x - y): u_x + 2 u_y = 0, no flux through y- and y+, where
    the slope across is not 0."""
    grid = Grid((n, n), boundaries={"x-": "dirichlet", "x+": "dirichlet"})
    x, y = grid.coordinates()
    s = x - y / 2
    u = np.sin(2 * s)
    # The flux is (2 u_x + u_y, 0) = (3/2) g', so that -div = -(3/2) g''.
    f = 1.5 * 4 * u
    term = TensorDiffusion(grid, ((2.0, 1.0), (1.0, 2.0)))
    ghosts = np.zeros([m + 2 for m in grid.local_shape], order="F")
    for side, at, here in ((0, 0.0, grid.start[0] == 0), (-1, 1.0, grid.stop[0] == n)):
        if here:
            ghosts[side, 1:-1] = np.sin(2 * (at - y.ravel() / 2))
    load = f * grid.volume + term.at({}).boundary_load(ghosts)
    space = ParameterSpace(grid, [Unknown("unused", block=Shared())])
    seen = at_points(grid, (), POINTS)
    forward = Steady(space, Equation(grid, [term]), {}, [Experiment(load=load)], [seen])
    at = forward.linearize(space.from_values({"unused": 1.0}))
    off = grid.comm.allreduce(float(np.abs(at.final[0][0] - u).max()), op=MPI.MAX)
    at.destroy()
    forward.destroy()
    return off


@pytest.mark.parallel([1, 2])
def test_no_flux_through_closed_sides(tight):
    assert manufactured_order(wall_error, (16, 32)) > 1.7


def problem(tensor, shape, steps):
    sides = {"x-": "dirichlet", "y+": "dirichlet"}
    active = np.ones(shape, bool)
    active[0, 0] = False
    grid = Grid(shape, boundaries=sides, active=active)
    unknowns = [
        Unknown("a", "log"),
        Unknown("b", "identity"),
        Unknown("c", "log", block=Shared()),
    ]
    space = ParameterSpace(grid, unknowns)
    equation = Equation(grid, [TensorDiffusion(grid, tensor)])
    points = np.random.default_rng(7).random((6, len(shape))) * 0.6 + 0.3
    runs = [
        Experiment({"u": "1 + x*y"}, boundary={"x-": "a + c*y", "y+": 1.0, "x+": 1.0})
    ]
    if steps:
        times = np.linspace(0, 1e-3 if steps == "heun" else 0.1, 3)
        seen = [at_points(grid, times[1:], points)]
        forward = Evolution(space, equation, {}, runs, seen, SCHEMES[steps], times)
    else:
        forward = Steady(space, equation, {}, runs, [at_points(grid, (), points)])
    (layout,) = forward.layouts
    misfit = LeastSquares(np.zeros(layout.size), 0.1, layout)
    m = space.from_values(
        {"a": drawn(grid, 1, 1, 2), "b": drawn(grid, 2, -0.5, 0.5), "c": 1.5}
    )
    dm = space.from_values(
        {"a": drawn(grid, 3, 1, 2), "b": drawn(grid, 4, -0.5, 0.5), "c": 1.2}
    )
    return Objective(forward, [misfit], {}), m, dm


@RANKS
def test_derivatives_in_the_plane(direct):
    check(FULL, (6, 5), None)


@pytest.mark.parallel([1, 2])
def test_derivatives_in_space(direct):
    check(BOX, (4, 3, 3), None)


def test_derivatives_in_time(tight):
    check(FULL, (6, 5), "crank-nicolson")


def check(tensor, shape, steps):
    J, m, dm = problem(tensor, shape, steps)
    orders = taylor_test(J, m, dm)
    assert orders.problems() == [], orders
    lin = J.forward.linearize(m)
    assert dot_product_test(lin, dm, [d.copy() for d in lin.data]) <= 1e-10
    lin.destroy()
    J.destroy()


def test_tensors_that_cannot_be():
    grid = Grid((4, 4), boundaries={"x-": "dirichlet"})
    for tensor, said in (
        (((1.0,), (2.0,)), "2 rows of 2"),
        (((1.0, 0.5), (0.4, 1.0)), r"\[1\]\[0\]: got 0.4; allowed: 0.5"),
        (((1.0, "x +"), ("x +", 1.0)), r"\[0\]\[1\]"),
    ):
        with pytest.raises(InputError, match=said):
            TensorDiffusion(grid, tensor)
    space = ParameterSpace(grid, [Unknown("b", "identity", block=Shared())])
    equation = Equation(grid, [TensorDiffusion(grid, ((1.0, "b"), ("b", 1.0)))])
    forward = Steady(space, equation, {}, [Experiment()], [at_points(grid, (), POINTS)])
    with pytest.raises(SolverError, match="not positive definite in 16 cells"):
        forward.linearize(space.from_values({"b": 1.5}))

"""Advection with velocities that vary in space: known and unknown, v.grad u and div(v u)."""

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
from npde_opt.parameters import Field, ParameterSpace, Shared, Unknown
from npde_opt.terms import Advection, Diffusion, TimedAdvection
from npde_opt.verify import dot_product_test, manufactured_order, taylor_test

RANKS = pytest.mark.parallel([1, 2, 3])
AROUND = dict.fromkeys(("x-", "x+", "y-", "y+"), "dirichlet")
POINTS = np.random.default_rng(5).random((9, 2)) * 0.9 + 0.05
SHAPE = (6, 5)


@pytest.fixture
def tight():
    options = PETSc.Options()
    names = ("state_ksp_rtol", "state_newton_rtol")
    for name in names:
        options[name] = "1e-13"
    yield
    for name in names:
        options.delValue(name)


def product(grid, term, u, coefficients=None, transposed=False):
    """A u, or A^T u, of owned values."""
    part = LinearPart(Equation(grid, [term]))
    point = LinearPoint(part, coefficients or {})
    part.assemble(point.points)
    found = point.product(u[None], transposed)[0].copy()
    part.destroy()
    return found


def worst(grid, values):
    return grid.comm.allreduce(float(np.abs(values).max(initial=0.0)), op=MPI.MAX)


SWIRL = ("-(y - 0.4)*w", "(x - 0.7)*w + x*y")


@RANKS
@pytest.mark.parametrize("scheme", ["upwind", "central"])
@pytest.mark.parametrize("masked", [False, True])
def test_what_leaves_a_cell_enters_the_next_and_a_constant_stays(scheme, masked):
    active = np.random.default_rng(2).random(SHAPE) > 0.2 if masked else None
    sides = {"x-": "periodic", "x+": "periodic"}
    grid = Grid(SHAPE, boundaries=sides, active=active)
    k = {"w": 1 + np.random.default_rng(3).random(grid.shape)[grid.local_slice]}
    one = np.ones(grid.local_shape)
    velocity = ("sin(2*pi*x)*w + y", "w*x*y*(1 - y)")
    whole = Advection(grid, velocity, scheme, conservative=True)
    left = product(grid, whole, one, k, transposed=True)
    assert worst(grid, left) < 1e-14
    assert worst(grid, product(grid, whole, one, k)) > 1e-3
    plain = Advection(grid, velocity, scheme)
    assert worst(grid, product(grid, plain, one, k)) < 1e-14


@pytest.mark.parallel([1, 2])
def test_what_flows_out_through_a_neumann_side_is_gone():
    grid = Grid((6,))
    for v, at in ((2.0, -1), (-2.0, 0)):
        for scheme in ("upwind", "central"):
            term = Advection(grid, (v,), scheme, conservative=True)
            left = product(grid, term, np.ones(grid.local_shape), transposed=True)
            found = grid.comm.bcast(grid.to_natural(np.asfortranarray(left)), root=0)
            expected = np.zeros(6)
            expected[at] = 2.0
            np.testing.assert_allclose(found, expected, atol=1e-14)


def error_of(n, scheme, conservative, edges=None):
    """-lap u + v.grad u (+ u div v) = f, u = sin(2x) exp(y), v = (1 + x y, x - y^2)."""
    grid = Grid((n, n), edges=edges, boundaries=AROUND)
    x, y = grid.coordinates()
    u = np.sin(2 * x) * np.exp(y)
    f = 3 * u + (1 + x * y) * 2 * np.cos(2 * x) * np.exp(y) + (x - y**2) * u
    f = f - y * u if conservative else f
    term = Advection(grid, ("1 + x*y", "x - y**2"), scheme, conservative=conservative)
    rest = [Diffusion(grid, "D"), term]
    space = ParameterSpace(grid, [Unknown("unused", block=Shared())])
    # u at the sides varies: what it brings is in the load.
    load = f * grid.volume
    ghosts = np.zeros([m + 2 for m in grid.local_shape], order="F")
    e = [
        np.concatenate([[q[0]], c, [q[-1]]])
        for q, c in zip(grid.edges, grid.centers, strict=True)
    ]
    part = [c[s.start : s.stop + 2] for c, s in zip(e, grid.local_slice, strict=True)]
    whole = np.sin(2 * part[0])[:, None] * np.exp(part[1])[None]
    for d in range(2):
        for side, here in (
            (0, grid.start[d] == 0),
            (-1, grid.stop[d] == grid.shape[d]),
        ):
            layer = [slice(1, -1)] * 2
            layer[d] = side
            if here:
                ghosts[tuple(layer)] = whole[tuple(layer)]
    for t in rest:
        load = load + t.at({"D": np.ones(grid.local_shape)}).boundary_load(ghosts)
    seen = at_points(grid, (), POINTS)
    forward = Steady(
        space, Equation(grid, rest), {"D": 1.0}, [Experiment(load=load)], [seen]
    )
    at = forward.linearize(space.from_values({"unused": 1.0}))
    found = worst(grid, at.final[0][0] - u)
    at.destroy()
    forward.destroy()
    return found


@pytest.mark.parallel([1, 2])
@pytest.mark.parametrize("conservative", [False, True])
@pytest.mark.parametrize(("scheme", "order"), [("central", 1.8), ("upwind", 0.8)])
def test_orders(scheme, order, conservative, tight):
    found = manufactured_order(lambda n: error_of(n, scheme, conservative), (12, 24))
    assert order < found < order + 0.5


def problem(name, scheme, conservative, steps):
    grid = Grid(SHAPE, boundaries={"x-": "dirichlet", "y-": "dirichlet"})
    identity = [
        Unknown("w", "identity"),
        Unknown("q", "identity", block=Shared()),
        Unknown("D", "log"),
    ]
    velocity = {"texts": SWIRL, "mixed": ("q*w", "3*q**2 - 4*x")}.get(name, "v")
    if name == "channels":
        identity[:2] = [Unknown("v", "identity", block=Field(channels=2))]
    space = ParameterSpace(
        grid, identity if name != "texts" else [identity[0], identity[2]]
    )
    term = Advection(grid, velocity, scheme, conservative=conservative)
    if name == "timed":
        velocity = ("q*w*cos(30*t)", "3*q**2*t - 4*x")
        term = TimedAdvection(grid, ("u",), "u", velocity, conservative)
    equation = Equation(grid, [Diffusion(grid, "D"), term])
    runs = [
        Experiment(
            {"u": "1 + x*y"}, boundary={"x-": "D + y", "y-": 1.0}, load=grid.volume
        )
    ]
    if steps:
        times = np.linspace(0, 0.02 if steps == "heun" else 0.2, 3)
        times = times * 0.01 if steps == "heun" else times
        seen = [at_points(grid, times[1:], POINTS)]
        forward = Evolution(space, equation, {}, runs, seen, SCHEMES[steps], times)
    else:
        forward = Steady(space, equation, {}, runs, [at_points(grid, (), POINTS)])
    (layout,) = forward.layouts
    misfit = LeastSquares(np.zeros(layout.size), 0.1, layout)
    vectors = []
    for seed in (1, 2):
        values = {}
        for i, u in enumerate(space.unknowns):
            rng = np.random.default_rng(10 * seed + i)
            full = (2, *grid.shape) if u.name == "v" else grid.shape
            box = (
                grid.local_slice if u.name != "v" else (slice(None), *grid.local_slice)
            )
            values[u.name] = (
                rng.random() + 1.0 if u.name == "q" else (1 + rng.random(full))[box]
            )
        vectors.append(space.from_values(values))
    return Objective(forward, [misfit], {}), *vectors


@RANKS
@pytest.mark.parametrize(
    ("name", "scheme", "conservative", "steps"),
    [("mixed", "central", True, None), ("timed", "upwind", True, "heun")],
)
def test_derivatives(name, scheme, conservative, steps, tight):
    check(name, scheme, conservative, steps)


@pytest.mark.parametrize(
    ("name", "scheme", "conservative", "steps"),
    [
        ("channels", "upwind", True, None),
        ("channels", "central", False, "crank-nicolson"),
        ("texts", "upwind", False, "heun"),
        ("timed", "upwind", False, "crank-nicolson"),
    ],
)
def test_more_derivatives(name, scheme, conservative, steps, tight):
    check(name, scheme, conservative, steps)


def check(name, scheme, conservative, steps):
    J, m, dm = problem(name, scheme, conservative, steps)
    orders = taylor_test(J, m, dm)
    assert orders.problems() == [], orders
    lin = J.forward.linearize(m)
    assert dot_product_test(lin, dm, [d.copy() for d in lin.data]) <= 1e-10
    lin.destroy()
    J.destroy()


def test_the_largest_velocity_limits_explicit_steps():
    """h/(|v_x| + |v_y|) of upwind differences, at the place where that is smallest."""
    grid = Grid((10, 10))
    space = ParameterSpace(grid, [Unknown("unused", block=Shared())])
    equation = Equation(grid, [Advection(grid, ("5*x", "3"))])
    limit = 0.1 / (5 * 0.9 + 3)  # of the cell whose lower face is at 0.9
    for factor, stable in ((0.98, True), (1.2, False)):
        times = np.arange(3) * limit * factor
        seen = at_points(grid, times[1:], POINTS)
        given = ({}, [Experiment({"u": 1.0})], [seen], SCHEMES["explicit-euler"], times)
        forward = Evolution(space, equation, *given)
        if stable:
            forward.linearize(space.from_values({"unused": 1.0})).destroy()
        else:
            with pytest.raises(InputError, match="stability limit"):
                forward.linearize(space.from_values({"unused": 1.0}))


@pytest.mark.parallel([1, 2])
def test_a_velocity_that_turns_round_brings_all_back():
    """u' + v(t) u_x = 0 with v = cos(t): shifts by sin(t), here by Heun's steps on a fine line."""
    grid = Grid(
        (128,), extent=(2 * np.pi,), boundaries={"x-": "periodic", "x+": "periodic"}
    )
    space = ParameterSpace(grid, [Unknown("unused", block=Shared())])
    equation = Equation(grid, [TimedAdvection(grid, ("u",), "u", ["cos(t)"])])
    x = grid.coordinates()[0]
    times = np.linspace(0, np.pi / 2, 41)
    seen = at_points(grid, times[-1:], np.array([[1.0]]))
    runs = [Experiment({"u": np.sin(x)})]
    forward = Evolution(space, equation, {}, runs, [seen], SCHEMES["heun"], times)
    at = forward.linearize(space.from_values({"unused": 1.0}))
    assert worst(grid, at.final[0][0] - np.sin(x - 1.0)) < 0.04
    at.destroy()
    forward.times[-1] *= 3
    with pytest.raises(SolverError, match="stability limit .* of advection in step 40"):
        forward.linearize(space.from_values({"unused": 1.0}))
    forward.destroy()


def test_velocities_that_cannot_be():
    grid = Grid((4, 4))
    for velocity, said in (((1.0,), "2 numbers or texts"), ((1.0, np.inf), "finite")):
        with pytest.raises(InputError, match=said):
            Advection(grid, velocity)
    with pytest.raises(InputError, match=r"velocity\[1\]"):
        Advection(grid, (1.0, "x +"))

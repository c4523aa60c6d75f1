"""Boundary values that vary along sides and in time: known solutions, and derivatives in what they
depend on."""

import numpy as np
import pytest
from petsc4py import PETSc

from npde_opt.errors import InputError, SolverError
from npde_opt.forward import SCHEMES, Equation, Evolution, Experiment, Steady
from npde_opt.grids import Boundary, Grid
from npde_opt.misfits import LeastSquares
from npde_opt.objective import Objective
from npde_opt.observations import at_points, snapshots
from npde_opt.parameters import ParameterSpace, PerStep, Shared, Unknown
from npde_opt.terms import (
    Advection,
    Diffusion,
    GradientDiffusion,
    Kinetics,
    NonlinearDiffusion,
)
from npde_opt.terms.boundary import SideValue
from npde_opt.verify import dot_product_test, taylor_test

RANKS = pytest.mark.parallel([1, 2, 3])
SIDES = {
    "x-": "dirichlet",
    "x+": Boundary("robin", 2.0),
    "y-": "neumann",
    "y+": "dirichlet",
}
HARMONIC = {
    "x-": "exp(x)*sin(y)",
    "y+": "exp(x)*sin(y)",
    "x+": "1.5*exp(x)*sin(y)",  # u + u_x / 2
    "y-": "-exp(x)*cos(y)",
}
"""Of u = exp(x) sin(y), for which lap u = 0."""

DECAYING = {
    "x-": "exp(x/2 - 3*t/4)*sin(y)",
    "y+": "exp(x/2 - 3*t/4)*sin(y)",
    "x+": "1.25*exp(x/2 - 3*t/4)*sin(y)",
    "y-": "-exp(x/2 - 3*t/4)*cos(y)",
}
"""Of u = exp(x/2 - 3t/4) sin(y), for which u_t = lap u."""


def whole(grid, values):
    return grid.comm.bcast(grid.to_natural(np.asfortranarray(values)), root=0)


def diffusion(n):
    grid = Grid((n, n), boundaries=SIDES)
    space = ParameterSpace(grid, [Unknown("D", "log")])
    return grid, space, Equation(grid, [Diffusion(grid, "D")])


def steady_state(n, given):
    grid, space, equation = diffusion(n)
    forward = Steady(space, equation, {}, [Experiment(boundary=given)])
    lin = forward.linearize(space.create_vec())
    found = whole(grid, lin.final[0][0])
    lin.destroy()
    forward.destroy()
    return grid, found


def last_state(n, steps, scheme, end, given=DECAYING):
    grid, space, equation = diffusion(n)
    times = np.linspace(0, end, steps + 1)
    runs = [Experiment({"u": "exp(x/2)*sin(y)"}, boundary=given)]
    seen = [snapshots(grid, times[-1:])]
    forward = Evolution(space, equation, {}, runs, seen, SCHEMES[scheme], times)
    lin = forward.linearize(space.create_vec())
    found = whole(grid, lin.final[0][0])
    lin.destroy()
    forward.destroy()
    return grid, found


def middles(grid):
    return np.meshgrid(*grid.centers, indexing="ij")


@pytest.mark.parallel([1, 2])
def test_steady_states_are_of_second_order():
    errors = []
    for n in (8, 16):
        grid, found = steady_state(n, HARMONIC)
        x, y = middles(grid)
        errors.append(np.abs(found - np.exp(x) * np.sin(y)).max())
    assert errors[1] < 2e-3 and errors[0] / errors[1] > 3.3


@pytest.mark.parallel([1, 2])
def test_states_in_time_are_of_second_order():
    errors = []
    for n in (8, 16):
        grid, found = last_state(n, n, "crank-nicolson", 0.8)
        x, y = middles(grid)
        errors.append(np.abs(found - np.exp(x / 2 - 0.6) * np.sin(y)).max())
    assert errors[1] < 1e-3 and errors[0] / errors[1] > 3, errors


@pytest.mark.parametrize("scheme", list(SCHEMES))
def test_schemes_are_of_their_order_in_time(scheme):
    first = 16 if SCHEMES[scheme].linear_implicit else 32
    end = 0.8 if SCHEMES[scheme].linear_implicit else 0.05
    states = [last_state(5, first * 2**k, scheme, end)[1] for k in range(3)]
    changes = [
        np.abs(b - a).max() for a, b in zip(states[:-1], states[1:], strict=True)
    ]
    order = (
        2 if scheme == "imex-theta" else SCHEMES[scheme].order
    )  # nothing is explicit
    expected = 2.0**order
    assert 0.8 * expected < changes[0] / changes[1] < 1.3 * expected, changes


@RANKS
def test_all_ways_to_give_a_value_are_the_same():
    grid = Grid((6, 7), boundaries=SIDES)
    y, x = grid.centers[1], grid.centers[0]
    times = np.linspace(0, 0.5, 6)
    linear = {"x-": "y*(1 + 2*t)", "y-": "x*(1 + 2*t)", "x+": 0.3}
    h, ends = [1.0, 2.0], [0.0, 0.5]
    tables = {
        "x-": SideValue(np.outer(h, y), times=ends),
        "y-": SideValue(np.outer(h, x), times=ends),
        "x+": np.full(7, 0.3),
    }
    histories = {
        "x-": SideValue("y", h, ends),
        "y-": SideValue(x, "h", ends),
        "x+": SideValue(0.3),
    }
    space = ParameterSpace(grid, [Unknown("D", "log")])
    runs = [Experiment(boundary=given) for given in (linear, tables, histories)]
    seen = [snapshots(grid, times[-1:])]
    equation = Equation(grid, [Diffusion(grid, "D")])
    known = {"h": np.array(h)}
    forward = Evolution(
        space, equation, known, runs, seen, SCHEMES["backward-euler"], times
    )
    lin = forward.linearize(space.create_vec())
    for other in lin.final[1:]:
        np.testing.assert_allclose(other, lin.final[0], atol=1e-9)
    lin.destroy()
    forward.destroy()


def test_times_of_tables_end_steps():
    grid, space, equation = diffusion(4)
    given = {
        "x-": SideValue(2.0, [0, 1, 1], [0.0, 0.15, 0.3]),
        "y-": SideValue("x", [1], [0.55]),
    }
    times = np.linspace(0, 1, 6)
    seen = [snapshots(grid, times[-1:])]
    runs = [Experiment(boundary=given)]
    forward = Evolution(space, equation, {}, runs, seen, SCHEMES["heun"], times)
    assert {0.15, 0.3, 0.55} <= set(forward.times)
    forward.destroy()


# ---- derivatives ---------------------------------------------------------------------------------

TERMS = {
    "linear": lambda grid: [Diffusion(grid, "D"), Advection(grid, (0.5, -0.3))],
    "central": lambda grid: [
        Diffusion(grid, "D"),
        Advection(grid, (0.5, -0.3), "central"),
    ],
    "steep": lambda grid: [GradientDiffusion(grid, ("u",), "u", "D*(1 + b*q)")],
    "porous": lambda grid: [
        Diffusion(grid, "D"),
        NonlinearDiffusion(grid, ("u",), "u", "D*(1 + b*u**2)"),
        Kinetics(grid, ("u",), {"u": "-u**3"}),
    ],
}
BLOCKS = {"a": Shared(), "b": None, "h": PerStep(Shared(), 3), "D": None}


def vector(space, seed, mean):
    rng = np.random.default_rng(seed)
    fields = {"D": rng.random(space.grid.shape), "b": rng.random(space.grid.shape)}
    numbers = {"a": rng.random(), "h": rng.random(3)}
    vec = space.create_vec()
    for name in ("D", "b"):
        space.own(vec, name)[...] = mean + 0.3 * fields[name][space.grid.local_slice]
    for name, values in numbers.items():
        if name not in space.blocks:
            continue
        own = space.own(vec, name)
        own[...] = mean + 0.3 * np.resize(values, own.shape)
    return vec


def objective(name, scheme):
    robin = name in ("linear", "central")
    x_plus = Boundary("robin", 2.0) if robin else "neumann"
    grid = Grid((6, 5), boundaries={"x-": "dirichlet", "y+": "dirichlet", "x+": x_plus})
    unknowns = [
        Unknown(n, "log", block=b) if b else Unknown(n, "log")
        for n, b in BLOCKS.items()
    ]
    space = ParameterSpace(grid, unknowns)
    time, end = "t + " if scheme else "", 6e-4 if scheme == "ars222" else 4e-3
    given = {
        "x-": f"a**2*b*sin(3*y) + {time}0.2",
        "x+": "exp(a*y)*b",
        "y-": "a*b*x",
        "y+": 0.4
        if scheme is None
        else SideValue("a**2*x", "h", [0.0, end / 3, 0.9 * end]),
    }
    equation = Equation(grid, TERMS[name](grid))
    points = np.random.default_rng(5).random((7, 2)) * 0.9 + 0.05
    start = {"u": "0.5 + 0.3*x"}
    if scheme is None:
        space = ParameterSpace(grid, [u for u in unknowns if u.name != "h"])
        seen = [at_points(grid, (), points, "u**2")]
        runs = [Experiment(start, boundary=given)]
        forward = Steady(space, equation, {}, runs, seen, recipe="direct")
    else:
        times = np.linspace(0, end, 3)
        seen = [at_points(grid, times[1:], points)]
        runs = [Experiment(start, boundary=given)]
        how = SCHEMES[scheme]
        forward = Evolution(
            space, equation, {}, runs, seen, how, times, recipe="direct"
        )
    (layout,) = forward.layouts
    data = np.random.default_rng(0).standard_normal(layout.size)
    misfit = LeastSquares(data, 0.2, layout)
    return Objective(forward, [misfit], {})


@pytest.fixture
def tight():
    options = PETSc.Options()
    given = {"state_ksp_rtol": "1e-13", "state_newton_rtol": "1e-13"}
    for name, value in given.items():
        options[name] = value
    yield
    for name in given:
        options.delValue(name)


def check(name, scheme):
    J = objective(name, scheme)
    space = J.forward.space
    m, dm = vector(space, 1, 0.1), vector(space, 2, 0.2)
    orders = taylor_test(J, m, dm)
    assert orders.problems() == [], orders
    lin = J.forward.linearize(m)
    d = [predicted.copy() for predicted in lin.data]
    assert dot_product_test(lin, dm, d) <= 1e-10
    lin.destroy()
    J.destroy()


@RANKS
def test_derivatives_of_steady_states(tight):
    check("linear", None)


@RANKS
def test_derivatives_of_states_in_time(tight):
    check("linear", "crank-nicolson")


@pytest.mark.parallel([1, 2])
def test_derivatives_of_steady_states_that_are_not_linear(tight):
    check("steep", None)


@pytest.mark.parametrize(
    ("name", "scheme"),
    [
        ("porous", None),
        ("central", "explicit-euler"),
        ("steep", "backward-euler"),
        ("porous", "ars222"),
    ],
)
def test_derivatives_of_more_terms_and_schemes(name, scheme, tight):
    check(name, scheme)


# ---- what is wrong -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"x-": "sin(y"}, "boundary.x-"),
        ({"x-": "t*y"}, "boundary.x-"),
        ({"x-": "c*y"}, "boundary.x-"),
        (
            {"x-": np.zeros(5)},
            r"boundary.x-: got values of shape \[5\]; allowed: 4, one a cell",
        ),
        (
            {"x-": "log(y - 2)"},
            r"boundary.x-: got 'log\(y - 2\)', not finite on the side; allowed: f",
        ),
        ({"y-": "sqrt(x - 2)"}, "boundary.y-: got 'sqrt"),
        ({"x-": np.full(4, np.nan)}, "boundary.x-: got values that are not finite"),
        ({"x-": SideValue(1.0, [1.0, 2.0], [1.0, 0.0])}, "boundary.x-.times"),
        ({"x-": SideValue(1.0, [1.0], [1.0], "stairs")}, "boundary.x-.interpolation"),
    ],
)
def test_wrong_values_are_told_by_their_key(given, said):
    grid, space, equation = diffusion(4)
    with pytest.raises(InputError, match=said):
        Steady(space, equation, {}, [Experiment(boundary=given)])


def test_a_trial_point_without_boundary_values_is_a_rejected_step():
    grid = Grid((4, 4), boundaries=SIDES)
    space = ParameterSpace(grid, [Unknown("D", "log"), Unknown("a", block=Shared())])
    runs = [Experiment(boundary={"y-": "sqrt(a)"})]
    forward = Steady(space, Equation(grid, [Diffusion(grid, "D")]), {}, runs)
    m = space.create_vec()
    space.own(m, "a")[...] = -1.0
    with pytest.raises(
        SolverError, match="boundary.y- is 'sqrt.a.', not finite on the side"
    ):
        forward.linearize(m)
    forward.destroy()

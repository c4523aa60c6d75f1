"""Splines and perceptrons with unknown numbers in equations: exact derivatives beside those of
scalars and fields, explicit, implicit and steady, on any number of ranks."""

import numpy as np
import pytest
from mpi4py import MPI
from petsc4py import PETSc

from npde_opt.errors import InputError
from npde_opt.forward import SCHEMES, Equation, Evolution, Experiment, Steady
from npde_opt.functions import Perceptron, Spline, link
from npde_opt.grids import Grid
from npde_opt.misfits import LeastSquares
from npde_opt.objective import Objective
from npde_opt.observations import at_points, snapshots
from npde_opt.parameters import ParameterSpace, Shared, Unknown
from npde_opt.terms import Diffusion, Kinetics, NonlinearDiffusion
from npde_opt.verify import dot_product_test, taylor_test

RANKS = pytest.mark.parallel([1, 2, 3])
POINTS = np.random.default_rng(5).random((9, 2)) * 0.7 + 0.05
FUNCTIONS = {
    "D": Spline([(0.0, 1.5)], [5], "rising", link("positive")),
    "R": Perceptron([(0.0, 1.5), (0.0, 1.0)], 3),
    "T": Spline([(0.0, 0.012)], [3], link=link(bounds=(0.2, 4.0))),
}
NAMES = ("u", "v")
TIGHT = {"state_ksp_rtol": "1e-14", "state_newton_rtol": "1e-14"}


@pytest.fixture(autouse=True)
def tight():
    options = PETSc.Options()
    for name, value in TIGHT.items():
        options[name] = value
    yield
    for name in TIGHT:
        options.delValue(name)


def unknown(name):
    f = FUNCTIONS[name]
    return Unknown(name, f.shape.transform, block=Shared(f.count))


def terms(grid, steady):
    """A learned diffusivity of u and v, with a field in front, and a learned reaction in both."""
    rates = {"u": "r*u*(1 - u)*T(t) + R(u, v)", "v": "0.5*(u - v) - 0.1*R(v, u)"}
    diffusivity = "a*D(u)*(1 + T(t))*(1 + 0.3*R(u, v)**2)"
    if steady:
        diffusivity = "a*D(u)*(1 + 0.3*R(u, v)**2)"
        rates = {"u": "2 - r*u + R(u, v)", "v": "0.5*(u - v) - 0.1*R(v, u)"}
    return [
        NonlinearDiffusion(grid, NAMES, "u", diffusivity, functions=FUNCTIONS),
        Diffusion(grid, "a", "v"),
        Kinetics(grid, NAMES, rates, functions=FUNCTIONS),
    ]


def objective(scheme, masked=False, several=1):
    """Of a scheme, or a steady state, with a point and a direction: the same on all ranks."""
    active = np.ones((5, 4), bool) if masked else None
    if active is not None:
        active[-1, -1] = active[-1, 0] = False
    grid = Grid(
        (5, 4), boundaries={"x-": "dirichlet"}, active=active, comm=MPI.COMM_WORLD
    )
    steady = scheme is None
    names = ("D", "R") if steady else ("D", "R", "T")
    scalars = [Unknown("r", "log", block=Shared()), Unknown("a", "log")]
    space = ParameterSpace(grid, [*(unknown(n) for n in names), *scalars])
    equation = Equation(grid, terms(grid, steady), NAMES)
    start = {"u": "0.3 + 0.8*x*y", "v": "0.5 + 0.4*sin(3*y)"}
    sides = {"u": {"x-": "0.4 + 0.2*y"}, "v": {"x-": 0.5}}
    runs = [Experiment(start, boundary=sides)]
    if steady:
        seen = [at_points(grid, (), POINTS, "u"), at_points(grid, (), POINTS, "v")]
        forward = Steady(space, equation, {}, runs, seen)
    else:
        times = np.linspace(0, 0.012, 3)
        seen = [
            at_points(grid, times[1:], POINTS, "u"),
            snapshots(grid, times[-1:], "u*v"),
        ]
        runs += [Experiment({"u": 0.7, "v": "0.2 + 0.5*x"}, boundary=sides)] * (
            several - 1
        )
        forward = Evolution(space, equation, {}, runs, seen, SCHEMES[scheme], times)
    misfits = []
    for layout in forward.layouts:
        y = [
            np.random.default_rng(e).standard_normal(layout.size)
            for e in layout.members
        ]
        misfits.append(LeastSquares(np.stack(y, axis=1), 0.3, layout))
    return Objective(forward, misfits, {}), vector(space, 1), vector(space, 2)


def vector(space, seed):
    vec = space.create_vec()
    for i, u in enumerate(space.unknowns):
        rng, own = np.random.default_rng(10 * seed + i), space.own(vec, u.name)
        if u.block.listed:
            own[...] = (0.6 * rng.standard_normal(u.block.count) - 0.3)[: own.size]
        else:
            own[...] = (0.4 * rng.random(space.grid.shape) - 1.0)[
                space.grid.local_slice
            ]
    return vec


@RANKS
@pytest.mark.fewer(2, scheme=["ars222", "crank-nicolson", None])
@pytest.mark.fewer(3, scheme=["ars222"])
@pytest.mark.parametrize(
    "scheme, masked",
    [
        ("explicit-euler", True),
        ("ars222", True),
        ("crank-nicolson", False),
        (None, True),
    ],
)
def test_derivatives(scheme, masked):
    J, m, dm = objective(scheme, masked)
    apart = MPI.COMM_WORLD.size == 1 and scheme is None
    orders = taylor_test(J, m, dm, apart=apart)
    assert orders.first > 1.8 and orders.second > 2.7 and orders.gradient > 1.8, orders
    lin = J.forward.linearize(m)
    d = [predicted.layout.noise(100) for predicted in lin.data]
    assert dot_product_test(lin, dm, d) <= 1e-10
    lin.destroy()
    J.destroy()


AGREED = {
    "ars222": [193.36514198081028, 1.5050854498871495, -1.7446365578215912],
    None: [180.79658234670205, 370.82655191970514, 149.33870009261733],
}
"""Value, curvature and slope along the direction, on one rank."""


@RANKS
@pytest.mark.parametrize("scheme", AGREED)
def test_ranks_agree(scheme):
    J, m, dm = objective(scheme)
    h, at = J.create_vec(), J.linearize(m)
    at.hessian(dm, h)
    found = [at.value, h.dot(dm), at.gradient().dot(dm)]
    np.testing.assert_allclose(found, AGREED[scheme], rtol=1e-8)
    J.destroy()


@RANKS
def test_columns():
    """Two experiments as columns are what they are one by one."""
    J, m, _ = objective("ars222", several=2)
    at = J.linearize(m)
    together = [d.gather() for d in at.linearization.data]
    for e in range(2):
        alone = J.forward.linearize(m, [e])
        np.testing.assert_allclose(
            alone.data[0].gather()[:, 0], together[0][:, e], rtol=1e-10
        )
    J.destroy()


def test_a_function_with_other_numbers():
    grid = Grid((5, 4))
    space = ParameterSpace(grid, [Unknown("D", "log", block=Shared(4))])
    term = NonlinearDiffusion(grid, ("u",), "u", "D(u)", functions=FUNCTIONS)
    with pytest.raises(InputError, match="D: got 4 values; allowed: 5, the numbers"):
        Steady(space, Equation(grid, [term]), {}, [Experiment({}, boundary={})])


def test_the_time_in_a_steady_state():
    grid = Grid((5, 4), boundaries={"x-": "dirichlet"})
    space = ParameterSpace(grid, [unknown("T")])
    term = Kinetics(grid, ("u",), {"u": "T(t) - u"}, functions=FUNCTIONS)
    with pytest.raises(InputError, match="kinetics in time"):
        Steady(space, Equation(grid, [term]), {}, [Experiment()])


def test_a_diffusivity_that_is_odd_in_the_slope():
    grid, f = Grid((5, 4)), {"F": Spline([(-1.0, 1.0)], [5])}
    with pytest.raises(InputError, match="an even function of g"):
        NonlinearDiffusion(grid, ("u",), "u", "F(g)", functions=f)
    NonlinearDiffusion(grid, ("u",), "u", "F(g**2)", functions=f)

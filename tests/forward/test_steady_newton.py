"""Nonlinear steady states: known solutions, exact derivatives, identification, and what happens
where there is no state."""

import numpy as np
import pytest
from mpi4py import MPI
from petsc4py import PETSc

from npde_opt.errors import SolverError
from npde_opt.forward import Equation, Experiment, Steady, steady_newton
from npde_opt.grids import Boundary, Grid
from npde_opt.misfits import LeastSquares
from npde_opt.objective import Objective
from npde_opt.observations import at_points, snapshots
from npde_opt.optimizers import Settings, minimize
from npde_opt.parameters import ParameterSpace, Regions, Shared, Unknown
from npde_opt.terms import (
    Advection,
    Diffusion,
    GradientDiffusion,
    Kinetics,
    NonlinearDiffusion,
    Reaction,
    Source,
)
from npde_opt.verify import dot_product_test, manufactured_order, taylor_test

AROUND = dict.fromkeys(("x-", "x+", "y-", "y+"), "dirichlet")
POINTS = np.random.default_rng(5).random((14, 2)) * 0.9 + 0.05
RANKS = pytest.mark.parallel([1, 2, 3])
TIGHT = {"state_ksp_rtol": "1e-13", "state_newton_rtol": "1e-13"}


@pytest.fixture
def tight():
    options = PETSc.Options()
    for name, value in TIGHT.items():
        options[name] = value
    yield
    for name in TIGHT:
        options.delValue(name)


def seen(grid, quantity="u", points=POINTS):
    return at_points(grid, (), points[:, : grid.dim], quantity)


def state(
    grid,
    terms,
    load,
    known=None,
    boundary=None,
    initial=None,
    species=("u",),
    **options,
):
    """u [c, i, j, k]; the unknown is a dummy."""
    space = ParameterSpace(grid, [Unknown("unused", block=Shared())])
    experiment = Experiment(initial or {}, boundary=boundary or {}, load=load)
    forward = Steady(
        space,
        Equation(grid, terms, species),
        known or {},
        [experiment],
        [seen(grid)],
        **options,
    )
    at = forward.linearize(space.from_values({"unused": 1.0}))
    found = at.final[0].copy()
    at.destroy()
    forward.destroy()
    return found


def largest_error(grid, found, exact):
    return grid.comm.allreduce(
        float(np.abs(found - exact).max(initial=0.0)), op=MPI.MAX
    )


def cubic_error(n):
    """-lap u + k u^3 = f with u = sin(pi x) sin(pi y)."""
    grid = Grid((n, n), boundaries=AROUND)
    x, y = grid.coordinates()
    u = np.sin(np.pi * x) * np.sin(np.pi * y)
    f = 2 * np.pi**2 * u + 30.0 * u**3
    terms = [Diffusion(grid, "D"), Kinetics(grid, ("u",), {"u": "-k*u**3"})]
    return largest_error(
        grid, state(grid, terms, f * grid.volume, {"D": 1.0, "k": 30.0})[0], u
    )


@RANKS
def test_a_cubic_reaction_converges_at_second_order():
    assert manufactured_order(cubic_error, (16, 32)) == pytest.approx(2.0, abs=0.1)
    assert cubic_error(32) < 2e-3


def p_laplacian_error(n, p=4.0):
    """-div((e^2 + |grad u|^2)^((p - 2)/2) grad u) = f with u = sin(pi x) sin(pi y)."""
    grid = Grid((n, n), boundaries=AROUND)
    x, y = grid.coordinates()
    e = 0.5
    w, wx, wxx = (
        np.sin(np.pi * x),
        np.pi * np.cos(np.pi * x),
        -(np.pi**2) * np.sin(np.pi * x),
    )
    v, vy, vyy = (
        np.sin(np.pi * y),
        np.pi * np.cos(np.pi * y),
        -(np.pi**2) * np.sin(np.pi * y),
    )
    u, ux, uy, uxx, uyy, uxy = w * v, wx * v, w * vy, wxx * v, w * vyy, wx * vy
    q = e**2 + ux**2 + uy**2
    turned = ux**2 * uxx + 2 * ux * uy * uxy + uy**2 * uyy
    f = -(q ** ((p - 2) / 2) * (uxx + uyy) + (p - 2) * q ** ((p - 4) / 2) * turned)
    terms = [GradientDiffusion(grid, ("u",), "u", "(e**2 + q)**((p - 2)/2)")]
    found = state(grid, terms, f * grid.volume, {"e": e, "p": p})[0]
    return float(
        np.sqrt(grid.comm.allreduce(float(((found - u) ** 2 * grid.volume).sum())))
    )


@RANKS
@pytest.mark.parametrize("p", [1.5, 4.0])
def test_a_p_laplacian_converges_at_second_order(p):
    assert manufactured_order(lambda n: p_laplacian_error(n, p), (24, 48)) > 1.8
    assert p_laplacian_error(48, p) < 4e-3


def test_the_p_laplacian_across_a_line_is_known_in_closed_form():
    """(|u'|^2 u')' = -1, u(0) = u(1) = 0: u = 3/4 (2^(-4/3) - |x - 1/2|^(4/3)), and D is 0 in the
    middle."""
    grid = Grid((200,), boundaries={"x-": "dirichlet", "x+": "dirichlet"})
    x = grid.coordinates()[0]
    terms = [GradientDiffusion(grid, ("u",), "u", "1e-10 + q")]
    found = state(grid, terms, grid.volume, initial={"u": "x*(1 - x)"})[0]
    np.testing.assert_allclose(
        found, 0.75 * (2 ** (-4 / 3) - np.abs(x - 0.5) ** (4 / 3)), atol=2e-3
    )


@RANKS
def test_linear_equations_by_newtons_method_are_those_of_the_linear_path():
    """A source of u as a term that is not known to be linear."""
    grid = Grid((20, 18), boundaries={"x-": "dirichlet", "y+": Boundary("robin", 2.0)})
    known = {"D": 1.3, "c": 2.0}
    linear = [Diffusion(grid, "D"), Reaction(grid, "c"), Advection(grid, (2.0, -1.0))]
    same = [
        Diffusion(grid, "D"),
        Advection(grid, (2.0, -1.0)),
        Kinetics(grid, ("u",), {"u": "-c*u"}),
    ]
    values = {"x-": 1.0, "y+": 0.5, "y-": 0.7}
    one, other = (
        state(grid, terms, grid.volume, known, values) for terms in (linear, same)
    )
    np.testing.assert_allclose(one, other, atol=1e-7)


def test_fluxes_through_sides_and_sources_enter_nonlinear_equations():
    """-(u u')' = 0 with u = 1 at one side and the flux u u' = 2 at the other: u = sqrt(1 + 4 x)."""
    grid = Grid((400,), boundaries={"x-": "dirichlet"})
    terms = [NonlinearDiffusion(grid, ("u",), "u", "u")]
    found = state(
        grid, terms, None, boundary={"x-": 1.0, "x+": 2.0}, initial={"u": 1.0}
    )[0]
    np.testing.assert_allclose(found, np.sqrt(1 + 4 * grid.coordinates()[0]), atol=1e-3)


CELLS = {"x-": "dirichlet", "x+": Boundary("robin", 2.0)}
SIDES = {"x-": "dirichlet", "y+": "dirichlet"}


def cubic(grid):
    return [Diffusion(grid, "D"), Kinetics(grid, ("u",), {"u": "-k*u**3 + a*x0"})]


def carried(grid):
    return [
        Diffusion(grid, "D"),
        Advection(grid, (2.0, -1.0)),
        Kinetics(grid, ("u",), "fisher-kpp"),
        Source(grid, ("u",), "u", "a*exp(-x)", "h", [0.0]),
    ]


def porous(grid):
    return [
        NonlinearDiffusion(grid, ("u",), "u", "D*(1 + u**2)/(1 + m*g**2)"),
        Kinetics(grid, ("u",), {"u": "-k*u"}),
    ]


def gradients(grid):
    return [
        GradientDiffusion(grid, ("u",), "u", "D*(0.3 + q)**(m - 1)"),
        Kinetics(grid, ("u",), {"u": "-k*u"}),
    ]


def two(grid):
    names = ("u", "v")
    return [
        Diffusion(grid, "D", "u"),
        Diffusion(grid, "one", "v"),
        Reaction(grid, "c", ("u", "v")),
        GradientDiffusion(grid, names, "v", "1 + m*q"),
        Kinetics(grid, names, {"u": "-u - k*u*v", "v": "u - v**3"}),
    ]


def field(name):
    return Unknown(name, "log")


def number(name):
    return Unknown(name, block=Shared())


CASES = {
    "cubic": (cubic, [field("D"), field("k"), number("a")], {"x0": 1.0}, CELLS, "u**2"),
    "regions": (
        cubic,
        [Unknown("k", "log", block=Regions(np.arange(80).reshape(10, 8) % 3))],
        {"D": 1.0, "a": 2.0, "x0": 1.0},
        SIDES,
        "u",
    ),
    "carried": (
        carried,
        [field("D"), number("r"), number("a"), number("h")],
        {"K": 1.5},
        CELLS,
        "exp(u)",
    ),
    "porous": (porous, [field("D"), number("m"), field("k")], {}, SIDES, "u"),
    "gradients": (gradients, [field("D"), number("m"), field("k")], {}, SIDES, "u**2"),
    "a field of exponents": (
        gradients,
        [field("m")],
        {"D": 1.0, "k": 0.4},
        {"x-": "periodic", "x+": "periodic"},
        "u",
    ),
    "two": (
        two,
        [field("D"), field("c"), number("m"), field("k")],
        {"one": 1.0},
        SIDES,
        "u*v + u",
    ),
}


def objective(name, active=None, experiments=2):
    """With a point m and a direction dm, the same on any number of ranks."""
    terms, unknowns, known, sides, quantity = CASES[name]
    grid = Grid((10, 8), boundaries=sides, active=active)
    space = ParameterSpace(grid, unknowns)
    species = ("u", "v") if name == "two" else ("u",)
    x, y = grid.coordinates()
    loads = [
        (1.0 + e) * (1 + np.sin(3 * (e + 1) * x) * y) * grid.volume
        for e in range(experiments)
    ]
    given = [
        {
            s: v
            for s, v in {"x-": 0.5, "y+": 0.2 * e}.items()
            if grid.boundaries[s].kind != "periodic"
        }
        for e in range(experiments)
    ]
    runs = [
        Experiment(
            dict.fromkeys(species, 0.5),
            boundary=given[e],
            load=dict.fromkeys(species, loads[e]),
        )
        for e in range(experiments)
    ]
    inside = POINTS
    if active is not None:
        cells = [
            np.searchsorted(c, p, side="right") - 1
            for c, p in zip(grid.edges, POINTS.T, strict=True)
        ]
        inside = POINTS[active[tuple(cells)]]
    forward = Steady(
        space,
        Equation(grid, terms(grid), species),
        known,
        runs,
        [seen(grid, quantity, inside)],
    )
    (layout,) = forward.layouts
    y = [np.random.default_rng(e).standard_normal(layout.size) for e in layout.members]
    sigma = 0.2 + 0.1 * np.arange(experiments)[None]
    misfits = [LeastSquares(np.stack(y, axis=1), sigma, layout)]
    return Objective(forward, misfits, {}), vector(space, 1, 0.7), vector(space, 2, 0.4)


def vector(space, seed, mean):
    vec = space.create_vec()
    for i, u in enumerate(space.unknowns):
        rng = np.random.default_rng(10 * seed + i)
        if not u.block.listed:
            values = mean + 0.3 * (seed * rng.random(space.grid.shape) - 0.5)
            space.own(vec, u.name)[...] = values[space.grid.local_slice]
        else:
            own = space.own(vec, u.name)
            own[...] = (mean + 0.3 * (rng.random(u.block.count) - 0.5))[: own.size]
    return vec


def check(made):
    J, m, dm = made
    orders = taylor_test(J, m, dm)
    assert orders.problems() == [], orders
    assert (
        1.8 < orders.first < 2.3
        and 2.6 < orders.second < 3.5
        and 1.85 < orders.gradient < 2.5
    ), orders
    lin = J.forward.linearize(m)
    d = [predicted.layout.noise(100) for predicted in lin.data]
    assert dot_product_test(lin, dm, d) <= 1e-10
    lin.destroy()
    J.destroy()


@RANKS
@pytest.mark.parametrize("name", list(CASES))
def test_derivatives(name, tight):
    check(objective(name))


@RANKS
@pytest.mark.parametrize("name", ["carried", "gradients"])
def test_derivatives_with_inactive_cells(name, tight):
    check(
        objective(name, np.random.default_rng(4).random((10, 8)) > 0.15, experiments=1)
    )


@RANKS
@pytest.mark.parametrize("name", ["porous", "gradients", "two"])
def test_assembled_jacobians_are_those_of_the_residual(name):
    J, m, _ = objective(
        name, np.random.default_rng(4).random((10, 8)) > 0.15, experiments=1
    )
    at = J.forward.linearize(m)
    grid, group, there = J.forward.grid, at.blocks[0].group, at.states_at[0]
    rng = np.random.default_rng(3)
    du = np.stack(
        [
            np.where(
                grid.active, rng.standard_normal(grid.shape)[grid.local_slice], 0.0
            )
            for _ in there.u
        ]
    )
    expected = group.jacobian(there, type(there)(grid, du))
    J.forward.system.newton.linear(group, there, expected, False)
    found = J.forward.system.newton.jacobian.solve(expected, np.zeros_like(du))
    np.testing.assert_allclose(found, du, atol=1e-5)
    at.destroy()
    J.destroy()


@pytest.mark.parallel([1, 2])
def test_a_field_is_identified_from_data_of_a_nonlinear_state():
    grid = Grid((16, 16), boundaries=AROUND)
    space = ParameterSpace(
        grid,
        [Unknown("k", "log", block=Regions(np.arange(256).reshape(16, 16) // 128))],
    )
    terms = [Diffusion(grid, "D"), Kinetics(grid, ("u",), {"u": "-k*u**3"})]
    forward = Steady(
        space,
        Equation(grid, terms),
        {"D": 0.1},
        [Experiment(load=8 * grid.volume)],
        [seen(grid)],
    )
    lin = forward.linearize(space.from_values({"k": np.array([20.0, 5.0])}))
    data = lin.data[0].gather()
    lin.destroy()
    misfit = LeastSquares(data, 1e-3, forward.layouts[0])
    J = Objective(forward, [misfit], {})
    found = minimize(
        J, space.from_values({"k": np.array([1.0, 1.0])}), Settings(method="newton")
    )
    np.testing.assert_allclose(
        np.exp(space.values(found.m, "k")), [20.0, 5.0], rtol=1e-4
    )
    J.destroy()


@pytest.mark.parallel([1, 2])
def test_no_state_ends_with_the_prefix_and_a_remedy():
    """-lap u = a exp(u) has no state beyond a = 6.81."""
    grid = Grid((12, 12), boundaries=AROUND)
    terms = [Diffusion(grid, "D"), Kinetics(grid, ("u",), {"u": "a*exp(u)"})]
    assert (
        largest_error(grid, state(grid, terms, None, {"D": 1.0, "a": 6.0})[0], 0.0)
        > 0.5
    )
    with pytest.raises(
        SolverError, match="'here_' failed: no steady state was found"
    ) as found:
        state(grid, terms, None, {"D": 1.0, "a": 8.0}, prefix="here_")
    assert "`initial`" in found.value.remedy


def test_a_homotopy_reaches_what_newtons_method_does_not(monkeypatch):
    grid = Grid((16, 16), boundaries=AROUND)
    terms = [Diffusion(grid, "D"), Kinetics(grid, ("u",), {"u": "-k*u**3"})]
    known, load = {"D": 1.0, "k": 1e3}, 1e3 * grid.volume
    expected = state(grid, terms, load, known)
    monkeypatch.setattr(steady_newton, "MOST", 6)
    calls = []
    whole = steady_newton.SteadyNewton._homotopy
    monkeypatch.setattr(
        steady_newton.SteadyNewton,
        "_homotopy",
        lambda *args: calls.append(1) or whole(*args),
    )
    np.testing.assert_allclose(state(grid, terms, load, known), expected, atol=1e-6)
    assert calls == [1]


@pytest.mark.parallel([1, 2])
def test_states_start_from_the_last_one_accepted():
    J, m, dm = objective("cubic")
    forward = J.forward
    newton = forward.system.newton
    forward.linearize(m)
    far = newton.steps
    lin = forward.linearize(m)
    assert newton.steps == 2 * far
    (product,) = [lin.apply_adjoint(lin.data)]
    product.destroy()
    forward.linearize(m)
    assert newton.steps == 2 * far
    J.destroy()


def test_a_jacobian_that_is_not_definite_is_solved_with():
    """-u'' - 30 u + u^3 = 0 between 1 and -1: beyond the first eigenvalue 9.87, so that CG breaks
    down."""
    grid = Grid((24, 20), boundaries=AROUND)
    terms = [Diffusion(grid, "D"), Kinetics(grid, ("u",), {"u": "b*u - u**3"})]
    found = state(grid, terms, grid.volume, {"D": 1.0, "b": 30.0})
    assert np.isfinite(found).all() and np.abs(found).max() > 0.01


@RANKS
@pytest.mark.parametrize("term", [NonlinearDiffusion, GradientDiffusion])
def test_one_term_that_only_its_boundary_values_drive(term):
    """No part of the residual is larger than the residual itself: it has to be small against what
    drives it."""
    grid = Grid((12, 8), boundaries={"x-": "dirichlet", "x+": "dirichlet"})
    equation = Equation(grid, [term(grid, ("u",), "u", "D")])
    space = ParameterSpace(grid, [])
    driven = Experiment(boundary={"x+": 2.0})
    forward = Steady(space, equation, {"D": 0.5}, [driven], [snapshots(grid, ())])
    m = space.from_values({})
    lin = forward.linearize(m)
    x = grid.coordinates()[0]
    np.testing.assert_allclose(
        lin.final[0][0], np.broadcast_to(2 * x, grid.local_shape), rtol=1e-9
    )
    lin.destroy()
    m.destroy()

"""Radial grids: what is known in closed form, steady and in time, and every room's share of it."""

import numpy as np
import pytest
from mpi4py import MPI
from petsc4py import PETSc

from npde_opt.errors import InputError
from npde_opt.forward import SCHEMES, Equation, Evolution, Experiment, Steady
from npde_opt.grids import Grid
from npde_opt.misfits import LeastSquares
from npde_opt.objective import Objective
from npde_opt.observations import (
    at_points,
    ball_mean,
    box_mean,
    from_functionals,
    integral,
    side_mean,
    snapshots,
    voxel_means,
)
from npde_opt.parameters import ParameterSpace, Shared, Unknown
from npde_opt.regularizers import BiLaplacian, TotalVariation
from npde_opt.terms import Diffusion, GradientDiffusion, NonlinearDiffusion, Reaction
from npde_opt.verify import dot_product_test, manufactured_order, taylor_test

RANKS = pytest.mark.parallel([1, 2, 3])
ENDS = {"x-": "dirichlet", "x+": "dirichlet"}


@pytest.fixture
def tight():
    options = PETSc.Options()
    options["state_ksp_rtol"] = "1e-13"
    yield
    options.delValue("state_ksp_rtol")


def growing(first, last, count):
    return np.geomspace(first, last, count + 1)


def state(grid, terms, boundary=None, load=None, known=None):
    """The steady u [i, j, k]; the unknown is a dummy."""
    space = ParameterSpace(grid, [Unknown("unused", block=Shared())])
    experiment = Experiment({"u": 0.5}, boundary=boundary or {}, load=load)
    seen = at_points(grid, (), np.array([[e[1] for e in grid.edges]]))
    forward = Steady(
        space, Equation(grid, terms), known or {"D": 2.0}, [experiment], [seen]
    )
    at = forward.linearize(space.from_values({"unused": 1.0}))
    found = at.final[0][0].copy()
    at.destroy()
    forward.destroy()
    return found


def worst(grid, found, exact):
    return grid.comm.allreduce(
        float(np.abs(found - exact).max(initial=0.0)), op=MPI.MAX
    )


@RANKS
@pytest.mark.parametrize("count", [6, 40])
def test_flow_between_two_radii_is_log_r(count, tight):
    """Exactly so, however wide the cells: u = log(r/0.1)/log(1000)."""
    grid = Grid(
        (count,), edges=[growing(0.1, 100.0, count)], boundaries=ENDS, radial=True
    )
    found = state(grid, [Diffusion(grid, "D")], {"x+": 1.0})
    exact = np.log(grid.coordinates()[0] / 0.1) / np.log(1000.0)
    assert worst(grid, found, exact) < 1e-10


@RANKS
def test_a_well_is_a_flux_through_its_radius(tight):
    """Q = 2 pi r D du/dr is the same at all radii: u = Q/(2 pi D) log(R/r)."""
    r = growing(0.1, 100.0, 30)
    grid = Grid((30,), edges=[r], boundaries={"x+": "dirichlet"}, radial=True)
    rate = 3.0
    found = state(grid, [Diffusion(grid, "D")], {"x-": rate / (2 * np.pi * 0.1)})
    exact = rate / (2 * np.pi * 2.0) * np.log(100.0 / grid.coordinates()[0])
    assert worst(grid, found, exact) < 1e-9
    load = np.where(grid.coordinates()[0] < r[1], rate, 0.0)
    by_load = state(grid, [Diffusion(grid, "D")], load=load)
    assert worst(grid, by_load, exact) < 1e-9


def heat_error(n, make=lambda grid: Diffusion(grid, "D")):
    """The heat kernel exp(-r^2/(4 D t))/(4 pi D t) from t = 0.02 to 0.04, D = 1."""
    grid = Grid((n,), extent=(1.5,), radial=True)
    r = grid.coordinates()[0]

    def kernel(t):
        return np.exp(-(r**2) / (4 * t)) / (4 * np.pi * t)

    times = np.linspace(0.02, 0.04, n // 2 + 1)
    space = ParameterSpace(grid, [Unknown("unused", block=Shared())])
    forward = Evolution(
        space,
        Equation(grid, [make(grid)]),
        {"D": 1.0},
        [Experiment({"u": kernel(0.02)})],
        [snapshots(grid, times[-1:])],
        SCHEMES["crank-nicolson"],
        times,
    )
    at = forward.linearize(space.from_values({"unused": 1.0}))
    error = worst(grid, at.final[0][0], kernel(0.04))
    at.destroy()
    forward.destroy()
    return error


TERMS = {
    "linear": lambda grid: Diffusion(grid, "D"),
    "nonlinear": lambda grid: NonlinearDiffusion(grid, ("u",), "u", "D"),
    "gradient": lambda grid: GradientDiffusion(grid, ("u",), "u", "D"),
}


@RANKS
@pytest.mark.parametrize("name", list(TERMS))
def test_the_heat_kernel_around_the_axis_at_second_order(name):
    assert manufactured_order(lambda n: heat_error(n, TERMS[name]), (16, 32)) > 1.8


def cylinder_error(n):
    """-lap u + u = f in r and z with u = cos(r) sin(z): u_r/r = -sin(r)/r sin(z)."""
    sides = {"x+": "dirichlet", "y-": "dirichlet", "y+": "dirichlet"}
    grid = Grid((n, n), extent=(np.pi / 2, np.pi), boundaries=sides, radial=True)
    r, z = grid.coordinates()
    u = np.cos(r) * np.sin(z)
    f = 3 * u + np.sin(r) / r * np.sin(z)
    known = {"D": 1.0, "c": 1.0}
    terms = [Diffusion(grid, "D"), Reaction(grid, "c")]
    return worst(grid, state(grid, terms, load=f * grid.volume, known=known), u)


@RANKS
def test_a_cylinder_converges_at_second_order():
    assert manufactured_order(cylinder_error, (16, 32)) > 1.8


def seen(grid, places, u):
    """What functionals see of owned values."""
    B = from_functionals(grid, (), places).matrix
    x, d = grid.create_scalar(), B.createVecLeft()
    grid.view(x)[...] = u
    B.mult(x, d)
    return np.concatenate(grid.comm.allgather(d.getArray()))


@RANKS
def test_integrals_and_means_are_those_of_rings():
    grid = Grid((10, 4), extent=(2.0, 3.0), radial=True)
    r, z = grid.coordinates()
    ones = np.ones(grid.shape)
    places = [
        integral(grid, ones),
        box_mean(grid, (0.0, 0.0), (1.0, 3.0)),
        side_mean(grid, "y-"),
        ball_mean(grid, (0.0, 1.5), 1.0),
    ]
    volume, disk, floor, ball = seen(grid, places, r**2 + 0 * z)
    assert volume == pytest.approx(
        2 * np.pi * 3 * 4, rel=0.01
    )  # 2 pi int r^3 dr int dz
    assert disk == pytest.approx(0.5, rel=0.03)
    assert floor == pytest.approx(2.0, rel=0.02)
    assert ball == pytest.approx(0.4, rel=0.1)
    coarse = [np.array([0.0, 1.0, 2.0]), np.array([0.0, 3.0])]
    inner, outer = seen(grid, [voxel_means(grid, coarse)], r**2 + 0 * z)
    assert (inner, outer) == pytest.approx((0.5, 2.5), rel=0.03)


@RANKS
@pytest.mark.parametrize("scheme", [None, "crank-nicolson"])
def test_derivatives(scheme, tight):
    edges = [growing(0.1, 2.0, 8), np.linspace(0, 1, 7)]
    grid = Grid((8, 6), edges=edges, boundaries={"x+": "dirichlet"}, radial=True)
    space = ParameterSpace(grid, [Unknown("D", "log")])
    equation = Equation(grid, [Diffusion(grid, "D")])
    runs = [Experiment({"u": 1.0}, boundary={"x-": 2.0, "x+": 0.5})]
    places = np.array([[0.3, 0.2], [0.9, 0.6], [1.7, 0.9]])
    if scheme is None:
        forward = Steady(space, equation, {}, runs, [at_points(grid, (), places)])
    else:
        times = np.linspace(0, 0.1, 4)
        sampling = at_points(grid, times[1:], places)
        forward = Evolution(
            space, equation, {}, runs, [sampling], SCHEMES[scheme], times
        )
    (layout,) = forward.layouts
    misfit = LeastSquares(np.zeros(layout.size), 0.1, layout)
    J = Objective(forward, [misfit], {})
    m, dm = (
        space.from_values(
            {"D": grid.evaluate(lambda r, z, s=s: np.exp(np.sin(s * r) + z))}
        )
        for s in (1.0, 4.0)
    )
    assert taylor_test(J, m, dm).problems() == []
    lin = forward.linearize(m)
    assert dot_product_test(lin, dm, [d.copy() for d in lin.data]) <= 1e-10
    lin.destroy()
    J.destroy()


@RANKS
def test_regularizers_have_the_measure_of_rings():
    edges = [growing(0.5, 4.0, 6), np.linspace(0, 2, 6)]
    grid = Grid((6, 5), edges=edges, radial=True)
    tv = TotalVariation(grid, 2.0, epsilon=1e-9)
    p = grid.create_scalar()
    grid.view(p)[...] = 3 * grid.coordinates()[1]
    # |grad p| = 3; the cells at both ends see the mean with the closed face.
    h = np.diff(edges[1])
    slopes = np.where((np.arange(5) % 4) == 0, 3 / np.sqrt(2), 3.0)
    expected = 2.0 * np.pi * (4.0**2 - 0.5**2) * float((h * slopes).sum())
    assert tv.value(p) == pytest.approx(expected, rel=1e-6)
    tv.destroy()

    prior = BiLaplacian(grid, 1.0, correlation_length=0.8, variance=0.3)
    e, out = grid.create_scalar(), grid.create_scalar()
    for cell in (0, 7, 29):
        e.set(0.0)
        if e.owner_range[0] <= cell < e.owner_range[1]:
            e.setValue(cell, 1.0)
        e.assemble()
        prior.inverse(e, out)
        assert out.dot(e) == pytest.approx(0.3, rel=1e-3)
    prior.destroy()


def test_radial_grids_that_cannot_be():
    for changes, said in (
        ({"shape": (2, 2, 2)}, "grid.geometry"),
        ({"origin": (-1.0, 0.0)}, "grid.origin"),
        ({"boundaries": {"x-": "dirichlet"}}, "r = 0 is the axis"),
        ({"boundaries": {"x-": "periodic", "x+": "periodic"}}, "does not close"),
    ):
        given = {"shape": (4, 4)} | changes
        with pytest.raises(InputError, match=said):
            Grid(**given, radial=True)
    grid = Grid((4,), radial=True)
    with pytest.raises(InputError, match="boundary"):
        state(grid, [Diffusion(grid, "D")], {"x-": 1.0})


def test_grids_made_of_a_radial_one_are_radial():
    grid = Grid((32,), radial=True)
    assert grid.coarsen().radial and grid.with_(boundaries={"x+": "dirichlet"}).radial
    assert float(grid.coarsen().volume.sum()) == pytest.approx(np.pi)
    plain = Grid((32,), like=grid, edges=grid.edges)
    assert float(plain.volume.sum()) == pytest.approx(1.0)

"""Terms beyond the narrow stencil of one species: wide stencils, species in each other's equations,
loads and fluxes through sides; steady and in time."""

import numpy as np
import pytest
from mpi4py import MPI
from petsc4py import PETSc

from npde_opt.errors import InputError
from npde_opt.forward import SCHEMES, Equation, Evolution, Experiment, Steady
from npde_opt.forward.linear_part import LinearPart, LinearPoint
from npde_opt.grids import Grid
from npde_opt.misfits import LeastSquares
from npde_opt.objective import Objective
from npde_opt.observations import at_points, snapshots
from npde_opt.parameters import ParameterSpace, Unknown
from npde_opt.terms import (
    Convolution,
    Diffusion,
    GradientDiffusion,
    Kinetics,
    Reaction,
    Source,
)
from npde_opt.terms.convolution import shifted
from npde_opt.verify import dot_product_test, taylor_test

RANKS = pytest.mark.parallel([1, 2, 3])
POINTS = np.random.default_rng(5).random((9, 2)) * 0.9 + 0.05
SHAPE = (9, 8)
FEW = 4


@pytest.fixture
def tight():
    options = PETSc.Options()
    given = {"state_ksp_rtol": "1e-13", "state_newton_rtol": "1e-13"}
    for name, value in given.items():
        options[name] = value
    yield
    for name in given:
        options.delValue(name)


def whole(grid, values):
    return grid.comm.bcast(grid.to_natural(np.asfortranarray(values)), root=0)


@RANKS
@pytest.mark.parametrize("sides", [{}, {"x-": "periodic", "x+": "periodic"}])
@pytest.mark.parametrize("offset", [(0, 0), (2, 0), (-3, 1), (1, -2)])
def test_shifted_values(sides, offset):
    grid = Grid((7, 5), boundaries=sides)
    u = np.random.default_rng(1).random(grid.shape)
    found = whole(grid, shifted(grid, u[grid.local_slice], offset))
    padded = np.pad(u, ((3, 3), (0, 0)), mode="wrap" if sides else "constant")
    padded = np.pad(padded, ((0, 0), (3, 3)))
    box = tuple(slice(3 + o, 3 + o + n) for o, n in zip(offset, u.shape, strict=True))
    np.testing.assert_array_equal(found, padded[box])


WEIGHTS = {(0, 0): 3.0, (2, 0): "w", (-1, 1): "w", (0, -3): 0.5}


@RANKS
@pytest.mark.parametrize("masked", [False, True])
def test_a_wide_stencil_is_its_sum_of_shifts(masked):
    active = np.random.default_rng(2).random((8, 7)) > 0.2 if masked else None
    grid = Grid((8, 7), boundaries={"x-": "periodic", "x+": "periodic"}, active=active)
    w = np.random.default_rng(3).random(grid.shape)[grid.local_slice]
    part = LinearPart(Equation(grid, [Convolution(grid, WEIGHTS)]))
    point = LinearPoint(part, {"w": w})
    part.assemble(point.points)
    u = np.where(
        grid.active, np.random.default_rng(4).random(grid.shape)[grid.local_slice], 0.0
    )
    values = {o: w if isinstance(v, str) else v for o, v in WEIGHTS.items()}
    expected = sum(grid.volume * v * shifted(grid, u, o) for o, v in values.items())
    found = point.product(u[None])[0]
    np.testing.assert_allclose(found, np.where(grid.active, expected, 0.0), atol=1e-14)
    v = np.where(
        grid.active, np.random.default_rng(5).random(grid.shape)[grid.local_slice], 0.0
    )
    back = point.product(v[None], transposed=True)[0]
    sides = [float((a * b).sum()) for a, b in ((v, found), (u, back))]
    left, right = grid.comm.allreduce(np.array(sides))
    assert left == pytest.approx(right, rel=1e-12)
    part.destroy()


def wide(grid):
    return [
        Diffusion(grid, "D"),
        Convolution(grid, {(0, 0): 2.0, (2, 0): "w", (0, -2): "w"}),
    ]


def pairs(grid):
    """The equation of u reads v and the other way round, by a reaction and a wide stencil."""
    return [
        Diffusion(grid, "D", "u"),
        Diffusion(grid, "D", "v"),
        Reaction(grid, "w", ("u", "v")),
        Convolution(grid, {(1, 0): -0.5, (-2, 0): "w"}, ("v", "u")),
    ]


def steep(grid):
    return [GradientDiffusion(grid, ("u",), "u", "D*(1 + w*q)")]


def logistic(grid):
    return [*pairs(grid), Kinetics(grid, ("u", "v"), {"u": "u*(1 - u)"})]


TERMS = {"wide": wide, "pairs": pairs, "steep": steep, "logistic": logistic}


def vector(space, seed, mean):
    vec = space.create_vec()
    for i, u in enumerate(space.unknowns):
        values = mean + 0.3 * np.random.default_rng(10 * seed + i).random(
            space.grid.shape
        )
        space.own(vec, u.name)[...] = values[space.grid.local_slice]
    return vec


def objective(name, scheme=None, terms=None):
    grid = Grid(SHAPE, boundaries={"x-": "dirichlet"})
    species = ("u", "v") if name in ("pairs", "logistic") else ("u",)
    space = ParameterSpace(grid, [Unknown("D", "log"), Unknown("w", "log")])
    equation = Equation(grid, (terms or TERMS[name])(grid), species)
    load = {species[0]: 2 * grid.volume * np.ones(grid.local_shape)}
    start = dict.fromkeys(species, "0.5 + 0.3*x")
    boundary = {"u": {"x-": 0.4, "y+": 1.5, "x+": 0.3}}
    runs = [Experiment(start, boundary=boundary, load=load)]
    if scheme is None:
        seen = [at_points(grid, (), POINTS, "u**2")]
        forward = Steady(space, equation, {}, runs, seen)
    else:
        times = (
            np.linspace(0, 0.01, FEW + 1)
            if scheme != "heun"
            else np.linspace(0, 4e-4, FEW + 1)
        )
        seen = [at_points(grid, times[2:], POINTS, species[-1])]
        forward = Evolution(space, equation, {}, runs, seen, SCHEMES[scheme], times)
    (layout,) = forward.layouts
    data = np.random.default_rng(0).standard_normal(layout.size)
    misfit = LeastSquares(data, 0.2, layout)
    return (
        Objective(forward, [misfit], {}),
        vector(space, 1, 0.1),
        vector(space, 2, 0.2),
    )


def check(made):
    J, m, dm = made
    orders = taylor_test(J, m, dm)
    assert orders.problems() == [], orders
    lin = J.forward.linearize(m)
    d = [predicted.copy() for predicted in lin.data]
    assert dot_product_test(lin, dm, d) <= 1e-10
    lin.destroy()
    J.destroy()


@RANKS
@pytest.mark.fewer(3, scheme=["crank-nicolson"])
@pytest.mark.parametrize("name", list(TERMS))
@pytest.mark.parametrize("scheme", [None, "crank-nicolson", "heun"])
def test_derivatives(name, scheme, tight):
    check(objective(name, scheme))


@pytest.mark.parallel([1, 2])
def test_coupled_linear_steps_are_those_of_newtons_method():
    """A reaction that is 0 makes Newton's method of the same steps."""

    def same(grid):
        return [*pairs(grid), Kinetics(grid, ("u", "v"), {"u": "0*u"})]

    found = []
    for terms in (pairs, same):
        J, m, _ = objective("pairs", "backward-euler", terms)
        lin = J.forward.linearize(m)
        found.append(lin.final[0].copy())
        lin.destroy()
        J.destroy()
    np.testing.assert_allclose(*found, atol=1e-8)


@pytest.mark.parallel([1, 2])
def test_a_load_is_a_source_and_a_flux_is_a_load():
    grid = Grid(SHAPE, boundaries={"x-": "dirichlet"})
    space = ParameterSpace(grid, [Unknown("D", "log")])
    times = np.linspace(0, 0.5, 6)
    layer = np.zeros(grid.shape)
    layer[:, -1] = 1 / grid.widths[1][-1]
    layer = layer[grid.local_slice]
    runs = [
        Experiment({"u": 1.0}, [Source(grid, ("u",), "u", "3 + x")]),
        Experiment({"u": 1.0}, load=(3 + grid.coordinates()[0]) * grid.volume),
        Experiment({"u": 1.0}, boundary={"y+": 2.0}),
        Experiment({"u": 1.0}, load=2.0 * layer * grid.volume),
    ]
    forward = Evolution(
        space,
        Equation(grid, [Diffusion(grid, "D")]),
        {},
        runs,
        [snapshots(grid, times[-1:])],
        SCHEMES["crank-nicolson"],
        times,
    )
    lin = forward.linearize(space.create_vec())
    source, load, flux, same = lin.final
    np.testing.assert_allclose(source, load, atol=1e-8)
    np.testing.assert_allclose(flux, same, atol=1e-8)
    assert grid.comm.allreduce(float(np.abs(flux - source).max()), op=MPI.MAX) > 0.1
    lin.destroy()
    forward.destroy()


def test_an_evolution_ends_in_the_steady_state():
    grid = Grid(SHAPE, boundaries={"x-": "dirichlet"})
    space = ParameterSpace(grid, [Unknown("D", "log")])
    terms = [Diffusion(grid, "D"), Kinetics(grid, ("u",), {"u": "-u**3"})]
    equation, run = (
        Equation(grid, terms),
        Experiment({"u": 0.5}, boundary={"x-": 1.0, "x+": -0.5}, load=grid.volume),
    )
    steady = Steady(space, equation, {}, [run], [at_points(grid, (), POINTS)])
    times = np.linspace(0, 60, 40)
    moving = Evolution(
        space,
        equation,
        {},
        [run],
        [snapshots(grid, times[-1:])],
        SCHEMES["backward-euler"],
        times,
    )
    ends = [
        forward.linearize(space.create_vec()).final[0] for forward in (steady, moving)
    ]
    np.testing.assert_allclose(*ends, atol=1e-7)


def test_gradient_diffusion_beyond_its_limit_is_refused():
    J, m, _ = objective("steep", "heun")
    J.forward.times[-1] *= 1e4
    with pytest.raises(InputError, match="stability limit"):
        J.forward.linearize(m)


def test_terms_and_loads_of_species_that_are_not_there():
    grid = Grid(SHAPE)
    for term in (
        Diffusion(grid, "D", "w"),
        Reaction(grid, "c", ("u", "w")),
        Diffusion(grid, "D"),
    ):
        with pytest.raises(InputError, match="term's species"):
            Equation(grid, [term], ("u", "v"))
    with pytest.raises(InputError, match="convolution offset"):
        Convolution(grid, {(1,): 1.0})
    space = ParameterSpace(grid, [Unknown("D", "log")])
    one, two = (
        Equation(grid, [Diffusion(grid, "D")]),
        Equation(grid, [Diffusion(grid, "D", "u")], ("u", "v")),
    )
    seen = at_points(grid, [1.0], POINTS)
    times = np.linspace(0, 1, 3)
    for equation, load in ((one, {"w": grid.volume}), (two, grid.volume)):
        with pytest.raises(InputError, match="load"):
            Evolution(
                space,
                equation,
                {},
                [Experiment(load=load)],
                [seen],
                SCHEMES["heun"],
                times,
            )

"""Steady states under no flux all round: the one with a given mean."""

import numpy as np
import pytest
from petsc4py import PETSc

from npde_opt.errors import InputError
from npde_opt.forward import Equation, Experiment, Steady
from npde_opt.grids import Grid
from npde_opt.misfits import LeastSquares
from npde_opt.objective import Objective
from npde_opt.observations import at_points
from npde_opt.parameters import ParameterSpace, Shared, Unknown
from npde_opt.terms import Advection, Diffusion, GradientDiffusion, Reaction, Source
from npde_opt.verify import dot_product_test, taylor_test

RANKS = pytest.mark.parallel([1, 2, 3])
WAVE = "5*pi**2*cos(pi*x)*cos(2*pi*y)"


def whole(grid, values):
    return grid.comm.bcast(grid.to_natural(np.asfortranarray(values)), root=0)


def steady(grid, terms=None, runs=None, unknowns=(), **more):
    space = ParameterSpace(grid, [Unknown("D", "log"), *unknowns])
    equation = Equation(grid, terms or [Diffusion(grid, "D")])
    points = np.random.default_rng(5).random((7, 2)) * 0.9 + 0.05
    seen = [at_points(grid, (), points)]
    runs = runs or [Experiment(sources=[Source(grid, ("u",), "u", WAVE)])]
    return Steady(space, equation, {}, runs, seen, **more)


@pytest.mark.parallel([1, 2])
@pytest.mark.parametrize("recipe", ["geometric", "direct", "gamg"])
def test_the_state_has_its_mean(recipe):
    grid = Grid((32, 24))
    forward = steady(grid, mean=3.0, recipe=recipe)
    lin = forward.linearize(forward.space.create_vec())
    u = whole(grid, lin.final[0][0])
    x, y = np.meshgrid(*grid.centers, indexing="ij")
    assert u.mean() == pytest.approx(3.0, abs=1e-12)
    np.testing.assert_allclose(
        u - 3.0, np.cos(np.pi * x) * np.cos(2 * np.pi * y), atol=0.02
    )
    assert forward.counters.krylov_iterations < 40
    lin.destroy()
    forward.destroy()


@pytest.mark.parallel([1, 2])
def test_fluxes_that_add_up_to_nothing_drive_a_masked_state():
    active = np.ones((8, 6), bool)
    active[:3, :2] = False
    grid = Grid((8, 6), active=active)
    runs = [Experiment(boundary={"y+": 0.75, "x+": -0.75}), Experiment()]
    forward = steady(grid, runs=runs, mean=0.0)
    lin = forward.linearize(forward.space.create_vec())
    u = whole(grid, lin.final[0][0])
    assert (
        u[active].mean() == pytest.approx(0.0, abs=1e-12)
        and np.abs(u[active]).max() > 0.1
    )
    assert np.abs(u[~active]).max() == 0 and np.abs(lin.final[1]).max(initial=0.0) == 0
    lin.destroy()
    forward.destroy()


@RANKS
def test_derivatives():
    options = PETSc.Options()
    options["state_ksp_rtol"] = "1e-13"
    grid = Grid((9, 8))
    unknowns = [Unknown("a", "log", block=Shared())]
    load = "a**2*cos(pi*x)*cos(2*pi*y)"
    runs = [
        Experiment(sources=[Source(grid, ("u",), "u", load)]),
        Experiment(boundary={"x-": "a", "x+": "-a"}),
    ]
    forward = steady(grid, runs=runs, unknowns=unknowns, mean=0.5)
    misfits = []
    for layout in forward.layouts:
        data = [
            np.random.default_rng(e).standard_normal(layout.size)
            for e in layout.members
        ]
        misfits.append(LeastSquares(np.stack(data, axis=1), 0.2, layout))
    J, space = Objective(forward, misfits, {}), forward.space
    m, dm = space.create_vec(), space.create_vec()
    for seed, vec in enumerate((m, dm)):
        values = np.random.default_rng(seed).random(grid.shape)
        space.own(vec, "D")[...] = 0.3 * values[grid.local_slice]
        space.own(vec, "a")[...] = 0.4 + seed
    orders = taylor_test(J, m, dm)
    assert orders.problems() == [], orders
    lin = forward.linearize(m)
    d = [predicted.copy() for predicted in lin.data]
    assert dot_product_test(lin, dm, d) <= 1e-10
    lin.destroy()
    J.destroy()
    options.delValue("state_ksp_rtol")


@pytest.mark.parallel([1, 2])
def test_what_does_not_add_up_to_nothing_is_told_before_a_solve():
    """With its integral, or with the unknowns on which that depends."""
    grid = Grid((8, 6))
    a = Unknown("a", "log", block=Shared())
    given = "whose integral is 2; allowed: 0"
    for boundary, unknowns, said in (
        ({"y+": 2.0}, (), given),
        ({"y+": 2.0}, (a,), given),
        (
            {"y+": "a", "y-": -1.0},
            (a,),
            "that do not add up to 0 for all a; allowed: 0",
        ),
    ):
        with pytest.raises(InputError, match=f"mean: got sources and fluxes {said}"):
            steady(
                grid, runs=[Experiment(boundary=boundary)], unknowns=unknowns, mean=0.0
            )


def test_where_a_mean_cannot_be_given():
    two = np.ones((32, 32), bool)
    two[5] = False
    closed, held = Grid((8, 6)), Grid((8, 6), boundaries={"x-": "dirichlet"})
    D = Diffusion(closed, "D")
    for grid, terms, said in (
        (held, None, "mean: got given beside x-"),
        (Grid((32, 32), active=two), None, "mean: got given for 2 separate parts"),
        (closed, [D, Reaction(closed, "D")], "mean: got given beside a reaction"),
        (
            closed,
            [D, Advection(closed, (1.0, 0.0))],
            "mean: got 0.0; allowed: a linear and sym",
        ),
        (
            closed,
            [GradientDiffusion(closed, ("u",), "u", "D + q")],
            "mean: got 0.0; allowed: a li",
        ),
    ):
        with pytest.raises(InputError, match=said):
            steady(grid, terms, mean=0.0)
    with pytest.raises(InputError, match="or its mean"):
        steady(closed)

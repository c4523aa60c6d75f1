"""Products by Green's functions of what is observed are those by solves, and cost none."""

import numpy as np
import pytest
from petsc4py import PETSc

from npde_opt.forward import Equation, Experiment, Steady, greens
from npde_opt.grids import Boundary, Grid
from npde_opt.linear.accuracy import solved_to, tight
from npde_opt.misfits import LeastSquares
from npde_opt.objective import Objective
from npde_opt.observations import at_points, ball_mean, from_functionals, together
from npde_opt.parameters import ParameterSpace, Shared, Unknown
from npde_opt.terms import Advection, Diffusion, Reaction, Source
from npde_opt.verify import dot_product_test, taylor_test

RANKS = pytest.mark.parallel([1, 2, 3])
PLACES = np.array([[0.2, 0.3], [0.8, 0.3], [0.55, 0.8], [0.3, 0.7]])
SIDES = {"x-": "dirichlet", "y+": Boundary("robin", 0.8)}


@pytest.fixture(autouse=True)
def exact():
    options = PETSc.Options()
    options["state_ksp_rtol"] = "1e-12"
    yield
    options.delValue("state_ksp_rtol")


def balls(grid, chosen):
    """Means around some of the places."""
    means = [ball_mean(grid, PLACES[i], 0.12) for i in chosen]
    return from_functionals(grid, (), together(means))


def driven(grid, by):
    x, y = PLACES[by]
    return Source(grid, ("u",), "u", f"exp(-30*((x - {x})**2 + (y - {y})**2))")


def electrodes(grid):
    """Every experiment is driven at one place and seen at the others, as by electrodes."""
    each = range(len(PLACES))
    return [
        Experiment(
            sources=[driven(grid, e)],
            samplings=[balls(grid, [*each[:e], *each[e + 1 :]])],
        )
        for e in each
    ]


def shared(grid):
    """All are seen at the same places, one of them twice; one by its boundary value."""
    seen = [balls(grid, [0, 2, 0]), at_points(grid, (), PLACES[1:3])]
    runs = [Experiment(sources=[driven(grid, e)], samplings=seen) for e in range(3)]
    return [*runs, Experiment(boundary={"x-": "1 + a*y"}, samplings=seen)]


def model(
    make=electrodes,
    shape=(12, 10),
    terms=(),
    active=None,
    sides=SIDES,
    **more,
):
    grid = Grid(shape, boundaries=sides, active=active)
    space = ParameterSpace(
        grid, [Unknown("D", "log"), Unknown("a", "log", block=Shared())]
    )
    equation = Equation(
        grid, [Diffusion(grid, "D"), Reaction(grid, "a"), *(t(grid) for t in terms)]
    )
    forward = Steady(space, equation, {}, make(grid), **more)
    m = space.standard_normal(3)
    m.scale(0.3)
    lin = forward.linearize(m)
    misfits = [
        LeastSquares(0.9 * d.gather(), 0.01 * (1 + np.abs(d.gather())), d.layout)
        for d in lin.data
    ]
    lin.destroy()
    return Objective(forward, misfits, {}), m


def masked():
    active = np.ones((12, 10), bool)
    active[10:, 6:] = False
    return active


MODELS = {
    "electrodes": {},
    "shared": {"make": shared},
    "masked": {"active": masked()},
    "one by one": {"recipe": "geometric", "shape": (24, 20)},
    "advection": {"terms": [lambda g: Advection(g, (4.0, -3.0))]},
    "three axes": {
        "shape": (7, 6, 5),
        "make": lambda g: (
            [
                Experiment(
                    sources=[Source(g, ("u",), "u", "x*z")],
                    samplings=[
                        at_points(g, (), np.array([[0.5, 0.4, 0.3], [0.2, 0.8, 0.6]]))
                    ],
                )
            ]
            * 2
        ),
    },
}


def products(J, m, dm):
    """Data along dm, gradient and Gauss-Newton product of a fresh point, whose products are
    counted; solves of each."""
    at, out = J.linearize(m), J.create_vec()
    g = at.gradient().getArray().copy()
    at.hessian(dm, out, gauss_newton=True)
    before = J.counters.snapshot()
    at.hessian(dm, out, gauss_newton=True)
    along = at.linearization.apply(dm)
    back = at.linearization.apply_adjoint(along)
    after = J.counters.snapshot()
    solves = [after[k] - before[k] for k in ("forward_solves", "adjoint_solves")]
    found = [g, out.getArray().copy(), back.getArray().copy()]
    found += [d.values.copy() for d in along]
    for owned in (out, back):
        owned.destroy()
    at.destroy()
    return found, solves


@RANKS
@pytest.mark.parametrize("name", MODELS)
def test_products_are_those_by_solves_and_cost_none(name, monkeypatch):
    J, m = model(**MODELS[name])
    dm = J.space.standard_normal(7)
    found, solves = products(J, m, dm)
    J.forward._looked, J.forward._sensors = False, None
    monkeypatch.setattr(greens, "MOST", 0)
    plain, spent = products(J, m, dm)
    for one, other in zip(found, plain, strict=True):
        scale = np.abs(other).max(initial=1e-300)
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-8 * scale)
    assert solves == [0, 0] and min(spent) > 0
    for owned in (m, dm):
        owned.destroy()
    J.destroy()


@RANKS
@pytest.mark.parametrize("name", ["electrodes", "shared", "masked", "one by one"])
def test_derivatives(name):
    J, m = model(**MODELS[name])
    dm = J.space.standard_normal(8)
    orders = taylor_test(J, m, dm)
    assert orders.problems() == [], orders
    # Both are of the same Z: transposes of each other to rounding, however exact its solves are.
    options = PETSc.Options()
    options["state_ksp_rtol"] = "1e-3"
    lin = J.forward.linearize(m)
    assert dot_product_test(lin, dm, [d.copy() for d in lin.data]) < 1e-12
    options["state_ksp_rtol"] = "1e-12"
    lin.destroy()
    for owned in (m, dm):
        owned.destroy()
    J.destroy()


@RANKS
def test_alike_functionals_are_one():
    grid = Grid((12, 10))
    space = ParameterSpace(grid, [Unknown("D", "log")])
    equation = Equation(grid, [Diffusion(grid, "D"), Reaction(grid, "c")])
    for make, count in ((electrodes, 4), (shared, 4)):
        runs = [
            Experiment(sources=r.sources, samplings=r.samplings) for r in make(grid)
        ]
        forward = Steady(space, equation, {"c": 1.0}, runs)
        assert forward.sensors().count == count
        forward.destroy()


@RANKS
def test_they_are_formed_once_products_cost_as_much():
    def many(grid):
        runs = electrodes(grid)[:2]
        points = np.random.default_rng(0).random((9, 2))
        return [
            Experiment(sources=r.sources, samplings=[at_points(grid, (), points)])
            for r in runs
        ]

    J, m = model(many)
    dm, out, at = J.space.standard_normal(7), J.create_vec(), J.linearize(m)
    spent = []
    at.gradient()
    for _ in range(4):
        before = J.counters.snapshot()
        at.hessian(dm, out, gauss_newton=True)
        after = J.counters.snapshot()
        spent.append(
            sum(after[k] - before[k] for k in ("forward_solves", "adjoint_solves"))
        )
    # A gradient of 2 and a product of 4 solves; with the next one, of 4, 9 are spared.
    assert spent == [4, 9, 0, 0]
    for owned in (m, dm, out):
        owned.destroy()
    at.destroy()
    J.destroy()


@RANKS
def test_too_many_functionals_and_what_is_not_linear_are_left_to_solves():
    def fine(grid):
        points = np.random.default_rng(0).random((greens.MOST * 2 + 1, 2))
        seen = [at_points(grid, (), points)]
        return [Experiment(sources=[driven(grid, e)], samplings=seen) for e in (0, 1)]

    def squares(grid):
        seen = [at_points(grid, (), PLACES, "u**2")]
        return [Experiment(sources=[driven(grid, e)], samplings=seen) for e in (0, 1)]

    for make in (fine, squares):
        J, m = model(make)
        assert J.forward.sensors() is None
        dm = J.space.standard_normal(7)
        assert min(products(J, m, dm)[1]) > 0
        for owned in (m, dm):
            owned.destroy()
        J.destroy()


@RANKS
def test_a_part_of_the_experiments_solves():
    J, m = model()
    at = J.over([0, 2]).linearize(m)
    dm, out = J.space.standard_normal(7), J.create_vec()
    at.hessian(dm, out, gauss_newton=True)
    before = J.counters.forward_solves
    at.hessian(dm, out, gauss_newton=True)
    assert J.counters.forward_solves == before + 2
    for owned in (m, dm, out):
        owned.destroy()
    at.destroy()
    J.destroy()


@RANKS
def test_they_are_as_exact_as_a_block_around_asks():
    PETSc.Options().delValue("state_ksp_rtol")
    J, m = model(recipe="geometric", shape=(24, 20))
    lin = J.forward.linearize(m)
    dm = J.space.standard_normal(7)
    lin.apply(dm)
    loose = lin.apply(dm)[0].values.copy()
    before = J.counters.adjoint_solves
    with tight():
        exact = lin.apply(dm)[0].values.copy()
        again = lin.apply(dm)[0].values.copy()
    assert J.counters.adjoint_solves == before + len(PLACES)
    np.testing.assert_array_equal(exact, again)
    np.testing.assert_allclose(loose, exact, rtol=1e-5)
    for owned in (m, dm, lin):
        owned.destroy()
    J.destroy()


@RANKS
def test_a_loose_product_does_not_loosen_what_is_kept():
    PETSc.Options().delValue("state_ksp_rtol")
    J, m = model(recipe="geometric", shape=(24, 20))
    dm, found = J.space.standard_normal(7), []
    for rtol in (1e-2, 1e-8):
        at, out = J.linearize(m), J.create_vec()
        assert at.value > 0
        with solved_to(rtol):
            at.hessian(dm, out, gauss_newton=True)
        found.append(out.getArray().copy())
        out.destroy()
        at.destroy()
    np.testing.assert_allclose(
        found[0], found[1], rtol=0, atol=1e-6 * np.abs(found[1]).max(initial=1)
    )
    for owned in (m, dm):
        owned.destroy()
    J.destroy()

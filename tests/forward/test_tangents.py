"""Several tangents through a step at once, and exact derivatives where steps share states and
factors with their neighbours."""

import numpy as np
import pytest
from mpi4py import MPI

from npde_opt.forward import SCHEMES, Equation, Evolution, Experiment, evolution_point
from npde_opt.forward.interface import images
from npde_opt.forward.storage import Storage
from npde_opt.functions import Spline, link
from npde_opt.grids import Grid
from npde_opt.misfits import LeastSquares
from npde_opt.objective import Objective
from npde_opt.observations import at_points
from npde_opt.parameters import ParameterSpace, Shared, Unknown
from npde_opt.terms import Kinetics, NonlinearDiffusion
from npde_opt.verify import dot_product_test, taylor_test

RANKS = pytest.mark.parallel([1, 2, 3])
K = Spline([(0.0, 1.5)], [5], link=link("positive"))
TIMES = np.array([0.0, 0.004, 0.01, 0.016])


def objective(scheme, diffusivity="k(u)", storage=None):
    """Of k(u) and a rate, seen at a few points."""
    grid = Grid((4, 3), boundaries={"x-": "dirichlet"}, comm=MPI.COMM_WORLD)
    unknowns = [
        Unknown("k", block=Shared(K.count)),
        Unknown("r", "log", block=Shared()),
    ]
    space = ParameterSpace(grid, unknowns)
    functions = {"k": K}
    terms = [
        NonlinearDiffusion(grid, ("u",), "u", diffusivity, functions=functions),
        Kinetics(grid, ("u",), {"u": "r*(1 - u)"}),
    ]
    run = Experiment({"u": "0.2 + 0.9*x*y"}, boundary={"x-": 0.6})
    seen = [at_points(grid, TIMES[2:], [[0.3, 0.4], [0.7, 0.8]])]
    equation = Equation(grid, terms)
    how = SCHEMES[scheme], TIMES, storage
    forward = Evolution(space, equation, {}, [run], seen, *how)
    layout = forward.layouts[0]
    J = Objective(forward, [LeastSquares(np.ones(layout.size), 0.1, layout)], {})
    m = space.from_values({"k": -0.5 + 0.2 * np.arange(K.count), "r": 0.7})
    return J, m


def directions(J):
    return [J.space.standard_normal(seed) for seed in (1, 2, 3)]


@RANKS
@pytest.mark.parametrize(
    "scheme, diffusivity, storage",
    [
        ("crank-nicolson", "k(u)", None),
        ("crank-nicolson", "k(u)*(1 + t)", None),
        ("backward-euler", "k(u)", Storage(memory=500)),
        ("ars222", "k(u)", None),
    ],
)
def test_many_are_as_one_after_the_other(scheme, diffusivity, storage, monkeypatch):
    # Two go together, and one is left.
    monkeypatch.setattr(evolution_point, "MOST", 26 // MPI.COMM_WORLD.size)
    J, m = objective(scheme, diffusivity, storage)
    at = J.forward.linearize(m)
    dms = directions(J)
    before = J.counters.forward_solves
    together = images(at, dms)
    assert J.counters.forward_solves == before + len(dms)
    for dm, (found,) in zip(dms, together, strict=True):
        (alone,) = at.apply(dm)
        np.testing.assert_allclose(found.values, alone.values, rtol=1e-7, atol=1e-9)
    at.destroy()
    J.destroy()


@RANKS
@pytest.mark.fewer(2, diffusivity=["k(u)"])
@pytest.mark.parametrize("diffusivity", ["k(u)", "k(u)*(1 + t)"])
def test_derivatives_are_exact(diffusivity):
    J, m = objective("crank-nicolson", diffusivity)
    dm = J.space.standard_normal(4)
    orders = taylor_test(J, m, dm, apart=False)
    assert orders.first > 1.8 and orders.second > 2.7 and orders.gradient > 1.8, orders
    at = J.forward.linearize(m)
    d = [predicted.layout.noise(100) for predicted in at.data]
    assert dot_product_test(at, dm, d) <= 1e-10
    at.destroy()
    J.destroy()

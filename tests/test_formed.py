"""The Gauss-Newton Hessian of few parameters, by J alone."""

import numpy as np
import pytest
from mpi4py import MPI

from npde_opt.ensemble import Ensemble
from npde_opt.forward import SCHEMES, Equation, Evolution, Experiment
from npde_opt.grids import Grid
from npde_opt.misfits import LeastSquares
from npde_opt.objective import Objective
from npde_opt.observations import at_points
from npde_opt.parameters import ParameterSpace, Shared, Unknown
from npde_opt.terms import Diffusion, Kinetics

COMM = MPI.COMM_WORLD
COUNT = 3


def made(ensemble, at_once=None):
    """Two numbers, seen by three experiments."""
    grid = Grid((6, 4), boundaries={"x-": "dirichlet"}, comm=ensemble.space)
    unknowns = [Unknown(name, "log", block=Shared()) for name in ("D", "r")]
    space = ParameterSpace(grid, unknowns)
    terms = [Diffusion(grid, "D"), Kinetics(grid, ("u",), {"u": "r*u*(1 - u)"})]
    times = np.linspace(0, 0.006, 4)
    points = at_points(grid, times[2:], np.array([[0.2, 0.3], [0.7, 0.4]]))
    runs = [Experiment({"u": f"0.5 + 0.{e + 1}*x*y"}) for e in ensemble.own(COUNT)]
    scheme = SCHEMES["imex-euler"]
    equation = Equation(grid, terms)
    forward = Evolution(space, equation, {}, runs, [points], scheme, times)
    (layout,) = forward.layouts
    y = np.full((layout.size, layout.columns), 0.4)
    J = Objective(forward, [LeastSquares(y, 0.1, layout)], {}, ensemble, at_once)
    return J, space.from_values({"D": 0.7, "r": 2.0})


def products(J, at):
    """J^T W J by tangents and adjoints."""
    found = []
    for i in range(2):
        unit, out = J.create_vec(), J.create_vec()
        first, end = unit.getOwnershipRange()
        unit.getArray()[...] = np.arange(first, end) == i
        at._term.hessian(unit, out, True)
        J.ensemble.sum_vec(out)
        found.append(J.space.comm.allgather(out.getArray().copy()))
    return np.array([np.concatenate(parts) for parts in found])


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.parametrize("at_once", [None, 1])
def test_as_by_adjoints_and_without_any(at_once):
    J, m = made(Ensemble.whole(COMM), at_once)
    at, dm, out = J.linearize(m), J.space.standard_normal(3), J.create_vec()
    before = J.counters.adjoint_solves
    direct = at.information(dm)
    at.data_hessian(dm, out, gauss_newton=True)
    assert J.few and J.counters.adjoint_solves == before
    assert dm.dot(out) == pytest.approx(direct, rel=1e-7)
    assert at.information(dm) == pytest.approx(direct, rel=1e-7)
    np.testing.assert_allclose(at._formed.matrix, products(J, at), rtol=1e-6)
    J.destroy()


@pytest.mark.parallel([2, 3])
def test_so_it_is_over_groups():
    J, m = made(Ensemble.split(COMM, COMM.size, COUNT))
    single, m1 = made(Ensemble.whole(COMM))
    found = J.linearize(m)._formed.matrix
    np.testing.assert_allclose(found, single.linearize(m1)._formed.matrix, rtol=1e-6)
    J.destroy()


def test_a_field_or_what_is_held_is_not_formed():
    grid = Grid((6, 4))
    for block in (Unknown("D", "log"), Unknown("D", "log", block=Shared())):
        space = ParameterSpace(grid, [block])
        J = Objective.__new__(Objective)
        J.space, J.comm = space, grid.comm
        assert J.few == (space.size == 1)

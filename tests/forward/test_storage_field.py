"""S du/dt with a field S: steps, their limits, and derivatives where S is unknown."""

import numpy as np
import pytest
from petsc4py import PETSc

from npde_opt.errors import InputError, SolverError
from npde_opt.forward import SCHEMES, Equation, Evolution, Experiment, Steady
from npde_opt.grids import Grid
from npde_opt.misfits import LeastSquares
from npde_opt.objective import Objective
from npde_opt.observations import at_points, snapshots
from npde_opt.parameters import ParameterSpace, Unknown
from npde_opt.terms import Diffusion, Kinetics
from npde_opt.verify import dot_product_test, taylor_test

RANKS = pytest.mark.parallel([1, 2, 3])
SIDES = {"x-": "dirichlet", "y+": "dirichlet"}


def whole(grid, values):
    return grid.comm.bcast(grid.to_natural(np.asfortranarray(values)), root=0)


def last(scheme, times, terms, S, known, **more):
    """The last state, of S that is known."""
    grid = Grid((6, 5), boundaries=SIDES)
    space = ParameterSpace(grid, [Unknown("D", "log")])
    equation = Equation(grid, terms(grid), storage=S, **more)
    seen = [snapshots(grid, times[-1:])]
    runs = [Experiment({"u": "x"}, boundary={"x-": 1.0})]
    forward = Evolution(space, equation, known, runs, seen, SCHEMES[scheme], times)
    lin = forward.linearize(space.create_vec())
    found = whole(grid, lin.final[0][0])
    lin.destroy()
    forward.destroy()
    return found


def logistic(grid):
    return [Diffusion(grid, "D"), Kinetics(grid, ("u",), {"u": "u*(1 - u)"})]


@pytest.mark.parametrize("scheme", list(SCHEMES))
def test_a_constant_storage_is_a_slower_clock(scheme):
    times = np.linspace(0, 0.02, 9)
    expected = last(scheme, times, logistic, None, {})
    slow = last(scheme, 4 * times, logistic, "S", {"S": 4.0})
    gamma = last(scheme, 4 * times, logistic, None, {}, gamma=4.0)
    np.testing.assert_allclose(slow, expected, atol=1e-8)
    np.testing.assert_allclose(gamma, expected, atol=1e-8)


@pytest.mark.parametrize("recipe", ["auto", "direct"])
def test_a_wave_in_what_stores_more_is_slower(recipe):
    grid = Grid((6, 5), boundaries=SIDES)
    space = ParameterSpace(grid, [Unknown("D", "log")])
    found = []
    for gamma, S, end in ((1j, None, 0.1), (1j, "S", 0.4), (4j, None, 0.4)):
        times = np.linspace(0, end, 5)
        terms = [Diffusion(grid, "D")]
        equation = Equation(grid, terms, ("re", "im"), gamma, storage=S)
        runs, seen = [Experiment({"re": "x*(1 - y)"})], [snapshots(grid, times[-1:])]
        how = SCHEMES["imex-theta"]
        known = {"S": 4.0} if S else {}
        forward = Evolution(
            space, equation, known, runs, seen, how, times, recipe=recipe
        )
        lin = forward.linearize(space.create_vec())
        found.append(lin.final[0].copy())
        lin.destroy()
        forward.destroy()
    for other in found[1:]:
        np.testing.assert_allclose(other, found[0], atol=1e-7)


@pytest.mark.parallel([1, 2])
def test_cells_that_store_less_are_sooner_in_equilibrium():
    """Without diffusion every cell has its own clock: S u' = -u."""

    def decay(grid):
        return [Kinetics(grid, ("u",), {"u": "-u"})]

    grid = Grid((6, 5), boundaries=SIDES)
    S = 1 + grid.coordinates()[0] + 0 * grid.coordinates()[1]
    known = {"S": S, "f": 2.0}
    found = last("crank-nicolson", np.linspace(0, 1, 40), decay, "f*S", known)
    x = grid.centers[0][:, None]
    expected = np.broadcast_to(x * np.exp(-1 / (2 * (1 + x))), found.shape)
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_limits_of_steps_follow_the_storage():
    grid = Grid((6, 5), boundaries=SIDES)
    S = np.where(grid.coordinates()[0] + 0 * grid.coordinates()[1] > 0.5, 1.0, 8.0)
    times = np.linspace(0, 0.06, 9)  # beyond the limit where S is 1
    last("heun", times, logistic, "S", {"S": np.full(grid.shape, 8.0)})
    for values in (S, 1.0):
        with pytest.raises(InputError, match="exceeds the stability limit"):
            last("heun", times, logistic, "S", {"S": values})

    def stiff(grid):
        return [Diffusion(grid, "D"), Kinetics(grid, ("u",), {"u": "-100*u"})]

    last("imex-euler", times, stiff, "S", {"S": 8.0})
    with pytest.raises(InputError, match="exceeds the stability limit"):
        last("imex-euler", 4 * times, stiff, "S", {"S": S})


@pytest.mark.parametrize("values", [0.0, -1.0, np.nan])
def test_storage_is_positive(values):
    with pytest.raises(InputError, match="storage|known.S"):
        last("heun", np.linspace(0, 1e-3, 3), logistic, "S", {"S": values})


def test_a_trial_point_without_storage_is_a_rejected_step():
    J = objective("ars222", "S", unknown=(("S", "identity"),))
    m = J.forward.space.create_vec()
    m.set(1.0)
    J.forward.linearize(m).destroy()
    m.set(-1.0)
    with pytest.raises(SolverError, match="'S' is -1 in 30 cells"):
        J.forward.linearize(m)
    J.destroy()


def test_steady_states_store_nothing():
    grid = Grid((4, 4), boundaries=SIDES)
    space = ParameterSpace(grid, [Unknown("D", "log")])
    equation = Equation(grid, [Diffusion(grid, "D")], storage="S")
    with pytest.raises(
        InputError, match="storage: got 'S'; allowed: none for a steady equation"
    ):
        Steady(space, equation, {"S": 1.0}, [Experiment()])


# ---- derivatives ---------------------------------------------------------------------------------


def objective(scheme, S, unknown=(("S", "log"), ("D", "log"))):
    grid = Grid((6, 5), boundaries=SIDES)
    space = ParameterSpace(grid, [Unknown(*u) for u in unknown])
    equation = Equation(grid, logistic(grid), storage=S)
    known = {"D": 1.0} if len(unknown) == 1 else {}
    times = np.linspace(0, 4e-3, 3)
    points = np.random.default_rng(5).random((7, 2)) * 0.9 + 0.05
    seen = [at_points(grid, times[1:], points)]
    starts = "0.5 + 0.3*x*S", "0.2 + y"
    runs = [Experiment({"u": start}, boundary={"x-": 1.0}) for start in starts]
    how = SCHEMES[scheme]
    forward = Evolution(space, equation, known, runs, seen, how, times, recipe="direct")
    (layout,) = forward.layouts
    data = [
        np.random.default_rng(e).standard_normal(layout.size) for e in layout.members
    ]
    misfit = LeastSquares(np.stack(data, axis=1), 0.2, layout)
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


def check(scheme, S):
    J = objective(scheme, S)
    space = J.forward.space
    m, dm = space.create_vec(), space.create_vec()
    for seed, vec in enumerate((m, dm)):
        for i, name in enumerate(space.blocks):
            values = 0.3 * np.random.default_rng(10 * seed + i).random(space.grid.shape)
            space.own(vec, name)[...] = 0.1 + values[space.grid.local_slice]
    orders = taylor_test(J, m, dm)
    assert orders.problems() == [], orders
    lin = J.forward.linearize(m)
    d = [predicted.copy() for predicted in lin.data]
    assert dot_product_test(lin, dm, d) <= 1e-10
    lin.destroy()
    J.destroy()


@RANKS
def test_derivatives(tight):
    check("ars222", "S*(1 + D)")


@pytest.mark.parametrize("scheme", ["heun", "crank-nicolson", "explicit-euler"])
def test_derivatives_of_other_schemes(scheme, tight):
    check(scheme, "S")

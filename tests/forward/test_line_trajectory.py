"""Steps along a line in compiled loops: the same as step by step, with exact derivatives."""

import numpy as np
import pytest
from mpi4py import MPI

from npde_opt.errors import SolverError
from npde_opt.forward import (
    SCHEMES,
    Equation,
    Evolution,
    Experiment,
    line_newton,
    line_system,
)
from npde_opt.forward.line_trajectory import OnLine
from npde_opt.grids import Boundary, Grid
from npde_opt.linear.measured import measured
from npde_opt.misfits import LeastSquares
from npde_opt.objective import Objective
from npde_opt.observations import at_points, snapshots
from npde_opt.parameters import ParameterSpace, Shared, Unknown
from npde_opt.terms import (
    Advection,
    Diffusion,
    Kinetics,
    NonlinearDiffusion,
    Reaction,
    Source,
)
from npde_opt.verify import dot_product_test, taylor_test

TIMES = np.linspace(0, 0.05, 6) ** 1.1
START = "0.3 + a*exp(-8*(x - 0.4)**2)"
SIDES = {"x-": "dirichlet", "x+": Boundary("robin", 2.0)}


def one(grid):
    """A field of diffusivity, drift, decay by text."""
    drift = Advection(grid, ["w"])
    return [Diffusion(grid, "D"), drift, Reaction(grid, "c*D", field="decay")]


def two(grid):
    """Species that linear terms couple, either way with its own factor."""
    spread = [Diffusion(grid, "D", "u"), Diffusion(grid, "E", "v")]
    return [*spread, Reaction(grid, "c", ("u", "v")), Reaction(grid, "w", ("v", "u"))]


def porous(grid):
    """A diffusivity and rates that depend on the state, beside linear terms."""
    spread = NonlinearDiffusion(grid, ("u",), "u", "D*(0.1 + u**2)")
    rates = Kinetics(grid, ("u",), {"u": "c*u*(1 - u)"})
    return [spread, rates, Advection(grid, ["w"])]


def reacting(grid):
    """Two species, of which one does not move."""
    rates = {"u": "c*v - u**2", "v": "u*(1 - v)"}
    return [Diffusion(grid, "D", "u"), Kinetics(grid, ("u", "v"), rates)]


def given(grid, species):
    """Without sources, in experiments of their own."""
    start = {"u": START}
    return [Experiment(start, [], {"x-": 1.0}), Experiment({"u": "a*x"})]


def driven(grid, species):
    """Constant and timed sources with unknown shapes and histories; a start that is unknown."""
    named = "u", "x*c + 1"
    timed = Source(grid, species, *named, "h", [0.0, 0.02, 0.05])
    sources = [Source(grid, species, *named), timed]
    return [
        Experiment({"u": START}, sources, {"x-": 1.0}),
        Experiment({"u": "a*x"}, [], {"x-": 2.0, "x+": 0.5}),
    ]


CASES = {
    "ars222": {"storage": "1 + S**2"},
    "backward-euler": {},
    "imex-theta": {"storage": "1 + S**2"},
    "crank-nicolson": {},
}


def objective(
    scheme, terms=one, species=("u",), storage=None, seen="", runs=driven, sides=SIDES
):
    grid = Grid((7,), extent=[1.5], boundaries=sides, comm=MPI.COMM_WORLD)
    shared = Shared()
    unknowns = [
        Unknown("D", "log"),
        Unknown("c", block=shared),
        Unknown("a", block=shared),
        Unknown("h", block=Shared((3,))),
        Unknown("S", block=shared),
    ]
    space = ParameterSpace(grid, unknowns)
    equation = Equation(grid, terms(grid), species, storage=storage)
    samplings = [
        at_points(grid, TIMES[[2, -1]], np.array([[0.3], [0.9], [1.2]]), seen),
        snapshots(grid, TIMES[[0, 2]], species[-1]),
    ]
    known = {"w": 1.3, "E": 0.4}
    forward = Evolution(
        space,
        equation,
        {k: v for k, v in known.items() if k in equation.coefficients},
        runs(grid, species),
        samplings,
        SCHEMES[scheme],
        TIMES,
    )
    rng = np.random.default_rng(0)
    misfits = [
        LeastSquares(rng.standard_normal((y.size, y.columns)), 0.5, y)
        for y in forward.layouts
    ]
    return Objective(forward, misfits, {})


def vector(space, seed, mean):
    """The same on any number of ranks."""
    vec = space.create_vec()
    for u in space.unknowns:
        count = space.grid.shape if not u.block.listed else u.block.count
        values = mean + 0.2 * np.random.default_rng(seed).random(count)
        own = space.own(vec, u.name)
        if not u.block.listed:
            values = values[space.grid.local_slice]
        own[...] = values[: len(own)]
    return vec


NONLINEAR = {"terms": porous, "runs": given, "sides": {"x-": "dirichlet"}}
"""Diffusion of this kind has no Robin sides."""


def found(J):
    """Value, gradient, both Hessian products and last states, and whether loops made them."""
    m, dm = vector(J.space, 1, 0.4), vector(J.space, 2, -0.1)
    at, h = J.linearize(m), J.create_vec()
    values = [np.array(at.value), at.gradient().getArray().copy()]
    for gauss_newton in (False, True):
        at.hessian(dm, h, gauss_newton)
        values.append(h.getArray().copy())
    lin = at.linearization
    values += [u.copy() for u in lin.final]
    values += [np.array(list(lin.states(1)))]
    looped = all(isinstance(t, OnLine) for t in lin.trajectories)
    at.destroy()
    return values, looped


def agree(monkeypatch, *given, **more):
    """Loops find what steps one by one find."""
    runs = []
    for least in (1, 100):
        monkeypatch.setattr(line_system, "LEAST", least)
        J = objective(*given, **more)
        runs.append(found(J))
        J.destroy()
    (looped, in_loops), (stepped, in_steps) = runs
    assert in_loops and not in_steps
    for x, y in zip(looped, stepped, strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-8, atol=1e-10 * np.abs(y).max())


@pytest.mark.parametrize("scheme", CASES)
@pytest.mark.parametrize("terms, species", [(one, ("u",)), (two, ("u", "v"))])
def test_loops_do_the_same_steps(monkeypatch, scheme, terms, species):
    quantity = "u**2" if scheme == "ars222" else ""
    agree(monkeypatch, scheme, terms, species, seen=quantity, **CASES[scheme])


@pytest.mark.parametrize("scheme", ["backward-euler", "crank-nicolson"])
def test_loops_have_the_derivatives_of_nonlinear_steps(monkeypatch, scheme):
    agree(monkeypatch, scheme, storage="1 + S**2", seen="u**2", **NONLINEAR)
    if scheme == "crank-nicolson":
        agree(monkeypatch, scheme, reacting, ("u", "v"), seen="u*v")


def near(J, m):
    """The trajectories at m from those of another point, and whether some step was done alone."""
    far = m.copy()
    far.scale(0.9)
    J.forward.linearize(far).destroy()
    alone = J.forward.newton.jacobian.iterations
    with measured() as solves:
        at = J.forward.linearize(m)
    found = [t.rows.copy() for t in at.trajectories]
    at.destroy()
    far.destroy()
    return found, solves, J.forward.newton.jacobian.iterations > alone


@pytest.mark.parametrize(
    "scheme, terms, species",
    [("backward-euler", porous, ("u",)), ("crank-nicolson", reacting, ("u", "v"))],
)
def test_trajectories_are_found_from_those_before(monkeypatch, scheme, terms, species):
    """All steps at once are as good as one by one, counted and measured as these are."""
    monkeypatch.setattr(line_system, "LEAST", 1)
    given = NONLINEAR | {"terms": terms}
    J = objective(scheme, species=species, storage="1 + S**2", **given)
    m, steps = vector(J.space, 1, 0.4), 2 * (J.forward.times.size - 1)
    found, solves, alone = near(J, m)
    assert not alone and solves["state"].count == steps
    assert solves["state"].residual < 1e-10 and solves["newton"].residual < 1e-12
    assert J.counters.steps == 2 * steps
    J.forward.near.clear()
    at = J.forward.linearize(m)
    for one_by_one, rows in zip(at.trajectories, found, strict=True):
        np.testing.assert_allclose(rows, one_by_one.rows, rtol=1e-8, atol=1e-10)
    at.destroy()
    J.destroy()


def test_guesses_that_are_too_far_are_left(monkeypatch):
    """Steps go one by one from there, and states that grow are found in either way."""
    monkeypatch.setattr(line_system, "LEAST", 1)
    J = objective("backward-euler", **NONLINEAR)
    m = vector(J.space, 1, 0.4)
    monkeypatch.setattr(line_newton, "MAX_ITERATIONS", 0)
    *_, alone = near(J, m)
    assert alone
    monkeypatch.undo()
    J.forward.bound = 0.1
    with pytest.raises(SolverError, match=r"the state grew to .* in step 1 \(t ="):
        J.forward.linearize(m)
    J.destroy()


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.parametrize(
    "scheme, more", [("ars222", {}), ("imex-theta", {}), ("crank-nicolson", NONLINEAR)]
)
def test_derivatives(monkeypatch, scheme, more):
    """On several ranks steps go one by one."""
    monkeypatch.setattr(line_system, "LEAST", 1)
    J = objective(scheme, storage="1 + S**2", seen="u**2", **more)
    m, dm = vector(J.space, 1, 0.4), vector(J.space, 2, -0.1)
    orders = taylor_test(J, m, dm, apart=False)
    assert 1.7 < orders.first < 2.6 and 2.6 < orders.second < 3.6
    assert 1.8 < orders.gradient < 2.6
    lin = J.forward.linearize(m)
    d = [predicted.layout.noise(100) for predicted in lin.data]
    assert dot_product_test(lin, dm, d) <= 1e-10
    J.destroy()


def test_wide_stencils_and_rows_that_are_exchanged():
    """Factors of a band, where the largest entries stand beside the diagonal."""
    from npde_opt.forward.line_loops import backward, factor, forward

    rng, n, band = np.random.default_rng(3), 9, 2
    dense = np.zeros((n, n))
    bands = np.zeros((n, 2 * band + 1))
    for i in range(n):
        for j in range(max(i - band, 0), min(i + band + 1, n)):
            bands[i, j - i + band] = dense[i, j] = rng.standard_normal()
        bands[i, band] = dense[i, i] = 0.01
    mass, alphas = np.full(n, 0.1), np.array([0.5, 2.0])
    lu, pivots = np.empty((2, n, 3 * band + 1)), np.empty((2, n), np.int64)
    assert (
        factor(
            bands[None], mass, alphas, np.zeros(2, np.int64), lu, pivots, np.empty(2)
        )
        == -1
    )
    assert (pivots != np.arange(n)).any()
    weights, steps = np.array([[0.0, 0.0], [0.0, 1.0]]), alphas
    u, which = rng.standard_normal((3, n)), np.array([[0, 0], [1, 1]])
    at = np.zeros((2, 2), np.int64)
    system = bands[None], mass, lu, pivots, which, at, steps, weights
    nothing, place = np.zeros((1, n)), np.zeros((2, 2), np.int64)
    seen = np.zeros((3, n))
    seen[2] = rng.standard_normal(n)
    start = u[0].copy()
    work = np.empty((4, n))
    forward(*system, nothing, place, np.empty((0, n)), u, np.zeros((2, 5)), work)
    expected = start
    for alpha in alphas:
        S = np.diag(mass) + alpha * dense
        expected = np.linalg.solve(S, mass * expected)
    np.testing.assert_allclose(u[2], expected, rtol=1e-8)
    mu, left = np.empty((2, n)), np.zeros((2, 5))
    first = np.empty(n)
    backward(*system, seen, np.empty((0, 1, n)), mu, left, first, work)
    np.testing.assert_allclose(first @ start, seen[2] @ expected, rtol=1e-9)
    singular = np.zeros_like(bands)[None], np.zeros(n), alphas
    assert factor(*singular, np.zeros(2, np.int64), lu, pivots, np.empty(2)) == 0


def test_what_fails_says_where(monkeypatch):
    """A state that grows, and systems counted and measured."""
    monkeypatch.setattr(line_system, "LEAST", 1)
    J = objective("backward-euler")
    m = vector(J.space, 1, 0.4)
    with measured() as solves:
        J.forward.linearize(m).destroy()
    assert solves["state"].count == 2 * (J.forward.times.size - 1)
    assert 0 < solves["state"].residual < 1e-12
    assert J.forward.asked() == {"state": "direct"}
    J.forward.bound = 0.1
    with pytest.raises(SolverError, match=r"the state grew to .* in step 1 \(t ="):
        J.forward.linearize(m)
    J.destroy()


def lost_step(seed, count=30):
    """One step whose S = M + dt (A - M / dt) is dt A, which holds nothing."""
    rng = np.random.default_rng(seed)
    k = np.exp((0.5, 2.0)[seed % 2] * rng.standard_normal(count - 1))
    mass = np.full(count, 1.0 / count)
    bands = np.zeros((1, count, 3))
    bands[0, 1:, 0] = bands[0, :-1, 2] = -k
    bands[0, 1:, 1] += k
    bands[0, :-1, 1] += k
    bands[0, :, 1] -= mass / 0.1
    steps = line_system.LineSteps(
        SCHEMES["backward-euler"], np.array([0.0, 0.1]), False
    )
    b = rng.standard_normal(count)
    return line_system.LineSystem(mass, bands, steps, "lost_"), b


@pytest.mark.parametrize("backwards", [False, True])
def test_steps_that_are_singular_to_rounding_are_told(backwards):
    """But for one that rounding leaves right in the energy, as in linear/test_singular.py."""
    told = 0
    for seed in range(12):
        system, b = lost_step(seed)
        try:
            if backwards:
                system.backward(np.stack([0 * b, b]))
            else:
                system.forward(b, np.zeros((1, b.size)), np.zeros((1, 2), np.int64))
        except SolverError as error:
            assert "singular to rounding" in error.reason
            told += 1
    assert told >= 11

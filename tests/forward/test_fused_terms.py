"""Fused explicit steps with advection and D(u) are the assembled ones, with all their
derivatives."""

import numpy as np
import pytest
from alike import same
from forward.test_columns import compare, results
from forward.test_evolution_derivatives import check, objective, tight  # noqa: F401
from forward.test_fused import HOLES, PERIODIC, SIDES, STRETCHED
from forward.test_fused_many import Calls, one_by_one

from npde_opt.errors import InputError, SolverError
from npde_opt.forward import Experiment
from npde_opt.forward.fused_advection import FlowValues
from npde_opt.forward.watch import Watch
from npde_opt.observations import snapshots
from npde_opt.parameters import Shared, Unknown
from npde_opt.terms import Advection, Diffusion, Kinetics, NonlinearDiffusion

NAMES = ("u", "v")
GIVEN = {"x-": "dirichlet", "y+": "dirichlet"}
VALUES = [{"u": {"x-": "1 + sin(40*t)*y"}, "v": {"y+": "0.3 + x*t"}}] * 2
BELOW = [{"u": {"x-": "-1 - 9*t"}, "v": {"y+": "0.3 + x*t"}}] * 2
"""Means at a side are below the floor of D(u)."""
RATES = {"u": "F*(1 - u) - u*v**2", "v": "u*v**2 - k*v"}


def kinetics(grid):
    return Kinetics(grid, NAMES, RATES)


def along(grid, *parts):
    """As many velocities as there are axes."""
    return [*parts, 0.2, -0.3][: grid.dim]


def flowing(grid):
    """u upwind by a text, v by central differences of div(v u) by fields."""
    across = ["w", *(["c"] * (grid.dim - 1))]
    return [
        Diffusion(grid, "Du", "u"),
        Advection(grid, along(grid, "q*(1 + x)"), species="u"),
        Diffusion(grid, "Dv", "v"),
        Advection(grid, across, "central", "v", conservative=True),
        kinetics(grid),
    ]


def leaving(grid):
    """div(v u) upwind, which nothing diffuses, out of sides that are closed for diffusion."""
    return [
        Diffusion(grid, "Du", "u"),
        Advection(grid, along(grid, "0.1*q"), "central", "u"),
        Advection(grid, along(grid, "-w"), species="v", conservative=True),
        kinetics(grid),
    ]


def porous(grid):
    """u by v and a power of itself, v by its slope."""
    return [
        NonlinearDiffusion(grid, NAMES, "u", "Du*(u/q)**w + 0.1*v", floor=0.1),
        NonlinearDiffusion(grid, NAMES, "v", "Dv/(1 + (g/c)**2)"),
        kinetics(grid),
    ]


def both(grid):
    """With linear diffusion and advection beside D(u)."""
    return [
        Diffusion(grid, "Dv", "u"),
        Advection(grid, along(grid, "q"), species="u", conservative=True),
        NonlinearDiffusion(grid, NAMES, "u", "Du*u**w"),
        Diffusion(grid, "Dv", "v"),
        kinetics(grid),
    ]


def alone(grid):
    """Nothing reacts, and v does not change."""
    return [NonlinearDiffusion(grid, NAMES, "u", "Du*u*v")]


def unknowns(terms, grid_dim=2):
    """Of the coefficients that are read."""
    every = {
        "Du": Unknown("Du", "log"),
        "Dv": Unknown("Dv", "log", block=Shared()),
        "q": Unknown("q", "log", block=Shared()),
        "w": Unknown("w", "log"),
        "c": Unknown("c", block=Shared()),
        "F": Unknown("F"),
        "k": Unknown("k", block=Shared()),
    }
    read = {
        flowing: "Du Dv q w c F k",
        leaving: "Du q w F k",
        porous: "Du Dv q w c F k",
        both: "Du Dv q w F k",
        alone: "Du",
    }[terms]
    names = [n for n in read.split() if n != "c" or terms is porous or grid_dim > 1]
    return [*(every[n] for n in names), Unknown("v0")]


def problem(terms, fused=True, runs=2, end=0.004, shape=(9, 8), values=None, **given):
    starts = [{"u": "1 - 0.5*x", "v": "v0**2"}, {"u": "0.4 + 0.3*x", "v": "v0"}]
    J, m, dm = objective(
        terms,
        unknowns(terms, len(shape)),
        given.pop("scheme", "explicit-euler"),
        NAMES,
        end=end,
        shape=shape,
        trials=lambda grid: [
            Experiment(start, boundary=values[e] if values else {})
            for e, start in enumerate(starts[:runs])
        ],
        samplings=lambda grid, times: [snapshots(grid, times[[2, -1]], "u*v")],
        **given,
    )
    J.forward.fused = fused
    return J, m, dm


HARD = {"edges": STRETCHED, "active": HOLES, "end": 0.001}
RADIAL = {"radial": True, "sides": {"x+": "dirichlet"}, **HARD}
FLOWS = {
    "flow": (flowing, {}),
    "flow-sides-heun": (flowing, {"sides": SIDES, "values": VALUES, "scheme": "heun"}),
    "flow-periodic": (flowing, {"sides": PERIODIC}),
    "flow-line": (flowing, {"shape": (11,), "sides": {"x+": "dirichlet"}, "runs": 1}),
    "leaving": (leaving, {}),
    "leaving-sides": (leaving, {"sides": SIDES, "scheme": "heun"}),
}
FLUXES = {
    "porous": (porous, {}),
    "porous-sides-heun": (
        porous,
        {"sides": GIVEN, "values": BELOW, "scheme": "heun", "end": 0.002},
    ),
    "porous-periodic": (porous, {"sides": PERIODIC}),
    "both-stretched": (both, {"sides": GIVEN, **HARD}),
    "both-radial": (both, RADIAL),
    "alone-line": (alone, {"shape": (11,), "sides": {"x+": "dirichlet"}, "runs": 1}),
    "alone-box": (alone, {"shape": (5, 6, 4), "sides": {"z-": "dirichlet"}, "runs": 1}),
}
EVERY = {**FLOWS, **FLUXES}


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.parametrize("kind", EVERY)
def test_fused_steps_are_the_assembled_ones(kind):
    terms, given = EVERY[kind]
    found = []
    for fused in (True, False):
        J, m, dm = problem(terms, fused, **given)
        at = J.linearize(m)
        spreads = getattr(at.linearization.batches[0].stepper, "spreads", None)
        assert (spreads is not None) == fused
        if fused:
            assert isinstance(spreads.linear, FlowValues) == (
                kind in FLOWS or terms is both
            )
            assert (spreads.nonlinear is not None) == (kind in FLUXES)
        at.destroy()
        found.append(results(J, m, dm))
        check(J, m, dm) if fused else J.destroy()
    compare(*found, rtol=1e-10)


@pytest.mark.parametrize("kind", EVERY)
def test_many_steps_are_the_single_ones_to_the_last_bit(kind, monkeypatch):
    """The rates of D(u) are looked at in each of so few steps."""
    terms, given = EVERY[kind]
    with monkeypatch.context() as patched:
        calls = Calls(patched)
        found = results(*problem(terms, **given))
        if "values" not in given:
            assert sum(calls.forth) == 4 and max(calls.back) > 1
            assert (max(calls.forth) == 1) == (kind in FLUXES)
    one_by_one(monkeypatch)
    expected = results(*problem(terms, **given))
    assert same(found, expected)


@pytest.mark.parametrize("runs", [1, 2])
@pytest.mark.parametrize("scheme", ["explicit-euler", "heun"])
@pytest.mark.parametrize("terms", [porous, alone])
@pytest.mark.parametrize("end", [0.005, 0.1])
def test_between_looks_at_rates_steps_go_together(
    terms, scheme, runs, end, monkeypatch
):
    """The faster the state moves, the more often it is looked at."""
    given = {"steps": 64, "scheme": scheme, "runs": runs, "end": end, "power": 1.0}

    def watched():
        looks = list[int]()
        keep = Watch.keep
        with monkeypatch.context() as patched:
            patched.setattr(
                Watch, "keep", lambda w, *a: [keep(w, *a), looks.append(w.looks)]
            )
            found = results(*problem(terms, **given))
        return looks, found

    with monkeypatch.context() as patched:
        calls = Calls(patched)
        often, found = watched()
        assert sum(calls.forth) == 64 and max(calls.forth) > 1
    one_by_one(monkeypatch)
    every, expected = watched()
    assert often == every and len(every) < 64
    assert same(found, expected)


@pytest.mark.parametrize("kind", ["flow-line", "alone-line"])
def test_single_precision_is_near(kind):
    terms, given = EVERY[kind]
    single = results(*problem(terms, evolution={"precision": "single"}, **given))
    double = results(*problem(terms, **given))
    assert single[-1].dtype == np.float32
    for x, y in zip(single, double, strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-4 * np.abs(y).max())


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.parametrize("kind", FLUXES)
def test_what_limits_ask_of_a_state_is_that_of_the_terms(kind):
    terms, given = EVERY[kind]
    J, m, _ = problem(terms, **given)
    at = J.linearize(m)
    point = at.linearization
    stepper = point.batches[0].stepper
    u = point.batches[0].join([0.8 * x for x in point.final])
    state, mass = stepper.state(2, 0, u), stepper.mass
    moving = point.guard.limits.moving
    found = stepper.moving(2, u)
    for seen, term in zip(found.ranges, moving, strict=True):
        np.testing.assert_allclose(seen, term.range(state), rtol=1e-12)
    rates = sum(term.stiffness(state, mass) for term in moving)
    np.testing.assert_allclose(found.rates, rates, rtol=1e-12)
    u[0, ..., 0] = np.nan
    found, state = stepper.moving(2, u), stepper.state(2, 0, u)
    low, _ = found.ranges[0]
    assert np.isnan(low) == np.isnan(moving[0].range(state)[0])
    at.destroy()
    J.destroy()


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize(
    ("text", "wanted"),
    [("1 - 3*u", "falls to"), ("200*u", "exceeds the stability limit")],
)
def test_what_is_refused_is_said_as_before(fused, text, wanted):
    def terms(grid):
        return [NonlinearDiffusion(grid, NAMES, "u", f"Du*({text})")]

    J, m, _ = objective(
        terms,
        [Unknown("Du", "log")],
        "explicit-euler",
        NAMES,
        trials=lambda grid: [Experiment({"u": "1 - 0.5*x", "v": 0.1})],
        samplings=lambda grid, times: [snapshots(grid, times[[-1]], "u")],
    )
    J.forward.fused = fused
    with pytest.raises((InputError, SolverError), match=wanted):
        J.linearize(m).linearization  # noqa: B018
    J.destroy()

"""Many implicit steps in one call are the steps one by one, to the rounding of the solves."""

import numpy as np
import pytest
from alike import same
from forward.test_columns import compare, results
from forward.test_evolution_derivatives import check, objective
from mpi4py import MPI

from npde_opt.errors import SolverError
from npde_opt.forward import Experiment, Storage, implicit_runs
from npde_opt.forward.implicit_runs import ImplicitRuns
from npde_opt.forward.stepper import Stepper
from npde_opt.grids import Boundary
from npde_opt.linear.measured import measured
from npde_opt.observations import snapshots
from npde_opt.parameters import Shared, Unknown
from npde_opt.terms import Advection, Diffusion, Kinetics

STEPS, SHAPE = 12, (48, 44)
EDGES = (np.linspace(0, 1, 49) ** 1.2, np.linspace(0, 1, 45))
AROUND = {f"{a}{s}": "periodic" for a in "xy" for s in "-+"}
FIELDS = [Unknown("D", "log"), Unknown("r", "log")]
NUMBERS = [Unknown("D", "log"), Unknown("r", "log", block=Shared())]


def fisher(grid):
    return [Diffusion(grid, "D"), Kinetics(grid, ("u",), {"u": "r*u*(1 - u/a)"})]


def crossed(grid):
    """A number a direction, and a rate whose slope is infinite where u is 0."""
    return [Diffusion(grid, ("D", "r")), Kinetics(grid, ("u",), {"u": "s*sqrt(u)"})]


def heat(grid):
    return [Diffusion(grid, "D")]


def drifting(grid):
    return [*fisher(grid), Advection(grid, (0.3, 0.1))]


def problem(terms=fisher, unknowns=NUMBERS, **given):
    three = snapshots_of(given.pop("seen", [2, 7, -1]))
    return objective(
        terms,
        unknowns,
        steps=given.pop("steps", STEPS),
        end=given.pop("end", 0.3),
        **{
            "shape": SHAPE,
            "power": 1.0,
            "samplings": three,
            "evolution": {"recipe": "direct"},
            **given,
        },
    )


def snapshots_of(which):
    return lambda grid, times: [snapshots(grid, times[which], "u")]


def one_by_one(monkeypatch):
    monkeypatch.setattr(ImplicitRuns, "together", property(lambda self: False))


class Calls:
    """Counts steps in calls, and single ones."""

    def __init__(self, monkeypatch):
        self.forth, self.back, self.single = list[int](), list[int](), 0
        forth, back, step = ImplicitRuns.forth, ImplicitRuns.back, Stepper.step

        def counted_forth(stepper, *given):
            found = forth(stepper, *given)
            self.forth += [found[0]] if found is not None else []
            return found

        def counted_back(stepper, n, kept, adjoint):
            found = back(stepper, n, kept, adjoint)
            self.back += [len(kept)] if found is not None else []
            return found

        def counted_step(stepper, n, u):
            self.single += 1
            return step(stepper, n, u)

        monkeypatch.setattr(ImplicitRuns, "forth", counted_forth)
        monkeypatch.setattr(ImplicitRuns, "back", counted_back)
        monkeypatch.setattr(Stepper, "step", counted_step)


KINDS = {
    "numbers": {},
    "fields": {"unknowns": FIELDS},
    "dirichlet": {"sides": {"x-": "dirichlet", "y+": Boundary("robin", 0.7)}},
    "around": {"sides": AROUND},
    "along": {"sides": {"y-": "periodic", "y+": "periodic", "x+": "dirichlet"}},
    "stretched": {"edges": EDGES, "unknowns": FIELDS},
    "crossed": {"terms": crossed},
    "gamma": {"gamma": 2.5},
    "box": {"shape": (9, 10, 8), "sides": {"z-": "dirichlet"}},
    "fast": {"end": 3.0},
    "theta": {"scheme": "imex-theta", "unknowns": FIELDS},
    "ars222": {"scheme": "ars222", "unknowns": FIELDS},
    "ars222-sides": {"scheme": "ars222", "sides": {"x+": "dirichlet"}},
    "heat": {"terms": heat, "unknowns": [Unknown("D", "log")]},
    "heat-ars222": {
        "terms": heat,
        "unknowns": [Unknown("D", "log")],
        "scheme": "ars222",
    },
    "heat-euler": {
        "terms": heat,
        "unknowns": [Unknown("D", "log")],
        "scheme": "backward-euler",
    },
    "heat-crank": {
        "terms": heat,
        "unknowns": [Unknown("D", "log")],
        "scheme": "crank-nicolson",
        "sides": AROUND,
    },
}


@pytest.mark.parametrize("kind", KINDS)
def test_equal_to_single_steps(kind, monkeypatch):
    with monkeypatch.context() as patched:
        calls = Calls(patched)
        found = results(*problem(**KINDS[kind]))
        assert sum(calls.forth) == STEPS and calls.single == 0
        assert max(calls.forth) > 1
        # The adjoint's sweep, and that of the products with J^T W J.
        assert sum(calls.back) == 2 * STEPS and len(calls.back) == 6
    with monkeypatch.context() as patched:
        one_by_one(patched)
        calls = Calls(patched)
        expected = results(*problem(**KINDS[kind]))
        assert calls.single == STEPS and not calls.back
    compare(found, expected)


def test_calls_that_take_long_are_several(monkeypatch):
    found = results(*problem())
    monkeypatch.setattr(implicit_runs, "VALUES", 2 * 48 * 44)
    calls = Calls(monkeypatch)
    expected = results(*problem())
    assert max(calls.forth) == 2
    assert same(found, expected)


def test_solves_that_are_no_good_go_step_by_step(monkeypatch):
    """What was added up before is taken back, and nothing is added twice."""
    expected = results(*problem())
    monkeypatch.setattr(implicit_runs, "DIRECT", -1.0)
    calls = Calls(monkeypatch)
    found = results(*problem())
    assert not calls.forth and not calls.back and calls.single == STEPS
    compare(found, expected)


def test_a_sweep_back_that_fails_on_its_way_is_done_again(monkeypatch):
    expected = results(*problem())
    down, calls = ImplicitRuns._down, []

    def failing(stepper, *given):
        calls.append(1)
        return down(stepper, *given) and len(calls) % 3 != 2

    monkeypatch.setattr(implicit_runs, "VALUES", 2 * 48 * 44)
    monkeypatch.setattr(ImplicitRuns, "_down", failing)
    compare(results(*problem()), expected)
    assert len(calls) > 3


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.parametrize(
    "kind", ["fields", "dirichlet", "crossed", "box", "ars222", "heat-crank"]
)
def test_derivatives(kind):
    J, m, dm = problem(**KINDS[kind])
    at = J.linearize(m)
    (batch,) = at.linearization.batches
    alone = MPI.COMM_WORLD.size == 1
    assert isinstance(batch.stepper, ImplicitRuns) == alone
    check(J, m, dm)


@pytest.mark.parametrize(
    "given",
    [
        {"power": 1.1},
        {"steps": 7},
        {"shape": (20, 20)},
        {"scheme": "heun", "end": 0.0001},
        {"scheme": "backward-euler"},
        {"active": np.add.outer(np.arange(48), np.arange(44)) < 70},
        {"terms": drifting},
        {"trials": lambda grid: [Experiment({"u": "0.3*x"})] * 2},
        {"trials": lambda grid: [Experiment({"u": 0.3}, boundary={"x-": 0.5})]},
        {"evolution": {"recipe": "direct", "fused": False}},
    ],
)
def test_what_does_not_apply(given):
    sides = {"x-": "dirichlet"}
    J, m, _ = problem(**{"sides": sides, **given})
    at = J.linearize(m)
    assert np.isfinite(at.value)
    assert not any(
        isinstance(b.stepper, ImplicitRuns) for b in at.linearization.batches
    )


def test_other_solvers_go_step_by_step(monkeypatch):
    calls = Calls(monkeypatch)
    found = results(*problem(evolution={"recipe": "geometric"}))
    assert not calls.forth and not calls.back
    compare(found, results(*problem()), rtol=1e-6)


def test_a_plan_that_does_not_keep_all(monkeypatch):
    expected = results(*problem())
    calls = Calls(monkeypatch)
    found = results(*problem(storage=Storage(5 * 8 * 48 * 44)))
    assert not calls.back
    compare(found, expected)


def test_measured_solves_are_all_noted():
    J, m, _ = problem()
    with measured() as solves:
        assert J.linearize(m).gradient()
    assert solves["state"].count == STEPS == solves["adjoint"].count
    assert 0 < solves["state"].residual < 1e-12
    J.linearize(m).gradient()
    assert J.forward.counters.krylov_iterations == 4 * STEPS
    assert J.forward.counters.steps == 2 * STEPS


GROWING = {
    "terms": lambda grid: [Diffusion(grid, "D"), Kinetics(grid, ("u",), {"u": "9*s*u"})]
}
DECAYING = {
    "terms": lambda grid: [
        Diffusion(grid, "D"),
        Kinetics(grid, ("u",), {"u": "-400*u**3 - u"}),
    ]
}
BROKEN = {
    "terms": lambda grid: [
        Diffusion(grid, "D"),
        Kinetics(grid, ("u",), {"u": "sqrt(1.2*a - u) + 30*u"}),
    ]
}


@pytest.mark.parametrize(
    "given", [GROWING, DECAYING, BROKEN], ids=["grow", "step", "nan"]
)
def test_what_ends_a_trajectory_is_told_alike(given, monkeypatch):
    def said():
        J, m, _ = problem(
            **given,
            end=3.0,
            evolution={"recipe": "direct", "bound": 50.0},
            trials=lambda grid: [Experiment({"u": "0.4 + 0.3*x"})],
            unknowns=[Unknown("D", "log")],
        )
        J.forward.ran = True
        with pytest.raises(SolverError) as error:
            assert J.linearize(m).value
        return str(error.value)

    found = said()
    one_by_one(monkeypatch)
    assert found == said()


@pytest.mark.parametrize("rate", ["3*u", "-20*u", "0.01*u"])
def test_rates_are_looked_at_as_often(rate, monkeypatch):
    def watched():
        terms = lambda grid: [Diffusion(grid, "D"), Kinetics(grid, ("u",), {"u": rate})]  # noqa: E731
        J, m, _ = problem(
            terms=terms, unknowns=[Unknown("D", "log")], steps=40, end=1.6
        )
        at = J.linearize(m)
        watch = at.linearization.guard.watch
        return watch.looks, watch.start, watch.step, watch.room(), watch.kept

    with monkeypatch.context() as patched:
        calls = Calls(patched)
        found = watched()
        assert sum(calls.forth) == 40 and len(calls.forth) < 20
    one_by_one(monkeypatch)
    for x, y in zip(found, watched(), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-10)

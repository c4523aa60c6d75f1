"""Many fused steps in one call are the same steps, to the last bit."""

import gc

import numpy as np
import pytest
from alike import same
from forward.test_columns import results
from forward.test_evolution_derivatives import objective
from forward.test_fused import (
    HOLES,
    LONG,
    PERIODIC,
    SIDES,
    STRETCHED,
    UNKNOWNS,
    several,
)
from forward.test_fused import VALUES as IN_TIME
from mpi4py import MPI

from npde_opt.errors import InputError, SolverError
from npde_opt.forward import Experiment, Storage, fused_many
from npde_opt.forward.fused_many import ManySteps
from npde_opt.forward.ghosted import Store
from npde_opt.forward.watch import Watch
from npde_opt.observations import snapshots
from npde_opt.parameters import Shared, Unknown
from npde_opt.terms import Diffusion, Kinetics

STEPS = 48
GIVEN = [{"u": {"x-": "1 + y"}, "v": {"y+": "0.3 + x"}}, {"u": {"x-": 0.5}}]
"""Boundary values of each run."""


def problem(
    runs=1,
    numbers=False,
    values=None,
    end=0.04,
    storage=None,
    terms=None,
    species=("u", "v"),
    **given,
):
    """Of two species that react: diffusivities are numbers, or those of test_fused."""
    starts = [{"u": "1 - 0.5*x", "v": "0.3 + 0.1*x"}, {"u": "0.4 + 0.3*x", "v": "0.2"}]
    if len(species) > 2:
        starts = [{**start, "w": "0.5*x"} for start in starts]
    rates = {"u": "F*(1 - u) - u*v**2", "v": "u*v**2 - k*v"}
    shared = [Unknown(n, block=Shared()) for n in ("Du", "Dv", "k")]

    def uniform(grid):
        two = Diffusion(grid, "Du", "u"), Diffusion(grid, "Dv", "v")
        return [*two, Kinetics(grid, ("u", "v"), rates)]

    return objective(
        terms or (uniform if numbers else several),
        [*shared, Unknown("F")] if numbers else [*UNKNOWNS[:-1]],
        given.pop("scheme", "explicit-euler"),
        species,
        end=end,
        steps=STEPS,
        trials=lambda grid: [
            Experiment(start, boundary=values[e] if values else {})
            for e, start in enumerate(starts[:runs])
        ],
        samplings=lambda grid, times: [snapshots(grid, times[[2, 23, 24, -1]], "u*v")],
        storage=storage,
        **{"power": 1.0, **given},
    )


def one_by_one(monkeypatch):
    monkeypatch.setattr(ManySteps, "together", property(lambda self: False))


class Calls:
    """Counts calls of many steps."""

    def __init__(self, monkeypatch):
        self.forth, self.back = list[int](), list[int]()
        forth, back = ManySteps.forth, ManySteps.back

        def counted_forth(stepper, *given):
            found = forth(stepper, *given)
            self.forth.append(found[0])
            return found

        def counted_back(stepper, n, kept, adjoint):
            found = back(stepper, n, kept, adjoint)
            self.back += [len(kept)] if found is not None else []
            return found

        monkeypatch.setattr(ManySteps, "forth", counted_forth)
        monkeypatch.setattr(ManySteps, "back", counted_back)


KINDS = {
    "numbers": {"numbers": True},
    "numbers-periodic": {
        "numbers": True,
        "sides": {f"{a}{s}": "periodic" for a in "xy" for s in "-+"},
    },
    "numbers-columns": {"numbers": True, "runs": 2},
    "faces": {"sides": SIDES},
    "periodic": {"sides": PERIODIC, "runs": 2},
    "values": {"sides": SIDES, "values": GIVEN},
    "values-columns": {"sides": SIDES, "values": GIVEN, "runs": 2},
    "mask": {"sides": SIDES, "edges": STRETCHED, "active": HOLES, "end": 0.01},
    "heun": {"numbers": True, "scheme": "heun"},
    "heun-columns": {
        "scheme": "heun",
        "sides": SIDES,
        "values": GIVEN,
        "runs": 2,
        "edges": STRETCHED,
        "active": HOLES,
        "end": 0.01,
    },
    "single": {"numbers": True, "evolution": {"precision": "single"}},
    "single-heun": {
        "sides": SIDES,
        "scheme": "heun",
        "evolution": {"precision": "single"},
    },
    "line": {"numbers": True, "shape": (11,)},
    "box": {"numbers": True, "shape": (5, 6, 4), "sides": {"z-": "dirichlet"}},
    "long": {"sides": SIDES, "values": GIVEN[:1], "shape": LONG, "end": 1e-3},
    "long-heun": {
        "numbers": True,
        "shape": LONG,
        "scheme": "heun",
        "end": 1e-3,
        "sides": PERIODIC,
    },
    "longer": {"numbers": True, "power": 1.02},
}


@pytest.mark.parametrize("scheme", ["explicit-euler", "heun"])
def test_calls_that_take_long_are_several(scheme, monkeypatch):
    found = results(*problem(scheme=scheme, runs=2))
    calls = Calls(monkeypatch)
    monkeypatch.setattr(fused_many, "VALUES", 5 * 2 * 2 * 72)
    expected = results(*problem(scheme=scheme, runs=2))
    assert max(calls.forth) == 5
    assert same(found, expected)


@pytest.mark.parallel([1, 2, 3, 4])
@pytest.mark.parametrize("kind", KINDS)
def test_many_steps_are_the_single_ones_to_the_last_bit(kind, monkeypatch):
    with monkeypatch.context() as patched:
        calls = Calls(patched)
        found = results(*problem(**KINDS[kind]))
        # Two sweeps back: the adjoint's, and the gradient's of the products.
        assert sum(calls.forth) == STEPS and sum(calls.back) % STEPS == 0
        assert len(calls.back) == 4 * sum(calls.back) // STEPS > 0
        assert max(calls.forth) > 1 or kind == "longer"
    with monkeypatch.context() as patched:
        alone = Calls(patched)
        one_by_one(patched)
        expected = results(*problem(**KINDS[kind]))
        assert not alone.forth and not alone.back
    assert same(found, expected)


def growing(*rates):
    """The first species grows by a fourth a step, another one decays by four tenths."""

    def terms(grid):
        species = ("u", "v", "w")[: len(rates)]
        parts = Diffusion(grid, "Du", "u"), Diffusion(grid, "Dv", "v")
        reaction = dict(zip(species, rates, strict=True))
        return [*parts, Kinetics(grid, species, reaction)]

    return terms


TWO = growing("F*u", "0.2*F*cos(u) - k*v")
THREE = growing("F*u", "0.2*F*cos(u) - k*v", "0.1*F*w + 0.01*v*u")


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.parametrize("size", [8, 70])
@pytest.mark.parametrize(
    "given",
    [
        {},
        {"power": 1.02},
        {"runs": 2},
        {"scheme": "heun"},
        {"evolution": {"precision": "single"}},
        {"active": True},
        {"terms": THREE, "species": ("u", "v", "w")},
        {"calm": True},
        {"calm": True, "scheme": "heun"},
    ],
    ids=[
        "euler",
        "longer",
        "columns",
        "heun",
        "single",
        "mask",
        "three",
        "calm",
        "calm-heun",
    ],
)
def test_rates_are_looked_at_as_often(given, size, monkeypatch):
    """Where the state moves a lot, or so little that looks are due before, in samples of all cells
    and of some."""
    calm = given.get("calm", False)
    growth, decay, least = (1.0, 1.0, 16) if calm else (300.0, 1000.0, 30)

    def watched():
        shape, parts = (size + 1, size), {"terms": TWO, **given}
        parts.pop("calm", None)
        if parts.pop("active", False):
            parts["active"] = np.arange((size + 1) * size).reshape(shape) % 7 > 0
        J, _, _ = problem(numbers=True, shape=shape, **parts)
        m = J.space.from_values({"Du": 1e-4, "Dv": 2e-4, "F": growth, "k": decay})
        looks = list[int]()
        keep, looked = Watch.keep, Watch.looked
        with monkeypatch.context() as patched:
            patched.setattr(
                Watch, "keep", lambda w, *a: [keep(w, *a), looks.append(w.looks)]
            )
            patched.setattr(
                Watch, "looked", lambda w, *a: [looked(w, *a), looks.append(w.looks)]
            )
            watch = J.linearize(m).linearization.guard.watch
        return looks, watch

    often, together = watched()
    assert len(often) < 10
    one_by_one(monkeypatch)
    every, alone = watched()
    assert every == list(range(1, together.looks + 1)) and len(every) > least
    assert together.start == alone.start and together.step == alone.step
    assert np.array_equal(together.kept, alone.kept)
    np.testing.assert_allclose(together.room(), alone.room(), rtol=1e-12)


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.parametrize("scheme", ["explicit-euler", "heun"])
@pytest.mark.parametrize("runs", [1, 2])
def test_what_goes_forward_only_is_the_same(scheme, runs, monkeypatch):
    def run(storage):
        J, m, _ = problem(runs=runs, scheme=scheme, sides=SIDES, storage=storage)
        at = J.linearize(m).linearization
        return [*(d.values for d in at.data), *at.final]

    calls = Calls(monkeypatch)
    forward = run(Storage(forward_only=True))
    assert sum(calls.forth) == STEPS
    kept = run(None)
    one_by_one(monkeypatch)
    alone = run(Storage(forward_only=True))
    assert same(forward, kept)
    assert same(forward, alone)


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.parametrize("units", [3, 9])
def test_steps_between_checkpoints_go_together(units, monkeypatch):
    size = 2 * 9 * 8 * 8
    given = {"sides": SIDES, "storage": units * size}
    calls = Calls(monkeypatch)
    found = results(*problem(**given))
    alone = MPI.COMM_WORLD.size == 1
    assert sum(calls.forth) > STEPS if alone else max(calls.forth) > 1
    one_by_one(monkeypatch)
    expected = results(*problem(**given))
    whole = results(*problem(sides=SIDES))
    for x, y, z in zip(found, expected, whole, strict=True):
        assert np.array_equal(x, y)
        np.testing.assert_allclose(x, z, rtol=1e-12, atol=1e-13)


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.parametrize(
    ("growth", "bound", "wanted"),
    [(100.0, 5.0, "the state grew to"), (1e6, None, "exceeds the stability limit")],
)
@pytest.mark.parametrize("scheme", ["explicit-euler", "heun"])
def test_what_ends_a_trajectory_is_told_of_its_step(
    scheme, growth, bound, wanted, monkeypatch
):
    def said():
        J, _, _ = problem(numbers=True, scheme=scheme, evolution={"bound": bound})
        m = J.space.from_values({"Du": 0.1, "Dv": 0.1, "F": 0.1, "k": -growth})
        with pytest.raises((SolverError, InputError)) as refused:
            J.linearize(m).linearization  # noqa: B018
        return str(refused.value)

    together = said()
    assert wanted in together and " in step " in together
    one_by_one(monkeypatch)
    assert together == said()


@pytest.mark.parallel([1, 2, 3])
def test_values_that_change_in_time_go_step_by_step(monkeypatch):
    calls = Calls(monkeypatch)
    J, m, _ = problem(sides=SIDES, values=IN_TIME)
    J.linearize(m).gradient()
    assert not calls.forth and not calls.back


def test_memory_is_used_again_from_gradient_to_gradient():
    J, m, _ = problem(numbers=True, runs=2)
    free, sizes = Store.of(J.space.grid)._free, []
    for _ in range(4):
        at = J.linearize(m)
        at.gradient()
        at.destroy()
        del at
        gc.collect()
        sizes.append(sum(a.nbytes for arrays in free.values() for a in arrays))
    assert sizes[1] == sizes[-1]


def test_memory_is_free_without_a_collection():
    """The array of a trajectory: garbage in circles would keep it for long."""
    J, m, _ = problem(numbers=True)
    J.linearize(m).destroy()
    gc.collect()
    gc.disable()
    try:
        free, most = Store.of(J.space.grid)._free, 0
        for _ in range(3):
            at = J.linearize(m)
            at.gradient()
            at.destroy()
            del at
            most = max(len(arrays) for key, arrays in free.items() if len(key[0]) == 4)
    finally:
        gc.enable()
    assert most <= 1

"""Several fused steps in one sweep over memory are the single ones, to the last bit, and end at the
same states."""

import numpy as np
import pytest
from forward.test_evolution_derivatives import objective
from forward.test_fused import HOLES, LONG, PERIODIC, SIDES, STRETCHED
from forward.test_fused_many import GIVEN, THREE, TWO, one_by_one, problem
from forward.test_fused_terms import flowing, porous, unknowns

from npde_opt.errors import InputError, SolverError
from npde_opt.forward import Experiment, Storage, fused_waves
from npde_opt.forward.fused_base import Checks
from npde_opt.forward.fused_many import ManySteps
from npde_opt.forward.fused_waves import BUFFERS, Waves
from npde_opt.forward.watch import Watch
from npde_opt.observations import snapshots
from npde_opt.parameters import Shared, Unknown
from npde_opt.terms import Diffusion, Kinetics
from npde_opt.terms.state import distance

ROUND = {f"{a}{s}": "periodic" for a in "xy" for s in "-+"}
ROUND_BOX = {**ROUND, "z-": "periodic", "z+": "periodic"}
COUNT = 13
"""Steps of the loops that are called here."""


def sweeping(monkeypatch, depth):
    """The sizes of sweeps do not depend on the memory; what is returned gets each call's steps."""
    calls = list[int]()
    swept = ManySteps._swept

    def counted(stepper, *given):
        calls.append(swept(stepper, *given))
        return calls[-1]

    monkeypatch.setattr(fused_waves, "depth", lambda state, fields, slabs: depth)
    monkeypatch.setattr(ManySteps, "_swept", counted)
    return calls


def one_species(grid):
    return [Diffusion(grid, "Du", "u"), Kinetics(grid, ("u",), {"u": "F*(1 - u)"})]


def with_terms(terms, **given):
    """A forward run of other terms than those of `problem`."""
    starts = {"u": "1 - 0.5*x", "v": "v0**2"}
    return objective(
        terms,
        unknowns(terms),
        "explicit-euler",
        ("u", "v"),
        end=0.004,
        steps=9,
        trials=lambda grid: [Experiment(starts)],
        samplings=lambda grid, times: [snapshots(grid, times[[4, -1]], "u*v")],
        storage=Storage(forward_only=True),
        **given,
    )


def of_one_species(**given):
    return objective(
        one_species,
        [Unknown("Du", "log", block=Shared()), Unknown("F")],
        "explicit-euler",
        end=0.01,
        steps=9,
        storage=Storage(forward_only=True),
        **given,
    )


def forward_only(**given):
    return problem(storage=Storage(forward_only=True), **given)


def seen(made):
    """Data and the last state of a forward run."""
    J, m, _ = made
    at = J.linearize(m).linearization
    found = [*(d.values for d in at.data), *(u.copy() for u in at.final)]
    J.destroy()
    return found


ROWS = {
    f"{n}-rows-{name}": lambda n=n, sides=sides: forward_only(
        numbers=True, shape=(9, n), sides=sides, end=0.01
    )
    for n in (1, 2, 3, 4, 5)
    for name, sides in (("closed", {}), ("round", ROUND))
}
RUNS = {
    "numbers": lambda: forward_only(numbers=True),
    "numbers-round": lambda: forward_only(numbers=True, sides=ROUND),
    "one": of_one_species,
    "one-round": lambda: of_one_species(sides=ROUND),
    "three": lambda: forward_only(
        numbers=True, terms=THREE, species=("u", "v", "w"), shape=(9, 7)
    ),
    "fields": lambda: forward_only(sides=SIDES),
    "periodic": lambda: forward_only(sides=PERIODIC),
    "values": lambda: forward_only(sides=SIDES, values=GIVEN),
    "mask": lambda: forward_only(sides=SIDES, edges=STRETCHED, active=HOLES, end=0.01),
    "radial": lambda: forward_only(
        edges=STRETCHED, radial=True, active=HOLES, end=0.01
    ),
    "single": lambda: forward_only(numbers=True, evolution={"precision": "single"}),
    "single-fields": lambda: forward_only(
        sides=SIDES, evolution={"precision": "single"}
    ),
    "box": lambda: forward_only(
        numbers=True, shape=(5, 6, 4), sides={"z-": "dirichlet"}
    ),
    "box-round": lambda: forward_only(numbers=True, shape=(5, 6, 4), sides=ROUND_BOX),
    "box-fields": lambda: forward_only(
        shape=(5, 6, 4), sides={**SIDES, "z-": "periodic", "z+": "periodic"}
    ),
    "long": lambda: forward_only(sides=SIDES, values=GIVEN[:1], shape=LONG, end=1e-3),
    "wide": lambda: forward_only(numbers=True, shape=(150, 70), end=1e-4, sides=ROUND),
    "longer": lambda: forward_only(numbers=True, power=1.02),
    "flowing": lambda: with_terms(flowing),
    "flowing-round": lambda: with_terms(flowing, sides=ROUND),
    **ROWS,
}


@pytest.mark.parametrize("depth", [2, 3, 8, 100])
@pytest.mark.parametrize("kind", RUNS)
def test_sweeps_are_single_steps_to_the_last_bit(kind, depth, monkeypatch):
    with monkeypatch.context() as patched:
        calls = sweeping(patched, depth)
        found = seen(RUNS[kind]())
    assert sum(calls) > depth or sum(calls) > 8
    with monkeypatch.context() as patched:
        one_by_one(patched)
        expected = seen(RUNS[kind]())
    assert all(map(np.array_equal, found, expected))
    assert all(np.isfinite(u).all() for u in expected)


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.parametrize(
    "made",
    [
        lambda: forward_only(numbers=True, runs=2),
        lambda: forward_only(numbers=True, scheme="heun"),
        lambda: forward_only(numbers=True, shape=(11,)),
        lambda: with_terms(porous),
    ],
    ids=["columns", "heun", "line", "D(u)"],
)
def test_what_no_sweep_can_do_goes_on_as_before(made, monkeypatch):
    with monkeypatch.context() as patched:
        calls = sweeping(patched, 4)
        found = seen(made())
    assert not calls
    assert all(map(np.array_equal, found, seen(made())))


@pytest.mark.parallel([2, 3])
def test_several_ranks_take_no_sweeps(monkeypatch):
    calls = sweeping(monkeypatch, 4)
    seen(forward_only(numbers=True, shape=(9, 12)))
    assert not calls


class Loops:
    """The loop of single steps and that of sweeps, from one state, of which u grows by a fourth a
    step."""

    def __init__(self, shape=(9, 8), longer=None, **given):
        self.J, _, _ = forward_only(numbers=True, terms=TWO, shape=shape, **given)
        values = {"Du": 1e-4, "Dv": 2e-4, "F": 300.0, "k": 1000.0}
        m = self.J.space.from_values(values)
        at = self.J.linearize(m).linearization
        self.stepper = at.batches[0].stepper
        self.u = self.stepper.taken(at.final[0].copy())
        self.dts = np.full(COUNT, 1e-3)
        if longer is not None:
            self.dts[longer:] *= 1.01

    def checks(self, most=np.inf, room=1e9, due=1000, fastest=0.0, longest=1000):
        """Looks of a sample of the first state, which may move by `room` of its size."""
        u, whole = self.u, self.stepper.store.around(self.u)
        every = distance(u[0].size)
        sample = self.stepper._sampled(u, whole, 0)
        places = np.zeros(u[0].size // every + 1, np.int64)
        kept = np.zeros((len(u), len(places)), u.dtype)
        places[: len(sample)] = sample
        kept[:, : len(sample)] = whole.reshape(len(u), -1)[:, sample]
        return Checks(
            most,
            places,
            kept,
            np.full(len(u), room * np.abs(u).max()),
            np.zeros(len(u)),
            np.array([0, 1, due, len(sample)]),
            np.array([self.dts[0], 0.5]),
            np.array([fastest, fastest, 1.0, longest]),
            np.zeros(len(u)),
            every,
        )

    def single(self, count=COUNT, **given):
        """(Steps, the last two states, all that was found)."""
        rows, states = self.stepper._rows(self.u, 2)
        checks = self.checks(**given)
        whole = self.stepper._whole(0, 0, self.u)
        done = self.stepper._forth(whole, rows, self.dts[:count], 0, False, checks)
        last = [states[done % 2] if done > 1 else self.u, states[(done - 1) % 2]]
        return done, [u.copy() for u in last], [*checks, self.stepper._squares.copy()]

    def sweeps(self, depth, count=COUNT, **given):
        rows, states = self.stepper._rows(self.u, BUFFERS)
        states[1][...] = self.u
        whole = self.stepper._whole(0, 0, states[1])
        checks, waves = self.checks(**given), Waves.of(depth, self.u.shape[:0:-1])
        done = self.stepper._swept(whole, rows, self.dts[:count], 1, checks, waves)
        last = [states[i].copy() for i in waves.last]
        return done, last, [*checks, self.stepper._squares.copy()]

    def compare(self, depth, **given):
        """How many steps there were."""
        (done, last, found), (steps, states, all_found) = (
            self.sweeps(depth, **given),
            self.single(**given),
        )
        assert done == steps
        for x, y in zip([*last, *found], [*states, *all_found], strict=True):
            assert np.array_equal(x, y, equal_nan=True)
        return done


@pytest.mark.parametrize("depth", [2, 3, 4, 8])
@pytest.mark.parametrize("shape", [(9, 8), (70, 31), (5, 4, 3)], ids=str)
def test_sweeps_end_at_the_same_states(shape, depth):
    """Wherever in a sweep something is found."""
    loops = Loops(shape)
    norms = [float((loops.single(count)[1][1] ** 2).sum()) for count in range(1, COUNT)]
    assert norms == sorted(norms)
    for at, norm in enumerate(norms, 1):
        # Too large, beside a state that moves or not.
        assert loops.compare(depth, most=0.999 * norm) == at
        loops.compare(depth, most=0.999 * norm, room=0.3)
        # A look is due, after which all goes on, or the loop ends.
        assert loops.compare(depth, due=at) == COUNT
        assert loops.compare(depth, due=at, longest=3) == COUNT
        assert loops.compare(depth, due=at, fastest=1e6) == at
        assert loops.compare(depth, count=at) == at
    ends = set[int]()
    for room in np.geomspace(0.1, 20, 40):
        # Looks where values moved by so much, or an end.
        assert loops.compare(depth, room=room) == COUNT
        ends.add(loops.compare(depth, room=room, fastest=1e6))
    assert len(ends) > 8


@pytest.mark.parametrize("longer", range(1, COUNT))
def test_a_longer_step_is_looked_at_in_a_sweep(longer):
    loops = Loops(longer=longer)
    for depth in (2, 3, 8):
        assert loops.compare(depth) == COUNT
        assert loops.compare(depth, fastest=1e6) == longer


def test_what_is_no_number_ends_a_sweep():
    loops = Loops()
    for cell in ((0, 0), (4, 3), (8, 7)):
        loops.u[0][cell] = np.nan
        assert loops.compare(8) == 1
        loops.u[0][cell] = 1.0


@pytest.mark.parametrize("depth", [2, 4, 8])
@pytest.mark.parametrize(
    ("growth", "bound", "wanted"),
    [
        (100.0, 3.0, "the state grew to"),
        (100.0, 5.0, "the state grew to"),
        (1e6, None, "exceeds the stability limit"),
    ],
)
def test_what_ends_a_run_is_told_of_its_step(growth, bound, wanted, depth, monkeypatch):
    def said():
        J, _, _ = forward_only(numbers=True, evolution={"bound": bound})
        m = J.space.from_values({"Du": 0.1, "Dv": 0.1, "F": 0.1, "k": -growth})
        with pytest.raises((SolverError, InputError)) as refused:
            J.linearize(m).linearization  # noqa: B018
        return str(refused.value)

    with monkeypatch.context() as patched:
        sweeping(patched, depth)
        together = said()
    assert wanted in together and " in step " in together
    one_by_one(monkeypatch)
    assert together == said()


@pytest.mark.parametrize("depth", [2, 8])
@pytest.mark.parametrize("size", [8, 70])
def test_rates_are_looked_at_as_often_in_sweeps(size, depth, monkeypatch):
    def watched():
        J, _, _ = forward_only(numbers=True, shape=(size + 1, size), terms=TWO)
        values = {"Du": 1e-4, "Dv": 2e-4, "F": 300.0, "k": 1000.0}
        return J.linearize(J.space.from_values(values)).linearization.guard.watch

    with monkeypatch.context() as patched:
        assert sweeping(patched, depth) == []
        together: Watch = watched()
    one_by_one(monkeypatch)
    alone = watched()
    assert together.looks == alone.looks > 30
    assert together.start == alone.start and together.step == alone.step
    assert np.array_equal(together.kept, alone.kept)


def test_sweeps_are_for_what_does_not_fit_into_the_cache():
    million = 1024**2
    state, fields = 16 * million, 16 * million
    assert fused_waves.depth(state, fields, 1024) == max(fused_waves.DEPTHS)
    assert fused_waves.depth(state // 64, fields // 64, 128) == 1
    # Slabs of a box that are too large for several.
    assert fused_waves.depth(256 * million, 0, 16) == 1
    assert 1 < fused_waves.depth(16 * million, 0, 64) < max(fused_waves.DEPTHS)

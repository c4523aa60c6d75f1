"""Experiments that run as columns of one state are those that run by themselves."""

import numpy as np
import pytest
from forward.test_evolution_derivatives import (
    SHAPE,
    check,
    gray_scott,
    objective,
    tight,  # noqa: F401
)
from mpi4py import MPI

from npde_opt.errors import InputError, SolverError
from npde_opt.forward import Evolution, Experiment, Storage
from npde_opt.forward import columns as together
from npde_opt.forward.columns import Batch
from npde_opt.linear import factored
from npde_opt.observations import snapshots
from npde_opt.parameters import Shared, Unknown
from npde_opt.terms import (
    Advection,
    Convolution,
    Diffusion,
    Kinetics,
    NonlinearDiffusion,
    Reaction,
    Source,
    TensorDiffusion,
)

UNKNOWNS = [
    Unknown("Du", "log", block=Shared()),
    Unknown("Dv", block=Shared()),
    Unknown("F"),
    Unknown("k", block=Shared()),
    Unknown("v0"),
]


def columns(
    experiments,
    shape=SHAPE,
    sides=None,
    observed="u*v",
    storage=None,
    known=None,
    unknowns=UNKNOWNS,
):
    return objective(
        gray_scott,
        unknowns,
        "explicit-euler",
        ("u", "v"),
        shape=shape,
        sides=sides,
        end=0.008,
        storage=storage,
        known=known,
        trials=experiments,
        samplings=lambda grid, times: [snapshots(grid, times[[2, -1]], observed)],
    )


def three(grid):
    """The second has steps of its own."""
    source = Source(grid, ("u", "v"), "u", "x")
    return [
        Experiment({"u": "1 - 0.5*x", "v": "v0**2"}),
        Experiment({"u": "1 - 0.5*y", "v": "v0"}, [source]),
        Experiment({"u": "0.7 + 0.2*y", "v": "v0"}),
        Experiment(
            {"u": 0.9, "v": "0.3*v0"}, samplings=[snapshots(grid, [0.004], "v")]
        ),
    ]


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.parametrize(
    "shape, sides",
    [((9, 8), {"x-": "periodic", "x+": "periodic"}), ((11,), {}), ((5, 6, 4), {})],
)
def test_columns_are_experiments(shape, sides, monkeypatch):
    """Data, gradient and Hessian products beside those of assembled steps, one experiment at a
    time."""
    found = []
    for fused in (True, False):
        J, m, dm = columns(one_axis(three, len(shape)), shape, sides)
        J.forward.fused = fused
        monkeypatch.setattr(together, "CELLS", 0 if not fused else together.CELLS)
        lin = J.linearize(m).linearization
        expected = [(0, 2, 3), (1,)] if fused else [(0,), (1,), (2,), (3,)]
        assert [b.members for b in lin.batches] == expected
        found.append(results(J, m, dm))
        check(J, m, dm) if fused else J.destroy()
    compare(*found)


def results(J, m, dm):
    """Data, gradient, Hessian and Gauss-Newton products, and states."""
    at, h, gn = J.linearize(m), J.create_vec(), J.create_vec()
    lin = at.linearization
    at.hessian(dm, h)
    at.hessian(dm, gn, True)
    data = [d.values for d in lin.data]
    vecs = [at.gradient(), h, gn]
    states = [u for e in lin.members for u in [*lin.states(e), lin.final[e]]]
    return [*data, *(v.getArray().copy() for v in vecs), *states]


def compare(found, expected, rtol=1e-11):
    for x, y in zip(found, expected, strict=True):
        np.testing.assert_allclose(
            x, y, rtol=rtol, atol=0.1 * rtol * np.abs(y).max(initial=1)
        )


def driven(grid):
    """Nothing but the operators is common. The last one's boundary values are unknown: it runs
    alone."""
    u = {"u": "0.3 + 0.4*s*x"}
    source = Source(grid, ("u",), "u", "r*x", "h", [0.0, 0.004])
    return [
        Experiment(u),
        Experiment(u, [source], {"x-": 0.3, "y+": 0.2}),
        Experiment({"u": 0.4}, load=np.full(grid.local_shape, 0.1)),
        Experiment({"u": "s*y"}, boundary={"x-": "y + 9*t", "x+": "r*y*t"}),
        Experiment({"u": 0.4}, boundary={"x-": "s*y"}),
    ]


def fisher(grid):
    drift = Advection(grid, ("0.3*s", 0.1), conservative=True)
    spread = TensorDiffusion(grid, (("D", "D/4"), ("D/4", "D + 0.1*s")))
    linear = [spread, drift, Reaction(grid, "c")]
    return [*linear, Kinetics(grid, ("u",), "fisher-kpp")]


def mask():
    active = np.ones(SHAPE, bool)
    active[:3, -2:] = active[4, 3] = False
    return active


DRIVEN = {
    "terms": fisher,
    "unknowns": [
        Unknown("D", "log"),
        *(Unknown(n, block=Shared()) for n in "rs"),
        Unknown("c"),
    ]
    + [Unknown("h", block=Shared(2))],
    "known": {"K": 1.2},
    "trials": driven,
    "sides": {"x-": "dirichlet", "x+": "neumann"},
    "active": mask(),
    "samplings": lambda grid, times: [snapshots(grid, times[[2, -1]], "u**2")],
    "end": 0.0067,
}


def several(*initial):
    return lambda grid: [Experiment(given) for given in initial]


POROUS = {
    "terms": lambda grid: [
        NonlinearDiffusion(grid, ("u",), "u", "D*(u/K)**2 + 0.01*c*g**2"),
        Kinetics(grid, ("u",), "fisher-kpp"),
    ],
    "unknowns": [Unknown("D", "log"), *(Unknown(n, block=Shared()) for n in "Krc")],
    "trials": several({"u": "0.3 + 0.4*x"}, {"u": "0.5 - 0.2*y"}, {"u": 0.4}),
    "sides": {"x-": "dirichlet"},
    "active": mask(),
    "samplings": DRIVEN["samplings"],
    "end": 0.0004,
}
COUPLED = {
    "terms": lambda grid: [
        Diffusion(grid, "D", "u"),
        Convolution(grid, {(0, 0): "w", (1, 0): 0.5, (2, 1): "w"}, ("u", "v")),
        Reaction(grid, "c", "v"),
    ],
    "unknowns": [Unknown("D", "log"), Unknown("w"), Unknown("c")],
    "species": ("u", "v"),
    "trials": several({"u": "x", "v": "y"}, {"u": "y", "v": 1.0}, {"v": "x*y"}),
}
WAVE = {
    "terms": lambda grid: [Diffusion(grid, "D"), Reaction(grid, "V")],
    "unknowns": [Unknown("D", "log", block=Shared()), Unknown("V")],
    "species": ("re", "im"),
    "gamma": 1j,
    "trials": several({"re": "x", "im": "y"}, {"re": "y"}, {"im": "x*y"}),
    "end": 0.01,
}


def one_state_and_each(scheme, problem, monkeypatch):
    """The problem with experiments as columns, and what both ways give."""
    found = []
    for cells in (0, together.CELLS):
        monkeypatch.setattr(together, "CELLS", cells)
        J, m, dm = objective(scheme=scheme, **problem)
        batches = J.linearize(m).linearization.batches
        alone = 1 + ("h" in J.forward.space.blocks)
        assert len(batches) == (alone if cells else len(J.forward.experiments))
        found.append(results(J, m, dm))
    return (J, m, dm), found


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.parametrize(
    "scheme, problem", [("heun", DRIVEN), ("crank-nicolson", COUPLED)]
)
def test_assembled_columns_are_experiments(scheme, problem, monkeypatch):
    """With all that may drive them, and systems that are solved for together."""
    made, found = one_state_and_each(scheme, problem, monkeypatch)
    compare(*found)
    check(*made)


@pytest.mark.parallel([1, 2])
def test_imex_columns_are_experiments(monkeypatch):
    made, found = one_state_and_each("imex-euler", DRIVEN | {"steps": 3}, monkeypatch)
    compare(*found)
    check(*made)


@pytest.mark.parametrize(
    "scheme, problem, small",
    [
        ("ars222", DRIVEN, True),
        ("ars222", POROUS, True),
        ("imex-euler", DRIVEN, False),
        ("backward-euler", COUPLED, False),
        ("crank-nicolson", WAVE, True),
        ("crank-nicolson", WAVE, False),
    ],
)
def test_columns_of_more_schemes_and_solvers(scheme, problem, small, monkeypatch):
    """Systems that are not small are solved for one by one."""
    monkeypatch.setattr(factored, "SHARE", 256 if small else 0)
    (J, _, _), found = one_state_and_each(scheme, problem, monkeypatch)
    compare(*found)
    J.destroy()


def test_columns_are_as_many_as_fit(monkeypatch):
    monkeypatch.setattr(together, "CELLS", 2 * 72 + 1)
    J, m, _ = objective(**COUPLED, scheme="heun", end=0.003)
    members = [b.members for b in J.linearize(m).linearization.batches]
    assert members == [(0, 1), (2,)]
    J.destroy()


def one_axis(experiments, dim):
    """Without y where there is none."""

    def made(grid):
        found = experiments(grid)
        if dim == 1:
            for e in found:
                e.initial["u"] = str(e.initial["u"]).replace("y", "x")
        return found

    return made


@pytest.mark.parallel([1, 2])
def test_columns_within_a_budget(tmp_path):
    """Checkpoints in memory and on disk of columns: the same gradient, and steps counted an
    experiment."""
    found = []
    state = 2 * 8 * SHAPE[0] * SHAPE[1] // MPI.COMM_WORLD.size * 1.5
    for memory, disk in ((None, 0.0), (2 * 4 * state, 0.0), (4 * state, 2 * 4 * state)):
        J, m, dm = columns(three)
        J.forward._plan(Storage(memory, disk, str(tmp_path)))
        at, h = J.linearize(m), J.create_vec()
        g = at.gradient()
        steps = J.forward.times.size - 1
        assert J.forward.counters.steps == round(
            4 * steps * J.forward.storage.predicted
        )
        at.hessian(dm, h)
        found.append([v.getArray().copy() for v in (g, h)])
        at.destroy()
        J.destroy()
    assert not any(tmp_path.iterdir())
    for other in found[1:]:
        for x, y in zip(found[0], other, strict=True):
            np.testing.assert_allclose(
                y, x, rtol=1e-13, atol=1e-13 * np.abs(x).max(initial=1)
            )


@pytest.mark.parallel([1, 2])
def test_a_column_that_is_no_number_ends_the_run():
    """sqrt(-1) in one of three experiments."""
    rates = [Experiment({"u": 1.0, "v": v}) for v in (0.2, -1.0, 0.3)]
    from npde_opt.terms import Diffusion, Kinetics

    J, m, _ = objective(
        lambda g: [
            Diffusion(g, "D", "u"),
            Kinetics(g, ("u", "v"), {"u": "-k*sqrt(v)"}),
        ],
        [Unknown("k", block=Shared())],
        "explicit-euler",
        ("u", "v"),
        known={"D": 0.1},
        trials=lambda grid: rates,
        samplings=lambda grid, times: [snapshots(grid, times[[-1]], "u")],
    )
    with pytest.raises(
        SolverError,
        match=f"rate of u is not finite in {SHAPE[0] * SHAPE[1]} cells in step 1",
    ):
        J.linearize(m).gradient()


@pytest.mark.parallel([2, 3])
def test_a_flux_through_one_side_is_a_load_on_all_ranks():
    """Ranks away from the side would take other steps than those at it."""
    J, m, _ = columns(
        lambda grid: [Experiment({"u": 1.0, "v": "v0"}, boundary={"u": {"x-": 2.0}})]
    )
    at = J.linearize(m)
    assert (
        np.isfinite(at.value)
        and type(at.linearization.batches[0].stepper).__name__ == "Stepper"
    )
    J.destroy()


def alike(grid):
    return [Experiment({"u": f"1 - {a}*x", "v": "v0"}) for a in (0.3, 0.5)]


@pytest.mark.parallel([1, 2])
@pytest.mark.parametrize("number", [1, 2])
def test_single_precision(number):
    """States, increments and adjoints of 32 bits: derivatives to six digits."""
    found = []
    for dtype in (np.float32, np.float64):
        J, m, dm = columns(lambda grid: alike(grid)[:number], observed="v")
        J.forward.dtype = np.dtype(dtype)
        values = results(J, m, dm)
        assert J.linearize(m).linearization.final[0].dtype == dtype
        found.append(values)
        J.destroy()
    for x, y in zip(*found, strict=True):
        assert np.abs(x - y).max(initial=0) <= 1e-6 * np.abs(y).max(initial=0)


def test_single_precision_is_of_fused_steps():
    J, m, _ = objective(**DRIVEN, scheme="heun")
    J.forward.dtype = np.dtype(np.float32)
    with pytest.raises(
        InputError, match="precision: got single; allowed: double but for"
    ):
        J.linearize(m).gradient()
    f = J.forward
    wrong = f.space, f.equation, {"K": 1.2}, f.experiments, (), f.scheme, f.times
    with pytest.raises(
        InputError, match="precision: got 'half'; allowed: double, single"
    ):
        Evolution(*wrong, precision="half")
    J.destroy()


def test_a_column_is_a_view_that_is_stored_samples_fastest():
    states = [np.full((2, 3, 4), float(s)).transpose(0, 2, 1) for s in range(5)]
    batch = Batch((1, 4, 5, 7, 8), None)
    whole = batch.join(states)
    assert whole.shape == (2, 5, 4, 3) and whole.strides[1] == 8
    assert whole.transpose(0, 3, 2, 1).flags.c_contiguous
    for e, column in batch.each(whole):
        column += e
    expected = np.arange(5.0) + [1, 4, 5, 7, 8]
    assert np.array_equal(whole[0, :, 0, 0], expected)

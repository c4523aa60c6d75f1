"""Experiments that run as columns of one state are those that run by themselves."""

import numpy as np
import pytest
from forward.test_evolution_derivatives import SHAPE, check, gray_scott, objective, tight  # noqa: F401
from mpi4py import MPI

from npde_opt.errors import SolverError
from npde_opt.forward import Experiment, Storage
from npde_opt.forward.columns import Batch
from npde_opt.observations import snapshots
from npde_opt.parameters import Shared, Unknown
from npde_opt.terms import Source

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
        Experiment({"u": 0.9, "v": "0.3*v0"}, samplings=[snapshots(grid, [0.004], "v")]),
    ]


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.parametrize(
    "shape, sides", [((9, 8), {"x-": "periodic", "x+": "periodic"}), ((11,), {}), ((5, 6, 4), {})]
)
def test_columns_are_experiments(shape, sides):
    """Data, gradient and Hessian products beside those of assembled steps, one experiment at a
    time."""
    found = []
    for fused in (True, False):
        J, m, dm = columns(one_axis(three, len(shape)), shape, sides)
        J.forward.fused = fused
        at, h, gn = J.linearize(m), J.create_vec(), J.create_vec()
        lin = at.linearization
        expected = [(0, 2, 3), (1,)] if fused else [(0,), (1,), (2,), (3,)]
        assert [b.members for b in lin.batches] == expected
        at.hessian(dm, h)
        at.hessian(dm, gn, True)
        vecs = [*lin.data, at.gradient(), h, gn]
        states = [u for e in range(4) for u in [*lin.states(e), lin.final[e]]]
        found.append([*(v.getArray().copy() for v in vecs), *states])
        check(J, m, dm) if fused else J.destroy()
    for x, y in zip(*found, strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-11, atol=1e-12 * np.abs(x).max(initial=1))


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
        assert J.forward.counters.steps == round(4 * steps * J.forward.storage.predicted)
        at.hessian(dm, h)
        found.append([v.getArray().copy() for v in (g, h)])
        at.destroy()
        J.destroy()
    assert not any(tmp_path.iterdir())
    for other in found[1:]:
        for x, y in zip(found[0], other, strict=True):
            np.testing.assert_allclose(y, x, rtol=1e-13, atol=1e-13 * np.abs(x).max(initial=1))


@pytest.mark.parallel([1, 2])
def test_a_column_that_is_no_number_ends_the_run():
    """sqrt(-1) in one of three experiments."""
    rates = [Experiment({"u": 1.0, "v": v}) for v in (0.2, -1.0, 0.3)]
    from npde_opt.terms import Diffusion, Kinetics

    J, m, _ = objective(
        lambda g: [Diffusion(g, "D", "u"), Kinetics(g, ("u", "v"), {"u": "-k*sqrt(v)"})],
        [Unknown("k", block=Shared())],
        "explicit-euler",
        ("u", "v"),
        known={"D": 0.1},
        trials=lambda grid: rates,
        samplings=lambda grid, times: [snapshots(grid, times[[-1]], "u")],
    )
    with pytest.raises(
        SolverError, match=f"rate of u is not finite in {SHAPE[0] * SHAPE[1]} cells in step 1"
    ):
        J.linearize(m).gradient()


@pytest.mark.parallel([2, 3])
def test_a_flux_through_one_side_is_a_load_on_all_ranks():
    """Ranks away from the side would take other steps than those at it."""
    J, m, _ = columns(lambda grid: [Experiment({"u": 1.0, "v": "v0"}, boundary={"u": {"x-": 2.0}})])
    at = J.linearize(m)
    assert np.isfinite(at.value) and type(at.linearization.batches[0].stepper).__name__ == "Stepper"
    J.destroy()


def test_a_column_is_a_view_that_is_stored_samples_fastest():
    states = [np.full((2, 3, 4), float(s)).transpose(0, 2, 1) for s in range(5)]
    batch = Batch((1, 4, 5, 7, 8), None, frozenset({2}))
    whole = batch.join(states)
    assert whole.shape == (2, 5, 4, 3) and whole.strides[1] == 8
    assert whole.transpose(0, 3, 2, 1).flags.c_contiguous
    for e, column in batch.each(whole):
        column += e
    expected = np.arange(5.0) + [1, 4, 5, 7, 8]
    assert np.array_equal(whole[0, :, 0, 0], expected)
    assert list(batch.seen(1, whole)) == [] and len(list(batch.seen(2, whole))) == 5

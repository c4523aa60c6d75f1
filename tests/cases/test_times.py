"""Steps of a case: every kind of `times`, pulses between them, chosen by accuracy, alike in all
groups of experiments."""

from pathlib import Path

import numpy as np
import pytest
from mpi4py import MPI

from npde_opt.cases import load_case
from npde_opt.cases.equation_tables import AccurateSteps, EqualSteps
from npde_opt.ensemble import Ensemble
from npde_opt.errors import InputError

WELLS = Path(__file__).parents[2] / "meshes" / "quantum_wells.toml"
PULSE = """
[grid]
shape = [4]
[equation]
terms = [{{ diffusion = "D" }}, {{ source = "q", {history} }}]
known = {{ D = 0.1 }}
[time]
times = {times}
scheme = "{scheme}"
[[unknown]]
name = "q"
kind = "scalar"
transform = "identity"
initial = 1.0
[[experiment]]
[[experiment]]
[[experiment.sources]]
shape = "q"
history = [0.0, 8.0, 0.0]
times = [0.0, 0.22, 0.345]
interpolation = "steps"
[[observation]]
times = [0.333, 1.0]
points = [[0.5]]
data = [{{ file = "one.csv", column = 0 }}, {{ file = "one.csv", column = 1 }}]
sigma = 0.01
"""
LINEAR = "history = [0.0, 50.0, 0.0], times = [0.41, 0.42, 0.45]"
STEPS = "history = [50.0, 0.0], times = [0.41, 0.43, 0.47], interpolation = 'steps'"
TIMES = [
    "{ end = 1.0, steps = 100 }",
    "{ end = 1.0, first = 0.02, repeats = 3 }",
    "[0.0, 0.7, 1.0]",
    "{ end = 1.0, tolerance = 1e-3 }",
]
EXPLICIT = ["explicit-euler", "heun"]
IMPLICIT = ["imex-euler", "imex-theta", "ars222", "crank-nicolson", "backward-euler"]


def built(folder, comm, groups=1, history=LINEAR, times=TIMES[0], scheme="ars222"):
    if comm.rank == 0:
        (folder / "one.csv").write_text("u,w\n0.0,0.904\n1.0,2.0\n")
        text = PULSE.format(history=history, times=times, scheme=scheme)
        (folder / "pulse.toml").write_text(text)
    comm.Barrier()
    case = load_case(folder / "pulse.toml", comm)
    ensemble = Ensemble.split(comm, groups, case.experiment_count)
    case.prepare(ensemble)
    return case.build(case.grid(ensemble.space), ensemble)


@pytest.mark.parametrize("scheme", [*EXPLICIT, *IMPLICIT])
@pytest.mark.parametrize(
    ("history", "area"), [(LINEAR.replace("50.0", "100.0"), 2.0), (STEPS, 1.0)]
)
def test_pulses_are_seen_with_all_kinds_of_times(history, area, scheme, tmp_path):
    for times in TIMES[:1] if scheme in EXPLICIT else TIMES:
        J, m = built(
            tmp_path, MPI.COMM_SELF, history=history, times=times, scheme=scheme
        )
        at = J.linearize(m)
        found = np.concatenate([d.values.T.ravel() for d in at.linearization.data])
        np.testing.assert_allclose(found, [0.0, area, 8 * 0.113, 1.0 + area], atol=1e-7)
        at.destroy()
        J.destroy()


@pytest.mark.parallel([2])
def test_groups_take_the_same_steps(tmp_path):
    folder = MPI.COMM_WORLD.bcast(tmp_path, root=0)
    found = []
    for groups in (1, 2):
        J, m = built(folder, MPI.COMM_WORLD, groups, times="{ end = 1.0, steps = 10 }")
        m.shift(0.5)  # away from where the data are fitted to the last digit
        at = J.linearize(m)
        found.append([J.forward.times.tolist(), at.value, at.gradient().norm()])
        at.destroy()
        J.destroy()
    assert found[0][0] == found[1][0] and len(found[0][0]) == 11 + 3 + 2 + 1
    np.testing.assert_allclose(found[0][1:], found[1][1:], rtol=1e-10)


def wells():
    """Two wells on few cells, observed at 0.3 and 0.6."""
    case = load_case(WELLS, MPI.COMM_WORLD, cells=(14, 12))
    case.table.observation[0].times = [0.3, 0.6]
    return case


def chosen(tolerance, comm, groups):
    case = wells()
    case.table.time.times = AccurateSteps(end=0.6, tolerance=tolerance)
    case.choose_steps(Ensemble.split(comm, groups, case.experiment_count))
    return case.times().size - 1


@pytest.mark.parallel([1, 2])
def test_steps_are_chosen_by_accuracy():
    """Of the data of all groups, of which each rank has its own."""
    world, sizes = MPI.COMM_WORLD, []
    for tolerance in (1e-2, 1e-5):
        sizes.append(chosen(tolerance, world, world.size))
        assert sizes[-1] == chosen(tolerance, world, 1)
        assert sizes[-1] == chosen(tolerance, MPI.COMM_SELF, 1)
    assert 8 <= sizes[0] < sizes[1] <= 512


def test_what_is_wrong_with_steps_is_told_by_its_key():
    case = wells()
    case.table.time.times = EqualSteps(end=-1.0, steps=8)
    said = "time.times: got 8 steps from 0 to -1; allowed: an end after the start"
    with pytest.raises(InputError, match=said):
        case.times()
    case.table.time.times = AccurateSteps(end=0.6, tolerance=1e-2)
    case.table.time.scheme = "rk4"
    with pytest.raises(InputError, match="time.scheme: got 'rk4'; allowed: expl"):
        case.choose_steps(Ensemble.split(MPI.COMM_WORLD, 1, case.experiment_count))


def test_an_observation_after_the_end_is_said_where_steps_are_chosen():
    case = wells()
    case.table.time.times = AccurateSteps(end=0.5, tolerance=1e-2)
    with pytest.raises(InputError, match=r"observation\[0\].times: got 0.6"):
        case.choose_steps(Ensemble.split(MPI.COMM_WORLD, 1, case.experiment_count))

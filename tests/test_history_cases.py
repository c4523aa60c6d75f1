"""Cases with pulses between their steps: every kind of `times`, step-wise histories, groups of experiments."""

import numpy as np
import pytest
from mpi4py import MPI

from npde_opt.cases import load_case
from npde_opt.cases.evolution_data import floor, spread
from npde_opt.ensemble import Ensemble

PULSE = """
[grid]
shape = [4]
[evolution]
terms = [{{ diffusion = "D" }}, {{ source = "q", {history} }}]
known = {{ D = 0.1 }}
times = {times}
scheme = "{scheme}"
[[unknown]]
name = "q"
kind = "scalar"
transform = "identity"
initial = 1.0
[[experiment]]
initial = {{ u = 0.0 }}
[[experiment]]
sources = [{{ shape = "q", history = [0.0, 8.0, 0.0], times = [0.0, 0.22, 0.345], interpolation = "steps" }}]
[[observation]]
times = [0.333, 1.0]
points = [[0.5]]
data = [{{ file = "one.csv", column = 0 }}, {{ file = "one.csv", column = 1 }}]
sigma = 0.01
"""
LINEAR = "history = [0.0, 50.0, 0.0], times = [0.41, 0.42, 0.45]"
STEPS = "history = [50.0, 0.0], times = [0.41, 0.43, 0.47], interpolation = 'steps'"
TIMES = ["{ end = 1.0, steps = 100 }", "{ end = 1.0, first = 0.02, repeats = 3 }", "[0.0, 0.7, 1.0]",
         "{ end = 1.0, tolerance = 1e-3 }"]


def built(folder, comm, groups=1, **given):
    if comm.rank == 0:
        (folder / "one.csv").write_text("u,w\n0.0,0.904\n1.0,2.0\n")
        (folder / "pulse.toml").write_text(PULSE.format(**({"history": LINEAR, "times": TIMES[0], "scheme": "ars222"} | given)))
    comm.Barrier()
    case = load_case(folder / "pulse.toml", comm)
    ensemble = Ensemble.split(comm, groups, case.experiment_count)
    case.prepare(ensemble)
    J, m = case.build(case.grid(ensemble.space), ensemble)
    return case, J, m


@pytest.mark.parametrize("scheme", ["explicit-euler", "heun", "imex-euler", "imex-theta", "ars222", "crank-nicolson",
                                    "backward-euler"])
@pytest.mark.parametrize("history", [LINEAR, STEPS])
def test_pulses_are_seen_with_all_kinds_of_times(history, scheme, tmp_path):
    for times in TIMES if scheme not in ("explicit-euler", "heun") else TIMES[:1]:
        _, J, m = built(tmp_path, MPI.COMM_SELF, history=history.replace("50.0", "100.0" if history == LINEAR else "50.0"),
                        times=times, scheme=scheme)
        at = J.linearize(m)
        area = 2.0 if history == LINEAR else 1.0
        found = np.concatenate([d.getArray() for d in at.linearization.data])
        np.testing.assert_allclose(found, [0.0, area, 8 * 0.113, 1.0 + area], atol=1e-7)
        at.destroy()
        J.destroy()


@pytest.mark.parallel([2])
def test_groups_take_the_same_steps(tmp_path):
    folder = MPI.COMM_WORLD.bcast(tmp_path, root=0)
    found = []
    for groups in (1, 2):
        _, J, m = built(folder, MPI.COMM_WORLD, groups, times="{ end = 1.0, steps = 10 }")
        at = J.linearize(m)
        found.append([J.forward.times.tolist(), at.value, at.gradient().norm()])
        at.destroy()
        J.destroy()
    assert found[0][0] == found[1][0] and len(found[0][0]) == 11 + 3 + 2 + 1
    np.testing.assert_allclose(found[0][1:], found[1][1:], rtol=1e-10)


def test_noise_of_proportional_errors_has_their_spread(tmp_path):
    for unit in (1.0, 1e12):
        case, J, _ = built(tmp_path, MPI.COMM_SELF)
        case.table["misfit"] |= {"kind": "proportional", "power": 1.0}
        values = unit * np.array([1e-9, 0.5, 2.0])
        assert floor(case, [values]) == pytest.approx(2e-3 * unit)
        np.testing.assert_allclose(spread(case, np.full(3, 0.1), values), 0.1 * unit * np.array([2e-3, 0.5, 2.0]))
        J.destroy()

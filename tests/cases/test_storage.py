"""A storage field in front of du/dt, as cases say it."""

import numpy as np
import pytest
from fits import case_of, identified
from mpi4py import MPI

from npde_opt.cases import load_case
from npde_opt.ensemble import Ensemble
from npde_opt.errors import InputError
from npde_opt.forward import storage
from npde_opt.forward.storage import Storage, Sweep

CASE = """
[grid]
shape = [6, 4]
[boundaries]
"x-" = "dirichlet"
[equation]
known = { D = 1.0, phi = { expression = "1 + x" } }
storage = STORAGE
recipe = "direct"
[time]
scheme = "crank-nicolson"
times = { end = 1.0, steps = 4 }
[[unknown]]
name = "c"
kind = "scalar"
initial = 1.0
truth = 2.0
[[experiment]]
initial = { u = "x*c*phi" }
[[observation]]
points = [[0.2, 0.7], [0.8, 0.5], [0.5, 0.1]]
times = [0.25, 0.5, 1.0]
[simulation]
refine = 1
steps = 1
"""


def state(tmp_path, given):
    path = tmp_path / "case.toml"
    path.write_text(CASE.replace("STORAGE", given))
    case = load_case(path, MPI.COMM_SELF)
    on = case.on(case.grid(MPI.COMM_SELF))
    forward, m = on.forward([0], case.times()), on.start("truth")
    lin = forward.linearize(m)
    found = lin.final[0][0].copy()
    lin.destroy()
    forward.destroy()
    return found


def test_names_texts_numbers_and_fields_are_storage(tmp_path):
    expected = state(tmp_path, "'phi'")
    for given in ("'phi*c/2'", "{ expression = '1 + x' }"):
        np.testing.assert_allclose(state(tmp_path, given), expected, atol=1e-9)
    four = state(tmp_path, "4.0")
    assert np.abs(four).max() > 1.5 * np.abs(state(tmp_path, "1.0")).max()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("'psi'", "equation.storage: got 'psi'; allowed: a coefficient"),
        ("'2*psi'", "equation.storage: got 'psi' at character 3"),
        ("0.0", "equation.storage: got 0 at the smallest, in 24 cells not positive"),
        ("true", "equation.storage: got True"),
    ],
)
def test_what_is_wrong_is_told_by_its_key(tmp_path, given, said):
    with pytest.raises(InputError, match=said):
        state(tmp_path, given)


def test_a_steady_state_has_none(tmp_path):
    text = CASE.replace("STORAGE", "2.0").replace("times = [0.25, 0.5, 1.0]", "")
    (tmp_path / "case.toml").write_text(text.split("[time]")[0])
    with pytest.raises(
        InputError, match=r"equation.storage: got 2.0; allowed: a section \[time\]"
    ):
        load_case(tmp_path / "case.toml", MPI.COMM_SELF)


@pytest.mark.parallel([1, 2])
def test_unknown_storage_is_found(tmp_path):
    case = case_of(tmp_path, CASE.replace("STORAGE", "'c*phi'"))
    np.testing.assert_allclose(identified(case).values("c"), 2.0, rtol=0.05)


def test_nothing_is_scheduled_where_data_are_simulated_and_all_states_are_kept(
    tmp_path, monkeypatch
):
    monkeypatch.setattr("npde_opt.forward.storage.schedules", None)
    case = case_of(tmp_path, CASE.replace("STORAGE", "'c*phi'"))
    ensemble = Ensemble.split(MPI.COMM_WORLD, 1, case.experiment_count)
    case.prepare(ensemble)
    J, m = case.build(case.grid(ensemble.space), ensemble)
    at = J.linearize(m)
    assert at.value > 0.0 and at.gradient().norm() > 0.0


def test_no_adjoint_of_a_sweep_that_goes_forward_only():
    plans = Storage(forward_only=True).plans(100, 8, 1, 1, 1)
    assert plans.states.predicted == 1.0 and not plans.states.keeps_all
    sweep = Sweep(plans.states, lambda n, restart: (restart, restart), (np.ones(1),))
    sweep.forward()
    with pytest.raises(ValueError, match="forward only"):
        sweep.reverse(lambda n, needed: None)


def test_all_states_have_to_fit_where_there_is_no_budget(tmp_path, monkeypatch):
    """The message says how many steps, how many bytes, and what to do."""
    monkeypatch.setattr(storage, "memory_available", lambda: 700.0)
    said = (
        "--memory: got none, for 4 steps whose states take 7.68e-07 GB a rank; allowed"
    )
    with pytest.raises(InputError, match=said):
        state(tmp_path, "1.0")
    monkeypatch.setattr(storage, "memory_available", lambda: 800.0)
    state(tmp_path, "1.0")


@pytest.mark.parallel([2, 3])
def test_a_rank_that_has_no_room_ends_all(tmp_path, monkeypatch):
    """Before anything is solved."""
    room = 100.0 if MPI.COMM_WORLD.rank == 1 else 1e9
    case = case_of(tmp_path, CASE.replace("STORAGE", "1.0"))
    on = case.on(case.grid(MPI.COMM_WORLD))
    monkeypatch.setattr(storage, "memory_available", lambda: room)
    with pytest.raises(InputError, match="--memory: got none, for 4 steps"):
        on.forward([0], case.times())
    monkeypatch.undo()
    on.forward([0], case.times()).destroy()

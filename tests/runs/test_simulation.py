"""A case run forward leaves states, and data that another case can take as measured ones."""

from argparse import Namespace

import numpy as np
import pytest
from fits import case_of, every
from mpi4py import MPI

from npde_opt.ensemble import Ensemble
from npde_opt.errors import InputError, SolverError
from npde_opt.io.fields import open_stored, read_field
from npde_opt.runs import drawing, states
from npde_opt.runs.folder import SIMULATED, RunDirectory
from npde_opt.runs.simulation import Simulation

COMM = MPI.COMM_WORLD
STEADY = """
[grid]
shape = [8, 6]
[boundaries]
"x-" = "dirichlet"
"x+" = "dirichlet"
[equation]
known = { D = 2.0 }
[[experiment]]
boundary = { "x+" = 1.0 }
[[experiment]]
boundary = { "x-" = 2.0 }
"""
"""u = x in the first experiment, u = 2 (1 - x) in the second; nothing is unknown."""
OBSERVED = """
[[observation]]
points = [[0.25, 0.5], [0.8, 0.5]]
[[observation]]
sides = ["y+"]
"""
MEASURED = """
[[observation]]
points = [[0.25, 0.5], [0.8, 0.5]]
data = { file = "out/simulated.npz", key = "observation_0" }
sigma = 0.1
[[observation]]
sides = ["y+"]
data = { file = "out/simulated.npz", key = "observation_1" }
sigma = 0.2
"""
UNKNOWN = """
[[unknown]]
name = "D"
initial = 1.0
"""


def simulated(case, groups=1, noise=False, plot=False, zarr=None, overwrite=True):
    """Runs it; the folder that it leaves."""
    out = case.path.parent / "out"
    given = {"noise": noise, "plot": plot, "zarr": zarr, "overwrite": overwrite}
    options = Namespace(resume=False, out=str(out), **given)
    ensemble = Ensemble.split(COMM, groups, case.experiment_count)
    with Simulation(options, case, ensemble, COMM) as run:
        run.solve()
        run.write_states()
        run.write_data()
        if plot:
            run.draw()
    COMM.barrier()
    return out


@pytest.mark.parallel([1, 2, 3])
def test_states_are_those_of_all_experiments(tmp_path):
    out = simulated(case_of(tmp_path, STEADY))
    x = (np.arange(8) + 0.5) / 8
    for e, exact in enumerate((x, 2 * (1 - x))):
        found = read_field(out / f"state-{e}.vti", "u").reshape(8, 6, order="F")
        np.testing.assert_allclose(found, exact[:, None] * np.ones(6), atol=1e-9)
    assert not (out / SIMULATED).exists()


@pytest.mark.parallel([1, 2])
def test_data_are_those_that_another_case_measures(tmp_path):
    simulated(case_of(tmp_path, STEADY + OBSERVED), groups=COMM.size)
    text = STEADY.replace("[equation]\nknown = { D = 2.0 }\n", UNKNOWN) + MEASURED
    data = every(case_of(tmp_path, text).prepare(Ensemble.whole(COMM)))
    np.testing.assert_allclose(
        data.observed, [[0.25, 0.8, 0.5], [1.5, 0.4, 1.0]], atol=1e-9
    )
    np.testing.assert_allclose(data.sigma, [[0.1, 0.1, 0.2]] * 2)


MOVING = """
[grid]
shape = [8]
[equation]
known = { D = 1.0 }
[time]
times = { end = 1.0, steps = 4 }
[[experiment]]
initial = { u = "x" }
[[observation]]
times = [0.5, 1.0]
points = [[0.1], [0.5], [0.9]]
sigma = 0.125
"""


@pytest.mark.parallel([1, 2])
def test_noise_is_added_where_it_is_asked_for(tmp_path):
    case = case_of(tmp_path, MOVING)
    clean = np.load(simulated(case) / SIMULATED)["observation_0"]
    noisy = np.load(simulated(case, noise=True) / SIMULATED)["observation_0"]
    assert clean.shape == noisy.shape == (1, 2, 3)
    np.testing.assert_allclose(clean[0, :, 1], 0.5, atol=1e-12)  # by symmetry
    away = (noisy - clean) / 0.125
    assert np.all(away != 0) and np.abs(away).max() < 5


HELD_OUT = (
    MOVING.rstrip()
    + "\n"
    + """\
[[observation]]
points = [[0.3]]
times = [1.0]
sigma = 0.125
held_out = true
"""
)


@pytest.mark.parallel([1, 2])
def test_what_is_held_out_is_simulated_with_noise_too(tmp_path):
    case = case_of(tmp_path, HELD_OUT)
    clean = np.load(simulated(case) / SIMULATED)["observation_1"]
    noisy = np.load(simulated(case, noise=True) / SIMULATED)["observation_1"]
    away = (noisy - clean) / 0.125
    assert away.size == 1 and 0 < np.abs(away).max() < 5


PULSE = """
[grid]
shape = [12, 12]
[equation]
species = ["u", "v"]
known = { D = 1e-12, F = 9.6, k = 480.0 }
[[equation.terms]]
diffusion = "D"
species = "u"
[[equation.terms]]
diffusion = "D"
species = "v"
[[equation.terms]]
kinetics = { u = "-k*u*exp(-((v - 0.5)/0.08)**2)", v = "F*v*(1 - v)" }
[time]
times = { end = 2.0, steps = 160 }
scheme = "explicit-euler"
[[experiment]]
initial = { u = "where(x < 0.5, 1.0, 1e-3)", v = "where(x < 0.5, 0.0, 0.04)" }
[[observation]]
times = [2.0]
"""
RIDGE = """
[grid]
shape = [64, 64]
[equation]
terms = [
    { diffusion = "D" },
    { kinetics = { u = "6*u*(1 - u/3) - tanh((u - 0.5)/0.005) - 1" } },
]
known = { D = 1e-5 }
recipe = "direct"
[time]
times = { end = 8.0, steps = 400 }
scheme = "imex-euler"
[[experiment]]
initial = { u = "0.05 + 0.01*x" }
[[observation]]
times = [8.0]
"""


@pytest.mark.parallel([1, 2])
@pytest.mark.parametrize(
    ("text", "limit"), [(PULSE, "0.0043"), (RIDGE, "0.01034")], ids=["euler", "imex"]
)
def test_rates_that_grow_in_mid_call_are_refused(text, limit, tmp_path):
    """Kinetics that are fast in passing: a loop over many steps finds them after looks of its own,
    and ends there."""
    with pytest.raises((SolverError, InputError), match=f"stability limit {limit}"):
        simulated(case_of(tmp_path, text))


@pytest.mark.parallel([1, 2, 3])
def test_a_trajectory_is_stored_in_shards(tmp_path):
    out = simulated(case_of(tmp_path, TWO), zarr=3, groups=2 - COMM.size % 2)
    stored = open_stored(out / "states.zarr", "u[0, 0]")
    x = (np.arange(8) + 0.5) / 8
    np.testing.assert_allclose(stored.window((8,), (slice(2, 5),)), x[2:5], atol=1e-12)
    ends = [read_field(out / "states.zarr", f"u[{e}, 2]") for e in range(2)]
    np.testing.assert_array_equal(ends[0], read_field(out / "state-0.vti", "u"))
    np.testing.assert_allclose(ends[1], ends[0][::-1], rtol=1e-6)
    np.testing.assert_array_equal(
        np.load(out / SIMULATED)["observation_0"].shape, (2, 2, 3)
    )
    out = simulated(case_of(tmp_path, STEADY), zarr=1)
    assert read_field(out / "states.zarr", "u[1]").shape == (8, 6)
    with pytest.raises(InputError, match="--zarr: got 0"):
        simulated(case_of(tmp_path, STEADY), zarr=0)


@pytest.mark.parallel([1, 2])
def test_unknowns_have_their_true_values(tmp_path):
    known = case_of(tmp_path, MOVING.replace("D = 1.0", "D = 0.1"))
    wanted = np.load(simulated(known) / SIMULATED)["observation_0"]
    for values in ("initial = 5.0\ntruth = 0.1\n", "initial = 0.1\n"):
        sought = UNKNOWN.replace("initial = 1.0\n", values)
        text = MOVING.replace("[equation]\nknown = { D = 1.0 }\n", sought)
        found = np.load(simulated(case_of(tmp_path, text)) / SIMULATED)["observation_0"]
        np.testing.assert_allclose(found, wanted, rtol=1e-12)


@pytest.mark.parallel([1, 2])
def test_a_simulation_has_no_history_and_is_not_replaced_unasked(tmp_path):
    case = case_of(tmp_path, STEADY)
    out = simulated(case)
    assert not (out / "history.csv").exists()
    with pytest.raises(InputError, match=r"earlier run \(state-0\.vti, state-1\.vti\)"):
        RunDirectory(out)
    with pytest.raises(InputError, match="earlier run") as refused:
        simulated(case, overwrite=False)
    # The driver has no such option.
    assert "--resume" not in str(refused.value)
    assert "--overwrite" in str(refused.value)


@pytest.mark.parallel([1, 2])
def test_wrong_values_leave_an_earlier_simulation(tmp_path):
    sought = UNKNOWN.replace("1.0", '{ file = "k.npy" }')
    text = STEADY.replace("[equation]\nknown = { D = 2.0 }\n", sought)
    k = np.full((8, 6), 2.0)
    if COMM.rank == 0:
        np.save(tmp_path / "k.npy", k)
    out = simulated(case_of(tmp_path, text))
    before = sorted(p.name for p in out.iterdir())
    COMM.barrier()
    k[3, 4] = np.nan
    if COMM.rank == 0:
        np.save(tmp_path / "k.npy", k)
    COMM.barrier()
    with pytest.raises(InputError, match="1 NaN of 48 values"):
        simulated(case_of(tmp_path, text))
    assert "state-0.vti" in before
    assert sorted(p.name for p in out.iterdir()) == before


TWO = MOVING.replace(
    "[[observation]]", '[[experiment]]\ninitial = { u = "1 - x" }\n[[observation]]'
)


@pytest.mark.parallel([2])
@pytest.mark.parametrize(("text", "suffix"), [(STEADY, "png"), (TWO, "gif")])
def test_figures_are_of_all_experiments_up_to_a_number(
    tmp_path, monkeypatch, text, suffix
):
    monkeypatch.setattr(drawing, "FRAMES", 2)
    case = case_of(tmp_path, text)
    out = simulated(case, groups=COMM.size, plot=True)
    assert sorted(p.name for p in out.glob("*.[pg][ni][gf]")) == [
        f"state-1.{suffix}",
        f"state.{suffix}",
    ]
    monkeypatch.setattr(states, "MOST_FIGURES", 1)
    out = simulated(case, plot=True)
    assert [p.name for p in out.glob("*.[pg][ni][gf]")] == [f"state.{suffix}"]

"""Evolution cases in short form: every file is built, its data simulated or read, and its gradient right; tables; figures."""

from pathlib import Path

import numpy as np
import pytest
import scipy.io
from mpi4py import MPI

from npde_opt import nested
from npde_opt.cases import load_case
from npde_opt.cases.fields import Sources
from npde_opt.cases.tables import read_values
from npde_opt.ensemble import Ensemble
from npde_opt.errors import InputError, NpdeError
from npde_opt.runs import evolution_report
from npde_opt.runs.attempts import Attempts
from npde_opt.runs.evolution_report import report_evolution
from npde_opt.runs.folder import RunDirectory
from npde_opt.runs.monitor import Monitor

MESHES = Path(__file__).parents[1] / "meshes"
SHORT = {"gray_scott": ((16, 16), 6.0), "quantum_wells": ((14, 12), 0.6), "graded_index": ((64,), 20.0),
         "phase_retrieval": ((12, 10), 20.0)}


def shorten(case, end):
    """Few steps up to `end`, at whose end and middle is observed."""
    case.table["evolution"]["times"] = {"end": end, "steps": 6}
    for o in case.table["observation"]:
        o["times"] = [end / 2, end]


def check_gradient(case, ensemble):
    grid = case.grid(ensemble.space)
    case.prepare(ensemble)
    J, m = case.build(grid, ensemble)
    at = J.linearize(m)
    g = at.gradient()
    assert np.isfinite(at.value) and g.norm() > 0
    e, values = 1e-5 / max(g.norm(), 1e-300) ** 1.0 * max(m.norm(), 1.0), []
    for sign in (1, -1):
        x = m.copy()
        x.axpy(sign * e, g)
        there = J.linearize(x)
        values.append(there.value)
        there.destroy()
    assert (values[0] - values[1]) / (2 * e) == pytest.approx(g.dot(g), rel=1e-3)
    at.destroy()
    J.destroy()


@pytest.mark.parametrize("name", list(SHORT))
def test_simulated_cases(name):
    if name == "phase_retrieval":
        pytest.importorskip("skimage")
    cells, end = SHORT[name]
    case = load_case(MESHES / f"{name}.toml", MPI.COMM_WORLD, cells=cells)
    shorten(case, end)
    check_gradient(case, Ensemble.split(MPI.COMM_WORLD, 1, case.experiment_count))


@pytest.mark.parallel([1, 2])
def test_steps_are_chosen_by_accuracy():
    case = load_case(MESHES / "quantum_wells.toml", MPI.COMM_WORLD, cells=(14, 12))
    shorten(case, 0.6)
    ensemble = Ensemble.split(MPI.COMM_WORLD, MPI.COMM_WORLD.size, case.experiment_count)
    sizes = []
    for tolerance in (1e-2, 1e-5):
        case.table["evolution"]["times"], case._chosen = {"end": 0.6, "tolerance": tolerance}, None
        case.choose_steps(ensemble)
        sizes.append(case.times().size - 1)
    assert 8 <= sizes[0] < sizes[1] <= 512


def test_brain_tumour():
    pytest.importorskip("nilearn")
    case = load_case(MESHES / "brain_tumour.toml", MPI.COMM_WORLD, cells=(16, 18, 15))
    shorten(case, 60.0)
    case.table["simulation"]["refine"] = 1
    check_gradient(case, Ensemble.split(MPI.COMM_WORLD, 1, 1))


@pytest.mark.parallel([1, 2])
def test_reported_predictions_are_those_that_the_misfit_sees():
    pytest.importorskip("nilearn")
    case = load_case(MESHES / "brain_tumour.toml", MPI.COMM_WORLD, cells=(16, 18, 15))
    shorten(case, 60.0)
    case.table["simulation"]["refine"] = 1
    ensemble = Ensemble.split(MPI.COMM_WORLD, 1, 1)
    case.prepare(ensemble)
    J, m = case.build(case.grid(ensemble.space), ensemble)
    at = J.linearize(m)
    assert at.value > 0
    (found,) = predicted = evolution_report.predictions(J.forward, at, ensemble, 1)
    assert found.size == 2 * 16 * 18 * 15 and 0 < np.isfinite(found).sum() == J.data_count < found.size
    error = evolution_report.data_errors(case, predicted)["rmse"]
    assert error == pytest.approx(0.05 * np.sqrt(2 * at.misfit / J.data_count), rel=1e-10)
    at.destroy()
    J.destroy()


def test_harmonic_oscillator(tmp_path):
    x, t = -7.5 + 15 * np.arange(512) / 512, 0.025 * np.arange(401)
    u = np.exp(-((x - 1) ** 2) / 2)[None] * np.exp(-0.5j * t)[:, None]
    scipy.io.savemat(tmp_path / "harmonic_osc.mat", {"usol": u})
    case = load_case(MESHES / "harmonic_oscillator.toml", MPI.COMM_WORLD, data=tmp_path)
    check_gradient(case, Ensemble.split(MPI.COMM_WORLD, 1, case.experiment_count))


def scratch_file(folder):
    """Logistic growth at 38 places, in the columns of the assay."""
    lines = ["\ufeffColumn,Position,AvgDens,Time"]
    for t in (0, 12, 24, 36, 48):
        for i in range(38):
            u = 100 + 500 * abs(i - 19) / 19
            density = 1700 * u * np.exp(1.1 * t / 24) / (1700 + u * (np.exp(1.1 * t / 24) - 1))
            lines.append(f"{i + 1},{25 + 50 * i},{density * 1e-6:.9e},{t}")
    (folder / "CellDensity_16.csv").write_text("\n".join([*lines, ",,,", ""]))


@pytest.mark.parallel([1, 2])
@pytest.mark.parametrize("name", ["scratch_assay", "scratch_assay_porous"])
def test_scratch_assay_is_fitted(name, tmp_path, monkeypatch):
    monkeypatch.setattr(evolution_report, "FRAMES", 4)
    comm = MPI.COMM_WORLD
    folder = Path(comm.bcast(str(tmp_path), root=0))
    if comm.rank == 0:
        scratch_file(folder)
    comm.Barrier()
    case = load_case(MESHES / f"{name}.toml", comm, data=folder, variables={"cells": "16"})
    ensemble = Ensemble.split(comm, 1, 1)
    grid = case.grid(comm)
    case.prepare(ensemble)
    assert case.data.observed[0].size == 37 * 5
    out = RunDirectory(folder / "out", comm, "new")
    with Monitor(comm, out, stream=None) as monitor:
        found = nested.identify(grid, lambda g: case.build(g, ensemble), case.settings(), 1, monitor)
        metrics = report_evolution(case, found, ensemble, out, name == "scratch_assay", Attempts(comm, print))
    out.close()
    comm.Barrier()
    assert metrics["r"] == pytest.approx(1.1, rel=0.03)
    assert metrics["state_residual_true"] < 1e-8 and 0 < metrics["newton_residual_true"] < 1.01e-8
    low, high = metrics["r_interval"]
    assert low < metrics["r"] < high and (metrics["D"] < 3e-3 or "m" in metrics)
    assert (folder / "out" / "state.gif").exists() == (name == "scratch_assay")


def test_pumping_test_recovers_an_aquifer(tmp_path):
    times = np.geomspace(0.3, 800, 8)
    for r in (30, 90):
        from scipy.special import exp1

        drawdown = 788 / 1440 / 7 / (4 * np.pi * 66.0 / 1440) * exp1(r**2 * 2.5e-5 / (4 * 66.0 / 1440 * times))
        np.savetxt(tmp_path / f"piezometer_h{r}.txt", np.column_stack([times, -drawdown]), header="time (min), head (m)")
    case = load_case(MESHES / "pumping_test.toml", MPI.COMM_WORLD, data=tmp_path)
    ensemble = Ensemble.split(MPI.COMM_WORLD, 1, 1)
    case.prepare(ensemble)
    J, m = case.build(case.grid(MPI.COMM_WORLD), ensemble)
    m = J.space.from_values({"D": 66.0 / 1440 / 2.5e-5, "w": 1 / 2.5e-5})
    at = J.linearize(m)
    assert np.sqrt(2 * at.misfit * 0.05**2 / 16) < 0.01
    at.destroy()
    J.destroy()


def test_tables_and_wrong_cases(tmp_path):
    (tmp_path / "a.csv").write_text("t,v\n0,1.5\n1,2.5\n2,\n")
    sources = Sources(tmp_path, None, (None, 0))
    np.testing.assert_array_equal(read_values("d", {"file": "a.csv", "column": "v", "where": {"t": [0.5, 1.5]}}, sources), [2.5])
    assert np.isnan(read_values("d", {"file": "a.csv", "column": 1}, sources)[2])
    with pytest.raises(InputError, match="column: got 'w'; allowed: t, v"):
        read_values("d", {"file": "a.csv", "column": "w"}, sources)
    with pytest.raises(InputError, match="--set"):
        load_case(MESHES / "scratch_assay.toml", MPI.COMM_WORLD, variables={"cell": "12"})
    text = (MESHES / "gray_scott.toml").read_text()
    for change, message in ((('"gray-scott"', '"gray-scot"'), r"terms\[2\].kinetics"), (('explicit-euler', 'euler'), "scheme"),
                            (('species = ["u", "v"]', 'species = ["u", "w"]'), "term's species|species")):
        (tmp_path / "wrong.toml").write_text(text.replace(*change))
        with pytest.raises(InputError, match=message):
            case = load_case(tmp_path / "wrong.toml", MPI.COMM_WORLD, cells=(8, 8))
            case.forward(case.grid(MPI.COMM_WORLD), [0])


def test_two_absorbing_terms_are_the_sum(tmp_path):
    text = (MESHES / "graded_index.toml").read_text()
    both = '{ absorbing = { "x-" = 12.0, "x+" = 12.0 }, speed = 0.06 }'
    assert both in text
    two = '{ absorbing = { "x-" = 12.0 }, speed = 0.06 }, { absorbing = { "x+" = 12.0 }, speed = 0.06 }'
    (tmp_path / "two.toml").write_text(text.replace(both, two))
    rates = []
    for path in (MESHES / "graded_index.toml", tmp_path / "two.toml"):
        case = load_case(path, MPI.COMM_WORLD, cells=(64,))
        known = case.terms(case.grid(MPI.COMM_WORLD))[1]
        rates.append(sum(v for k, v in known.items() if k.startswith("absorbing")))
    np.testing.assert_array_equal(*rates)
    assert rates[0][0] > 0 and rates[0][-1] > 0


def test_an_observation_after_the_end_is_said_where_steps_are_chosen():
    case = load_case(MESHES / "quantum_wells.toml", MPI.COMM_WORLD, cells=(14, 12))
    ensemble = Ensemble.split(MPI.COMM_WORLD, 1, case.experiment_count)
    shorten(case, 0.6)
    case.table["evolution"]["times"] = {"end": 0.5, "tolerance": 1e-2}
    with pytest.raises(InputError, match=r"observation\[0\].times: got 0.6"):
        case.choose_steps(ensemble)


WELLS, SCOTT = "quantum_wells", "gray_scott"
WRONG = {
    "term's key": (SCOTT, '{ diffusion = "Du", species', '{ diffusion = "Du", speceis', r"terms\[0\]: key 'speceis'.*'species'"),
    "term": (SCOTT, '{ diffusion = "Du"', '{ difusion = "Du"', r"evolution.terms\[0\].*did you mean 'diffusion'"),
    "coefficient's name": (SCOTT, '{ diffusion = "Du"', "{ diffusion = 0.5",
        r"terms\[0\].diffusion: got 0.5; allowed: a text or a list"),
    "times": (SCOTT, "end = 400.0, steps = 1000", "end = 400.0, stpes = 1000", r"evolution.times.*steps, first, tolerance"),
    "times' key": (SCOTT, "end = 400.0, steps", "end = 400.0, strat = 0, steps", r"evolution.times: key 'strat'"),
    "no times": (SCOTT, "times = [50.0, 100.0, 200.0, 400.0]", "times = []",
        r"observation\[0\].times: got 0 values; allowed: a list of at least 1"),
    "count": (WELLS, "count = 6", "cuont = 6", r"observation\[0\].times: .*did you mean 'count'"),
    "noise": (WELLS, "noise = 0.05", "noise = 0", r"observation\[0\].noise: got 0"),
    "sigma": (WELLS, "noise = 0.05", "sigma = -1.0", r"observation\[0\].sigma: got -1.0"),
    "misfit": (WELLS, "[simulation]", "[misfit]\nkind = 'correlated'\ncorrelation = 1.5\n[simulation]",
        "misfit.correlation: got 1.5"),
    "correlated": (WELLS, "[simulation]", "[[observation]]\ntimes = [1.0]\n[misfit]\nkind = 'correlated'\n[simulation]",
                   "several observations"),
    "refine": (WELLS, "refine = 2", "refine = 0", "simulation.refine: got 0"),
    "regularization": (WELLS, 'unknown = "V"', 'unknown = "E"',
        r"regularization\[0\].unknown: got 'E'; allowed: an unknown field without regions: V"),
    "known twice": (WELLS, "known = { D = 0.5 }", "known = { D = 0.5, V = 1.0 }", "unknown.V: got known too"),
    "unused": (SCOTT, 'name = "k"', 'name = "q"', "unknown.q: got in no term, initial state or source; allowed: .*Du, Dv, F, k"),
    "derived": (SCOTT, 'scheme = "expl', 'derived = { x = "2*DU" }\nscheme = "expl',
        r"evolution.derived.x: got 'DU' at character 3 of '2\*DU'; allowed: the scalars .*Du, Dv"),
    "boundary": (WELLS, "[[observation]]", 'boundary = { re = { "x-" = "sin(t)" } }\n[[observation]]',
        r"boundary.re.x-: got 'sin\(t\)'"),
    "points": (SCOTT, 'quantity = "v"', 'quantity = "v"\npoints = [[0.1, 0.2], [0.1]]', r"observation\[0\].points"),
    "start": (SCOTT, "initial = 1.8e-5", "initial = { expression = 'x' }", "unknown.Du.initial: got .*; allowed: a number"),
    "history": (SCOTT, 'kind = "scalar"\ninitial = 0.061', 'kind = "history"\nlength = 3\ninitial = [0.1, 0.2]',
                "unknown.k.initial: got .*; allowed: a number, or 3 numbers"),
    "history's times": (WELLS, 'terms = [', 'terms = [{ source = 1.0, history = "V", times = [0.0, 1.0, 2.0] }, ',
        r"evolution.terms\[0\].history 'V'"),
    "known": (WELLS, "D = 0.5", "D = nan", "known.D: got nan"),
    "recipe": (WELLS, 'recipe = "direct"', 'recipe = "foo"', "state_recipe: got foo"),
    "boundary of a complex state": (WELLS, "[[observation]]", 'boundary = { "x-" = 1.0 }\n[[observation]]',
        "boundary: got {'x-': 1.0}"),
    "memory": (SCOTT, 'times = { end', 'memory = "1KB"\ntimes = { end',
        "memory: got 1000 bytes; allowed: at least .* for one checkpoint"),
}


@pytest.mark.parametrize("what", list(WRONG))
def test_a_wrong_case_is_one_clear_error_before_any_work(what, tmp_path):
    name, old, new, message = WRONG[what]
    text = (MESHES / f"{name}.toml").read_text()
    assert old in text
    path = tmp_path / "case.toml"
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(InputError, match=message):
        case = load_case(path, MPI.COMM_WORLD, cells=(16, 14))
        forward = case.forward(case.grid(MPI.COMM_WORLD), range(case.experiment_count))
        case.start(forward.space)


def test_negative_diffusivities_and_states_that_are_not_finite_are_refused(tmp_path):
    text = (MESHES / "gray_scott.toml").read_text()
    for old, new, message in (("initial = 1.8e-5", "transform = 'identity'\ninitial = -1.8e-5",
                               "diffusivity Du is not positive in 224 cells, -1.8e-05 at the smallest"),
                              ('u = "1 - 0.5*exp', 'u = "log(x - 9) - 0.5*exp', "initial: got a state that is not finite")):
        (tmp_path / "case.toml").write_text(text.replace(old, new, 1))
        case = load_case(tmp_path / "case.toml", MPI.COMM_WORLD, cells=(16, 14))
        forward = case.forward(case.grid(MPI.COMM_WORLD), [0])
        with pytest.raises(NpdeError, match=message):
            forward.linearize(case.start(forward.space))

"""What is reported of a run: predictions, errors, intervals, derived figures, animations."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fits import case_of
from mpi4py import MPI

from npde_opt import restarts
from npde_opt.cases import load_case
from npde_opt.cases.equation_tables import EqualSteps
from npde_opt.ensemble import Ensemble
from npde_opt.runs import data_shown, drawing
from npde_opt.runs.attempts import Attempts
from npde_opt.runs.folder import RunDirectory
from npde_opt.runs.monitor import Monitor
from npde_opt.runs.rehearsal import report_names
from npde_opt.runs.report import data_errors, predictions, report

MESHES = Path(__file__).parents[2] / "meshes"
comm = MPI.COMM_WORLD


@pytest.mark.parallel([1, 2])
def test_reported_predictions_are_those_that_the_misfit_sees():
    pytest.importorskip("nilearn")
    case = load_case(MESHES / "brain_tumour.toml", comm, cells=(16, 18, 15))
    case.table.time.times = EqualSteps(end=60.0, steps=6)
    case.table.observation[0].times = [30.0, 60.0]
    case.table.simulation.refine = 1
    ensemble = Ensemble.split(comm, 1, 1)
    case.prepare(ensemble)
    J, m = case.build(case.grid(ensemble.space), ensemble)
    at = J.linearize(m)
    assert at.value > 0
    (found,) = predicted = predictions(J.forward, at, ensemble, 1)
    whole = 2 * 16 * 18 * 15
    assert comm.allreduce(found.size) == whole
    assert 0 < comm.allreduce(np.isfinite(found).sum()) == J.data_count < whole
    error = data_errors(case, predicted)["rmse"]
    assert error == pytest.approx(
        0.05 * np.sqrt(2 * at.misfit / J.data_count), rel=1e-10
    )
    at.destroy()
    J.destroy()


def scratch_file(folder):
    """Logistic growth at 38 places, in the columns of the assay."""
    lines = ["\ufeffColumn,Position,AvgDens,Time"]
    for t in (0, 12, 24, 36, 48):
        growth = np.exp(1.1 * t / 24)
        for i in range(38):
            u = 100 + 500 * abs(i - 19) / 19
            density = 1700 * u * growth / (1700 + u * (growth - 1))
            lines.append(f"{i + 1},{25 + 50 * i},{density * 1e-6:.9e},{t}")
    (folder / "CellDensity_16.csv").write_text("\n".join([*lines, ",,,", ""]))


@pytest.mark.parallel([1, 2])
@pytest.mark.parametrize("name", ["scratch_assay", "scratch_assay_porous"])
def test_scratch_assay_is_fitted(name, tmp_path, monkeypatch):
    monkeypatch.setattr(drawing, "FRAMES", 4)
    folder = Path(comm.bcast(str(tmp_path), root=0))
    if comm.rank == 0:
        scratch_file(folder)
    comm.Barrier()
    case = load_case(
        MESHES / f"{name}.toml", comm, data=folder, variables={"cells": "16"}
    )
    ensemble = Ensemble.split(comm, 1, 1)
    case.prepare(ensemble)
    assert comm.allreduce(case.data.observed[0].size) == 37 * 5
    out = RunDirectory(folder / "out", comm, "new")
    settings, plot = case.settings(), name == "scratch_assay"
    with Monitor(comm, out, stream=None) as monitor:
        found = restarts.identify(
            case.grid(comm), lambda g: case.build(g, ensemble), settings, 1, monitor
        )
        metrics = report(case, found, ensemble, out, plot, Attempts(comm, print))
    out.close()
    comm.Barrier()
    assert metrics["r"] == pytest.approx(1.1, rel=0.03)
    assert metrics["state_residual_true"] < 1e-8
    assert 0 < metrics["newton_residual_true"] < 1.01e-8
    low, high = metrics["r_interval"]
    assert low < metrics["r"] < high and (metrics["D"] < 3e-3 or "m" in metrics)
    assert (folder / "out" / "state.gif").exists() == plot


HISTORY = """
[grid]
shape = [8]
[equation]
known = { D = 0.01 }
[time]
times = { end = 8.0, steps = 8 }
axis = "t [h]"
[[unknown]]
name = "h"
kind = "history"
length = 4
transform = "identity"
initial = 1.0
truth = [1.0, 3.0, 4.0, 2.0]
[[experiment]]
[[experiment.sources]]
shape = 1.0
history = "h"
times = [0.0, 2.0, 4.0, 6.0, 8.0]
interpolation = "steps"
[[observation]]
times = [2.0, 4.0, 6.0, 8.0]
points = [[0.5], [0.7]]
noise = 0.01
"""


@pytest.mark.parallel([1, 2])
def test_an_unknown_history_is_drawn_over_its_times(tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    case = case_of(tmp_path, HISTORY)
    assert report_names(case, case.grid(comm), plot=True) == ["parameters.vti", "h.png"]
    out, given = RunDirectory(case.path.parent / "out", comm, "new"), []
    monkeypatch.setattr(
        drawing.figures, "plot_history", lambda *a, **k: given.append((a, k))
    )
    found = [1.1, 2.9, 4.1, 2.0]
    ends = [[0.9, 1.3], None, [3.9, 4.3], [1.9, 2.1]]
    drawing.draw_histories(
        case, case.on(case.grid(comm)), {"h": found, "h_interval": ends}, out
    )
    out.close()
    assert len(given) == (comm.rank == 0)
    for (path, times, values, true, interval), more in given:
        assert path.name == "h.png" and more["axis"] == "t [h]"
        assert times.tolist() == [0.0, 2.0, 4.0, 6.0, 8.0]
        assert values.tolist() == found and true.tolist() == [1.0, 3.0, 4.0, 2.0]
        assert interval[0].tolist() == ends[0] and np.isnan(interval[1]).all()


def raises(*args, **more):
    """On the last rank, or on the one that draws."""
    if comm.rank == comm.size - 1 or more:
        raise RuntimeError("no figure")


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.parametrize(
    ("of", "name", "missing"),
    [
        (data_shown, "_every_cell", "snapshots.png"),
        (drawing.figures, "plot_data_fit", "data_fit.png"),
        (drawing, "draw_histories", "h.png"),
    ],
)
def test_a_figure_that_fails_is_missing_alone(tmp_path, monkeypatch, of, name, missing):
    case = case_of(tmp_path, HISTORY.replace("points = [[0.5], [0.7]]\n", ""))
    ensemble, said = Ensemble.split(comm, 1, 1), []
    case.prepare(ensemble)
    settings = replace(case.settings(), max_iterations=1)
    out = RunDirectory(Path(comm.bcast(str(tmp_path))) / "out", comm, "new")
    with Monitor(comm, out, stream=None) as monitor:
        found = restarts.identify(
            case.grid(comm), lambda g: case.build(g, ensemble), settings, 1, monitor
        )
    monkeypatch.setattr(of, name, raises)
    report(case, found, ensemble, out, True, Attempts(comm, said.append))
    out.close()
    comm.Barrier()
    assert [line for line in said if "no figure" in line] == said and len(said) == 1
    figures = {"snapshots.png", "data_fit.png", "h.png", "convergence.png"}
    there = {path.name for path in (tmp_path / "out").glob("*.png")}
    if comm.rank == 0:
        assert figures - there == {missing}, there

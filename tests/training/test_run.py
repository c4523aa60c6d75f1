"""A training from its case to its folder: on ranks and groups, resumed, twice, with figures."""

import csv
import json
import signal
import subprocess
import sys

import numpy as np
import pytest
from calling import environment
from small import samples, trained, written

from npde_opt.errors import InputError, Interrupted
from npde_opt.networks.model import Model
from npde_opt.runs.monitor import Monitor


def summary(out):
    return json.loads((out / "summary.json").read_text())


@pytest.mark.parallel([1, 2, 3])
def test_a_classifier_is_trained(tmp_path):
    out = trained(written(tmp_path, most=12), tmp_path / "out")
    found = summary(out)
    assert found["objective"] == pytest.approx(5.1326371, rel=1e-3)
    assert found["metrics"]["error_training"] == 0
    assert found["metrics"]["error_test"] <= 0.34
    rows = list(csv.DictReader((out / "predictions.csv").open()))
    assert len(rows) == 9
    share = np.mean([row["label"] != row["found"] for row in rows])
    assert share == pytest.approx(found["metrics"]["error_test"])
    assert Model.load(out / "model.npz").classes == ["0", "1", "2"]


def test_several_splits_have_their_mean(tmp_path):
    out = trained(written(tmp_path, data="splits = 2", most=3), tmp_path / "out")
    metrics = summary(out)["metrics"]
    assert len(metrics["error_test_splits"]) == 2
    assert metrics["loss_test"] == pytest.approx(np.mean(metrics["loss_test_splits"]))
    text = (out / "run.log").read_text()
    assert "split 1 of 2: " in text and "split 2 of 2: " in text


@pytest.mark.parametrize("at", [(0, 2), (1, 1)])
def test_a_run_that_was_stopped_goes_on_to_the_bit(tmp_path, monkeypatch, at):
    monkeypatch.setattr("npde_opt.training.run.CHECKPOINT_SECONDS", 0.0)
    file = written(tmp_path, data="splits = 2", most=4)
    whole = trained(file, tmp_path / "whole")
    called = Monitor.__call__

    def stopping(self, row, state):
        answer = called(self, row, state)
        if (self.start, row["iteration"]) == at:
            raise Interrupted("stopped")
        return answer

    monkeypatch.setattr(Monitor, "__call__", stopping)
    with pytest.raises(Interrupted):
        trained(file, tmp_path / "parts", resume=True)
    assert list((tmp_path / "parts").glob("checkpoint-*"))
    monkeypatch.setattr(Monitor, "__call__", called)
    parts = trained(file, tmp_path / "parts", resume=True)
    one, other = (Model.load(out / "model.npz") for out in (whole, parts))
    for name, values in one.weights.items():
        np.testing.assert_array_equal(values, other.weights[name])
    first, second = (summary(out)["metrics"] for out in (whole, parts))
    assert first["loss_test_splits"] == second["loss_test_splits"]
    rows = [list(csv.reader((out / "history.csv").open())) for out in (whole, parts)]
    assert [r[:6] for r in rows[0]] == [r[:6] for r in rows[1]]
    # A finished run is left as it is.
    before = (parts / "summary.json").read_bytes()
    trained(file, tmp_path / "parts", resume=True)
    assert (parts / "summary.json").read_bytes() == before


def test_a_folder_is_used_once(tmp_path):
    file = written(tmp_path, most=1)
    out = trained(file, tmp_path / "out")
    with pytest.raises(InputError, match="--out: got .* holds an earlier run"):
        trained(file, out)
    with pytest.raises(InputError, match=r"--resume.*--seed"):
        trained(file, out, seed=1, resume=True)
    trained(file, out, overwrite=True)
    np.savez(tmp_path / "a.npz", inputs=samples()[0] * 2, labels=samples()[1])
    with pytest.raises(InputError, match=r"--resume.*the contents of data, file a.npz"):
        trained(file, out, resume=True)


def test_adam_is_watched_and_ends_early(tmp_path):
    file = written(tmp_path, data="validation = 0.25", most=400)
    text = file.read_text().replace(
        '"lbfgs"', '"adam"\nrate = 0.05\nbatch = 8\npatience = 3'
    )
    file.write_text(text)
    out = trained(file, tmp_path / "out")
    found, rows = summary(out), list(csv.DictReader((out / "history.csv").open()))
    assert found["status"] == "stopped_early" and len(rows) < 100
    losses = [float(row["validation"]) for row in rows]
    assert found["metrics"]["loss_validation"] == pytest.approx(min(losses), rel=1e-12)
    assert all(0 <= float(row["validation_error"]) <= 1 for row in rows)


def test_optimizers_come_one_after_the_other(tmp_path):
    file = written(tmp_path, most=2)
    adam = (
        '[[optimizer]]\nmethod = "adam"\nmax_iterations = 3\nbatch = 9\n[[optimizer]]'
    )
    file.write_text(file.read_text().replace("[optimizer]", adam))
    out = trained(file, tmp_path / "out")
    rows = list(csv.DictReader((out / "history.csv").open()))
    assert [row["level"] for row in rows] == ["0"] * 4 + ["1"] * 3
    objectives = [float(row["objective"]) for row in rows]
    assert objectives[-1] < objectives[4] < objectives[1]


def test_figures_are_drawn(tmp_path):
    pytest.importorskip("matplotlib")
    out = trained(written(tmp_path, most=2), tmp_path / "out", plot=True)
    for name in ("confusion", "misread", "filters", "training"):
        assert (out / f"{name}.png").stat().st_size > 5000
    assert "warning" not in (out / "run.log").read_text()


def test_numbers_have_errors_in_their_unit(tmp_path):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((40, 3))
    y = 100 + 10 * x @ np.array([[1.0], [2.0], [-1.0]])
    arrays = {"inputs": x[:, :, None, None, None], "targets": y}
    layers = '[[layer]]\nkind = "dense"\nchannels = 1\n'
    file = written(
        tmp_path,
        data='normalisation = "standard"',
        layers=layers,
        most=30,
        arrays=arrays,
    )
    file.write_text(file.read_text().replace("weight = 0.5", "weight = 1e-6"))
    metrics = summary(trained(file, tmp_path / "out"))["metrics"]
    assert metrics["rmse_test"] < 1e-2


def test_a_recurrent_network_reads_its_sequence(tmp_path):
    rng = np.random.default_rng(1)
    x = rng.standard_normal((60, 1, 1, 1, 6))
    arrays = {"inputs": x, "targets": x.sum(axis=-1)[..., 0, 0][:, :, None, None, None]}
    recurrent = '[[layer]]\nkind = "recurrent"\nchannels = 3\n'
    layers = recurrent + '[[layer]]\nkind = "dense"\nchannels = 1\n'
    file = written(tmp_path, layers=layers, most=40, arrays=arrays)
    file.write_text(file.read_text().replace("weight = 0.5", "weight = 1e-6"))
    assert summary(trained(file, tmp_path / "out"))["metrics"]["rmse_test"] < 1e-2


def test_groups_that_cannot_be_are_told(tmp_path):
    with pytest.raises(
        InputError, match="--sample-groups: got 3; .* number of samples"
    ):
        trained(written(tmp_path, most=1), tmp_path / "out", sample_groups=3)
    with pytest.raises(InputError, match="--sample-groups: got 0; "):
        trained(written(tmp_path, most=1), tmp_path / "out", sample_groups=0)


KILLED = """
import os, signal, sys
sys.path[:0] = sys.argv[3:]
from pathlib import Path
import small
import npde_opt.training.run
from npde_opt.runs import monitor

npde_opt.training.run.CHECKPOINT_SECONDS = monitor.WITHIN_SECONDS = 0.0
between, seen = monitor.Monitor.between, []

def killing(self, state):
    between(self, state)
    seen.append(state)
    if len(seen) == 4:  # after two of the three batches of the second epoch
        os.kill(os.getpid(), signal.SIGKILL)

monitor.Monitor.between = killing
small.trained(Path(sys.argv[1]), Path(sys.argv[2]))
"""


def test_a_run_that_is_killed_within_an_epoch_goes_on_to_the_bit(tmp_path):
    file = written(tmp_path, most=3)
    adam = '"adamw"\nrate = 0.05\nwarm_up = 1.5\nbatch = 9'
    file.write_text(file.read_text().replace('"lbfgs"', adam))
    whole, parts = trained(file, tmp_path / "whole"), tmp_path / "parts"
    script = [sys.executable, "-c", KILLED, str(file), str(parts), *sys.path]
    run = subprocess.run(script, capture_output=True, text=True, env=environment())
    assert run.returncode == -signal.SIGKILL, run.stderr
    assert len(list(csv.DictReader((parts / "history.csv").open()))) == 2
    trained(file, parts, resume=True)
    assert "resuming after iteration 1" in (parts / "run.log").read_text()
    one, other = (Model.load(out / "model.npz") for out in (whole, parts))
    for name, values in one.weights.items():
        np.testing.assert_array_equal(values, other.weights[name])
    rows = [list(csv.reader((out / "history.csv").open())) for out in (whole, parts)]
    assert [r[:6] for r in rows[0]] == [r[:6] for r in rows[1]]

"""The driver train_classifier.py as it is called: digits on two ranks, stopped and resumed, wrong
input."""

import importlib.util
import signal
import subprocess
import sys

import calling
import pytest
from calling import ROOT, environment, rows, summary

CASE = ROOT / "meshes" / "digits.toml"
SHORT = """
[data]
kind = "digits"
test = 0.3
train = 400
[network]
precision = "single"
[[layer]]
kind = "convolution"
channels = 6
stride = 2
activation = "relu"
[[layer]]
kind = "dense"
channels = 10
[optimizer]
method = "adamw"
batch = 40
rate = 1e-2
schedule = "cosine"
max_iterations = 8
"""
needs_digits = pytest.mark.skipif(
    importlib.util.find_spec("sklearn") is None, reason="no scikit-learn"
)


@pytest.fixture(autouse=True)
def driver(monkeypatch):
    monkeypatch.setattr(calling, "DRIVER", ROOT / "drivers" / "train_classifier.py")


@pytest.fixture
def case(tmp_path):
    file = tmp_path / "case.toml"
    file.write_text(SHORT)
    return file


@needs_digits
def test_digits_are_read_on_two_ranks(case, tmp_path):
    one, two = (
        summary(
            calling.identify(ranks, case, tmp_path / str(ranks)), tmp_path / str(ranks)
        )
        for ranks in (1, 2)
    )
    assert one["status"] == "trained" and one["metrics"]["error_test"] < 0.14
    assert two["objective"] == pytest.approx(one["objective"], rel=1e-2)
    case.write_text(SHORT.replace("= 8", "= 10"))
    run = calling.identify(1, case, tmp_path / "1", "--resume")
    assert "at its last iteration, 8; it goes on to 10" in run.stdout
    assert summary(run, tmp_path / "1")["iterations"] == 10
    assert len(rows(tmp_path / "1")) == 11


@needs_digits
def test_a_run_that_is_stopped_goes_on(case, tmp_path):
    case.write_text(SHORT.replace("= 8", "= 20"))
    code, text = calling.stop(1, case, tmp_path / "out", signal.SIGUSR1)
    assert code == 75 and "continue with --resume" in text
    before = len(rows(tmp_path / "out"))
    run = calling.identify(1, case, tmp_path / "out", "--resume")
    found = summary(run, tmp_path / "out")
    assert found["iterations"] == 20 and len(rows(tmp_path / "out")) == 21 > before
    assert "resuming after iteration" in run.stdout


def test_wrong_input_is_told_once():
    run = subprocess.run(
        [
            sys.executable,
            str(calling.DRIVER),
            "--case",
            str(CASE),
            "--out",
            "",
            "--seed",
            "0",
        ],
        env=environment(),
        capture_output=True,
        text=True,
    )
    assert run.returncode == 2 and "--out" in run.stderr
    run = subprocess.run(
        [sys.executable, str(calling.DRIVER), "--out", "none", "--seed", "-1"],
        env=environment(),
        capture_output=True,
        text=True,
    )
    assert run.returncode == 2 and "--seed -1: at least 0" in run.stderr
    mnist = ROOT / "meshes" / "mnist_cnn.toml"
    env = {k: v for k, v in environment().items() if k != "NPDE_DATA"}
    run = subprocess.run(
        [
            sys.executable,
            str(calling.DRIVER),
            "--case",
            str(mnist),
            "--out",
            "/tmp/none",
        ],
        env=env,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 2 and run.stderr.count("error:") == 1
    assert "--data: got nothing" in run.stderr and "NPDE_DATA" in run.stderr


def test_all_training_cases_can_be_read():
    from npde_opt.training.case import load_training

    for name in ("digits", "mnist_cnn", "mnist_mlp"):
        assert load_training(ROOT / "meshes" / f"{name}.toml").settings()

"""Runs of the driver that are disturbed, then resumed: the short form of benchmarks/trials.py, and
each promise by itself."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from calling import command, environment, identify, rows, summary

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

import disturbed  # noqa: E402


@pytest.fixture(scope="module")
def trials(tmp_path_factory):
    return disturbed.Trials(tmp_path_factory.mktemp("trials"), (1,))


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("kind", disturbed.KINDS)
def test_random_trials(trials, kind, seed):
    if kind == "disk" and os.geteuid() != 0:
        pytest.skip("a small disk is mounted by root")
    disturbed.KINDS[kind](trials, random.Random(f"short {seed}"))


@pytest.mark.parametrize("size", ["4k", "64k", "200k"])
@pytest.mark.skipif(os.geteuid() != 0, reason="a small disk is mounted by root")
def test_a_full_disk_ends_two_ranks_with_one_message(trials, tmp_path, size):
    with disturbed.mounted(tmp_path / "disk", size) as (place, _):
        run = identify(
            2,
            trials.folder / "lbfgs.toml",
            place / "out",
            "--grid",
            32,
            32,
            "--levels",
            1,
        )
        assert run.returncode == 2, run.stdout + run.stderr
        lines = [line for line in run.stderr.splitlines() if line.startswith("error")]
        assert (
            len(lines) == 1
            and str(place) in lines[0]
            and "No space left on device" in lines[0]
        )


def test_a_run_of_wrong_input_leaves_the_folder_as_it_was(tmp_path):
    text = disturbed.STEADY.replace("WEIGHT", "1.0").replace("METHOD", "newton")
    text = text.replace(
        "source = 1.0 }]", 'source = "f" }]\nknown = { f = { file = "gone.npy" } }'
    )
    (tmp_path / "case.toml").write_text(text)
    earlier, new = tmp_path / "earlier", tmp_path / "new"
    earlier.mkdir()
    for name in ("history.csv", "summary.json", "parameters.vti"):
        (earlier / name).write_text("x")
    for out, options in ((earlier, ["--overwrite"]), (new, []), (new, [])):
        run = identify(1, tmp_path / "case.toml", out, *options)
        assert run.returncode == 2 and "equation.known.f: got gone.npy" in run.stderr, (
            run.stderr
        )
    assert sorted(p.name for p in earlier.iterdir()) == [
        "history.csv",
        "parameters.vti",
        "summary.json",
    ]
    assert list(new.iterdir()) == []


def test_what_no_posterior_can_be_of_leaves_an_earlier_run(tmp_path):
    text = disturbed.STEADY.replace("WEIGHT", "1.0").replace("METHOD", "newton")
    case, out = tmp_path / "case.toml", tmp_path / "out"
    case.write_text(text)
    assert identify(1, case, out).returncode == 0
    before = {p.name for p in out.iterdir()}
    case.write_text(text[: text.index("[[regularization]]")])
    run = identify(1, case, out, "--overwrite", "--uncertainty", "laplace")
    assert run.returncode == 2 and "the prior of D: got none" in run.stderr
    assert {p.name for p in out.iterdir()} == before


def test_a_finished_run_is_left_alone_and_lost_parts_of_it_come_back(trials, tmp_path):
    case, out = trials.folder / "newton.toml", tmp_path / "out"
    first = summary(identify(1, case, out), out)
    before, table = (out / "summary.json").read_bytes(), rows(out)
    (out / "history.csv").unlink()
    run = identify(1, case, out, "--resume")
    assert run.returncode == 0 and "this run is finished (converged" in run.stdout
    assert (out / "summary.json").read_bytes() == before and rows(out) == table
    for checkpoint in out.glob("checkpoint-*"):
        for file in checkpoint.iterdir():
            file.unlink()
        checkpoint.rmdir()
    (out / "summary.json").unlink()
    run = identify(1, case, out, "--resume")
    assert "no checkpoint to resume from: starting from the beginning" in run.stdout
    again = summary(run, out)
    assert again["objective"] == pytest.approx(first["objective"], rel=1e-10) and len(
        rows(out)
    ) == len(table)


def test_checkpoints_that_all_lack_a_file_are_told_by_name(trials, tmp_path):
    """As where a folder is removed while a checkpoint gets its name."""
    whole, out = trials.whole("lbfgs", 1), tmp_path / "out"
    identify(1, whole.case, out)
    (out / "summary.json").unlink()
    for file in out.glob("checkpoint-*/change_00.bin"):
        file.unlink()
    run = identify(1, whole.case, out, "--resume")
    assert run.returncode == 2 and "(change_00.bin is missing)" in run.stderr
    trials.resume(whole, out, torn=True)


MEASURED = """
[grid]
shape = [64]
[boundaries]
"x-" = "dirichlet"
"x+" = "dirichlet"
[equation]
terms = [{ diffusion = "D" }, { source = 1.0 }]
[[unknown]]
name = "D"
initial = 1.0
[[observation]]
points = { file = "o.npz", key = "p" }
data = { file = "o.npz", key = "d" }
sigma = 1e-3
[[regularization]]
weight = 1e-3
[optimizer]
gradient_rtol = 1e-5
"""


def test_resume_with_other_data_is_refused_by_the_name_of_the_file(tmp_path):
    x = np.linspace(0.05, 0.95, 19)
    (tmp_path / "case.toml").write_text(MEASURED)
    for true, code in ((1.0, 0), (2.0, 2)):
        np.savez(tmp_path / "o.npz", p=x[:, None], d=(x * (1 - x) / 2 / true)[None])
        run = identify(1, tmp_path / "case.toml", tmp_path / "out", "--resume")
        assert run.returncode == code, run.stdout + run.stderr
    assert "the contents of observation[0].points, file o.npz: got" in run.stderr


def test_what_a_stretched_grid_leaves(trials, tmp_path):
    text = (
        (trials.folder / "newton.toml")
        .read_text()
        .replace("shape = [24, 24]", f"edges = [{EDGES}, {EDGES}]")
    )
    (tmp_path / "case.toml").write_text(text.replace("random = 60", "random = 20"))
    found = summary(
        identify(1, tmp_path / "case.toml", tmp_path / "out", "--levels", 1),
        tmp_path / "out",
    )
    assert (
        tmp_path / "out" / "parameters.vtr"
    ).exists() and "relative_error_D" in found["metrics"]


EDGES = [round(1.3**i - 1, 6) for i in range(9)]


def test_a_truth_that_cannot_be_is_refused_before_the_first_iteration(trials, tmp_path):
    text = (trials.folder / "newton.toml").read_text()
    text = text.replace(
        "truth =", 'transform = "bounded"\nbounds = [0.5, 2.0]\ntruth ='
    )
    (tmp_path / "case.toml").write_text(text)
    run = identify(1, tmp_path / "case.toml", tmp_path / "out")
    assert (
        run.returncode == 2
        and "values strictly between 0.5 and 2" in run.stderr
        and not rows(tmp_path / "out")
    )


@pytest.mark.parametrize("name", ["convergence.png", "parameters.vti"])
def test_a_figure_or_file_that_fails_costs_a_line_and_not_the_result(
    trials, tmp_path, name
):
    (tmp_path / "out" / name).mkdir(parents=True)
    run = identify(1, trials.folder / "newton.toml", tmp_path / "out", "--plot")
    assert summary(run, tmp_path / "out")["status"] == "converged"
    assert run.stdout.count("warning: ") == 1 and "the result stays" in run.stdout


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_while_a_weight_is_chosen_ends_the_run(trials, tmp_path, number):
    case, out = trials.folder / "weight.toml", tmp_path / "out"
    run = subprocess.Popen(
        command(1, case, out, "--grid", "40", "40"),
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    for line in run.stdout:
        if line.startswith("weight "):
            break
    os.kill(run.pid, number)
    start = time.monotonic()
    _, text = run.communicate(timeout=900)
    assert run.returncode == 75 and f"stopped by {number.name}" in text
    assert time.monotonic() - start < 60 and not rows(out)


def test_signals_are_remembered_while_the_driver_still_loads(tmp_path):
    """Rather than ending it in the middle of an import."""
    code = (
        "import os, signal; from npde_opt import signals; signals.remember(); "
        "os.kill(os.getpid(), signal.SIGTERM);"
        "import petsc4py; petsc4py.init([]); from mpi4py import MPI; from npde_opt import errors;"
        "from npde_opt.runs.early import act_on_signals; errors.run(lambda: "
        "act_on_signals(MPI.COMM_WORLD))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=900
    )
    assert run.returncode == 75 and "stopped by SIGTERM before it began" in run.stderr

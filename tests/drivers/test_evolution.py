"""Cases with a time by the driver: nested iteration, groups of ranks, and a run killed and resumed
on several ranks."""

import signal

import pytest
from calling import identify, rows, stop, summary

CASE = """
[grid]
shape = [32, 32]

[equation]
terms = [{ diffusion = "D" }, { kinetics = { u = "r*u*(1 - u)" } }]

[time]
scheme = "imex-euler"
times = { end = 2.0, steps = 10 }

[[unknown]]
name = "D"
initial = 0.01
truth = { expression = "0.01 + 0.01*exp(-((x - 0.4)**2 + (y - 0.6)**2)/0.05)" }

[[unknown]]
name = "r"
kind = "scalar"
initial = 1.0
truth = 1.2

[[experiment]]
initial = { u = "exp(-((x - 0.3)**2 + (y - 0.5)**2)/0.02)" }

[[experiment]]
initial = { u = "exp(-((x - 0.7)**2 + (y - 0.4)**2)/0.02)" }

[[observation]]
times = [0.6, 1.2, 2.0]
noise = 0.02

[[regularization]]
weight = 10.0

[optimizer]
method = "gauss-newton"
gradient_rtol = 1e-4
insist = true
"""


SHORT = CASE.replace("end = 2.0, steps = 10", "end = 1.0, steps = 5").replace(
    "[0.6, 1.2, 2.0]", "[0.2, 0.6, 1.0]"
)


def write(folder, text):
    (folder / "case.toml").write_text(text)
    return folder / "case.toml"


def test_nested_iteration_comes_near_with_fewer_trajectories_on_the_finest_grid(
    tmp_path,
):
    case = write(tmp_path, CASE)
    found = {
        levels: summary(
            identify(1, case, tmp_path / str(levels), "--levels", levels),
            tmp_path / str(levels),
        )
        for levels in (1, 2)
    }
    assert {f["status"] for f in found.values()} == {"converged"}
    for run in found.values():  # two experiments of ten implicit steps
        assert (
            0 < run["metrics"]["state_residual_true"] < 1.01e-8
            and run["metrics"]["state_systems"] == 20
        )
    assert found[2]["objective"] == pytest.approx(found[1]["objective"], rel=1e-4)
    near = 1.0003 * found[1]["objective"]
    solves = {
        levels: next(
            int(row["forward_solves"]) + int(row["adjoint_solves"])
            for row in rows(tmp_path / str(levels))
            if int(row["level"]) == levels - 1 and float(row["objective"]) < near
        )
        for levels in (1, 2)
    }
    assert solves[2] < 0.7 * solves[1]
    assert found[2]["metrics"]["r"] == pytest.approx(1.2, rel=0.06)


@pytest.mark.parametrize(
    ("ranks", "options"), [(1, []), (2, ["--experiment-groups", 2])]
)
def test_a_killed_run_goes_on_from_its_last_iteration(tmp_path, ranks, options):
    case = write(tmp_path, SHORT)
    options = ["--grid", 12, 12, *options]
    whole = summary(
        identify(ranks, case, tmp_path / "whole", *options), tmp_path / "whole"
    )
    out = tmp_path / "killed"
    stop(ranks, case, out, signal.SIGKILL, *options)
    assert not (out / "summary.json").exists()
    run = identify(ranks, case, out, "--resume", *options)
    assert "resuming after iteration" in run.stdout
    assert summary(run, out)["objective"] == pytest.approx(whole["objective"], rel=1e-9)
    assert len(rows(out)) == len(rows(tmp_path / "whole"))

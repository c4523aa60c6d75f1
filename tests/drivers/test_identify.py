"""The driver identify.py as it is called: results on 1 and 2 ranks, stop and resume, wrong
input."""

import json
import re
import signal

import numpy as np
import pytest
from calling import identify, rows, stop, summary

CASE = """
[grid]
shape = [32, 32]

[boundaries]
"x-" = "dirichlet"
"x+" = "dirichlet"

[equation]
terms = [{ diffusion = "D" }, { source = 1.0 }]

[[unknown]]
name = "D"
initial = 1.0
truth = { lognormal = { contrast = 20.0, seed = 0 } }

[[experiment]]
boundary = { "x+" = 1.0 }

[[experiment]]
boundary = { "x-" = 0.0 }

[[observation]]
random = 100
noise = 0.01

[[regularization]]
weight = 1.0

[optimizer]
method = "gauss-newton"
gradient_rtol = 1e-6
"""
OBJECTIVE = 78.70357
GROUPS = ["--experiment-groups", 2]


@pytest.fixture
def case(tmp_path):
    """A function that writes CASE with some text replaced."""

    def write(*replacements):
        text = CASE
        for old, new in replacements:
            assert old in text
            text = text.replace(old, new)
        file = tmp_path / "case.toml"
        file.write_text(text)
        return file

    return write


def check_residuals(metrics, systems):
    """Of the answer, by rtol = 1e-8 in the preconditioned norm; and those of the whole run."""
    assert (
        1e-11 < metrics["state_residual_true"] < 1e-5
        and metrics["state_systems"] == systems
    )
    assert metrics["state_residual_true"] <= metrics["largest_residual_true"] * (
        1 + 1e-6
    )
    assert (
        metrics["state_iterations_mean"] > 1
        and "preconditioned" in metrics["state_tolerance"]
    )


def test_objective_is_the_same_on_any_number_of_ranks_and_groups(case, tmp_path):
    file, found = case(), {}
    for name, ranks, options in (
        ("one", 1, []),
        ("two", 2, []),
        ("three", 3, []),
        ("groups", 2, ["--experiment-groups", "2"]),
    ):
        out = tmp_path / name
        cycle = ("-state_recipe", "geometric")
        found[name] = summary(identify(ranks, file, out, *options, *cycle), out)
        assert found[name]["status"] == "converged"
        assert found[name]["ranks"] == ranks
        check_residuals(found[name]["metrics"], 2)
    assert found["one"]["objective"] == pytest.approx(OBJECTIVE, rel=1e-6)
    for name in ("two", "three", "groups"):
        assert found[name]["objective"] == pytest.approx(
            found["one"]["objective"], rel=1e-6
        )
    for count in ("finest_grid_solves", "total_solves"):
        # Of all groups together.
        one, groups = (found[name]["metrics"][count] for name in ("one", "groups"))
        assert groups == one > 0
    last = [rows(tmp_path / name)[-1] for name in ("one", "groups")]
    for count in ("forward_solves", "adjoint_solves"):
        one, groups = (int(row[count]) for row in last)
        assert groups == one > 0
    for name in ("history.csv", "parameters.vti", "state-0.vti", "state-1.vti"):
        assert (tmp_path / "groups" / name).exists()


def test_a_run_resumed_on_the_finest_of_three_grids_still_has_what_a_coarse_one_learnt(
    case, tmp_path
):
    file = case(
        ("[32, 32]", "[128, 128]"),
        ('method = "gauss-newton"', 'method = "newton"'),
        ("1e-6", "1e-9"),
    )
    whole = summary(
        identify(1, file, tmp_path / "whole", "--levels", 3),
        tmp_path / "whole",
    )
    out = tmp_path / "stopped"
    stop(1, file, out, signal.SIGKILL, "--levels", 3, level="2")
    assert not (out / "summary.json").exists()
    run = identify(1, file, out, "--levels", 3, "--resume")
    # Systems are solved to 1e-8 from guesses, which a run that goes on has to make anew: depending
    # on where it was killed the objectives differ by up to 5e-10.
    assert summary(run, out)["objective"] == pytest.approx(whole["objective"], rel=1e-8)
    assert "on grid 3" in run.stdout
    steps = [
        [r["inner_iterations"] for r in rows(folder)]
        for folder in (out, tmp_path / "whole")
    ]
    assert steps[0] == steps[1]


@pytest.mark.parametrize(
    ("ranks", "number", "options"),
    [
        (1, signal.SIGTERM, []),
        (2, signal.SIGUSR1, GROUPS),
        (2, signal.SIGKILL, []),
    ],
)
def test_stopped_and_resumed_run_gives_the_same_objective_to_the_last_bit(
    case, tmp_path, monkeypatch, ranks, number, options
):
    # OpenBLAS' dot products depend on the alignment of arrays: the same in all processes where
    # glibc maps each array
    monkeypatch.setenv("MALLOC_MMAP_THRESHOLD_", "512")
    monkeypatch.setenv("MALLOC_MMAP_MAX_", "60000")
    file = case(("[32, 32]", "[40, 40]"), ("1e-6", "1e-4"))
    whole = summary(
        identify(ranks, file, tmp_path / "whole", "--levels", 1, *options),
        tmp_path / "whole",
    )
    out = tmp_path / "stopped"
    code, text = stop(ranks, file, out, number, "--levels", 1, *options)
    assert not (out / "summary.json").exists()
    if number != signal.SIGKILL:
        assert code == 75, text
        assert list(out.glob("checkpoint-*"))
    run = identify(ranks, file, out, "--levels", 1, "--resume", *options)
    assert summary(run, out)["objective"] == pytest.approx(
        whole["objective"], rel=1e-10
    )
    assert "resuming after iteration" in run.stdout
    assert len(rows(out)) == len(rows(tmp_path / "whole"))
    counts = [s["metrics"]["finest_grid_solves"] for s in (summary(run, out), whole)]
    assert (
        counts[0] == counts[1]
    )  # the point of the checkpoint is evaluated again, and not counted again
    if ranks > 1 and not options:  # alignment of MPI's own memory
        return
    assert summary(run, out)["objective"] == whole["objective"]
    kept = ("iteration", "objective", "gradient_norm")
    assert [[r[k] for k in kept] for r in rows(out)] == [
        [r[k] for k in kept] for r in rows(tmp_path / "whole")
    ]


def test_run_stopped_on_a_coarse_level_resumes_there(case, tmp_path):
    file = case(("[32, 32]", "[64, 64]"), ("1e-6", "1e-4"))
    whole = summary(identify(1, file, tmp_path / "whole"), tmp_path / "whole")
    out = tmp_path / "stopped"
    stop(1, file, out, signal.SIGTERM)
    assert rows(out)[-1]["level"] == "0"
    found = summary(identify(1, file, out, "--resume"), out)
    assert found["objective"] == pytest.approx(whole["objective"], rel=1e-10)
    assert len(rows(out)) == len(rows(tmp_path / "whole"))


FILE_TRUTH = (
    "{ lognormal = { contrast = 20.0, seed = 0 } }",
    "{ file = 'truth.npy', resample = true }",
)
ELECTRODES = (
    "[optimizer]",
    "[electrodes]\nat = [[0.1, 0.5], [1.5, 0.5]]\nradius = 0.1\n[optimizer]",
)
WRONG = {
    "unknown key": ([("noise = 0.01", "noize = 0.01")], [], "noise'?"),
    "unknown section": ([("[optimizer]", "[optimiser]")], [], "optimizer'?"),
    "type of a key": ([("noise = 0.01", "noise = 'much'")], [], "observation[0].noise"),
    "shape": ([("[32, 32]", "[32, -1]")], [], "grid.shape"),
    "axes of a boundary": (
        [('"x-" = "dirichlet"', '"x-" = "dirichlett"')],
        [],
        "dirichlett",
    ),
    "side of an experiment": ([('"x+" = 1.0', '"w+" = 1.0')], [], "w+"),
    "negative conductivity": (
        [("initial = 1.0", "initial = -1.0")],
        [],
        "unknown.D.initial",
    ),
    "negative conductivity in a field": ([FILE_TRUTH], [], "unknown.D"),
    "NaN in a file": ([FILE_TRUTH], [], "truth"),
    "axes of a file": ([FILE_TRUTH], [], "unknown.D.truth"),
    "no file": ([FILE_TRUTH], [], "truth.npy"),
    "point outside": (
        [("random = 100", "points = [[0.5, 0.5], [1.5, 0.5]]")],
        [],
        "point",
    ),
    "expression": (
        [("initial = 1.0", "initial = { expression = 'open(1)' }")],
        [],
        "open",
    ),
    "position of an electrode": ([ELECTRODES], [], "electrodes[1]"),
    "negative conductivity of a field": (
        [("initial = 1.0", "initial = { expression = 'x - 0.5' }")],
        [],
        "unknown.D.initial",
    ),
    "potential that nothing fixes": (
        [('"x-" = "dirichlet"\n"x+" = "dirichlet"', '"x-" = "neumann"')],
        [],
        "boundaries",
    ),
    "part of the domain that nothing fixes": (
        [
            ("[32, 32]", "[32, 32]\nactive = { expression = 'abs(y-0.5) > 0.1' }"),
            ('"x-" = "dirichlet"\n"x+" = "dirichlet"', '"y-" = "dirichlet"'),
        ],
        [],
        "grid.active",
    ),
    "mask": ([("[32, 32]", "[32, 32]\nactive = 0")], [], "grid.active"),
    "more cells than indices": ([], ["--grid", 50000, 50000], "64-bit"),
    "more cells than indices, masked": (
        [("[32, 32]", "[32, 32]\nactive = { expression = 'x > 0.1' }")],
        ["--grid", 50000, 50000],
        "64-bit",
    ),
    "table in a section": (
        [ELECTRODES, ("radius", "raduis")],
        [],
        "did you mean 'radius'",
    ),
    "PETSc option": (
        [("[optimizer]", "[petsc]\nrecipe = 'gamg'\n[optimizer]")],
        [],
        "petsc.recipe",
    ),
    "list of PETSc options": (
        [("[optimizer]", "[[petsc]]\nstate_recipe = 'gamg'\n[optimizer]")],
        [],
        "petsc: got [{",
    ),
    "recipe": (
        [("[optimizer]", "[petsc]\nstate_recipe = 'gang'\n[optimizer]")],
        [],
        "-state_recipe",
    ),
    "weight": ([("weight = 1.0", "weight = 'l-curv'")], [], "regularization[0].weight"),
    "data folder": ([], ["--data", "/nowhere"], "--data"),
    "number of data": (
        [("noise = 0.01", "sigma = 0.1\ndata = { file = 'truth.npy' }")],
        [],
        "observation[0].data",
    ),
    "TOML": ([("[optimizer]", "[optimizer")], [], "TOML"),
    "grid option": ([], ["--grid", 16, 16, 16], "grid"),
    "variable of a case without": ([], ["--set", "cells=12"], "--set"),
    "memory of a steady state": ([], ["--memory", "4GB"], "--memory"),
    "optimizer": ([], ["--optimizer", "newten"], "newten"),
    "unknown option": ([], ["--resum"], "--resum"),
    "resume and overwrite": ([], ["--resume", "--overwrite"], "--overwrite"),
    "levels": ([], ["--levels", 0], "--levels"),
    "groups": ([], ["--experiment-groups", 5], "experiment"),
}
FILES = {
    "negative conductivity in a field": -np.ones((4, 4)),
    "NaN in a file": np.full((4, 4), np.nan),
    "axes of a file": np.ones(4),
    "number of data": np.ones((2, 3)),
}


def assert_input_error(run, text):
    assert run.returncode == 2, run.stdout + run.stderr
    lines = [
        line
        for line in run.stderr.splitlines()
        if line.startswith("error") or ": error:" in line
    ]
    assert len(lines) == 1, run.stderr
    assert text in lines[0]
    assert "Traceback" not in run.stderr


@pytest.mark.parametrize("name", WRONG)
def test_wrong_input_is_named(case, tmp_path, name):
    replacements, options, text = WRONG[name]
    if name in FILES:
        np.save(tmp_path / "truth.npy", FILES[name])
    out = tmp_path / "out"
    assert_input_error(identify(1, case(*replacements), out, *options), text)


@pytest.mark.parametrize(
    ("name", "ranks"),
    [
        ("unknown key", 2),
        ("NaN in a file", 3),
        ("negative conductivity in a field", 2),
        ("point outside", 2),
        ("groups", 2),
        ("unknown option", 3),
        ("position of an electrode", 3),
        ("part of the domain that nothing fixes", 3),
        ("more cells than indices", 2),
    ],
)
def test_wrong_input_ends_all_ranks(case, tmp_path, name, ranks):
    replacements, options, text = WRONG[name]
    if name in FILES:
        np.save(tmp_path / "truth.npy", FILES[name])
    assert_input_error(
        identify(ranks, case(*replacements), tmp_path / "out", *options), text
    )


@pytest.mark.parametrize("options", [[], GROUPS])
def test_out_that_cannot_be_written_on_two_ranks(case, tmp_path, options):
    (tmp_path / "file").write_text("")
    assert_input_error(identify(2, case(), tmp_path / "file", *options), "--out")
    assert_input_error(identify(2, case(), "/proc/results", *options), "--out")


def test_out_that_cannot_be_used(case, tmp_path):
    file, out = case(), tmp_path / "out"
    out.mkdir()
    (out / "history.csv").write_text("level\n1\n")
    assert_input_error(identify(1, file, out), "--out")
    assert_input_error(identify(1, file, ""), "--out")
    (tmp_path / "file").write_text("")
    assert_input_error(identify(1, file, tmp_path / "file"), "--out")
    assert_input_error(identify(1, file, tmp_path / "file" / "inside"), "--out")
    assert_input_error(identify(1, tmp_path / "no.toml", tmp_path / "new"), "--case")


def test_processes_that_do_not_see_each_other_are_refused(case, tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "2")
    assert_input_error(
        identify(1, case(), tmp_path / "out"), "started with SLURM_STEP_NUM_TASKS=2"
    )
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("ranks", [1, 2])
def test_diverged_solve_ends_with_3(case, tmp_path, ranks):
    run = identify(ranks, case(), tmp_path / "out", "-state_ksp_max_it", 1)
    assert run.returncode == 3, run.stdout + run.stderr
    assert run.stderr.count("error: solver 'state_") == 1


def test_a_run_that_stopped_at_its_last_iteration_goes_on_to_a_later_one(
    case, tmp_path
):
    out, limit = tmp_path / "out", "[optimizer]\nmax_iterations = "
    run = identify(1, case(("[optimizer]", limit + "2")), out, "--levels", 1)
    assert "to go on raise max_iterations" in run.stdout, run.stderr
    whole = case(("[optimizer]", limit + "40"))
    run = identify(1, whole, out, "--levels", 1, "--resume")
    found = summary(run, out)
    assert "stopped at its last iteration, 2; it goes on to 40" in run.stdout
    assert found["status"] == "converged"
    assert found["objective"] == pytest.approx(OBJECTIVE, rel=1e-5)
    steps = [int(row["iteration"]) for row in rows(out)]
    assert steps == list(range(found["iterations"] + 1)) and len(steps) > 4


def test_resume_with_another_case_is_refused(case, tmp_path):
    out = tmp_path / "out"
    summary(identify(1, case(), out), out)
    assert_input_error(
        identify(1, case(("noise = 0.01", "noise = 0.02")), out, "--resume"), "case"
    )
    assert (
        summary(identify(1, case(), out, "--overwrite"), out)["status"] == "converged"
    )


@pytest.mark.parametrize(("ranks", "options"), [(1, []), (2, GROUPS)])
def test_verify(case, tmp_path, ranks, options):
    run = identify(ranks, case(), tmp_path / "out", "--verify", *options)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "WRONG" not in run.stdout and run.stdout.rstrip().endswith("verified")
    orders = re.search(
        r"unknown D: orders (\S+) with the gradient .* (\S+) with the Hessian",
        run.stdout,
    )
    assert abs(float(orders[1]) - 2) < 0.1 and abs(float(orders[2]) - 3) < 0.1
    assert "\nregularizer of D: " in run.stdout and "\nmisfit of " in run.stdout
    assert float(re.search(r"differ by (\S+) relative", run.stdout)[1]) < 1e-9
    assert not (tmp_path / "out").exists()


def test_discrepancy_principle_fits_to_the_noise(case, tmp_path):
    out = tmp_path / "out"
    found = summary(
        identify(1, case(("weight = 1.0", "weight = 'discrepancy'")), out, "--plot"),
        out,
    )
    tried = json.loads((out / "weight.json").read_text())
    assert (
        tried["reached"]
        and found["metrics"]["regularization_weight"] == tried["weight"]
    )
    assert tried["chi_squared"][
        tried["weights"].index(tried["weight"])
    ] == pytest.approx(1, abs=0.03)
    assert found["metrics"]["chi_squared"] == pytest.approx(1, abs=0.1)
    assert (out / "D.png").exists() and (out / "weight.png").exists()


def test_corner_of_the_l_curve_recovers_best(case, tmp_path):
    """Its error is lower than those far to both sides, which fit the noise or the starting
    value."""
    out = tmp_path / "corner"
    run = identify(1, case(("weight = 1.0", "weight = 'l-curve'")), out, "--plot")
    chosen = summary(run, out)["metrics"]
    assert (out / "weight.png").exists()
    errors = []
    for factor in (1 / 256, 256):
        weight = chosen["regularization_weight"] * factor
        errors.append(
            summary(
                identify(
                    1,
                    case(("weight = 1.0", f"weight = {weight}")),
                    tmp_path / f"{factor}",
                ),
                tmp_path / f"{factor}",
            )["metrics"]["relative_error_D"]
        )
    assert chosen["relative_error_D"] < 0.9 * min(errors)
    assert 0.5 < chosen["chi_squared"] < 2


OBSERVED = """noise = 0.01
[[observation]]
sides = ["y-", { side = "y+", lower = [0.2, 0], upper = [0.6, 1] }]
[[observation]]
boxes = [{ lower = [0.1, 0.1], upper = [0.3, 0.4] }]
[[observation]]
balls = [{ at = [0.6, 0.6], radius = 0.15 }]
[[observation]]
integrals = [{ expression = "x*y" }]"""


def test_all_kinds_of_observations_are_fitted(case, tmp_path):
    out, file = tmp_path / "out", case(("noise = 0.01", OBSERVED))
    found = {
        n: summary(identify(n, file, out / str(n), "--plot"), out / str(n))
        for n in (1, 2)
    }
    assert (
        found[1]["status"] == "converged" and found[1]["metrics"]["chi_squared"] < 1.2
    )
    assert found[2]["objective"] == pytest.approx(found[1]["objective"], rel=1e-6)


def test_stages_are_named(case, tmp_path):
    log = tmp_path / "log.txt"
    summary(
        identify(1, case(), tmp_path / "out", "-log_view", f":{log}"), tmp_path / "out"
    )
    for name in (
        "setup",
        "assemble",
        "forward",
        "adjoint",
        "hessian",
        "regularization",
        "io",
    ):
        line = next(
            x for x in log.read_text().splitlines() if re.match(rf" *\d+: +{name}:", x)
        )
        assert float(line.split()[2]) > 0


def test_options_of_the_case_give_way_to_the_command_line(case, tmp_path):
    file = case(("[optimizer]", "[petsc]\nstate_ksp_max_it = 1\n[optimizer]"))
    assert identify(1, file, tmp_path / "a").returncode == 3
    assert identify(1, file, tmp_path / "b", "-state_ksp_max_it", 100).returncode == 0

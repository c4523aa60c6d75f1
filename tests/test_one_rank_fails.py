"""Whatever one rank raises, anywhere, ends all ranks with one message and the error's exit code."""

import json
import sys
from pathlib import Path

import pytest

from npde_opt import errors

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import trials  # noqa: E402

SHORT = [
    ("before", "exit0", "first", 1, 2),
    ("value", "exit256", "first", 2, 2),
    ("value", "ValueError", "first", 1, 2),
    ("value", "SolverError", "later", 2, 2),
    ("value", "nan", "later", 1, 2),
    ("gradient", "unpicklable", "later", 2, 2),
    ("gradient", "nan", "later", 1, 2),
    ("weights", "KeyboardInterrupt", "first", 1, 2),
    ("regularizer", "nan", "later", 2, 2),
    ("regularizer-hessian", "exit5", "later", 1, 2),
    ("forward", "SolverError", "first", 1, 3),
    ("norm", "MemoryError", "later", 1, 3),
    ("monitor", "nan", "later", 2, 2),
    ("monitor", "nostr", "first", 1, 2),
    ("after", "PETSc", "first", 2, 2),
]


@pytest.mark.parametrize("where, what, when, groups, ranks", SHORT)
def test_one_rank_fails(where, what, when, groups, ranks):
    assert trials.OneRankFails(where, what, when, groups, ranks).check() == ""


@pytest.mark.parametrize(
    "error, code",
    [
        (SystemExit(0), 0),
        (SystemExit(None), 0),
        (SystemExit(5), 5),
        (SystemExit(256), 1),
        (SystemExit(-1), 255),
        (SystemExit("text"), 1),
        (SystemExit(False), 0),
        (SystemExit(0.0), 1),
        (KeyboardInterrupt(), 130),
        (ValueError(), 1),
    ],
)
def test_exit_codes(error, code):
    assert errors.exit_code(error) == code


@pytest.mark.parametrize(
    "given, code", [(0, 1), (256, 1), (512, 1), (-1, 255), (3, 3), ("x", 1), (None, 1)]
)
def test_no_error_has_the_exit_code_of_success(given, code):
    error = ValueError("it failed")
    error.exit_code = given
    assert errors.exit_code(error) == code


def test_nothing_fails():
    ended = [
        trials.launch(
            ranks, "tests/failing_rank.py", "nowhere", "none", "first", groups
        )
        for ranks, groups in ((1, "1"), (2, "2"))
    ]
    assert [e.code for e in ended] == [0, 0]
    assert ended[0].text.split(" on ")[0] == ended[1].text.split(" on ")[0]


BLOWS_UP = """
[case]
title = "two trajectories, one of which blows up for large r"
[grid]
shape = [16]
[equation]
terms = [{ diffusion = "D" }, { kinetics = { u = "r*u**2" } }]
known = { D = 0.01 }
[time]
scheme = "imex-euler"
times = { end = 1.0, steps = 10 }
bound = 50.0
[[unknown]]
name = "r"
kind = "scalar"
transform = "identity"
initial = 0.2
truth = 0.8
[[experiment]]
initial = { u = 0.1 }
[[experiment]]
initial = { u = 1.0 }
[[observation]]
times = [1.0]
noise = 0.01
[optimizer]
method = "lbfgs"
max_iterations = 3
"""


def test_a_state_that_one_group_cannot_compute_is_a_rejected_step_of_all(tmp_path):
    (tmp_path / "case.toml").write_text(BLOWS_UP)
    objectives = []
    for groups in ("1", "2"):
        out = tmp_path / groups
        ended = trials.launch(
            2,
            "drivers/identify.py",
            "--case",
            str(tmp_path / "case.toml"),
            "--out",
            str(out),
            "--experiment-groups",
            groups,
        )
        assert ended.code == 0, ended.text
        objectives.append(json.loads((out / "summary.json").read_text())["objective"])
    assert objectives[0] == pytest.approx(objectives[1], rel=1e-12)


CODES = {"ValueError": 1, "InputError": 2, "KeyboardInterrupt": 130}


@pytest.mark.parametrize(
    "what, who, before, others, ranks",
    [
        ("ValueError", "1", "nothing", "barrier", 2),
        ("InputError", "2", "nothing", "end", 3),
        ("InputError", "0", "block", "barrier", 2),
        ("ValueError", "2", "block", "sum", 3),
        ("KeyboardInterrupt", "1", "block", "end", 2),
        ("ValueError", "all", "nothing", "end", 2),
        ("InputError", "all", "block", "end", 3),
    ],
)
def test_a_script_without_run_ends_on_all_ranks(what, who, before, others, ranks):
    """One message, and the error's exit code, whatever the others wait for."""
    ended = trials.launch(ranks, "tests/plain_script.py", what, who, before, others)
    assert ended.code == CODES[what], ended.text
    said = [line for line in ended.text.splitlines() if line.startswith("error")]
    assert len(said) == 1 and ("it failed" in said[0] or what == "KeyboardInterrupt"), (
        ended.text
    )


def test_a_rank_that_leaves_a_script_ends_those_that_come_to_an_agreement_without_it():
    ended = trials.launch(3, "tests/plain_script.py", "exit3", "1", "block", "sum")
    assert ended.code == 1
    assert (
        "rank 0 forms a sum" in ended.text
        and "rank 1 has left the program" in ended.text
    )


def test_a_script_that_leaves_on_all_ranks_leaves_with_its_code():
    for before in ("nothing", "block"):
        assert (
            trials.launch(
                2, "tests/plain_script.py", "exit3", "all", before, "end"
            ).code
            == 3
        )
        ended = trials.launch(2, "tests/plain_script.py", "none", "all", before, "sum")
        lines = [
            line for line in ended.text.split("\n") if not line.startswith("[hwloc")
        ]
        assert ended.code == 0 and not "".join(lines).strip()


@pytest.mark.parametrize("ranks, code", [(1, 1), (2, 2)])
def test_on_one_rank_python_says_what_it_always_does(ranks, code):
    ended = trials.launch(
        ranks, "tests/plain_script.py", "InputError", "all", "nothing", "end"
    )
    assert ended.code == code and ("Traceback" in ended.text) == (ranks == 1)

"""Whatever one rank raises, anywhere, ends all ranks with one message and the error's exit code."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest

spec = importlib.util.spec_from_file_location("trials", Path(__file__).parents[1] / "benchmarks" / "trials.py")
trials = importlib.util.module_from_spec(spec)
sys.modules["trials"] = trials
spec.loader.exec_module(trials)

SHORT = [
    ("before", "exit0", "first", 1, 2),
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


def test_nothing_fails():
    ended = [trials.launch(ranks, "tests/failing_rank.py", "nowhere", "none", "first", groups)
             for ranks, groups in ((1, "1"), (2, "2"))]
    assert [e.code for e in ended] == [0, 0]
    assert ended[0].text.split(" on ")[0] == ended[1].text.split(" on ")[0]


BLOWS_UP = """
[case]
title = "two trajectories, one of which blows up for large r"
[grid]
shape = [16]
[evolution]
terms = [{ diffusion = "D" }, { kinetics = { u = "r*u**2" } }]
known = { D = 0.01 }
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
        ended = trials.launch(2, "drivers/identify.py", "--case", str(tmp_path / "case.toml"), "--out", str(out),
                              "--experiment-groups", groups)
        assert ended.code == 0, ended.text
        objectives.append(json.loads((out / "summary.json").read_text())["objective"])
    assert objectives[0] == pytest.approx(objectives[1], rel=1e-12)

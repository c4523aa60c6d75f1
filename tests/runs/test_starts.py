"""Several starts of a case: stopped in the middle of one and resumed, and what is told of them."""

import contextlib
import csv
import io
import json

import numpy as np
import pytest
from mpi4py import MPI
from run_options import run_options

from npde_opt.cases import load_case
from npde_opt.ensemble import Ensemble
from npde_opt.errors import InputError, Interrupted
from npde_opt.restarts import Found, Outcome
from npde_opt.runs import starts
from npde_opt.runs.monitor import Monitor
from npde_opt.runs.run import Run

CASE = """
[grid]
shape = [16]
[boundaries]
"x-" = "dirichlet"
"x+" = "dirichlet"
[equation]
terms = [{ diffusion = "D" }, { source = "q**2 + 0.5*q" }]
known = { D = 1.0 }
[[unknown]]
name = "q"
kind = "scalar"
transform = "identity"
initial = 0.4
truth = 1.0
[[observation]]
points = [[0.3], [0.6]]
[optimizer]
restarts = [{ q = -0.6 }, { q = 0.9 }]
"""


def world():
    return MPI.COMM_WORLD


@pytest.fixture
def file(tmp_path):
    found = world().bcast(tmp_path, root=0) / "case.toml"
    if world().rank == 0:
        found.write_text(CASE)
    world().Barrier()
    return found


class Stopping(Monitor):
    """Ends the run when this many rows are written."""

    last = 10**9

    def __call__(self, row, state):
        answer = super().__call__(row, state)
        if self.rows >= self.last:
            raise Interrupted("enough")
        return answer


def run(file, out, resume=False, last=10**9):
    """Rows of the history and the summary; None where it was stopped."""
    options = run_options(file, out, resume=resume)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Stopping, "last", last)
        patch.setattr("npde_opt.runs.run.Monitor", Stopping)
        case, ensemble = load_case(file), Ensemble.split(world(), 1, 1)
        with (
            Run(options, case, ensemble, world(), 0.0) as it,
            contextlib.suppress(Interrupted),
        ):
            assert it.goes_on()
            it.prepare()
            it.report(it.identify())
        rows = it.out.history()
    world().Barrier()
    summary = out / "summary.json"
    return rows, json.loads(summary.read_text()) if summary.exists() else None


@pytest.mark.parallel([1, 2])
def test_a_run_that_is_stopped_in_any_start_goes_on_there(file):
    rows, whole = run(file, file.parent / "whole")
    numbers = [int(r["start"]) for r in rows]
    assert numbers == sorted(numbers) and set(numbers) == {0, 1, 2}
    first = numbers.count(0)
    # At the end of the first start, and in the second.
    for last in (first, first + 2):
        out = file.parent / f"stopped-{last}"
        cut, nothing = run(file, out, last=last)
        assert nothing is None and len(cut) == last
        again, found = run(file, out, resume=True)
        keys = ("start", "iteration", "objective")
        shown, kept = ([[r[k] for k in keys] for r in table] for table in (again, rows))
        np.testing.assert_allclose(shown, kept, rtol=1e-7)
        metrics, wanted = found["metrics"], whole["metrics"]
        assert metrics["best_start"] == wanted["best_start"]
        assert found["objective"] == pytest.approx(whole["objective"], rel=1e-12)
        for one, other in zip(metrics["starts"], wanted["starts"], strict=True):
            assert one["work"] == other["work"]
            assert one["distance"] == pytest.approx(
                other["distance"], rel=1e-6, abs=1e-6
            )
        assert "ended start 1" in metrics["minima"][0]
        assert (out / "starts.csv").read_text().count("\n") == 4


def outcomes():
    return [
        Outcome(
            0, "converged", "", 3, 1.5, 0.9, {"q": [1.0], "r": [2.0, 3.0]}, distance=0.0
        ),
        Outcome(1, "failed", "solver 'state_' failed"),
        Outcome(
            2,
            "max_iterations",
            "",
            50,
            40.0,
            1.9,
            {"q": [7.0], "r": [2.0, 3.0]},
            distance=9.0,
        ),
        Outcome(
            3, "stalled", "", 5, 9.0, 1.1, {"q": [-1.0], "r": [2.0, 3.0]}, distance=31.0
        ),
    ]


def found():
    return Found(None, None, [], 1, 1, 1, outcomes(), 0)


def test_the_table_has_a_line_a_start():
    rows = list(csv.DictReader(io.StringIO(starts.csv_text(outcomes()))))
    assert [r["status"] for r in rows] == [
        "converged",
        "failed",
        "max_iterations",
        "stalled",
    ]
    assert [r["q"] for r in rows] == ["1.0", "", "7.0", "-1.0"]
    assert [r["r[1]"] for r in rows] == ["3.0", "", "3.0", "3.0"]
    assert rows[1]["objective"] == ""
    metrics = starts.metrics(found())
    text = starts.lines(metrics["starts"], metrics["best_start"])
    assert text[0].split()[:3] == ["start", "status", "iterations"]
    assert text[1].split()[:4] == ["*", "0", "converged", "3"] and "q 1, r 2" in text[1]
    assert text[2].endswith("solver 'state_' failed")


def test_other_minima_are_told_of_starts_that_ended():
    metrics = starts.metrics(found())
    assert metrics["minima"] == [
        "the best is of start 0; elsewhere ended start 3 (objective 9, 31 standard deviations away)"
    ]


def test_starts_of_unknowns_that_are_not_there(tmp_path):
    file = tmp_path / "case.toml"
    file.write_text(CASE.replace("{ q = -0.6 }", "{ qq = -0.6 }"))
    with pytest.raises(
        InputError, match=r"optimizer\.restarts\[0\]: unknown 'qq'.*'q'"
    ):
        load_case(file, MPI.COMM_SELF)


@pytest.mark.parametrize("given", ["-1", "[1.0]", "true"])
def test_restarts_that_cannot_be(tmp_path, given):
    file = tmp_path / "case.toml"
    file.write_text(CASE.replace("[{ q = -0.6 }, { q = 0.9 }]", given))
    with pytest.raises(InputError, match=r"optimizer\.restarts"):
        load_case(file, MPI.COMM_SELF)

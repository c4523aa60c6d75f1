"""The run that predicts a series by reservoirs, on a short one in a table."""

import json
from argparse import Namespace

import numpy as np
import pytest
from mpi4py import MPI

from npde_opt.errors import InputError
from npde_opt.training import reservoirs

WORLD = MPI.COMM_WORLD
CASE = """
[data]
kind = "series"
file = "waves.csv"
time = "t"
length = 1
until = [100]
[reservoir]
cells = [8]
diffusion = [0.1]
leak = [0.5, 1.0]
carried = [0.5]
drive = [1.0]
bias = [0.5]
ridge = [1e-6, 1e-2]
reservoirs = 3
washout = 10
stretches = 2
span = 20
"""


def run(folder, text=CASE, late=1.0, **others):
    folder = WORLD.bcast(folder)
    if WORLD.rank == 0:
        t = np.arange(130)
        waves = np.sin(0.6 * t) + np.sin(0.25 * t)
        waves[t > 100] *= late
        np.savetxt(
            folder / "waves.csv", np.c_[t, waves], "%g", ",", header="t,y", comments=""
        )
        (folder / "case.toml").write_text(text)
    WORLD.barrier()
    given = {"case": str(folder / "case.toml"), "out": str(folder / "out"), "seed": 0}
    given |= {"data": None, "plot": False, "overwrite": True}
    with reservoirs.Reservoirs(Namespace(**(given | others)), WORLD, 0.0) as found:
        found.prepare()
        found.train()
        found.report()
    return found, json.loads((folder / "out" / "summary.json").read_text())["metrics"]


@pytest.mark.parallel([1, 2])
def test_a_series_is_predicted(tmp_path):
    found, told = run(tmp_path)
    assert told["rmse"]["101 to 129"] < 0.2 < np.abs(np.diff(found.wanted[:, 0])).mean()
    assert told["rmse_held_back"] == min(
        c.error for n in (0, 1) for c in found._tried(n, found.candidates[n])
    )
    rows = np.genfromtxt(found.out.file("predictions.csv"), delimiter=",", names=True)
    np.testing.assert_allclose(rows["predicted_0"], found.found[:, 0], rtol=1e-6)
    assert rows["time"][0] == 1


def test_what_follows_the_last_time_of_learning_decides_nothing(tmp_path):
    found, told = run(tmp_path)
    other, changed = run(tmp_path, late=-2.0)
    assert other.chosen == found.chosen
    np.testing.assert_array_equal(found.found[:100], other.found[:100])
    assert told["rmse"] != changed["rmse"]


def test_the_figure_is_drawn(tmp_path):
    pytest.importorskip("matplotlib")
    run(tmp_path, plot=True)
    assert (tmp_path / "out" / reservoirs.FIGURE).stat().st_size > 1000


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("length = 1", "length = 2", "data.length"),
        ("until = [100]", "", "data.until"),
        ("span = 20", "span = 50", "reservoir"),
        ("cells = [8]", "cells = []", "reservoir.cells"),
        ("diffusion = [0.1]", "diffusion = [0.7]", "reservoir.diffusion"),
    ],
)
def test_cases_that_cannot_be_are_told(tmp_path, old, new, told):
    with pytest.raises(InputError, match=told):
        run(tmp_path, CASE.replace(old, new))

"""Small files are opened by one rank, whatever their number: starts do not ask a file server more
often on more ranks. Arrays that every rank has a window or a share of are opened by each."""

import sys
from pathlib import Path

import numpy as np
import pytest
from mpi4py import MPI

from npde_opt.cases import load_case
from npde_opt.ensemble import Ensemble

COMM = MPI.COMM_WORLD
CASE = """
[grid]
file = "box.toml"
active = { file = "mask.npy" }
[boundaries]
"x-" = "dirichlet"
[[unknown]]
name = "D"
initial = 1.0
[[observation]]
points = { file = "points.csv" }
data = { file = "data.csv", column = "u" }
sigma = 0.1
[[observation]]
points = { file = "points.npy" }
data = { file = "data.npy" }
sigma = { file = "sigma.csv", column = "s" }
"""
MAPPED = {"mask.npy", "data.npy"}
_opened: list[str] | None = None


def _hear(event, arguments):
    if _opened is not None and event == "open":
        _opened.append(str(arguments[0]))


def written(folder):
    points = np.random.default_rng(0).uniform(0.1, 0.9, (6, 2))
    np.save(folder / "points.npy", points)
    np.save(folder / "data.npy", np.arange(6.0))
    np.save(folder / "mask.npy", np.ones((6, 5)))
    rows = "".join(f"{x},{y}\n" for x, y in points)
    (folder / "points.csv").write_text("x,y\n" + rows)
    (folder / "data.csv").write_text("u\n" + "1.5\n" * 6)
    (folder / "sigma.csv").write_text("s\n" + "0.5\n" * 6)
    (folder / "box.toml").write_text("shape = [6, 5]\n")
    (folder / "case.toml").write_text(CASE)


@pytest.mark.parallel([1, 2, 3])
def test_small_files_are_opened_by_one_rank(tmp_path):
    global _opened
    folder = COMM.bcast(tmp_path)
    if COMM.rank == 0:
        written(folder)
    COMM.Barrier()
    sys.addaudithook(_hear)
    _opened = []
    case = load_case(folder / "case.toml", COMM)
    ensemble = Ensemble.whole(COMM)
    case.prepare(ensemble)
    objective, _ = case.build(case.grid(COMM), ensemble)
    names = [Path(p).name for p in _opened if Path(p).parent == folder]
    _opened = None
    objective.destroy()
    every = {"case.toml", "box.toml", "points.csv", "data.csv", "points.npy"}
    every |= {"sigma.csv"} | MAPPED
    if COMM.rank:
        assert set(names) <= MAPPED
    else:
        assert set(names) == every
    # A file is looked into before it is read: twice each.
    assert all(names.count(n) <= 6 for n in names), names

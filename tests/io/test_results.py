"""The folder of a run: whose it is, history, summary."""

import csv
import json
import os

import numpy as np
import pytest
from mpi4py import MPI

from npde_opt.errors import InputError
from npde_opt.io.history import COLUMNS, read_history
from npde_opt.io.results import Seconds, Summary, peak_memory_mb, versions
from npde_opt.runs.folder import RunDirectory

KEYS = {
    "driver",
    "case",
    "ranks",
    "grid",
    "unknowns",
    "parameters",
    "status",
    "iterations",
    "objective",
    "objective_initial",
    "gradient_norm",
    "gradient_norm_initial",
    "forward_solves",
    "adjoint_solves",
    "krylov_iterations_mean",
    "seconds",
    "peak_memory_mb",
    "peak_memory_mb_of_a_rank",
    "versions",
    "metrics",
}


def row(i):
    return {
        "level": 0,
        "iteration": i,
        "objective": 1 / 3 + i,
        "gradient_norm": np.float64(0.1) ** i,
        "forward_solves": np.int64(i),
        "seconds": 0.5 * i,
    }


def summary(**changes):
    given = {
        "driver": "identify",
        "case": "meshes/a.toml",
        "ranks": 1,
        "grid": [4, 5],
        "unknowns": 20,
        "parameters": 20,
        "status": "converged",
        "iterations": 3,
        "objective": 1.5,
        "objective_initial": 20.0,
        "gradient_norm": 1e-7,
        "gradient_norm_initial": 1.0,
        "forward_solves": 5,
        "adjoint_solves": 4,
        "krylov_iterations_mean": 7.5,
        "seconds": Seconds(1.0, 2.0, 3.0),
        "peak_memory_mb": 100.0,
        "peak_memory_mb_of_a_rank": 60.0,
        "metrics": {
            "relative_error": np.float32(0.5),
            "undefined": np.nan,
            "per_region": np.arange(2),
        },
    }
    return Summary(**(given | changes))


def shared(tmp_path):
    return MPI.COMM_WORLD.bcast(tmp_path, root=0)


@pytest.mark.parallel([1, 2])
def test_summary_has_exactly_the_agreed_keys(tmp_path):
    out = RunDirectory(shared(tmp_path) / "run")
    out.write_summary(summary())
    MPI.COMM_WORLD.Barrier()
    read = json.loads((out.path / "summary.json").read_text())
    assert set(read) == KEYS
    assert read["seconds"] == {"setup": 1.0, "solve": 2.0, "total": 3.0}
    assert read["metrics"] == {
        "relative_error": 0.5,
        "undefined": None,
        "per_region": [0, 1],
    }
    assert (
        {"npde_opt", "petsc", "mpi", "numpy", "python"}
        <= set(read["versions"])
        == set(versions())
    )


@pytest.mark.parallel([1, 2])
def test_history_is_there_while_the_run_goes_on(tmp_path):
    out = RunDirectory(shared(tmp_path) / "run")
    for i in range(3):
        out.append(row(i))
        assert len(out.history()) == i + 1
    assert out.history() == [row(i) for i in range(3)]
    with open(out.path / "history.csv", newline="") as file:
        table = list(csv.reader(file))
    assert tuple(table[0]) == COLUMNS and all(
        len(line) == len(COLUMNS) for line in table
    )
    with pytest.raises(InputError, match="surprise"):
        out.append({"surprise": 1})
    out.close()


@pytest.mark.parallel([1, 2])
def test_resume_drops_later_rows_and_repeats_none(tmp_path):
    out = RunDirectory(shared(tmp_path) / "run")
    for i in range(5):
        out.append(row(i))
    copy = out.history_copy(3)
    out.close()
    MPI.COMM_WORLD.Barrier()
    out = RunDirectory(out.path, mode="resume")
    assert out.restore_history(copy, 3) == ""
    out.append(row(3))
    assert [r["iteration"] for r in out.history()] == [0, 1, 2, 3]
    assert out.history()[1]["objective"] == row(1)["objective"]
    out.close()


def cut(file):
    file.write_bytes(file.read_bytes()[:-9])


def change(file):
    file.write_bytes(file.read_bytes().replace(b"1.333", b"1.334"))


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (cut, "has 2 of 3 rows"),
        (change, "is damaged in line 3"),
        (lambda file: file.unlink(), "is gone"),
    ],
)
def test_a_history_that_was_damaged_is_restored_and_said_so(tmp_path, damage, said):
    out = RunDirectory(tmp_path, MPI.COMM_SELF)
    for i in range(3):
        out.append(row(i))
    copy, whole = out.history_copy(3), (tmp_path / "history.csv").read_bytes()
    out.close()
    damage(tmp_path / "history.csv")
    out = RunDirectory(tmp_path, MPI.COMM_SELF, "resume")
    assert out.restore_history(copy, 3) == said
    assert (tmp_path / "history.csv").read_bytes() == whole
    assert [r["iteration"] for r in read_history(tmp_path)] == [0, 1, 2]
    out.restart_history()
    assert read_history(tmp_path) == []
    out.close()


@pytest.mark.parallel([1, 2])
def test_folders_that_cannot_be_used(tmp_path):
    folder, comm = shared(tmp_path), MPI.COMM_WORLD
    if comm.rank == 0:
        (folder / "file").write_text("x")
        (folder / "user").mkdir()
        (folder / "user" / "notes.txt").write_text("mine")
    comm.Barrier()
    with pytest.raises(InputError, match="which is a file"):
        RunDirectory(folder / "file")
    with pytest.raises(InputError, match="can be written"):
        RunDirectory(folder / "file" / "below")
    with pytest.raises(InputError, match="can be written"):
        RunDirectory("/proc/npde_opt_run")
    for name in ("", "  ", "a\nb", "a\udc80"):
        with pytest.raises(InputError, match="--out"):
            RunDirectory(name)
    with pytest.raises(InputError, match="new, resume, overwrite"):
        RunDirectory(folder / "user", mode="append")
    first = RunDirectory(folder / "user")
    first.append(row(0))
    first.close()
    comm.Barrier()
    with pytest.raises(
        InputError, match="earlier run.*another --out, --resume.*--overwrite"
    ):
        RunDirectory(folder / "user")
    comm.Barrier()
    out = RunDirectory(folder / "user", mode="overwrite")
    assert out.history() == [] and (folder / "user" / "notes.txt").read_text() == "mine"
    out.close()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_folder_without_permission(tmp_path):
    tmp_path.chmod(0o555)
    with pytest.raises(InputError, match="can be written"):
        RunDirectory(tmp_path, MPI.COMM_SELF)
    tmp_path.chmod(0o755)


@pytest.mark.parallel([1, 2])
def test_peak_memory_sums_ranks(tmp_path):
    ballast = np.ones(20_000_000)
    assert peak_memory_mb(MPI.COMM_WORLD) > 160 * MPI.COMM_WORLD.size
    assert peak_memory_mb(MPI.COMM_SELF) < 3000 and ballast[-1] == 1

"""Columns that a run has beside the common ones: in file and table, and after a checkpoint."""

import io
from types import SimpleNamespace

import numpy as np
import pytest
from mpi4py import MPI

from npde_opt.errors import InputError
from npde_opt.grids import Grid
from npde_opt.io.checkpoint import find_checkpoint
from npde_opt.runs.columns import Column
from npde_opt.runs.folder import RunDirectory
from npde_opt.runs.monitor import Monitor


class GridSpace:
    def __init__(self):
        self.grid = Grid((4, 3))

    def create_vec(self):
        return self.grid.create_vec()

    def write(self, vec, sink):
        sink.field(self.grid, self.grid.view(vec))

    def read(self, vec, source):
        self.grid.view(vec)[...] = source.field(self.grid)


def validation(row, state):
    """Collective; there is none after the first iteration."""
    return state.vectors["m"].norm() if row["iteration"] else None


OWN = [Column("rate"), Column("validation", validation, ".4f")]


def step(monitor, space, i):
    row = {"iteration": i, "objective": 1.0, "gradient_norm": 1.0, "rate": 0.5**i}
    state = SimpleNamespace(
        vectors={"m": space.grid.from_natural(np.full((4, 3), i))}, meta={}
    )
    monitor(row, state)


@pytest.mark.parallel([1, 2])
def test_own_columns_are_written_shown_and_resumed(tmp_path):
    comm, space, stream = MPI.COMM_WORLD, GridSpace(), io.StringIO()
    path = comm.bcast(tmp_path, root=0) / "run"
    monitor = Monitor(comm, RunDirectory(path), space=space, stream=stream, columns=OWN)
    for i in range(2):
        step(monitor, space, i)
    monitor.close()
    monitor = Monitor(
        comm, RunDirectory(path, mode="resume"), space=space, stream=None, columns=OWN
    )
    monitor.resume(find_checkpoint(path, comm))
    step(monitor, space, 2)
    rows = monitor.out.history()
    assert [r["rate"] for r in rows] == [1.0, 0.5, 0.25]
    norms = [r.get("validation") for r in rows]
    assert norms == pytest.approx([None, 12**0.5, 2 * 12**0.5])
    monitor.close()
    if comm.rank == 0:
        head, _, second = stream.getvalue().splitlines()
        assert head.split()[-4:] == ["rate", "validation", "elapsed", "left"]
        assert second.split()[-4:-2] == ["5.000e-01", "3.4641"]


def test_a_run_is_not_resumed_with_other_columns(tmp_path):
    space = GridSpace()
    monitor = Monitor(out=RunDirectory(tmp_path), space=space, stream=None, columns=OWN)
    step(monitor, space, 0)
    monitor.close()
    other = Monitor(out=RunDirectory(tmp_path, mode="resume"), space=space, stream=None)
    with pytest.raises(
        InputError, match=r"columns of history\.csv: .*rate,validation, as it began"
    ):
        other.resume(find_checkpoint(tmp_path, MPI.COMM_WORLD))
    other.close()


@pytest.mark.parametrize("name", ["level", "two words"])
def test_names_of_columns(name):
    with pytest.raises(InputError, match="column of the history"):
        Column(name)


def test_a_column_is_there_once(tmp_path):
    with pytest.raises(InputError, match="'rate'"):
        Monitor(out=RunDirectory(tmp_path), columns=[Column("rate"), Column("rate")])


def test_a_number_without_a_column_is_refused(tmp_path):
    monitor = Monitor(out=RunDirectory(tmp_path), space=GridSpace(), stream=None)
    with pytest.raises(InputError, match="rate"):
        step(monitor, GridSpace(), 0)
    monitor.close()

"""Shares of measured values by memory map are those of values that are read whole."""

import numpy as np
import pytest
from mpi4py import MPI

from npde_opt.cases import data, load_case
from npde_opt.errors import InputError
from npde_opt.observations.shares import Share

COMM = MPI.COMM_WORLD
CASE = """
[grid]
shape = [4, 3]
{time}
[[unknown]]
name = "D"
kind = "scalar"
initial = 1.0
{runs}
[[observation]]
sigma = 0.1
{data}
"""
TIME = "[time]\ntimes = { end = 1.0, steps = 2 }\n"
WHOLE = np.random.default_rng(0).normal(size=(2, 2, 4, 3))
WHOLE[0, 1, 2, 1] = np.nan


def measured(folder, tables, timed=True, experiments=1):
    """Own values of a case with these data, by experiment."""
    path = folder / "case.toml"
    if COMM.rank == 0:
        time = TIME if timed else ""
        times = "times = [0.5, 1.0]\n" if timed else ""
        runs = "[[experiment]]\n" * experiments
        path.write_text(CASE.format(time=time, runs=runs, data=times + tables))
    COMM.Barrier()
    share = Share(COMM, ((2 if timed else 1, 12),))
    found = load_case(path, COMM).measurements(share).measured()
    COMM.Barrier()
    return share, [own[0] for own in found]


def stored(folder, name, values):
    if COMM.rank == 0:
        np.save(folder / name, values)


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.parametrize(
    ("values", "tables", "timed", "experiments"),
    [
        (WHOLE[0], 'data = { file = "a.npy" }', True, 1),
        (np.asfortranarray(WHOLE[0]), 'data = { file = "a.npy" }', True, 1),
        (WHOLE.astype("f4"), 'data = { file = "a.npy", scale = 2.0 }', True, 2),
        (WHOLE, 'data = { file = "a.npy", rows = [0, 1, 1] }', True, 2),
        (WHOLE[1].ravel(), 'data = { file = "a.npy" }', True, 1),
        (WHOLE[:, 0].reshape(2, 12), 'data = { file = "a.npy" }', False, 2),
        (np.arange(12).reshape(4, 3), 'data = { file = "a.npy" }', False, 1),
        (WHOLE[1, 0].T, 'data = { file = "a.npy", shape = [4, 3] }', False, 1),
        (WHOLE[1], 'data = [{ file = "a.npy" }, { file = "a.npy" }]', True, 2),
    ],
)
def test_shares_are_those_of_the_whole(
    tmp_path, monkeypatch, values, tables, timed, experiments
):
    folder = COMM.bcast(tmp_path)
    stored(folder, "a.npy", values)
    monkeypatch.setattr(data, "read_values", None)
    share, mapped = measured(folder, tables, timed, experiments)
    monkeypatch.undo()
    monkeypatch.setattr(data.Maps, "can", lambda self, spec: False)
    _, whole = measured(folder, tables, timed, experiments)
    assert len(mapped) == experiments and share.order.size == mapped[0].size
    np.testing.assert_array_equal(mapped, whole)


@pytest.mark.parallel([1, 2])
@pytest.mark.parametrize(
    ("values", "said"),
    [
        (np.where(np.isnan(WHOLE[0]), -9999.0, np.abs(WHOLE[0])), "declare it"),
        (np.where(np.isnan(WHOLE[0]), np.inf, WHOLE[0]), "infinite"),
        (WHOLE[0][:, :, :2], r"data: got an array of shape \(2, 4, 2\)"),
        (WHOLE[0].astype(complex), "complex"),
        (np.array(["a"]), "a.npy"),
    ],
)
def test_what_is_odd_is_told_as_of_whole_files(tmp_path, values, said):
    folder = COMM.bcast(tmp_path)
    stored(folder, "a.npy", values)
    with pytest.raises(InputError, match=said):
        measured(folder, 'data = { file = "a.npy" }')

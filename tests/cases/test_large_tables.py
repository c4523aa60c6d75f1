"""Data and points of large text tables: the same on any ranks as of tables that are read as a
whole, and no rank holds all of them."""

import tracemalloc

import numpy as np
import pytest
from mpi4py import MPI

from npde_opt.cases import load_case
from npde_opt.errors import InputError
from npde_opt.io import streamed
from npde_opt.observations.shares import Share

COMM = MPI.COMM_WORLD
CASE = """
[grid]
shape = [4, 3]
[[unknown]]
name = "D"
kind = "scalar"
initial = 1.0
[[experiment]]
[[experiment]]
[[observation]]
points = { file = "a.csv", scale = 2.0 }
data = { file = "a.csv", column = ["h1", "h2"], scale = 3.0 }
sigma = { file = "a.csv", column = ["s", "s"] }
"""
PLACES = 20_000


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """With a case and its table."""
    monkeypatch.setattr(streamed, "SLAB", 1_000)
    monkeypatch.setattr(streamed, "LARGE", 0)
    found = COMM.bcast(tmp_path)
    if COMM.rank == 0:
        rng = np.random.default_rng(0)
        at, h = rng.uniform(0.01, 0.49, (PLACES, 2)), rng.normal(size=(PLACES, 2))
        rows = np.column_stack([at, h, np.full(PLACES, 0.5)])
        header = "x,y,h1,h2,s"
        np.savetxt(found / "a.csv", rows, "%.17g", ",", header=header, comments="")
        (found / "case.toml").write_text(CASE)
    COMM.Barrier()
    return found


def read(folder):
    """Own points, values of all experiments and their deviations, and what was noted of all."""
    case = load_case(folder / "case.toml", COMM)
    share = Share(COMM, ((1, PLACES),))
    measurements = case.measurements(share)
    points = measurements.observations[0].own_points
    values = measurements.measured()
    sigma = measurements.sigma(0, [own[0] for own in values])
    noted = dict(measurements.sources.log.readings)
    return [points.at, *(own[0] for own in values), *sigma], noted


@pytest.mark.parallel([1, 2, 3])
def test_shares_are_those_of_the_whole(folder, monkeypatch):
    tracemalloc.start()
    try:
        slabs, noted = read(folder)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    monkeypatch.setattr(streamed, "LARGE", 1 << 60)
    whole, said = read(folder)
    for x, y in zip(slabs, whole, strict=True):
        np.testing.assert_array_equal(x, y)
    assert noted.keys() == said.keys()
    for key, reading in noted.items():
        assert (reading.low, reading.high) == (said[key].low, said[key].high)
        assert (reading.box, reading.shape) == (said[key].box, said[key].shape)
    assert len(noted) == (3 if COMM.rank == 0 else 0)
    # Two experiments, their deviations, points and copies in shares; words of a slab.
    assert peak < 16 * 8 * PLACES / COMM.size + 3e6, peak


@pytest.mark.parallel([1, 2])
def test_errors_are_those_of_the_whole(folder, monkeypatch):
    """With the line in which the word stands."""
    if COMM.rank == 0:
        path = folder / "a.csv"
        rows = path.read_text().splitlines()
        rows[-2] = rows[-2].replace(",0.5", ",o.5")
        path.write_text("\n".join(rows))
    COMM.Barrier()
    told = []
    for large in (0, 1 << 60):
        monkeypatch.setattr(streamed, "LARGE", large)
        with pytest.raises(InputError) as error:
            read(folder)
        told.append(str(error.value))
    assert told[0] == told[1] and f"line {PLACES}" in told[0]

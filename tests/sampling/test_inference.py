"""Traces as others read them."""

import json

import numpy as np
import pytest
from mpi4py import MPI
from petsc4py import PETSc

from npde_opt.errors import InputError
from npde_opt.sampling import write_inference
from npde_opt.sampling.folder import csv_text
from npde_opt.sampling.run import Sampled

TRACES = np.random.default_rng(0).standard_normal((2, 5, 4))
"""Of 2 chains: J, the probability of a step, k and D/k."""


def sampled():
    vec = PETSc.Vec().createSeq(1, comm=MPI.COMM_SELF)
    steps = (0.5, 0.5)
    return Sampled(("k", "D/k"), TRACES, vec, vec, steps, steps, (0, 0))


def test_groups_have_chains_and_draws(tmp_path):
    path = write_inference(tmp_path / "inference.zarr", sampled())
    for name, wanted in (
        ("posterior/k", TRACES[:, :, 2]),
        ("posterior/D\N{FRACTION SLASH}k", TRACES[:, :, 3]),
        ("sample_stats/lp", -TRACES[:, :, 0]),
        ("sample_stats/acceptance_rate", TRACES[:, :, 1]),
    ):
        stored = np.fromfile(path / name / "c" / "0" / "0").reshape(2, 5)
        np.testing.assert_array_equal(stored, wanted)
        meta = json.loads((path / name / "zarr.json").read_text())
        assert meta["dimension_names"] == ["chain", "draw"]
    root = json.loads((path / "zarr.json").read_text())
    assert {"posterior", "posterior/k", "sample_stats/draw"} <= set(
        root["consolidated_metadata"]["metadata"]
    )
    write_inference(path, sampled())  # again in its place
    assert [p.name for p in tmp_path.iterdir()] == ["inference.zarr"]
    (tmp_path / "mine").mkdir()
    with pytest.raises(InputError, match="mine; allowed: a new folder"):
        write_inference(tmp_path / "mine", sampled())


def test_xarray_has_them_as_inference_data(tmp_path):
    xarray, _ = pytest.importorskip("xarray"), pytest.importorskip("zarr")
    path = write_inference(tmp_path / "inference.zarr", sampled())
    tree = xarray.open_datatree(str(path), engine="zarr")
    assert set(tree.children) == {"posterior", "sample_stats"}
    k = tree["posterior"]["k"]
    assert k.dims == ("chain", "draw")
    np.testing.assert_array_equal(k, TRACES[:, :, 2])
    np.testing.assert_array_equal(tree["posterior"]["draw"], range(5))


@pytest.mark.filterwarnings("ignore")
def test_arviz_reads_them(tmp_path):
    """Its newer versions a tree of groups, the older ones the tables, too."""
    arviz, _ = pytest.importorskip("arviz"), pytest.importorskip("zarr")
    import xarray

    path = write_inference(tmp_path / "inference.zarr", sampled())
    tree = xarray.open_datatree(str(path), engine="zarr")
    if not hasattr(arviz, "from_cmdstan"):
        assert list(arviz.summary(tree).index) == ["k", "D\N{FRACTION SLASH}k"]
        return
    data = arviz.InferenceData.from_datatree(tree)
    means = arviz.summary(data, round_to="none")["mean"]
    np.testing.assert_allclose(means, TRACES[:, :, 2:].mean(axis=(0, 1)))
    for number, rows in enumerate(TRACES):
        table = csv_text(("k", "D/k"), rows, 0.5)
        (tmp_path / f"chain-{number}.csv").write_text(table)
    data = arviz.from_cmdstan(str(tmp_path / "chain-?.csv"))
    np.testing.assert_allclose(data.posterior["k"], TRACES[:, :, 2])
    np.testing.assert_allclose(data.sample_stats["lp"], -TRACES[:, :, 0])

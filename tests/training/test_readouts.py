"""The run that learns by least squares, on bars in pictures: what it finds and leaves."""

import json
from argparse import Namespace

import numpy as np
import pytest
from mpi4py import MPI

from npde_opt.errors import InputError
from npde_opt.training import readouts
from npde_opt.training.samples import Held

WORLD = MPI.COMM_WORLD


@pytest.fixture
def bars(monkeypatch):
    """Bars that lie, stand, or rise, in noise."""
    rng = np.random.default_rng(0)
    labels = rng.integers(3, size=240)
    at = np.arange(8)
    y, x = np.meshgrid(at, at, indexing="ij")
    across = [(y - 4), (x - 4), (x - y) / np.sqrt(2)]
    pictures = np.exp(-np.array([across[k] ** 2 for k in labels]) / 2)
    pictures += 0.1 * rng.random(pictures.shape)
    source = Held("bars", pictures[:, None, None], labels, classes=["-", "|", "\\"])
    monkeypatch.setattr(readouts, "digits", lambda: source)


def options(out, **others):
    given = {
        "samples": ["digits"],
        "recipe": "oriented",
        "features": [20, 60],
        "repeats": 2,
    }
    given |= {"method": "gram", "ridge": "held", "seed": 0, "data": None, "plot": False}
    return Namespace(out=str(out), overwrite=True, **(given | others))


def run(out, **others):
    with readouts.Readouts(options(out, **others), WORLD, 0.0) as found:
        found.prepare()
        found.train()
        found.report()
    return found


@pytest.mark.parallel([1, 2])
@pytest.mark.parametrize("recipe", ["oriented", "random", "receptive"])
@pytest.mark.parametrize(("method", "ridge"), [("gram", "held"), ("qr", "loo")])
def test_classes_are_told_apart(bars, tmp_path, recipe, method, ridge):
    out = WORLD.bcast(tmp_path)
    found = run(out, recipe=recipe, method=method, ridge=ridge)
    assert [f.features for f in found.found] == [20, 20, 60, 60]
    assert all(f.confusion.sum() == 72 for f in found.found)
    told = json.loads((out / "summary.json").read_text())
    assert told["metrics"]["error"][1] < 0.05
    model = np.load(out / "model.npz")
    assert model["A0"].shape[1] == 60
    assert model["W"].shape == (60, 3)


@pytest.mark.parallel([1, 2])
def test_autoencoders_are_stacked(bars, tmp_path):
    out = WORLD.bcast(tmp_path)
    found = run(out, recipe="autoencoders", features=[15], repeats=1).found[0]
    told = json.loads((out / "summary.json").read_text())["metrics"]
    depth, errors = told["layers"], told["held_back_error_by_depth"]
    assert errors[depth - 1] == min(errors)
    assert found.error < 0.1
    model = np.load(out / "model.npz")
    assert model["W"].shape == (15 * depth, 3)
    assert f"A{depth - 1}" in model.files


@pytest.mark.parametrize("recipe", ["oriented", "autoencoders"])
def test_figures_are_drawn(bars, tmp_path, recipe):
    pytest.importorskip("matplotlib")
    run(tmp_path, plot=True, recipe=recipe, features=[12, 20])
    grown = {readouts.DEPTHS} if recipe == "autoencoders" else set()
    drawn = {p.name for p in tmp_path.glob("*.png")}
    assert drawn == set(readouts.FIGURES) | grown


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"ridge": "best"}, "--ridge: got 'best'"),
        ({"ridge": "-1"}, "--ridge: got '-1'; allowed: a number >= 0"),
        ({"ridge": "nan"}, "--ridge: got 'nan'"),
        ({"repeats": 0}, "--repeats"),
        ({"recipe": "autoencoders", "ridge": "gcv"}, "--ridge: got gcv"),
        ({"features": [0]}, "--features"),
        ({"samples": ["mnist"]}, "--data"),
    ],
)
def test_options_that_cannot_be_are_told(tmp_path, wrong, told):
    with pytest.raises(InputError, match=told):
        run(tmp_path, **wrong)

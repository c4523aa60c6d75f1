"""A diffractive network is trained from its case, and its light is looked at."""

import json

import numpy as np
import pytest
from small import COMM, problem, trained, written

from npde_opt.errors import InputError
from npde_opt.training import optics
from npde_opt.training.drawing import LIT
from npde_opt.training.samples import WHOLE

LAYERS = """
[[layer]]
kind = "diffractive"
channels = 3
cells = 20
masks = 2
distance = 20.0
margin = 2
"""


@pytest.mark.parallel([1, 2])
def test_light_tells_pictures_apart(tmp_path):
    out = trained(written(tmp_path, layers=LAYERS, most=10), tmp_path / "out")
    metrics = json.loads((out / "summary.json").read_text())["metrics"]
    assert metrics["error_training"] <= 0.04
    assert 0.2 < metrics["power_detected"] < metrics["power_arriving"] < 0.999
    assert "share of the light" in metrics["meanings"]["power_detected"]


@pytest.mark.parallel([2, 3])
def test_light_is_that_of_the_first_samples_whichever_group_has_them(
    tmp_path, monkeypatch
):
    """Figures name the samples that they show, and power is a mean over the same ones."""
    file, drawn, powers = written(tmp_path, layers=LAYERS, most=1), [], []
    monkeypatch.setattr(optics, "draw_optics", lambda *given: drawn.append(given[3]))
    for groups in (1, COMM.size):
        folder = tmp_path / f"out-{groups}"
        out = trained(file, folder, sample_groups=groups, plot=True)
        metrics = json.loads((out / "summary.json").read_text())["metrics"]
        powers.append([metrics["power_arriving"], metrics["power_detected"]])
    np.testing.assert_allclose(*powers, rtol=1e-5)
    # A group of one rank has all cells.
    found = problem(tmp_path, COMM.size, layers=LAYERS)
    (test,) = found.parts.tests
    first = test.source.samples(test.numbers[:LIT], WHOLE, found.network.dtype.type)
    expected = found.inputs.apply(first.inputs)
    np.testing.assert_array_equal(found.first(test, LIT).inputs, expected)
    if COMM.rank == 0:
        np.testing.assert_array_equal(drawn[-1].inputs, expected)
    found.destroy()


@pytest.mark.parametrize(
    ("layers", "told"),
    [
        (LAYERS + 'activation = "tanh"', "activation"),
        (LAYERS.replace("cells = 20", "cells = 9"), "cells"),
        (LAYERS.replace("channels = 3", "channels = 200"), "detectors"),
    ],
)
def test_what_cannot_be_is_told(tmp_path, layers, told):
    with pytest.raises(InputError, match=told):
        trained(written(tmp_path, layers=layers), tmp_path / "out")

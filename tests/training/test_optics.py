"""A diffractive network is trained from its case, and its light is looked at."""

import json

import pytest
from small import trained, written

from npde_opt.errors import InputError

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

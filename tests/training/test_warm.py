"""Trainings that begin with a last layer that was solved for."""

import json
from pathlib import Path

import numpy as np
import pytest
from small import COMM, LAYERS, problem, trained, written

from npde_opt.errors import InputError
from npde_opt.training.problem import wrong
from npde_opt.training.warm import begin, solved

NETWORK = '[network]\nlast = "solved"\n'
NUMBERS = LAYERS.replace('channels = 3\n"""', "channels = 2\n")

REFERENCE = 9.23509946
"""The objective there."""


def begun(tmp_path, **keys):
    found = problem(tmp_path, layers=NETWORK + LAYERS, **keys)
    return found, begin(found)


def start_of(found, m):
    """Objective and misread training samples."""
    at = found.objective.linearize(m)
    value = at.value
    at.destroy()
    part = found.parts.train
    return value, found.mean(wrong(found.see(m, part), found.samples(part).targets))


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.parametrize("spread", [False, True])
def test_classes_are_told_apart_from_the_start(tmp_path, spread):
    groups = COMM.size if spread else 1
    found, m = begun(tmp_path, groups=groups)
    plain, misread = start_of(found, found.start())
    value, better = start_of(found, m)
    assert value < 0.9 * plain
    assert better < 0.3 < misread
    np.testing.assert_allclose(value, REFERENCE, rtol=1e-6)


def test_numbers_start_at_the_least_squares_of_the_last_layer(tmp_path):
    x = np.random.default_rng(0).standard_normal((60, 4))
    arrays = {"inputs": x[:, None], "targets": np.sin(x[:, :2])[:, None]}
    layers = '[[layer]]\nkind = "dense"\nchannels = 5\nactivation = "tanh"\n'
    layers += '[[layer]]\nkind = "dense"\nchannels = 2\n'
    found = problem(tmp_path, layers=layers, arrays=arrays)
    m = solved(found)
    gradient = found.space.at(found.objective.linearize(m).gradient()).coefficients()
    before = found.space.at(
        found.objective.linearize(found.start()).gradient()
    ).coefficients()
    # The objective's own penalty and the ridge that was chosen are all that is left.
    assert abs(gradient["W2"]).max() < 0.3 * abs(before["W2"]).max()
    assert abs(gradient["b2"]).max() < 1e-8


def test_it_is_what_a_training_begins_with(tmp_path):
    file = written(tmp_path, most=1, layers=NETWORK + LAYERS)
    out = Path(trained(file, tmp_path / "warm"))
    told = json.loads((out / "summary.json").read_text())
    value, _ = start_of(*begun(tmp_path))
    assert told["objective_initial"] == pytest.approx(value, rel=1e-9)


def test_other_last_layers_are_told(tmp_path):
    layers = '[[layer]]\nkind = "dense"\nchannels = 3\n'
    with pytest.raises(InputError, match="network.last"):
        begin(problem(tmp_path, layers=NETWORK + layers))

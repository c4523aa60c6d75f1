"""Trainings that begin with layers that were learnt by pseudoinverse: the last, or all."""

import json
from pathlib import Path

import numpy as np
import pytest
from small import COMM, LAYERS, problem, trained, written

from npde_opt.errors import InputError
from npde_opt.optimizers import Settings, minimize
from npde_opt.pseudoinverse.autoencoders import encoder
from npde_opt.pseudoinverse.features import flat
from npde_opt.training.problem import wrong
from npde_opt.training.warm import begin

NETWORK = '[network]\nlast = "solved"\n'
NUMBERS = LAYERS.replace('channels = 3\n"""', "channels = 2\n")

REFERENCE = 11.555943
"""The objective there."""
WHOLE_REFERENCE = 10.739976
"""The objective where hidden layers are autoencoders, too."""


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
    found = problem(tmp_path, layers=NETWORK + layers, arrays=arrays)
    m = begin(found)
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


CODED = '[network]\nhidden = "autoencoders"\nlast = "solved"\n'
"""Of a whole network."""


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.parametrize("spread", [False, True])
def test_a_whole_network_is_learnt_before_it_is_trained(tmp_path, spread):
    found = problem(tmp_path, layers=CODED + LAYERS, groups=COMM.size if spread else 1)
    m = begin(found)
    _, misread = start_of(found, found.start())
    value, better = start_of(found, m)
    assert better < 0.3 < misread
    # Single precision of the codes is all that ranks change.
    np.testing.assert_allclose(value, WHOLE_REFERENCE, rtol=1e-4)
    if COMM.size > 1:
        return
    values = found.space.at(m).coefficients()
    x = found.given(found.parts.train).inputs
    # The code of what its 3 x 3 taps read, from every second cell on, with zeros outside.
    u = np.pad(x[:, 0, 0], ((0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(u, (3, 3), (1, 2))
    patches = windows[:, ::2, ::2].reshape(-1, 9)
    layer = encoder(flat, patches, 3, 0)
    np.testing.assert_allclose(values["W1"].reshape(3, 9), layer.A.T, rtol=1e-4)
    np.testing.assert_allclose(values["b1"], layer.b, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("path", ["fused", "assembled"])
def test_layers_are_coded_one_behind_the_other(tmp_path, path):
    layers = CODED + f'path = "{path}"\n'
    for kind, channels in (("convolution", 2), ("convolution", 3), ("dense", 5)):
        layers += f'[[layer]]\nkind = "{kind}"\nchannels = {channels}\n'
        layers += 'activation = "tanh"\n' + ("kernel = 1\n" if channels == 3 else "")
    layers += '[[layer]]\nkind = "dense"\nchannels = 3\n'
    found = problem(tmp_path, layers=layers)
    values = found.space.at(begin(found)).coefficients()
    steps, u = found.network.steps, found.given(found.parts.train).inputs[:, :, 0]
    u = u.swapaxes(0, 1)
    for number, step in enumerate(steps[:-1], 1):
        inside = step.inner.apply(values, u) + np.reshape(
            values[f"b{number}"], (-1, *(1,) * (u.ndim - 1))
        )
        own = np.moveaxis(inside, 1, -1).reshape(len(inside), -1)
        if step.inner.operator.local or number == 3:
            np.testing.assert_allclose(own.std(axis=1), 0.5, rtol=1e-2)
            np.testing.assert_allclose(own.mean(axis=1), 0, atol=1e-2)
        u = np.tanh(inside)


def test_a_layer_that_was_solved_for_does_not_hold_lbfgs_up(tmp_path):
    """As one does that fits classes with weights along what states hardly vary in."""
    layer = '[[layer]]\nkind = "dense"\nchannels = {}\nactivation = "{}"\n'
    layers = 2 * layer.format(40, "tanh") + layer.format(3, "identity")
    found = problem(tmp_path, layers=NETWORK + layers, weight=0.01)
    settings = Settings(method="lbfgs", max_iterations=15, decrement=None)
    cold, warm = (
        minimize(found.objective, m, settings).objective
        for m in (found.start(), begin(found))
    )
    assert warm < cold


def test_lbfgs_goes_on_from_a_network_that_was_learnt(tmp_path):
    told = []
    for name, network in (("cold", ""), ("warm", CODED)):
        file = written(tmp_path, most=3, layers=network + LAYERS)
        out = Path(trained(file, tmp_path / name))
        told.append(json.loads((out / "summary.json").read_text()))
    cold, warm = told
    assert warm["objective_initial"] < cold["objective_initial"]
    assert warm["objective"] < min(cold["objective"], warm["objective_initial"])


@pytest.mark.parametrize(
    ("layer", "told"),
    [
        ('kind = "residual"', "network.hidden"),
        ('kind = "dense"\nchannels = 3\nbias = false', "network.hidden"),
    ],
)
def test_hidden_layers_that_cannot_be_coded_are_told(tmp_path, layer, told):
    layers = f'{CODED}[[layer]]\n{layer}\n[[layer]]\nkind = "dense"\nchannels = 3\n'
    with pytest.raises(InputError, match=told):
        begin(problem(tmp_path, layers=layers))


def test_a_start_that_is_learnt_is_no_reference(tmp_path):
    layers = CODED + LAYERS + '[[regularization]]\ntowards = "start"\n'
    with pytest.raises(InputError, match=r"regularization\[0\].towards"):
        problem(tmp_path, layers=layers)


def test_other_last_layers_are_told(tmp_path):
    layers = '[[layer]]\nkind = "dense"\nchannels = 3\n'
    with pytest.raises(InputError, match="network.last"):
        begin(problem(tmp_path, layers=NETWORK + layers))

"""A split of samples as an objective: derivatives, the same on all ranks and groups, and what does
not fit."""

import numpy as np
import pytest
from small import COMM, problem, samples

from npde_opt.cases.typed import read
from npde_opt.errors import InputError
from npde_opt.grids import Grid
from npde_opt.training.build import network_of
from npde_opt.training.problem import wrong
from npde_opt.training.sections import LayerSection, NetworkSection
from npde_opt.verify import taylor_test

REFERENCE = (29.517526, 22.903912)
"""Value and gradient norm at the start."""
FRESH = (64.258195, 64.381981)
"""Values at the start with the noise of two epochs."""
NUMBERS = """
[[layer]]
kind = "residual"
channels = 4
activation = "radial-basis"
knots = 5
repeat = 2
dt = 0.5
fidelity = 0.1
"""


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.parametrize("spread", [False, True])
def test_ranks_and_groups_give_one_objective(tmp_path, spread):
    found = problem(
        tmp_path, groups=COMM.size if spread else 1, data='normalisation = "standard"'
    )
    m = found.start()
    at = found.objective.linearize(m)
    norm = found.objective.gradient_norm(at.gradient())
    np.testing.assert_allclose((at.value, norm), REFERENCE, rtol=1e-5)
    at.destroy()


def test_the_assembled_path_gives_it_too(tmp_path):
    found = problem(
        tmp_path, data='normalisation = "standard"\n[network]\npath = "assembled"'
    )
    assert found.network.path == "assembled"
    at = found.objective.linearize(found.start())
    norm = found.objective.gradient_norm(at.gradient())
    np.testing.assert_allclose((at.value, norm), REFERENCE, rtol=1e-5)


@pytest.mark.parallel([1, 2, 3])
def test_derivatives_of_a_classifier(tmp_path):
    found = problem(tmp_path, groups=COMM.size)
    m, dm = found.start(), found.space.standard_normal(1)
    dm.scale(0.1)
    assert taylor_test(found.objective, m, dm).problems() == []


def test_derivatives_of_a_denoiser(tmp_path):
    """With biases and a step; test_denoiser.py has those of one that several ranks share."""
    arrays = {"inputs": samples()[0]}
    found = problem(
        tmp_path, data="noise = 0.1\ntrain = 3", layers=NUMBERS, arrays=arrays
    )
    assert not found.classifies and found.network.target.size == 30
    m, dm = found.start(), found.space.standard_normal(1)
    dm.scale(0.1)
    assert taylor_test(found.objective, m, dm).problems() == []


def test_parts_at_once_change_nothing(tmp_path, monkeypatch):
    import npde_opt.training.problem as module

    monkeypatch.setattr(module, "AT_ONCE_BYTES", 1)
    found = problem(tmp_path, data='normalisation = "standard"')
    assert found.at_once == 16 < found.parts.train.count
    m = found.start()
    at = found.objective.linearize(m)
    assert abs(at.value - REFERENCE[0]) < 1e-4
    seen = found.see(m, found.parts.train, keep=True)
    assert seen.loss.sum() + at.regularization == pytest.approx(at.value, rel=1e-12)
    np.testing.assert_allclose(seen.outputs.sum(axis=1), 1)
    labels = found.samples(found.parts.train).targets
    np.testing.assert_array_equal(seen.classes, np.argmax(seen.outputs, axis=1))
    assert found.mean(wrong(seen, labels)) == np.mean(seen.classes != labels)


def test_noise_is_the_samples_own(tmp_path):
    one, other = (problem(tmp_path, data=f"noise = 0.1\ntrain = {n}") for n in (10, 20))
    train = one.parts.train
    both = np.intersect1d(train.numbers, other.parts.train.numbers)
    first, second = (
        p.samples(p.parts.train).inputs[np.isin(p.parts.train.numbers, both)]
        for p in (one, other)
    )
    assert len(both) and np.array_equal(first, second)
    noise = one.samples(train).inputs - train.source.samples(train.numbers).inputs
    assert abs(noise.std() - 0.1) < 0.02


@pytest.mark.parametrize(
    "layers, said",
    [
        (
            "[[layer]]\nkind='dense'\nchannels=2",
            r"layer\[0\]: got 2 outputs; allowed: at least 3",
        ),
        (
            "[[layer]]\nkind='convolution'\nkernel=[3,3,3]\nchannels=2",
            r"layer\[0\]: numbers by",
        ),
        (
            "[[layer]]\nkind='convolution'\nkernel=9\npadding=0\nchannels=2",
            r"layer\[0\]: kernel",
        ),
        (
            "[[layer]]\nkind='convolution'\nchannels=2\n[[layer]]\nkind='residual'\nfidelity=1.0",
            r"layer\[1\]: fidelity: got 1.0",
        ),
    ],
)
def test_layers_that_do_not_fit_are_told(tmp_path, layers, said):
    with pytest.raises(InputError, match=said):
        problem(tmp_path, layers=layers)


def test_losses_and_penalties_that_do_not_fit_are_told(tmp_path):
    with pytest.raises(
        InputError, match="loss.kind: got huber; allowed: softmax of classes"
    ):
        problem(
            tmp_path, layers="[loss]\nkind='huber'\n[[layer]]\nkind='dense'\nchannels=3"
        )
    more = "[[regularization]]\nweights=['W9']\n[[layer]]\nkind='dense'\nchannels=3"
    with pytest.raises(
        InputError, match=r"regularization\[0\].weights: got 'W9'; allowed: W1, b1"
    ):
        problem(tmp_path, layers=more)
    twice = "[[regularization]]\nweights=['W1']\n[[layer]]\nkind='dense'\nchannels=3"
    with pytest.raises(
        InputError, match=r"regularization\[1\].weights: got given twice"
    ):
        problem(tmp_path, layers=twice)
    arrays = {"inputs": samples()[0]}
    with pytest.raises(InputError, match=r"layer\[0\]: got 3 outputs .*; allowed: 30"):
        problem(tmp_path, arrays=arrays, layers="[[layer]]\nkind='dense'\nchannels=3")


def test_a_single_class_is_nothing_to_learn(tmp_path):
    inputs, labels = samples()
    with pytest.raises(
        InputError, match="classes of a.npz: got 1; allowed: at least 2"
    ):
        problem(tmp_path, arrays={"inputs": inputs, "labels": 0 * labels})


@pytest.mark.parallel([1, 2])
def test_noise_is_drawn_anew_in_every_epoch(tmp_path):
    """From epoch and sample alone: the same in groups, and of a layer that reads it again."""
    arrays, data = {"inputs": samples()[0]}, "noise = 0.1\ntrain = 6\nfresh = true"
    found = problem(
        tmp_path, groups=COMM.size, data=data, layers=NUMBERS, arrays=arrays
    )
    m = found.start()
    values = [found.objective.of_epoch(e).linearize(m).value for e in (0, 1, 0)]
    assert values[0] == values[2] != pytest.approx(values[1], rel=1e-4)
    assert found.objective.linearize(m).value != pytest.approx(values[0], rel=1e-4)
    np.testing.assert_allclose(values[:2], FRESH, rtol=1e-6)
    drawn = found.objective.of_epoch(1)
    parts = [
        drawn.over(c, scale=False).linearize(m).misfit for c in ([0, 3, 4], [1, 2, 5])
    ]
    assert sum(parts) == pytest.approx(drawn.linearize(m).misfit, rel=1e-9)


def test_fresh_noise_needs_noise(tmp_path):
    with pytest.raises(InputError, match="data.fresh: .*noise"):
        problem(tmp_path, data="fresh = true")


@pytest.mark.parametrize("padding, cells", [(None, (5, 4)), (0, (5, 4)), (1, (7, 6))])
def test_kernels_of_one_cell_are_padded_too(padding, cells):
    told = {"kind": "convolution", "channels": 2, "kernel": 1, "padding": padding}
    given = {key: value for key, value in told.items() if value is not None}
    layer = read("layer", given, LayerSection)
    found = network_of(Grid((5, 4)), 1, [layer], read("network", {}, NetworkSection), 1)
    assert found.target.layout.shape == cells

"""A denoiser from its case to its folder: pieces, noises, tests of several sizes."""

import json

import numpy as np
import pytest
from small import COMM, trained

from npde_opt.ensemble import Ensemble
from npde_opt.errors import InputError
from npde_opt.training.case import load_training
from npde_opt.training.problem import Problem
from npde_opt.verify import taylor_test

START = 79.24130055962375
"""Value of the objective of the untrained network."""
CASE = """
[data]
kind = "pictures"
folder = "train"
test = "test"
crop = [12, 12]
versions = {versions}
noise = {noise}
normalisation = "noise"
[[layer]]
kind = "residual"
channels = 8
kernel = 3
outside = "replicate"
activation = "{activation}"
knots = 17
reach = 6
bias = false
fidelity = 0.05
repeat = 2
start = {{strength = 0.3, width = 0.5, narrowing = 0.9}}
[loss]
margin = 2
[optimizer]
method = "lbfgs"
max_iterations = {most}
gradient_rtol = 1e-9
"""


def written(
    tmp_path, versions=2, noise="0.1", most=4, activation="piecewise-linear", sizes=None
):
    """The case beside pictures of squares, the same on every rank."""
    Image = pytest.importorskip("PIL.Image")
    folder = COMM.bcast(tmp_path, root=0)
    if COMM.rank == 0:
        rng = np.random.default_rng(0)
        for part, shapes in (
            ("train", [(20, 16)] * 3),
            ("test", sizes or [(20, 16), (14, 18)]),
        ):
            (folder / part).mkdir(exist_ok=True)
            for number, shape in enumerate(shapes):
                grey = np.full(shape, 60, np.uint8)
                for _ in range(4):
                    j, i = rng.integers(0, 12, 2)
                    grey[j : j + 7, i : i + 7] = rng.integers(0, 255)
                Image.fromarray(grey).save(folder / part / f"{number}.png")
        text = CASE.format(
            versions=versions, noise=noise, most=most, activation=activation
        )
        (folder / "case.toml").write_text(text)
    COMM.barrier()
    return folder / "case.toml"


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.parametrize("spread", [False, True])
def test_derivatives(tmp_path, spread):
    case = load_training(written(tmp_path, activation="radial-basis"))
    found = Problem(case, Ensemble.split(COMM, COMM.size if spread else 1, 6))
    samples = found.samples(found.parts.train)
    # Nobody has cells that are another's, of what is sought neither.
    assert samples.targets.shape == samples.inputs.shape
    m, dm = found.start(), found.space.standard_normal(1)
    dm.scale(0.02)
    assert taylor_test(found.objective, m, dm).problems() == []
    at = found.objective.linearize(m)
    # Of 12 x 12 cells those near the sides do not count.
    assert found.objective.data_count == 6 * 8 * 8
    assert at.value == pytest.approx(START, rel=1e-9)
    at.destroy()


@pytest.mark.parallel([1, 2])
def test_it_is_trained_and_judged_on_pictures_of_all_sizes(tmp_path):
    out = trained(written(tmp_path, versions=4, most=12), tmp_path / "out")
    metrics = json.loads((out / "summary.json").read_text())["metrics"]
    noisy = -20 * np.log10(0.1)
    assert (
        metrics["psnr_test_14_x_18"] > noisy + 4
        and metrics["psnr_test_20_x_16"] > noisy + 4
    )


def test_filters_functions_and_pictures_are_drawn(tmp_path):
    pytest.importorskip("matplotlib")
    out = trained(written(tmp_path, most=1), tmp_path / "out", plot=True)
    for name in ("filters", "functions", "pictures"):
        assert (out / f"{name}.png").stat().st_size > 5000
    assert "warning" not in (out / "run.log").read_text()


def test_networks_of_several_noises_differ_in_it_alone(tmp_path):
    out = trained(written(tmp_path, noise="[0.05, 0.2]", most=1), tmp_path / "out")
    text = (out / "run.log").read_text()
    assert "noise 1 of 2: " in text and "noise 2 of 2: " in text
    case = load_training(tmp_path / "case.toml")
    one, other = (Problem(case, Ensemble.whole(COMM), n) for n in range(2))
    assert (one.start().getArray() == other.start().getArray()).all()
    first, second = (p.samples(p.parts.train) for p in (one, other))
    np.testing.assert_array_equal(first.targets, second.targets)
    noise = first.inputs - first.targets
    np.testing.assert_allclose(second.inputs - second.targets, 4 * noise, atol=1e-12)


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("[12, 12]", "[12, 17]", r"data.crop: got \[12, 17\]; .* at most 20 x 16"),
        (
            "margin = 2",
            "margin = 6",
            "loss.margin: got 6; .* less than half of the 12 cells",
        ),
        (
            "channels = 8",
            "channels = 9",
            r"layer\[0\]: channels: got 9; .* at most 8 cosines",
        ),
        ("crop = [12, 12]", "", "data.versions: got 2; .* 1, or a crop"),
        ("noise = 0.1\n", "", "data.normalisation: got noise; .* with a noise"),
        (
            "knots = 17",
            "symmetric = false",
            r"layer\[0\].start: got given; .* symmetric layers",
        ),
        (
            'test = "test"',
            'test = ["camera"]',
            "data.test: .* a list of the kind skimage",
        ),
    ],
)
def test_what_cannot_be_is_told(tmp_path, old, new, told):
    file = written(tmp_path)
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))
    with pytest.raises(InputError, match=told):
        Problem(load_training(file), Ensemble.whole(COMM)).start()


def test_dense_layers_have_one_size(tmp_path):
    file = written(tmp_path)
    dense = '\n[[layer]]\nkind = "dense"\nchannels = 144\n[loss]'
    file.write_text(file.read_text().replace("[loss]", dense).replace("margin = 2", ""))
    problem = Problem(load_training(file), Ensemble.whole(COMM))
    with pytest.raises(InputError, match=r"of 14 x 18 cells|layer\[1\]"):
        problem.see(problem.start(), problem.parts.tests[0])

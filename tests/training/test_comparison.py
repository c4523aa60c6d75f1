"""Tables beside other methods: numbers are those of the same samples."""

import csv
import json

import numpy as np
import pytest
from small import trained
from test_denoiser import written

from npde_opt.errors import InputError
from npde_opt.training import baselines
from npde_opt.training.case import load_training

SERIES = """
[data]
kind = "series"
file = "series.csv"
time = "year"
length = 4
until = [59, 74]
validation = 0.25
splits = 2
normalisation = "roots"
[network]
gain = 0.1
[[layer]]
kind = "recurrent"
channels = 4
hidden = 2
linear = true
activation = "tanh"
[[layer]]
kind = "dense"
channels = 1
[loss]
sigma = 0.3
[[regularization]]
weights = ["W1", "V1", "U1"]
[[regularization]]
weights = ["K1", "B1"]
towards = "start"
[optimizer]
method = "lbfgs"
max_iterations = 12
patience = 4
"""


def series(tmp_path, text=SERIES):
    """A case beside a series of counts."""
    t = np.arange(90)
    noise = np.random.default_rng(0).standard_normal(90)
    y = (6 + 3 * np.sin(t / 1.7) + 0.3 * noise) ** 2
    rows = "\n".join(f"{a},{b:.6f}" for a, b in zip(t, y, strict=True))
    (tmp_path / "series.csv").write_text("year,count\n" + rows + "\n")
    (tmp_path / "case.toml").write_text(text)
    return tmp_path / "case.toml", y


def table(out):
    rows = list(csv.reader((out / "comparison.csv").open()))
    return rows[0][1:], {row[0]: np.array(row[1:], float) for row in rows[1:]}


def test_a_series_beside_autoregression(tmp_path):
    file, y = series(tmp_path)
    out = trained(file, tmp_path / "out")
    columns, rows = table(out)
    assert columns == ["60 to 74", "75 to 89"]
    assert list(rows) == [
        "persistence",
        "AR(4)",
        "AR(4) of roots",
        "mean of 2 networks",
    ]
    away = np.diff(y)
    wanted = [np.sqrt(np.mean(away[a - 1 : b] ** 2)) for a, b in ((60, 74), (75, 89))]
    np.testing.assert_allclose(rows["persistence"], wanted, rtol=1e-4)
    assert (rows["mean of 2 networks"] < rows["AR(4)"]).all()
    # The mean is no worse than its members are on the average.
    metrics = json.loads((out / "summary.json").read_text())["metrics"]
    assert rows["mean of 2 networks"][0] <= metrics["rmse_60_to_74"] * (1 + 1e-6)


def test_pictures_beside_total_variation_and_bm3d(tmp_path):
    out = trained(written(tmp_path, noise="[0.1, 0.2]", most=1), tmp_path / "out")
    columns, rows = table(out)
    assert columns == ["noise 25.5/255", "noise 51/255"]
    assert list(rows) == ["with noise", "total variation", "BM3D", "network"]
    np.testing.assert_allclose(rows["with noise"], [20, 14], atol=1)
    assert (rows["network"] > rows["with noise"] + 2).all()
    metrics = json.loads((out / "summary.json").read_text())["metrics"]
    psnr = [
        np.mean([metrics[f"psnr_test_{s}_splits"][n] for s in ("14_x_18", "20_x_16")])
        for n in range(2)
    ]
    np.testing.assert_allclose(rows["network"], psnr, atol=1e-4)


def test_published_figures_are_told(tmp_path, monkeypatch):
    monkeypatch.setattr(baselines, "_there", lambda *names: False)
    monkeypatch.setattr(baselines, "PUBLISHED", {"test": {51: 30.0}})
    out = trained(written(tmp_path, noise="0.2", most=1), tmp_path / "out")
    _, rows = table(out)
    assert rows["BM3D"][0] == 30 and np.isnan(rows["total variation"][0])
    text = (out / "run.log").read_text()
    assert "published, with other noise (bm3d is not installed)" in text


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("linear = true", "", r"layer\[0\].hidden: got 2; .* linear = true"),
        ("validation = 0.25", "", "data.splits: got 2; .* data.validation"),
        ('"K1", "B1"', '"K2"', r"regularization\[1\].weights: got 'K2'"),
    ],
)
def test_what_cannot_be_is_told(tmp_path, old, new, told):
    file, _ = series(tmp_path, SERIES.replace(old, new).replace("patience = 4", ""))
    with pytest.raises(InputError, match=told):
        trained(file, tmp_path / "out")


def test_roots_of_negative_numbers_are_told(tmp_path):
    file, _ = series(tmp_path)
    text = (tmp_path / "series.csv").read_text()
    (tmp_path / "series.csv").write_text(text.replace("\n3,", "\n3,-"))
    with pytest.raises(InputError, match="data.normalisation: got roots of -"):
        trained(file, tmp_path / "out")
    assert load_training(file).networks == 2

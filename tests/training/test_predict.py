"""A trained model on new samples: what the training saw, from every kind of file; wrong ones are
told."""

import csv
from dataclasses import replace

import numpy as np
import pytest
from small import samples, trained, written

from npde_opt.__main__ import main
from npde_opt.errors import InputError
from npde_opt.networks.model import Model
from npde_opt.networks.normalisation import Normalisation
from npde_opt.training.predict import Predictor, predict


@pytest.fixture
def model(tmp_path):
    out = trained(
        written(tmp_path, data='normalisation = "standard"', most=4), tmp_path / "out"
    )
    return out / "model.npz"


def rows(path):
    return list(csv.DictReader(path.open()))


def test_predictions_are_those_of_the_training(model, tmp_path, capsys):
    inputs, _ = samples()
    np.save(tmp_path / "new.npy", inputs)
    out = tmp_path / "there"
    assert (
        main(["predict", str(model), str(tmp_path / "new.npy"), "--out", str(out)]) == 0
    )
    assert "36 samples in " in capsys.readouterr().out
    found = rows(out / "predictions.csv")
    for row in rows(model.parent / "predictions.csv"):
        own = found[int(row["sample"])]
        assert own["class"] == row["found"]
        assert float(own["probability"]) == pytest.approx(
            float(row["probability"]), rel=1e-4
        )


def test_pictures(model, tmp_path):
    Image = pytest.importorskip("PIL.Image")
    grey = np.random.default_rng(0).integers(0, 256, (6, 5), dtype=np.uint8)
    Image.fromarray(grey).save(tmp_path / "a.png")
    predict(Model.load(model), [tmp_path / "a.png"], tmp_path)
    one = rows(tmp_path / "predictions.csv")[0]
    expected = Predictor(Model.load(model))(grey[None, None, None] / 255.0)
    assert one["file"] == "a.png"
    assert float(one["p(1)"]) == pytest.approx(expected[0, 1], rel=1e-4)


def smoothing():
    """A network that takes the mean of three neighbours along x, twice as bright."""
    layer = {"kind": "convolution", "channels": 1, "kernel": [3, 1], "bias": False}
    weights = {"W1": np.full((1, 1, 1, 3), 1 / 3)}
    double = Normalisation(np.zeros(1), np.array([2.0]))
    return Model(
        {"layer": [layer]}, weights, 1, (1, 6, 5), Normalisation.none(1), double
    )


def test_outputs_on_cells_are_pictures_and_arrays_of_any_size(tmp_path):
    Image = pytest.importorskip("PIL.Image")
    grey = np.random.default_rng(0).integers(0, 100, (12, 11), dtype=np.uint8)
    Image.fromarray(grey).save(tmp_path / "a.png")
    np.save(tmp_path / "b.npy", grey[None] / 255)
    lines = predict(smoothing(), [tmp_path / "a.png", tmp_path / "b.npy"], tmp_path)
    assert len(lines) == 2 and not (tmp_path / "predictions.csv").exists()
    padded = np.pad(grey.astype(float), ((0, 0), (1, 1)))
    expected = 2 * (padded[:, :-2] + padded[:, 1:-1] + padded[:, 2:]) / 3
    found = np.asarray(Image.open(tmp_path / "a-predicted.png"), float)
    assert np.abs(found - expected).max() <= 0.51
    np.testing.assert_allclose(
        np.load(tmp_path / "b-predicted.npy")[0, 0, 0], expected / 255, rtol=1e-12
    )


def test_files_of_one_name_are_told_apart(model, tmp_path):
    inputs, _ = samples()
    files = [tmp_path / "a" / "new.npy", tmp_path / "b" / "new.npy"]
    for number, file in enumerate(files):
        file.parent.mkdir()
        np.save(file, inputs[number : number + 1])
    predict(Model.load(model), files, tmp_path)
    found = rows(tmp_path / "predictions.csv")
    assert [row["file"] for row in found] == [str(file) for file in files]


def test_outputs_of_one_name_do_not_replace_each_other(tmp_path):
    files = [tmp_path / "a" / "new.npy", tmp_path / "b" / "new.npy"]
    for file in files:
        file.parent.mkdir()
        np.save(file, np.ones((1, 1, 1, 12, 10)))
    with pytest.raises(InputError, match="both go to .*new-predicted.npy"):
        predict(smoothing(), files, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_is_told(model, tmp_path, capsys):
    np.save(tmp_path / "new.npy", samples()[0])
    given = ["predict", str(model), str(tmp_path / "new.npy")]
    assert main([*given, "--out", str(tmp_path / "new.npy")]) == 2
    assert "--out: got " in capsys.readouterr().err


def test_rows_of_tables(tmp_path):
    layer = {"kind": "dense", "channels": 1}
    weights = {"W1": np.array([[1.0, -2.0]]), "b1": np.array([0.5])}
    none = Normalisation.none
    model = Model({"layer": [layer]}, weights, 2, (1, 1, 1), none(2), none(1))
    (tmp_path / "t.csv").write_text("a,b\n1,2\n3,0\n")
    predict(model, [tmp_path / "t.csv"], tmp_path)
    assert [float(r["output0"]) for r in rows(tmp_path / "predictions.csv")] == [
        -2.5,
        3.5,
    ]
    with pytest.raises(
        InputError, match="t.csv: got 2 samples of 2 channels on 1 x 1 x 1"
    ):
        predict(
            replace(
                model,
                channels=3,
                weights={"W1": np.ones((1, 3)), "b1": weights["b1"]},
                inputs=none(3),
            ),
            [tmp_path / "t.csv"],
            tmp_path,
        )


@pytest.mark.parametrize(
    "name, content, said",
    [
        ("a.npy", np.zeros((2, 4, 4)), "2 samples of 1 channels on 1 x 4 x 4 cells"),
        ("a.npy", np.full((1, 6, 5), np.nan), "30 values that are NaN"),
        ("a.npy", np.zeros((0, 6, 5)), "0 samples"),
        ("a.npy", np.array(["x", "y"]), "a.npy"),
        ("a.doc", None, "FILES: got .*a.doc; allowed: one of .png"),
        ("none.npy", None, "FILES: got .*none.npy; allowed: an existing file"),
    ],
)
def test_wrong_samples_are_told(model, tmp_path, capsys, name, content, said):
    if content is not None:
        np.save(tmp_path / name, content)
    elif name == "a.doc":
        (tmp_path / name).write_text("x")
    with pytest.raises(InputError, match=said):
        predict(Model.load(model), [tmp_path / name], tmp_path / "there")
    assert not (tmp_path / "there").exists()
    assert main(["predict", str(model), str(tmp_path / name)]) == 2
    assert capsys.readouterr().err.startswith("error: ")


def test_weights_that_are_not_those_of_the_layers_are_told(model):
    loaded = Model.load(model)
    with pytest.raises(InputError, match="MODEL: weight W1: got nothing"):
        Predictor(replace(loaded, weights={}))
    with pytest.raises(InputError, match=r"MODEL: layer\[0\].kind: got 'spline'"):
        Predictor(replace(loaded, architecture={"layer": [{"kind": "spline"}]}))

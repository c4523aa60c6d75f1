"""Cases: the shipped ones are well formed, and what is wrong in one is named."""

from pathlib import Path

import numpy as np
import pytest

from npde_opt.cases import check_main
from npde_opt.cases.fields import overlap, resample
from npde_opt.cases.schema import SECTIONS, document, validate
from npde_opt.errors import InputError

MESHES = sorted((Path(__file__).resolve().parents[1] / "meshes").glob("*.toml"))
UNKNOWN = {"name": "D", "initial": 1.0}


@pytest.mark.parametrize("file", MESHES, ids=lambda f: f.stem)
def test_shipped_case_is_well_formed(file, tmp_path, capsys):
    if "mni152" in file.read_text():
        pytest.importorskip("nilearn")
    options = []
    if "observations.npz" in file.read_text():
        assert check_main([str(file)]) == 2
        assert "observations.points" in capsys.readouterr().out
        np.savez(tmp_path / "observations.npz", xy=np.full((5, 2), 0.5), data=np.zeros(5))
        options = ["--data", str(tmp_path)]
    code, text = check_main([str(file), *options]), capsys.readouterr().out
    if "an existing file" in text:
        pytest.skip("needs data that are not shipped")
    assert code == 0 and "is well formed" in text


def test_defaults_are_filled_in():
    table = validate({"unknown": [UNKNOWN]})
    assert set(table) == set(SECTIONS)
    assert table["unknown"][0]["transform"] == "log" and table["optimizer"]["max_iterations"] == 50


@pytest.mark.parametrize(("raw", "text"), [
    ({}, "unknown"),
    ({"unknown": [{"name": "D"}]}, "unknown[0].initial"),
    ({"unknown": [UNKNOWN | {"transfrom": "log"}]}, "did you mean 'transform'"),
    ({"unknown": [UNKNOWN | {"transform": "cube"}]}, "identity, log, bounded"),
    ({"unknown": [UNKNOWN], "grid": {"coarsen": True}}, "grid.coarsen"),
    ({"unknown": [UNKNOWN], "grids": {}}, "did you mean 'grid'"),
    ({"unknown": [UNKNOWN], "misfit": 3}, "misfit"),
])
def test_wrong_key_is_named(raw, text):
    with pytest.raises(InputError) as error:
        validate(raw)
    assert text in str(error.value)


def test_the_format_names_every_key():
    page = document()
    for section, keys in SECTIONS.items():
        assert f"[{section}]" in page
        assert all(f"| `{key}` |" in page for key in keys)


def test_resampling_keeps_the_mean():
    fine, coarse = [np.linspace(0, 1, 13), np.linspace(0, 2, 9)], [np.linspace(0, 1, 6), np.linspace(0, 2, 4)]
    values = np.random.default_rng(0).random((12, 8))
    assert resample(values, fine, coarse).mean() == pytest.approx(values.mean(), rel=1e-13)
    assert overlap(fine[0], coarse[0]).sum(axis=1) == pytest.approx(1.0)
    assert (resample(values, fine, fine) == pytest.approx(values))

"""identify.py --uncertainty: what the data leave open of fields, in files and numbers."""

import numpy as np
import pytest
from calling import ROOT, identify, summary

from npde_opt.io.vtk_reader import read_xml_vtk


def arrays(path):
    return {name: found.values for name, found in read_xml_vtk(path).items()}


CASE = ROOT / "meshes" / "lognormal.toml"
SMALL = ("--grid", 12, 12, "--levels", 1, "--uncertainty", "laplace")


def test_deviations_samples_and_numbers(tmp_path):
    found = summary(
        identify(1, CASE, tmp_path / "one", *SMALL, "--plot"), tmp_path / "one"
    )
    metrics = found["metrics"]
    assert 0 < metrics["determined_numbers"] < 144
    assert metrics["eigenvalues_above_1"] <= metrics["posterior_products"]
    assert metrics["information"] > 0
    fields = arrays(tmp_path / "one" / "posterior.vti")
    D = arrays(tmp_path / "one" / "parameters.vti")["D"]
    prior, after = (
        fields[f"D_parameter_{k}"] for k in ("prior_deviation", "deviation")
    )
    assert (after < prior).all() and (after > 0).all()
    np.testing.assert_allclose(fields["D_deviation"], D * after, rtol=1e-5)
    samples = np.log([fields[f"D_sample_{k}"] / D for k in range(4)])
    assert 0.5 < np.sqrt(np.mean((samples / after) ** 2)) < 1.5
    for name in ("D_deviation.png", "information.png"):
        assert (tmp_path / "one" / name).stat().st_size > 5000
    out = tmp_path / "groups"
    options = (*SMALL, "--experiment-groups", 2)
    again = summary(identify(2, CASE, out, *options), out)["metrics"]
    assert again["information"] == pytest.approx(metrics["information"], rel=1e-3)
    assert again["eigenvalues_above_1"] == metrics["eigenvalues_above_1"]


def test_an_improper_prior_is_told_before_work_begins(tmp_path):
    text = CASE.read_text()
    start = text.index("[[regularization]]")
    end = text.find("\n[", start + 1)
    case = tmp_path / "case.toml"
    case.write_text(text[:start] + ("" if end < 0 else text[end:]))
    run = identify(1, case, tmp_path / "out", *SMALL)
    assert run.returncode == 2
    assert "the prior of D: got none" in run.stderr
    assert not (tmp_path / "out" / "checkpoint-1").exists()

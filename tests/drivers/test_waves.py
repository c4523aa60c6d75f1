"""The cases of waves and patterns in short form, each on one number."""

from importlib.util import find_spec

import pytest
from calling import ROOT, identify, summary


def metrics(ranks, case, out, *options):
    """Of the case's run."""
    return summary(identify(ranks, case, out, *options), out)["metrics"]


def shortened(name, folder, *replacements):
    """The case with some of its text replaced."""
    text = (ROOT / "meshes" / f"{name}.toml").read_text()
    for old, new in replacements:
        assert text.count(old) == 1
        text = text.replace(old, new)
    (folder / "case.toml").write_text(text)
    return folder / "case.toml"


def test_gray_scott(tmp_path):
    """On half the case's cells, hence with a fourfold error of the grid, and up to half of its time
    with steps twice as long, a quarter of them."""
    case = shortened(
        "gray_scott",
        tmp_path,
        ("end = 400.0, steps = 1000", "end = 200.0, steps = 250"),
        ("times = [50.0, 100.0, 200.0, 400.0]", "times = [50.0, 100.0, 200.0]"),
    )
    found = metrics(
        1, case, tmp_path / "out", "--grid", "64", "64", "--levels", "1", "--plot"
    )
    for name, error in {"Du": 0.1, "Dv": 0.15, "F": 0.02, "k": 0.005}.items():
        assert found[f"relative_error_{name}"] < error
    assert (tmp_path / "out" / "state.gif").exists() and (
        tmp_path / "out" / "snapshots.png"
    ).exists()


def test_phase_retrieval(tmp_path):
    if not find_spec("skimage"):
        pytest.skip("needs npde_opt[examples]")
    found = metrics(
        1,
        ROOT / "meshes" / "phase_retrieval.toml",
        tmp_path / "out",
        "--grid",
        "32",
        "32",
        "--plot",
    )
    assert found["relative_error_phi"] < 0.1
    assert (tmp_path / "out" / "state.gif").exists()


def test_graded_index(tmp_path):
    found = metrics(
        1, ROOT / "meshes" / "graded_index.toml", tmp_path / "out", "--plot"
    )
    assert found["relative_error_n"] < 0.4
    assert (tmp_path / "out" / "course.png").exists()

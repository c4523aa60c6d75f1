"""The cases of waves and patterns in short form, each on one number."""

from importlib.util import find_spec

import pytest
from calling import ROOT, identify, summary


def metrics(ranks, name, out, *options):
    """Of the case's run."""
    return summary(identify(ranks, ROOT / "meshes" / f"{name}.toml", out, *options), out)["metrics"]


def test_gray_scott(tmp_path):
    """On half the case's cells, hence with a fourfold error of the grid."""
    found = metrics(2, "gray_scott", tmp_path / "out", "--grid", "64", "64", "--levels", "1", "--plot")
    for name, error in {"Du": 0.1, "Dv": 0.15, "F": 0.02, "k": 0.005}.items():
        assert found[f"relative_error_{name}"] < error
    assert (tmp_path / "out" / "state.gif").exists() and (tmp_path / "out" / "snapshots.png").exists()


@pytest.mark.parametrize("ranks", [1, 2])
def test_phase_retrieval(tmp_path, ranks):
    if not find_spec("skimage"):
        pytest.skip("needs npde_opt[examples]")
    found = metrics(ranks, "phase_retrieval", tmp_path / "out", "--grid", "32", "32", "--plot")
    assert found["relative_error_phi"] < 0.1
    assert (tmp_path / "out" / "state.gif").exists()


@pytest.mark.parametrize("ranks", [1, 2])
def test_graded_index(tmp_path, ranks):
    found = metrics(ranks, "graded_index", tmp_path / "out", "--plot")
    assert found["relative_error_n"] < 0.4
    assert (tmp_path / "out" / "course.png").exists()

"""The cases of waves and patterns in short form, each on one number."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def metrics(ranks, name, out, *options):
    """Of the case's run by the driver, in an environment of its own."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("OMPI_", "PMIX_", "PMI_", "ORTE_"))}
    env |= {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1", "OMP_NUM_THREADS": "1",
            "OMPI_MCA_rmaps_base_oversubscribe": "1", "OMPI_MCA_mpi_yield_when_idle": "1", "OPENBLAS_NUM_THREADS": "1"}
    launcher = ["mpirun", "-n", str(ranks)] if ranks > 1 else []
    run = subprocess.run([*launcher, sys.executable, ROOT / "drivers" / "identify.py", "--case", ROOT / "meshes" / f"{name}.toml",
                          "--out", out, *options], env=env, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stdout + run.stderr
    return json.loads((out / "summary.json").read_text())["metrics"]


@pytest.mark.parametrize("ranks", [1, 2])
def test_gray_scott(tmp_path, ranks):
    found = metrics(ranks, "gray_scott", tmp_path / "out", "--grid", "32", "32", "--plot")
    assert max(found[f"relative_error_{name}"] for name in ("Du", "Dv", "F", "k")) < 0.02
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
    found = metrics(ranks, "graded_index", tmp_path / "out", "--grid", "64", "--plot")
    assert found["relative_error_n"] < 0.75
    assert (tmp_path / "out" / "course.png").exists()

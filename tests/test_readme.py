"""The README's Python and the case in docs/evolution.md run as they stand."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from mpi4py import MPI

from npde_opt import nested
from npde_opt.cases import load_case
from npde_opt.ensemble import Ensemble
from npde_opt.runs.monitor import Monitor

README = Path(__file__).resolve().parents[1] / "README.md"


def test_the_identification_in_the_readme_converges():
    code = re.search(r"```python\n(.*?)```", README.read_text(), re.DOTALL).group(1)
    env = {k: v for k, v in os.environ.items() if not k.startswith(("OMPI_COMM", "PMIX_", "PMI_", "ORTE_"))}
    run = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=900)
    assert run.returncode == 0, run.stderr
    status, objective = run.stdout.split()
    assert status == "converged"
    assert float(objective) == pytest.approx(70.84145, rel=1e-5)


def test_the_case_in_the_documentation_is_fitted(tmp_path):
    text = (README.parent / "docs" / "evolution.md").read_text()
    path = tmp_path / "case.toml"
    path.write_text(re.search(r"```toml\n(.*?)```", text, re.DOTALL).group(1))
    case, ensemble = load_case(path, MPI.COMM_WORLD, cells=(20, 20)), Ensemble.whole(MPI.COMM_WORLD)
    case.prepare(ensemble)
    found = nested.identify(case.grid(MPI.COMM_WORLD), lambda g: case.build(g, ensemble), case.settings(), 1,
                            Monitor(MPI.COMM_WORLD, None))
    space = found.objective.space
    assert found.result.status == "converged"
    assert float(space.unknown("r").value(space.values(found.result.m, "r"))[0]) == pytest.approx(3.0, rel=0.01)

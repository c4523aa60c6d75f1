"""The README's Python runs as it stands."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

README = Path(__file__).resolve().parents[1] / "README.md"


def test_the_identification_in_the_readme_converges():
    code = re.search(r"```python\n(.*?)```", README.read_text(), re.DOTALL).group(1)
    env = {k: v for k, v in os.environ.items() if not k.startswith(("OMPI_COMM", "PMIX_", "PMI_", "ORTE_"))}
    run = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    status, objective = run.stdout.split()
    assert status == "converged"
    assert float(objective) == pytest.approx(70.84145, rel=1e-5)

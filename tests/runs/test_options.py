"""The command line of the drivers."""

import subprocess
import sys
from pathlib import Path

import pytest

import npde_opt

ROOT = Path(__file__).resolve().parents[2]


def called(*arguments):
    run = subprocess.run(
        [sys.executable, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


@pytest.mark.parametrize(
    "start",
    [
        ["-m", "npde_opt"],
        [ROOT / "drivers/identify.py"],
        [ROOT / "drivers/simulate.py"],
    ],
)
def test_all_programs_tell_their_version(start):
    assert called(*start, "--version").split() == ["npde_opt", npde_opt.__version__]


def test_petsc_tells_its_options():
    said = called(ROOT / "drivers/identify.py", "-help")
    assert "PETSc Release Version" in said and "-log_view" in said

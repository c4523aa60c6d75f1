"""`import npde_opt as nd`: every name is there, and nothing heavy is loaded before one is used."""

import subprocess
import sys

import pytest

import npde_opt as nd


def python(code: str, *arguments: str) -> str:
    run = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert run.returncode == 0, run.stderr
    return run.stdout.splitlines()[0]


@pytest.mark.parametrize("name", [n for n in nd.__all__ if n != "__version__"])
def test_every_name_is_there(name):
    found = getattr(nd, name)
    assert found.__name__ == name
    assert name in dir(nd)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'Gird'"):
        nd.Gird  # noqa: B018


def test_importing_loads_nothing_heavy():
    heavy = "{'numpy', 'petsc4py', 'mpi4py', 'typing'}"
    before = "import sys; before = set(sys.modules)"
    code = f"{before}; import npde_opt; print({heavy} & {{*sys.modules}} - before)"
    assert python(code) == "set()"


def test_a_run_loads_what_few_runs_need_when_it_needs_it():
    parts = "'sparse', 'linalg', 'ndimage', 'optimize', 'special', 'spatial'"
    others = "'numba', 'sympy', 'matplotlib', 'http.client', 'npde_opt.io.vtk_reader'"
    heavy = f"({{'scipy.' + part for part in ({parts})}} | {{{others}}})"
    code = f"import sys, npde_opt.runs.run; print({heavy} & {{*sys.modules}})"
    assert python(code) == "set()"


def test_options_of_the_command_line_reach_petsc():
    code = (
        "import npde_opt as nd; nd.Grid; from petsc4py import PETSc;"
        "print(PETSc.Options().getReal('state_ksp_rtol'))"
    )
    assert float(python(code, "-state_ksp_rtol", "1e-5")) == 1e-5


def test_petsc_that_a_script_has_started_stays():
    code = (
        "import petsc4py; petsc4py.init(['x', '-mine', '3']); from petsc4py import PETSc;"
        "import npde_opt as nd; nd.Grid; print(PETSc.Options().getInt('mine'))"
    )
    assert python(code, "-mine", "4") == "3"

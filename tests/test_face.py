"""`import npde_opt as nd`: every name is there, and nothing heavy is loaded before one is used."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest
from steady_case import CASE

import npde_opt as nd


def python(code: str, *arguments: str) -> str:
    return lines(code, *arguments)[0]


def lines(code: str, *arguments: str) -> list[str]:
    run = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert run.returncode == 0, run.stderr
    return run.stdout.splitlines()


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


LOADED = """
import sys
print(sorted(n for n, m in sys.modules.items() if type(m).__name__ != "_LazyModule"))
"""
HEAVY = {
    *("scipy", "numba", "llvmlite", "sympy", "matplotlib", "checkpoint_schedules"),
    *("numpy.polynomial", "numpy.fft", "numpy.ma", "numpy.testing", "numpy.f2py"),
    *("http.client", "email", "gzip", "html", "socket", "statistics", "subprocess"),
    *("npde_opt.cases.check", "npde_opt.figures.fields", "npde_opt.forward.evolution"),
    *("npde_opt.forward.stepper", "npde_opt.functions.spline", "npde_opt.grids.halo"),
    *("npde_opt.io.vtk_reader", "npde_opt.io.zarr_writer", "npde_opt.networks"),
    *("npde_opt.posterior.laplace", "npde_opt.runs.verification"),
    *("npde_opt.terms.kinetics", "npde_opt.terms.nonlinear_diffusion"),
}
"""What some runs need, and a steady one without figures does not."""


def test_a_run_loads_what_few_runs_need_when_it_needs_it():
    loaded = ast.literal_eval(python(f"import npde_opt.runs.run{LOADED}"))
    assert "npde_opt.forward.steady" in loaded
    assert HEAVY & {*loaded} == set()


def test_a_steady_run_to_its_end_loads_none_of_it(tmp_path):
    case = tmp_path / "case.toml"
    case.write_text(CASE)
    driver = Path(__file__).parent.parent / "drivers" / "identify.py"
    code = f"""
import atexit, runpy, sys
sys.path.insert(0, {str(driver.parent)!r})
atexit.register(exec, {"print('loaded')" + LOADED!r}, {{}})
runpy.run_path({str(driver)!r}, run_name="__main__")
"""
    text = lines(code, "--case", str(case), "--out", str(tmp_path / "out"))
    loaded = ast.literal_eval(text[text.index("loaded") + 1])
    assert "npde_opt.runs.report" in loaded
    assert HEAVY & {*loaded} == set()


@pytest.mark.parametrize("room", ["cases", "figures", "forward", "functions", "terms"])
def test_rooms_have_the_names_that_they_say(room):
    package = importlib.import_module(f"npde_opt.{room}")
    for name in package.__all__:
        assert getattr(package, name) is not None
    with pytest.raises(AttributeError, match=f"'npde_opt.{room}' has no attribute"):
        package.Gird  # noqa: B018


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

"""What an equation cannot be at the values to start from is told before any solve, by `check` too,
and what further starts say wrong by the key."""

import pytest
from mpi4py import MPI

from npde_opt.cases import load_case
from npde_opt.cases.check import check_main
from npde_opt.errors import InputError

CASE = """
[grid]
shape = [6, 4]
active = { expression = "x < 0.7" }
outside = "drop"
[boundaries]
"x-" = "dirichlet"
[equation]
terms = [{ diffusion = "D" }, { source = 1.0 }TERM]
EQUATION
[time]
scheme = "imex-euler"
times = { end = 1.0, steps = 2 }
[[unknown]]
name = "D"
initial = 1.0
truth = 2.0
[[unknown]]
name = "h"
kind = "history"
length = 2
initial = 1.0
truth = 2.0
[[experiment]]
sources = [{ shape = 1.0, history = "h", times = [0.0, 1.0] }]
[[observation]]
points = [[0.2, 0.7]]
times = [1.0]
[misfit]
MISFIT
[optimizer]
OPTIMIZER
"""


def checked(tmp_path, capsys, **parts):
    text = CASE
    for name in ("TERM", "EQUATION", "MISFIT", "OPTIMIZER"):
        text = text.replace(name, parts.get(name, ""))
    path = tmp_path / "case.toml"
    path.write_text(parts.get("whole", str)(text))
    code = check_main([str(path)])
    return code, capsys.readouterr().out


WRONG = {
    "storage number": (
        {"EQUATION": "storage = -1.0"},
        "error: equation.storage: got -1",
    ),
    "storage of an unknown": (
        {"EQUATION": 'storage = "log(D) - 5"'},
        "error: equation.storage: got -5",
    ),
    "tensor": (
        {"TERM": ', { diffusion-tensor = [["D", 3.0], [3.0, "D"]] }'},
        "error: equation.terms[2]: got the diffusion tensor is not positive definite in",
    ),
    "misfit": (
        {"MISFIT": 'kind = "registered"\nname = "nobody"'},
        "error: misfit.name: got nobody",
    ),
    "start": (
        {"OPTIMIZER": "restarts = [{ D = -1.0 }]"},
        "error: optimizer.restarts[0].D: got -1",
    ),
    "short history": (
        {"OPTIMIZER": "restarts = [{ h = [1.0] }]"},
        "error: optimizer.restarts[0].h: got [1.0]; allowed: a number, or 2 numbers",
    ),
    "spread": (
        {"OPTIMIZER": "spread = 2.0"},
        "error: optimizer.spread: got given without starts",
    ),
    "nothing seen": (
        {"whole": lambda text: text.replace("[[0.2, 0.7]]", "[[0.9, 0.7]]")},
        "error: observation: got all places in no active cell",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_told_by_check(name, tmp_path, capsys):
    parts, said = WRONG[name]
    code, text = checked(tmp_path, capsys, **parts)
    assert code == 2 and said in text


def test_right_ones(tmp_path, capsys):
    """Also a velocity whose time has the factor 0."""
    parts = {
        "TERM": ', { advection = ["1 + 0*t", 0] }',
        "EQUATION": 'storage = "2*D"',
        "OPTIMIZER": "restarts = 1\nspread = 2.0",
    }
    code, text = checked(tmp_path, capsys, **parts)
    assert code == 0, text


@pytest.mark.parallel([1, 2])
def test_told_on_all_ranks(tmp_path):
    path = tmp_path / f"{MPI.COMM_WORLD.rank}.toml"
    text = CASE.replace("EQUATION", "storage = { expression = 'y - 0.5' }")
    for name in ("TERM", "MISFIT", "OPTIMIZER"):
        text = text.replace(name, "")
    path.write_text(text)
    case = load_case(path, MPI.COMM_WORLD)
    on = case.on(case.grid(MPI.COMM_WORLD))
    with pytest.raises(InputError, match="equation.storage: got -0.375"):
        on.start()

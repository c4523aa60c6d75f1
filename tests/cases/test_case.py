"""What a run of a case refuses, `check` refuses too, before any solve."""

import re

import pytest
from mpi4py import MPI

from npde_opt.cases import check_main, load_case
from npde_opt.ensemble import Ensemble
from npde_opt.errors import InputError


def said(folder, text, capsys, code=0):
    """What `check` says of a case."""
    (folder / "case.toml").write_text(text)
    assert check_main([str(folder / "case.toml")]) == code
    return capsys.readouterr().out


SIDES = """
[grid]
shape = [8, 6]
[boundaries]
"x-" = "dirichlet"
"x+" = { kind = "robin", coefficient = 2.0 }
[equation]
known = {}
[[unknown]]
name = "D"
initial = 1.0
truth = 2.0
[[experiment]]
boundary = { "x-" = 1.0 }
[[observation]]
points = [[0.3, 0.3], [0.5, 0.5]]
[[regularization]]
weight = 1.0
"""
PERIODIC = "[boundaries]\n'y-' = 'periodic'\n'y+' = 'periodic'"
TWO_ELECTRODES = "[electrodes]\nat = [[0.1, 0.1], [0.9, 0.9]]"
REFUSED = {
    (
        "[boundaries]",
        "[boundaries]\n'z-' = 'dirichlet'",
    ): "boundaries.z-: got dirichlet",
    ("known = {}", "known = { q = 3.0 }"): "equation.known.q",
    (
        "[[observation]]",
        f"[[experiment]]\n[[experiment]]\n{TWO_ELECTRODES}\n[[observation]]",
    ): "experiment: got 3 tables; allowed: at most 2",
    ("weight = 1.0", "kind = 'total-variation'\ndirections = [1, 2]"): (
        r"regularization\[0\].directions: got given with the kind 'total-variation'"
    ),
    ("weight = 1.0", "directions = [1, 2, 3]"): "2 positive factors",
    (
        "weight = 1.0",
        "kind = 'bilaplacian'\ngamma = 1.0\ndelta = 1.0\ndirections = [1]",
    ): ("2 positive factors"),
    ("weight = 1.0", "kind = 'bilaplacian'\ngamma = 1.0"): "correlation_length",
    ("weight = 1.0", "reference = -1"): "positive values",
    ("weight = 1.0", "cell_weights = { expression = 'x - 0.5' }"): (
        "cell_weights: got -0.4375; allowed: factors >= 0"
    ),
}


@pytest.mark.parametrize(
    "change", list(REFUSED), ids=lambda c: c[1].splitlines()[-1][:30]
)
def test_what_a_run_of_a_steady_case_refuses(change, tmp_path, capsys):
    assert change[0] in SIDES
    out = said(tmp_path, SIDES.replace(*change), capsys, 2)
    assert re.search(REFUSED[change], out), out


def test_values_on_periodic_sides_are_refused(tmp_path, capsys):
    periodic = SIDES.replace("[boundaries]", PERIODIC)
    assert "is well formed" in said(tmp_path, periodic, capsys)
    text = periodic.replace('{ "x-" = 1.0 }', '{ "x-" = 1.0, "y-" = 2.0 }')
    assert "got y-; allowed: x-, x+" in said(tmp_path, text, capsys, 2)


MOVING = """
[grid]
shape = [8]
[equation]
known = {}
terms = [{ diffusion = "D" }, { source = "1" }]
[time]
times = { end = 1.0, steps = 4 }
[misfit]
[[unknown]]
name = "D"
initial = 1.0
truth = 2.0
[[observation]]
times = [1.0]
points = [[0.5]]
[[regularization]]
unknown = "D"
"""
REFUSED_OF_TIME = {
    ("times = { end = 1.0, steps = 4 }", "times = [1, 0]"): (
        r"time.times: got \[1, 0\]; allowed: times that increase"
    ),
    (
        "times = { end = 1.0, steps = 4 }",
        "times = [0, 0.6, 0.3, 1]",
    ): "times that increase",
    ("known = {}", "known = { u = 1 }"): "equation.known.u",
    ("[misfit]", "[simulation]\nsteps = 1000000000"): "simulation.steps",
    ("[misfit]", "[misfit]\npower = 0.5"): "misfit.power",
    ('unknown = "D"', 'unknown = "D"\nepsilon = 0.5'): r"regularization\[0\].epsilon",
    ('unknown = "D"', 'unknown = "D"\ncell_weights = -1'): "factors >= 0",
}


@pytest.mark.parametrize(
    "change", list(REFUSED_OF_TIME), ids=lambda c: c[1].splitlines()[-1][:30]
)
def test_what_a_run_of_an_evolution_refuses(change, tmp_path, capsys):
    assert "is well formed" in said(tmp_path, MOVING, capsys)
    assert change[0] in MOVING
    out = said(tmp_path, MOVING.replace(*change), capsys, 2)
    assert re.search(REFUSED_OF_TIME[change], out), out


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (
            ("initial = 1.0", 'initial = { expression = "1 - 2*x" }'),
            "unknown.D.initial",
        ),
        (("weight = 1.0", "weight = 1.0\ncell_weights = -1.0"), "cell_weights"),
    ],
)
def test_what_is_sought_is_right_before_data_are_simulated(
    tmp_path, monkeypatch, change, field
):
    """A simulation may take long."""
    text = """
    [grid]
    shape = [8]
    [boundaries]
    "x-" = "dirichlet"
    [[unknown]]
    name = "D"
    initial = 1.0
    truth = 2.0
    [[observation]]
    points = [[0.5]]
    [[regularization]]
    weight = 1.0
    """
    assert change[0] in text
    (tmp_path / "case.toml").write_text(text.replace(*change))
    case = load_case(tmp_path / "case.toml", MPI.COMM_SELF)
    monkeypatch.setattr(case, "_simulate", lambda *_: pytest.fail("simulated first"))
    with pytest.raises(InputError, match=field):
        case.prepare(Ensemble.whole(MPI.COMM_SELF))

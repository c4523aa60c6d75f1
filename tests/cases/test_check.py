"""`check` says what is read, what is prescribed on which side, what drives the experiments, what
was taken by default, and all that is wrong."""

import re
from pathlib import Path

import numpy as np
import pytest

from npde_opt.cases import check_main

ALL = sorted((Path(__file__).resolve().parents[2] / "meshes").glob("*.toml"))
LEARNT = ("\n[network", "\n[reservoir")
MESHES = [
    file for file in ALL if not any(table in file.read_text() for table in LEARNT)
]
"""Of equations."""


def said(folder, text, capsys, code=0):
    """What `check` says of a case, with single spaces where there are many."""
    (folder / "case.toml").write_text(text)
    assert check_main([str(folder / "case.toml")]) == code
    return re.sub(r"  +", "  ", capsys.readouterr().out)


# ---- shipped cases -------------------------------------------------------------------------------


@pytest.mark.parametrize("file", MESHES, ids=lambda f: f.stem)
def test_shipped_case_is_well_formed(file, tmp_path, capsys):
    if "mni152" in file.read_text():
        pytest.importorskip("nilearn")
    options = []
    if "observations.npz" in file.read_text():
        assert check_main([str(file)]) == 2
        assert "observation[0].points" in capsys.readouterr().out
        np.savez(
            tmp_path / "observations.npz", xy=np.full((5, 2), 0.5), data=np.zeros(5)
        )
        options = ["--data", str(tmp_path)]
    code, text = check_main([str(file), *options]), capsys.readouterr().out
    if "an existing file" in text:
        pytest.skip("needs data that are not shipped")
    assert code == 0 and "is well formed" in text


# ---- what is said --------------------------------------------------------------------------------

STEADY = """
[grid]
shape = [4, 3]
[boundaries]
"x-" = "dirichlet"
"x+" = "dirichlet"
"y+" = { kind = "robin", coefficient = 2.0 }
[equation]
known = { c = { file = "c.vtr" } }
terms = [{ diffusion = "D" }, { reaction = "c" }]
[[unknown]]
name = "D"
initial = 1.0
[[experiment]]
boundary = { "x+" = 1.5 }
[[experiment]]
boundary = { "x+" = 2.5, "y+" = 3.0 }
[wells]
file = "wells.csv"
[[observation]]
points = { file = "points.csv", column = ["x", "y"] }
data = { file = "points.csv", column = ["first", "second"] }
sigma = { file = "sigma.npy" }
[[regularization]]
weight = 1.0
"""
EVOLUTION = """
[grid]
shape = [6]
[boundaries]
"x-" = "dirichlet"
[equation]
terms = [{ diffusion = "D" }, PUMP]
[time]
times = { end = 1.0, steps = 4 }
[[unknown]]
name = "D"
kind = "scalar"
initial = 1.0
[[experiment]]
boundary = { "x-" = 4.0 }
initial = { u = { file = "u.csv", column = "u", scale = 2.0 } }
[[experiment]]
[[observation]]
times = { file = "u.csv", column = "t", rows = [0, 1, 1] }
points = { file = "u.csv", column = "x", rows = [1, 2, 1] }
data = [{ file = "a.npy" }, { file = "b.npy" }]
noise = 0.01
""".replace(
    "PUMP",
    '{ source = "x", history = { file = "pump.csv", column = "rate" }, '
    'times = { file = "pump.csv", column = "t" } }',
)
VTR = """<VTKFile type="RectilinearGrid"><RectilinearGrid><Piece Extent="0 2 0 1 0 0">
<Coordinates>
<DataArray type="Float64" format="ascii">0 0.5 2</DataArray>
<DataArray type="Float64" format="ascii">-1 1</DataArray>
<DataArray type="Float64" format="ascii">0</DataArray>
</Coordinates>
<CellData><DataArray type="Float64" Name="c" format="ascii">1 3</DataArray></CellData>
</Piece></RectilinearGrid></VTKFile>"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "c.vtr").write_text(VTR)
    (tmp_path / "wells.csv").write_text(
        "x,y,rate,experiment\n0.5,0.5,2,2\n0.1,0.2,-1,1\n"
    )
    (tmp_path / "points.csv").write_text("x;y;first;second\n0,1;0,5;7;8\n0,9;0,25;;9\n")
    np.save(tmp_path / "sigma.npy", np.full((2, 2), 0.1))
    (tmp_path / "pump.csv").write_text("t,rate\n0,0\n0.5,3\n1,1\n")
    rows = [f"{0.2 + 0.1 * i:g},{(i + 0.5) / 6:.4g},{i}\n" for i in range(6)]
    (tmp_path / "u.csv").write_text("t,x,u\n" + "".join(rows))
    np.save(tmp_path / "a.npy", [[1.0, 2.0], [3.0, np.nan]])
    np.save(tmp_path / "b.npy", np.arange(4.0))
    return tmp_path


STEADY_LINES = (
    "equation.known.c  2 x 1  1  2  3  c.vtr, on [0, 2] x [-1, 1]",
    "unknown.D.initial  4 x 3  1  1  1  a number",
    "observation[0].points  2 x 2  0.1  0.4375  0.9  points.csv, on [0.1, 0.9] x [0.25, 0.5]",
    "observation[0].data  2 x 2  7  8  9  points.csv, 1 missing",
    "observation[0].sigma  2 x 2  0.1  0.1  0.1  sigma.npy",
    "x-  dirichlet: 0 by default",
    "x+  dirichlet: 1.5 (experiment 0); 2.5 (experiment 1)",
    "y+  robin (coefficient 2): 0 by default (experiment 0); 3 (experiment 1)",
    "y-  neumann by default: no flux",
    "experiment 0: well at (0.1, 0.2), rate -1, radius 0",
    "experiment 1: well at (0.5, 0.5), rate 2, radius 0",
    "grid.extent: 1 along every axis",
    "experiments  2, 2 observations each",
)
EVOLUTION_LINES = (
    "experiment[0].initial.u  6  0  5  10  u.csv",
    "observation[0].times  2  0.2  0.25  0.3  u.csv",
    "observation[0].points  2 x 1  0.25  0.33335  0.4167  u.csv, on [0.25, 0.4167]",
    "observation[0].data[0]  2 x 2  1  2  3  a.npy, 1 missing",
    "observation[0].data[1]  4  0  1.5  3  b.npy",
    "equation.terms[1].history  3  0  1.33333  3  pump.csv",
    "x-  dirichlet: 4 (experiment 0); 0 by default (experiment 1)",
    "x+  neumann by default: no flux",
    "experiment 1: u starts from 0 by default",
    "all experiments: source x times 3 values 0 ... 3, linear between 3 times 0 ... 1",
)


def test_steady(folder, capsys):
    text = said(folder, STEADY, capsys)
    for line in STEADY_LINES:
        assert line in text, text


def test_evolution(folder, capsys):
    text = said(folder, EVOLUTION, capsys)
    for line in EVOLUTION_LINES:
        assert line in text, text
    assert ".sigma:" not in text  # its noise is given


def test_missing_values_are_no_data(folder, capsys):
    """By NaN, empty words and codes; their number is said, and smallest, mean and largest value
    leave them out."""
    assert "\n  data  3: 4 values, of which 1 missing\n" in said(folder, STEADY, capsys)
    assert "\n  data  7: 8 values, of which 1 missing\n" in said(
        folder, EVOLUTION, capsys
    )
    np.save(folder / "b.npy", [0.0, -9999.0, 2.0, -9999.0])
    coded = EVOLUTION.replace('"b.npy" }', '"b.npy", missing = -9999 }')
    text = said(folder, coded, capsys)
    assert "\n  data  5: 8 values, of which 3 missing\n" in text
    assert "observation[0].data[1]  4  0  1  2  b.npy, 2 missing" in text
    (folder / "c.csv").write_text("t,v\n0,1\n1,NA\n2,\n3,4\n")
    text = said(
        folder, EVOLUTION.replace('"b.npy" }', '"c.csv", column = "v" }'), capsys
    )
    assert "\n  data  5: 8 values, of which 3 missing\n" in text
    assert "observation[0].data[1]  4  1  2.5  4  c.csv, 2 missing" in text


def test_values_of_places_without_an_active_cell_are_no_data(folder, capsys):
    whole = EVOLUTION.replace(
        "shape = [6]", 'shape = [6]\nactive = { expression = "x < 0.6" }'
    ).replace('points = { file = "u.csv", column = "x", rows = [1, 2, 1] }\n', "")
    first_missing = np.where(np.arange(12) == 0, np.nan, 1.0)
    np.save(folder / "a.npy", first_missing.reshape(2, 6))
    np.save(folder / "b.npy", np.ones((2, 6)))
    text = said(folder, whole, capsys)
    # Two experiments, two times, four active cells of six.
    assert (
        "  data  15: 24 values, of which 1 missing and 8 of places that no active cell is seen from"
        in text
    )


def test_steps_and_starts_of_small_unknowns_are_said(folder, capsys):
    text = said(folder, EVOLUTION, capsys)
    # One more step ends at 0.3, the second time that is observed.
    assert "unknowns  D (log): 1 values" in text
    assert "unknown.D.initial  1  1  1  1  a number" in text
    assert "from 0 to 1, of size 0.05 to 0.25, all states kept" in text
    assert "experiment 0: u starts from u.csv, column u" in text


def test_electrodes_and_grounds_are_said(folder, capsys):
    ring = """
    [grid]
    shape = [8, 8]
    [equation]
    terms = [{ diffusion = "D" }, { ground = [0.5, 0.5], radius = 0.25, conductance = 3.0 }]
    [[unknown]]
    name = "D"
    initial = 1.0
    truth = 2.0
    [electrodes]
    count = 4
    current = 0.5
    [[observation]]
    electrodes = true
    """
    text = said(folder, ring, capsys)
    assert "4 electrodes of radius 0, current 0.5 between opposite ones" in text
    assert "ground at (0.5, 0.5), radius 0.25, conductance 3" in text
    assert "experiments  4, 4 observations each, simulated on 16 x 16 cells" in text
    text = said(
        folder,
        ring.replace("count = 4", "count = 4\npattern = [[0, 1], [3, 1]]"),
        capsys,
    )
    assert "4 electrodes of radius 0, current 0.5 between 2 pairs" in text
    assert "experiments  2, 4 observations each" in text


def test_what_is_taken_by_default_is_said(folder, capsys):
    least = """
    [grid]
    shape = [4]
    [boundaries]
    "x-" = "dirichlet"
    [[unknown]]
    name = "D"
    initial = 1.0
    truth = 2.0
    [[experiment]]
    sources = [{ shape = 1.0 }]
    [[observation]]
    """
    text = said(folder, least, capsys)
    for line in (
        "equation.terms: [{ diffusion = 'D' }]",
        "observation[0].sigma: 0.01 times the rms of the data",
        "observation[0].points: every cell of the grid",
        "regularization: none",
    ):
        assert line in text, text


def test_what_is_only_simulated_needs_no_unknowns_and_no_observations(folder, capsys):
    forward = """
    [grid]
    shape = [4]
    [boundaries]
    "x-" = "dirichlet"
    [equation]
    known = { D = 2.0 }
    """
    text = said(folder, forward, capsys)
    assert "unknowns  none" in text
    assert "experiments  1, 0 observations each\n" in text
    steps = "[time]\ntimes = { end = 1.0, steps = 4 }\n"
    assert "unknowns  none" in said(folder, forward + steps, capsys)


# ---- what is wrong -------------------------------------------------------------------------------

CASE = """
[grid]
shape = [8, 6]
[boundaries]
"x-" = "dirichlet"
[equation]
terms = [{ diffusion = "D" }, { reaction = "c" }, { source = 1.0 }]
[[unknown]]
name = "D"
initial = 1.0
truth = { file = "truth.npy", resample = true }
[[unknown]]
name = "c"
initial = 1.0
truth = 2.0
[[observation]]
points = { file = "points.npy" }
[[regularization]]
unknown = "c"
reference = { file = "reference.npy" }
"""


def test_check_reads_what_a_run_reads_and_names_all_that_is_wrong(tmp_path, capsys):
    np.save(tmp_path / "truth.npy", np.ones((4, 3)))
    np.save(tmp_path / "reference.npy", np.ones((8, 6)))
    np.save(tmp_path / "points.npy", np.full((3, 2), 0.5))
    assert "is well formed" in said(tmp_path, CASE, capsys)
    np.save(tmp_path / "truth.npy", -np.ones((4, 3)))
    np.save(tmp_path / "reference.npy", np.full((8, 6), np.nan))
    np.save(tmp_path / "points.npy", np.full((3, 2), 1.5))
    text = said(tmp_path, CASE, capsys, 2)
    assert text.count("error: ") == 3
    for place in ("unknown.D.truth", "reference.npy", "observation[0].points[0]"):
        assert place in text, text
    (tmp_path / "points.npy").unlink()
    assert "points.npy" in said(tmp_path, CASE, capsys, 2)


def test_check_reads_measured_data(tmp_path, capsys):
    files = "data = { file = 'd.npy' }\nsigma = { file = 's.npy' }"
    text = CASE.replace(
        '{ file = "points.npy" }', f"[[0.5, 0.5], [0.2, 0.2], [0.7, 0.3]]\n{files}"
    )
    np.save(tmp_path / "truth.npy", np.ones((4, 3)))
    np.save(tmp_path / "reference.npy", np.ones((8, 6)))
    for data, sigma, wrong in (
        (np.ones(3), np.ones(3), ""),
        (np.ones(4), np.ones(3), "observation[0].data"),
        (np.ones(3), np.zeros(3), "observation[0].sigma"),
        (np.full(3, np.nan), np.ones(3), "NaN only"),
    ):
        np.save(tmp_path / "d.npy", data)
        np.save(tmp_path / "s.npy", sigma)
        assert wrong in said(tmp_path, text, capsys, 2 if wrong else 0)


def test_errors_of_evolution_cases_are_all_named(folder, capsys):
    np.save(folder / "a.npy", np.ones((3, 2)))
    text = said(
        folder, EVOLUTION.replace('name = "D"', 'name = "D"\ntruth = 1.0'), capsys, 2
    )
    assert text.count("error: ") == 1
    assert "observation[0].data[0]: got an array of shape (3, 2)" in text
    np.save(folder / "a.npy", np.full((2, 2), np.nan))
    np.save(folder / "b.npy", np.full((2, 2), np.nan))
    assert "NaN only" in said(folder, EVOLUTION, capsys, 2)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("x,y\n0.5,0.5\n", "the columns x, y; allowed: x, y, rate"),
        ("0.5,0.5,1\n", "without names"),
        (
            "x,y,rate,experiment\n0.5,0.5,2,1\n0.1,0.2,-1,3\n",
            "1, 2, ..., none left out",
        ),
        ("x,y,rate\n0.5,0.5,\n", "1 missing value in wells.csv, the first at [0, 2]"),
        ("x,y,rate\n0.5,0.5,2 m3\n", "wells.csv, line 2: got '2 m3'"),
    ],
)
def test_wrong_tables_of_wells(table, message, folder, capsys):
    (folder / "wells.csv").write_text(table)
    assert message in said(folder, STEADY, capsys, 2)


def test_further_starts_are_counted_and_read(folder, capsys):
    two = "[optimizer]\nrestarts = [{ D = 2.0 }, { D = FIELD }]\n"
    found = two.replace("FIELD", "{ expression = '1 + x' }")
    assert "  starts  3" in said(folder, STEADY + found, capsys)
    missing = two.replace("FIELD", "{ file = 'no.npy' }")
    text = said(folder, STEADY + missing, capsys, code=2)
    assert "error: optimizer.restarts[1].D: got no.npy" in text


ONE = """
[grid]
shape = [6, 6]
[boundaries]
"x-" = "dirichlet"
[[unknown]]
name = "D"
initial = 1.0
truth = 2.0
[[experiment]]
boundary = { "x+" = 1.0 }
[[observation]]
random = 5
"""
BOUNDS = "truth = 2.0\nbounds = [0.1, 10.0]"
METHOD = '[optimizer]\nmethod = "METHOD"\n'
REFUSED = (
    (
        ONE.replace("truth = 2.0", BOUNDS) + METHOD.replace("METHOD", "gauss-newton"),
        "optimizer.method: got 'gauss-newton' for bounds of D; allowed: bounded-lbfgs",
    ),
    (
        ONE.replace('[boundaries]\n"x-" = "dirichlet"', "[equation]\nmean = 0.0"),
        "mean: got sources and fluxes whose integral is 1; allowed: 0",
    ),
    (
        ONE.replace(
            "[[unknown]]", '[equation]\nterms = [{ reaction = "u" }]\n[[unknown]]'
        )
        .replace("[equation]", "[time]\ntimes = { end = 1.0, steps = 2 }\n[equation]")
        .replace("random = 5", "random = 5\ntimes = [1.0]"),
        "'u'",
    ),
)


@pytest.mark.parametrize("text, message", REFUSED)
def test_check_refuses_what_a_run_would(text, message, tmp_path, capsys):
    assert message in said(tmp_path, text, capsys, 2)


def test_bounds_go_with_methods_that_take_them(tmp_path, capsys):
    for method in ("bounded-lbfgs", "adam"):
        text = ONE.replace("truth = 2.0", BOUNDS) + METHOD.replace("METHOD", method)
        assert "is well formed" in said(tmp_path, text, capsys)


UNDRIVEN = """
[grid]
shape = [4, 3]
[boundaries]
"x-" = "dirichlet"
[equation]
terms = [{ diffusion = "D" }, { reaction = "c" }]
known = { c = 1.0 }
TIME
[[unknown]]
name = "D"
initial = 1.0
EXPERIMENT
[[observation]]
points = [[0.5, 0.5]]
SEEN
data = { file = "data.npy" }
sigma = 0.1
[[regularization]]
weight = 1.0
"""
TIMED = {
    "TIME": "[time]\ntimes = { end = 1.0, steps = 2 }",
    "SEEN": "times = [1.0]",
}


@pytest.mark.parametrize("timed", [False, True])
@pytest.mark.parametrize(
    ("experiment", "driven"),
    [
        ("", False),
        ('[[experiment]]\nboundary = { "x-" = 0.0 }', False),
        ('[[experiment]]\nboundary = { "x-" = 1.0 }', True),
        ('[[experiment]]\nboundary = { "x-" = "0*y" }', True),
        ('[[experiment]]\nboundary = { "y+" = 1.0 }', True),
        ("[[experiment]]\nsources = [{ shape = 1.0 }]", True),
        ("[[experiment]]\nwells = [{ at = [0.5, 0.5], rate = 1.0 }]", True),
        ("[[experiment]]\n[[experiment]]\nsources = [{ shape = 1.0 }]", True),
    ],
)
def test_what_nothing_drives_tells_nothing_of_unknowns(
    tmp_path, capsys, timed, experiment, driven
):
    text = UNDRIVEN.replace("EXPERIMENT", experiment)
    for name, given in TIMED.items():
        text = text.replace(name, given if timed else "")
    count = max(experiment.count("[[experiment]]"), 1)
    np.save(tmp_path / "data.npy", np.ones((count, 1, 1)[: 2 + timed]))
    told = said(tmp_path, text, capsys, 0 if driven else 2)
    assert ("unknown: got D" in told and "gradient is 0" in told) == (not driven), told


def test_a_start_drives_in_time_only(tmp_path, capsys):
    text = UNDRIVEN.replace("EXPERIMENT", "[[experiment]]\ninitial = { u = 1.0 }")
    np.save(tmp_path / "data.npy", np.ones((1, 1)))
    steady = text.replace("TIME", "").replace("SEEN", "")
    assert "gradient is 0" in said(tmp_path, steady, capsys, 2)
    timed = text.replace("TIME", TIMED["TIME"]).replace("SEEN", TIMED["SEEN"])
    assert "is well formed" in said(tmp_path, timed, capsys)
    unknown = text.replace("u = 1.0", 'u = "D"')
    for name, given in TIMED.items():
        unknown = unknown.replace(name, given)
    assert "is well formed" in said(tmp_path, unknown, capsys)

"""Keys that exclude each other or that nothing would hear are named; what a run refuses, `check` refuses."""

import dataclasses
import re

import numpy as np
import pytest
from mpi4py import MPI

from npde_opt.cases import check_main, load_case
from npde_opt.cases.data import read_data
from npde_opt.cases.fields import evaluate
from npde_opt.cases.places import read_points, read_wells
from npde_opt.cases.sources import Sources
from npde_opt.errors import InputError
from npde_opt.grids import Grid
from npde_opt.io.vtk import write_vtk

STEADY = """
[grid]
shape = [8, 6]
[boundaries]
"x-" = "dirichlet"
"x+" = { kind = "robin", coefficient = 2.0 }
[equation]
[misfit]
[[unknown]]
name = "D"
initial = 1.0
truth = 2.0
[experiments]
boundary = [{ "x-" = 1.0 }]
[observations]
points = [[0.3, 0.3], [0.5, 0.5]]
[[regularization]]
weight = 1.0
"""
EVOLUTION = """
[grid]
shape = [8]
[evolution]
terms = [{ diffusion = "D" }, { source = "1" }]
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


def said(text, tmp_path, capsys):
    (tmp_path / "a.toml").write_text(text)
    code = check_main([str(tmp_path / "a.toml")])
    return code, capsys.readouterr().out


STEADY_KEYS = {
    ("shape = [8, 6]", "shape = [8, 6]\nedges = [[0, 1], [0, 1]]"): "grid.shape: got given beside edges",
    ("shape = [8, 6]", "extent = [2, 2]\nedges = [[0, 1], [0, 1]]"): "grid.extent",
    ("shape = [8, 6]", "origin = [2, 2]\nedges = [[0, 0.5, 1], [0, 0.5, 1]]"): "grid.origin",
    ("shape = [8, 6]", "shape = [8, 6]\ncoarsen = 2"): "grid.coarsen",
    ("[boundaries]", "[domain]\ncrop = true\n[boundaries]"): "domain.crop",
    ("[boundaries]", "[domain]\nslice = 40\n[boundaries]"): "domain.slice",
    ("[boundaries]", "[boundaries]\n'z-' = 'dirichlet'"): "boundaries.z-: got dirichlet",
    ("kind = \"robin\"", "kind = \"dirichlet\""): "boundaries.x\\+.coefficient",
    ("[boundaries]", "[boundaries]\n'y-' = 'periodic'\n'y+' = 'periodic'\n"): None,
    ("[equation]", "[equation]\nknown = { q = 3.0 }"): "equation.known.q",
    ("[misfit]", "[misfit]\nnu = 3"): "misfit.nu: got given with the kind 'least-squares'; allowed: the kind student-t",
    ("[observations]", "[observations]\nrandom = 5"): "observations.random: got given beside points",
    ("[observations]", "[observations]\nshape = [16, 12]\nrefine = 4"): "observations.refine",
    ("[observations]", "electrodes = { at = [[0.1, 0.1], [0.9, 0.9]] }\nwells = [[], [], []]\n[observations]"):
        r"experiments.wells: got 3 experiments; allowed: at most 2",
    ("weight = 1.0", "gamma = 1.0"): r"regularization\[0\].gamma: got given with the kind 'gradient'",
    ("weight = 1.0", "kind = 'total-variation'\ndirections = [1, 2]"): r"regularization\[0\].directions",
    ("weight = 1.0", "directions = [1, 2, 3]"): "2 positive factors",
    ("weight = 1.0", "kind = 'bilaplacian'\ngamma = 1.0\ndelta = 1.0\ndirections = [1]"): "2 positive factors",
    ("weight = 1.0", "kind = 'bilaplacian'\ngamma = 1.0"): "correlation_length",
    ("weight = 1.0", "reference = -1"): "positive values",
    ("weight = 1.0", "cell_weights = { expression = 'x - 0.5' }"): "cell_weights: got -0.4375; allowed: factors >= 0",
}


@pytest.mark.parametrize("change", list(STEADY_KEYS), ids=lambda c: c[1].splitlines()[-1][:30])
def test_keys_of_steady_cases(change, tmp_path, capsys):
    code, out = said(STEADY.replace(*change), tmp_path, capsys)
    if STEADY_KEYS[change] is None:
        assert code == 0
    else:
        assert re.search(STEADY_KEYS[change], out), out
        assert code == 2


def test_a_value_on_a_periodic_side_is_refused(tmp_path, capsys):
    text = STEADY.replace("[boundaries]", "[boundaries]\n'y-' = 'periodic'\n'y+' = 'periodic'\n")
    code, out = said(text.replace('{ "x-" = 1.0 }', '{ "x-" = 1.0, "y-" = 2.0 }'), tmp_path, capsys)
    assert code == 2 and "got y-; allowed: x-, x+" in out


EVOLUTION_KEYS = {
    ("points = [[0.5]]", "points = [[0.5]]\nregions = 0"): r"observation\[0\].regions: got given beside points",
    ('source = "1"', 'source = "1", times = [0, 1]'): r"evolution.terms\[1\].times: got given without a history",
    ("truth = 2.0", "truth = 2.0\n[[unknown]]\nname = 'b'\nkind = 'scalar'\ninitial = 1\nknown = 1"): r"unknown\[1\].known",
    ("[misfit]", "[misfit]\npower = 0.5"): "misfit.power",
    ("times = { end = 1.0, steps = 4 }", "times = [1, 0]"): r"evolution.times: got \[1, 0\]; allowed: times that increase",
    ("times = { end = 1.0, steps = 4 }", "times = [0, 0.6, 0.3, 1]"): "times that increase",
    ("times = { end = 1.0, steps = 4 }", "times = { end = 1.0, steps = 4 }\nknown = { u = 1 }"): "evolution.known.u",
    ('unknown = "D"', 'unknown = "D"\n[[regularization]]\nunknown = "D"'): r"regularization\[1\].unknown: got 'D' again",
    ("[misfit]", "[simulation]\nsteps = 1000000000"): "simulation.steps",
    ('unknown = "D"', 'unknown = "D"\nepsilon = 0.5'): r"regularization\[0\].epsilon",
    ('unknown = "D"', 'unknown = "D"\ncell_weights = -1'): "factors >= 0",
}


@pytest.mark.parametrize("change", list(EVOLUTION_KEYS), ids=lambda c: c[1].splitlines()[-1][:30])
def test_keys_of_evolution_cases(change, tmp_path, capsys):
    assert said(EVOLUTION, tmp_path, capsys)[0] == 0
    code, out = said(EVOLUTION.replace(*change), tmp_path, capsys)
    assert re.search(EVOLUTION_KEYS[change], out), out
    assert code == 2


def test_edges_that_grow_begin_at_the_origin(tmp_path):
    growing = "{ first = 0.5, equal = 1, growth = 2.0, count = 3 }"
    (tmp_path / "a.toml").write_text(STEADY.replace(
        "shape = [8, 6]", f"edges = [{growing}, [0.0, 1.0]]\norigin = [-1.0, 7.0]").replace("[0.5, 0.5]", "[2.4, 0.5]"))
    edges = load_case(tmp_path / "a.toml", MPI.COMM_SELF).domain.edges
    np.testing.assert_allclose(edges[0], [-1, -0.5, 0.5, 2.5])
    np.testing.assert_allclose(edges[1], [0, 1])


def test_measured_electrodes_that_carry_current_are_left_out(tmp_path):
    (tmp_path / "a.toml").write_text(STEADY.replace('boundary = [{ "x-" = 1.0 }]', "electrodes = { at = [[0.1, 0.1], [0.5, 0.5], "
                                     "[0.9, 0.1]], pattern = 'adjacent' }").replace(
        "points = [[0.3, 0.3], [0.5, 0.5]]", "at_electrodes = true\nsigma = 0.1\ndata = { file = 'y.npy' }"))
    np.save(tmp_path / "y.npy", np.arange(1.0, 10).reshape(3, 3))
    case = load_case(tmp_path / "a.toml", MPI.COMM_SELF)
    nan = np.nan
    np.testing.assert_array_equal(read_data(case, 3).observed, [[nan, nan, 3], [4, nan, nan], [nan, 8, nan]])


def test_rows_of_a_single_number_are_refused(tmp_path):
    np.save(tmp_path / "y.npy", np.float64(3))
    (tmp_path / "a.toml").write_text(STEADY.replace("[observations]", "[observations]\nsigma = 0.1\n"
                                     "data = { file = 'y.npy', rows = [0, 0, 1] }"))
    with pytest.raises(InputError, match="y.npy holds one number"):
        read_data(load_case(tmp_path / "a.toml", MPI.COMM_SELF), 2)


def test_columns_of_points_are_never_guessed(tmp_path):
    sources = Sources(tmp_path, None, (None, 0))
    for text, wanted in (("id,x,y\n1,0.2,0.3\n2,0.4,0.5\n", [[0.2, 0.3], [0.4, 0.5]]),
                         ("y [m],X\n0.3,0.2\n0.5,0.4\n", [[0.2, 0.3], [0.4, 0.5]]),
                         ("a,b\n0.2,0.3\n0.4,0.5\n", [[0.2, 0.3], [0.4, 0.5]])):
        (tmp_path / "p.csv").write_text(text)
        np.testing.assert_array_equal(read_points("points", {"file": "p.csv"}, sources, 2), wanted)
    (tmp_path / "p.csv").write_text("id,a,b\n1,0.2,0.3\n2,0.4,0.5\n")
    with pytest.raises(InputError, match="points.column: got none; allowed: 2 of the columns of p.csv: id, a, b"):
        read_points("points", {"file": "p.csv"}, sources, 2)


@pytest.mark.parametrize("more", [{"shape": [3]}, {"scale": 2.0}, {"column": "x"}])
def test_wells_of_a_table_take_no_key_that_would_change_all_columns(more, tmp_path):
    (tmp_path / "w.csv").write_text("x,y,rate\n0.5,0.5,1\n")
    with pytest.raises(InputError, match=f"wells.{next(iter(more))}: got given"):
        read_wells("wells", {"file": "w.csv"} | more, Sources(tmp_path, None, (None, 0)), 2)
    (tmp_path / "w.csv").write_text("x,y,rate,radius\n0.5,0.5,1,-0.1\n")
    with pytest.raises(InputError, match="a radius of -0.1"):
        read_wells("wells", {"file": "w.csv"}, Sources(tmp_path, None, (None, 0)), 2)


HEADERS = {"x [mm],y,rate\n": r"x \[mm\] in mm", "X,y (m),rate\n": r"y \(m\) in m", "x,y,rate\n(mm),(mm),l/s\n": "x in mm",
           "x,y,rate,radius [m]\n": r"radius \[m\] in m"}


@pytest.mark.parametrize("header", list(HEADERS))
def test_lengths_in_another_unit_than_the_cases_are_refused(header, tmp_path):
    radius = ",0.5" if "radius" in header else ""
    rows = "".join(f"{x},{y},1{radius}\n" for y in (5, 15) for x in (5, 15))
    (tmp_path / "w.csv").write_text(header + rows)
    grid = [np.array([0.0, 10.0, 20.0])] * 2
    here = Sources(tmp_path, None, (None, 0), unit="cm", homes=(grid,))
    spec, message = {"file": "w.csv"}, rf"w.csv: got column {HEADERS[header]}; allowed: lengths in the case's unit, cm"
    with pytest.raises(InputError, match=message):
        read_wells("wells", spec, here, 2)
    if not radius:
        with pytest.raises(InputError, match=message):
            evaluate("k", spec | {"column": "rate"}, grid, here)
        for some in ({}, {"column": [0, 1]}):
            with pytest.raises(InputError, match=message):
                read_points("points", spec | some, here, 2)
        named = spec | {"header": ["x", "y", "rate"]}
        assert read_wells("wells", named, here, 2)[0][1]["at"] == [15, 5]
    for unit in ("", " "):
        as_they_are = dataclasses.replace(here, unit=unit)
        assert read_wells("wells", spec, as_they_are, 2)[0][1]["at"] == [15, 5]
    (tmp_path / "w.csv").write_text(header.replace("mm", "cm").replace("(m)", "(cm)").replace("[m]", "[cm]") + rows)
    assert len(read_wells("wells", spec, here, 2)[0]) == 4


def test_a_scale_that_converts_a_unit_of_points_is_taken(tmp_path):
    (tmp_path / "p.csv").write_text("x [mm],y [mm]\n5,15\n")
    here = Sources(tmp_path, None, (None, 0), unit="cm")
    found = read_points("points", {"file": "p.csv", "scale": 0.1}, here, 2)
    np.testing.assert_allclose(found, [[0.5, 1.5]], rtol=1e-15)
    with pytest.raises(InputError, match="x .mm. in mm"):
        read_points("points", {"file": "p.csv", "scale": 10.0}, here, 2)


def test_two_columns_of_one_axis_are_refused(tmp_path):
    grid = [np.array([0.0, 10.0, 20.0])]
    here = Sources(tmp_path, None, (None, 0), homes=(grid,))
    (tmp_path / "w.csv").write_text("X,x,rate\n5,15,1\n15,5,2\n")
    for read in (lambda spec: read_wells("wells", spec, here, 1), lambda spec: read_points("wells", spec, here, 1),
                 lambda spec: evaluate("wells", spec | {"column": "rate"}, grid, here)):
        with pytest.raises(InputError, match="wells: w.csv: got 2 columns x: X, x; allowed: one of them"):
            read({"file": "w.csv"})
    assert read_wells("wells", {"file": "w.csv", "header": ["x", "old", "rate"]}, here, 1)[0][0]["at"] == [5]


def test_wells_have_the_columns_that_points_have(tmp_path):
    (tmp_path / "w.csv").write_text("y [m],X (m),Radius [m],rate\n5,15,0.5,1\n")
    wells = read_wells("wells", {"file": "w.csv"}, Sources(tmp_path, None, (None, 0), unit="m"), 2)
    assert wells == [[{"at": [15.0, 5.0], "rate": 1.0, "radius": 0.5}]]


def test_keys_of_a_grid_file_give_way_to_those_that_replace_them(tmp_path):
    (tmp_path / "g.toml").write_text("shape = [8, 6]\nextent = [2.0, 1.0]\n")
    (tmp_path / "a.toml").write_text(STEADY.replace("shape = [8, 6]", 'file = "g.toml"\nedges = [[0, 1, 3], [0, 1]]'))
    assert load_case(tmp_path / "a.toml", MPI.COMM_SELF).domain.edges[0].tolist() == [0, 1, 3]


def test_missing_values_of_fields_are_named_and_places_kept(tmp_path):
    sources, edges = Sources(tmp_path, None, (None, 0)), [np.array([0.0, 1.0, 4.0])]
    values = np.array([1.0, -9999.0])
    np.save(tmp_path / "k.npy", values)
    with pytest.raises(InputError, match=r"k.npy: got -9999 at \[1\].*declare it"):
        evaluate("k", {"file": "k.npy"}, edges, sources)
    with pytest.raises(InputError, match="1 missing values in k.npy"):
        evaluate("k", {"file": "k.npy", "missing": -9999}, edges, sources)
    np.testing.assert_array_equal(evaluate("k", {"file": "k.npy", "missing": []}, edges, sources), values)
    np.testing.assert_array_equal(evaluate("k", {"file": "k.npy", "clip": [0, 1]}, edges, sources), [1, 0])
    with pytest.raises(InputError, match="lo <= hi"):
        evaluate("k", {"file": "k.npy", "clip": [1, 0]}, edges, sources)
    write_vtk(tmp_path / "k.vti", Grid((4,), extent=(4.0,), comm=MPI.COMM_SELF), {"K": np.arange(4.0)})
    for more in ({}, {"missing": []}, {"missing": 7}):
        np.testing.assert_allclose(evaluate("k", {"file": "k.vti"} | more, edges, sources), [0, 2])
    with pytest.raises(InputError, match="k.rows"):
        evaluate("k", {"file": "k.vti", "rows": [0, 1, 1]}, edges, sources)

"""Points and wells of text tables: columns are never guessed, lengths are in the case's unit."""

import dataclasses

import numpy as np
import pytest
from mpi4py import MPI

from npde_opt.cases import load_case
from npde_opt.cases.experiment_tables import Well
from npde_opt.cases.fields import evaluate
from npde_opt.cases.points import points_of, read_points, read_wells
from npde_opt.cases.sources import Sources
from npde_opt.errors import InputError

WELLS = {"file": "w.csv"}


def sources(folder, **more):
    return Sources(folder, None, (None, 0), **more)


# ---- lists ---------------------------------------------------------------------------------------


def test_on_one_axis_a_list_of_numbers_is_a_list_of_points():
    assert points_of([0.1, 0.2, 0.3], 1, "p").shape == (3, 1)
    assert points_of([0.1, 0.2], 2, "p").shape == (1, 2)


def test_points_have_a_coordinate_an_axis():
    with pytest.raises(
        InputError, match=r"p: got shape \(2, 3\);.*it looks transposed: \(2, n\)"
    ):
        points_of(np.zeros((2, 3)), 2, "p")
    for wrong in ([[0.1], [0.1, 0.2]], [[0.1, np.nan]], []):
        with pytest.raises(InputError, match="^p: got "):
            points_of(wrong, 2, "p")


# ---- columns -------------------------------------------------------------------------------------


def test_columns_of_points_are_never_guessed(tmp_path):
    here = sources(tmp_path)
    for text, wanted in (
        ("id,x,y\n1,0.2,0.3\n2,0.4,0.5\n", [[0.2, 0.3], [0.4, 0.5]]),
        ("y [m],X\n0.3,0.2\n0.5,0.4\n", [[0.2, 0.3], [0.4, 0.5]]),
        ("a,b\n0.2,0.3\n0.4,0.5\n", [[0.2, 0.3], [0.4, 0.5]]),
    ):
        (tmp_path / "p.csv").write_text(text)
        found = read_points("points", {"file": "p.csv"}, here, 2)
        np.testing.assert_array_equal(found, wanted)
    (tmp_path / "p.csv").write_text("id,a,b\n1,0.2,0.3\n2,0.4,0.5\n")
    message = "points.column: got none; allowed: 2 of the columns of p.csv: id, a, b"
    with pytest.raises(InputError, match=message):
        read_points("points", {"file": "p.csv"}, here, 2)


@pytest.mark.parametrize("more", [{"shape": [3]}, {"scale": 2.0}, {"column": "x"}])
def test_wells_of_a_table_take_no_key_that_would_change_all_columns(more, tmp_path):
    (tmp_path / "w.csv").write_text("x,y,rate\n0.5,0.5,1\n")
    with pytest.raises(InputError, match=f"wells.{next(iter(more))}: got given"):
        read_wells("wells", WELLS | more, sources(tmp_path), 2)


def test_radii_of_wells_are_not_negative(tmp_path):
    (tmp_path / "w.csv").write_text("x,y,rate,radius\n0.5,0.5,1,-0.1\n")
    with pytest.raises(InputError, match="a radius of -0.1"):
        read_wells("wells", WELLS, sources(tmp_path), 2)


def test_wells_have_the_columns_that_points_have(tmp_path):
    (tmp_path / "w.csv").write_text("y [m],X (m),Radius [m],rate\n5,15,0.5,1\n")
    wells = read_wells("wells", WELLS, sources(tmp_path, unit="m"), 2)
    assert wells == [[Well(at=[15.0, 5.0], rate=1.0, radius=0.5)]]


def test_two_columns_of_one_axis_are_refused(tmp_path):
    grid = [np.array([0.0, 10.0, 20.0])]
    here = sources(tmp_path, homes=(grid,))
    (tmp_path / "w.csv").write_text("X,x,rate\n5,15,1\n15,5,2\n")
    for read in (
        lambda spec: read_wells("wells", spec, here, 1),
        lambda spec: read_points("wells", spec, here, 1),
        lambda spec: evaluate("wells", spec | {"column": "rate"}, grid, here),
    ):
        message = "wells: w.csv: got 2 columns x: X, x; allowed: one of them"
        with pytest.raises(InputError, match=message):
            read(WELLS)
    named = WELLS | {"header": ["x", "old", "rate"]}
    assert read_wells("wells", named, here, 1)[0][0].at == [5]


# ---- units of length -----------------------------------------------------------------------------

HEADERS = {
    "x [mm],y,rate\n": r"x \[mm\] in mm",
    "X,y (m),rate\n": r"y \(m\) in m",
    "x,y,rate\n(mm),(mm),l/s\n": "x in mm",
    "x,y,rate,radius [m]\n": r"radius \[m\] in m",
}


@pytest.mark.parametrize("header", list(HEADERS))
def test_lengths_in_another_unit_than_the_cases_are_refused(header, tmp_path):
    radius = ",0.5" if "radius" in header else ""
    rows = "".join(f"{x},{y},1{radius}\n" for y in (5, 15) for x in (5, 15))
    (tmp_path / "w.csv").write_text(header + rows)
    grid = [np.array([0.0, 10.0, 20.0])] * 2
    here = sources(tmp_path, unit="cm", homes=(grid,))
    allowed = "lengths in the case's unit, cm"
    message = rf"w.csv: got column {HEADERS[header]}; allowed: {allowed}"
    with pytest.raises(InputError, match=message):
        read_wells("wells", WELLS, here, 2)
    if not radius:
        with pytest.raises(InputError, match=message):
            evaluate("k", WELLS | {"column": "rate"}, grid, here)
        for some in ({}, {"column": [0, 1]}):
            with pytest.raises(InputError, match=message):
                read_points("points", WELLS | some, here, 2)
        named = WELLS | {"header": ["x", "y", "rate"]}
        assert read_wells("wells", named, here, 2)[0][1].at == [15, 5]
    for unit in ("", " "):
        as_they_are = dataclasses.replace(here, unit=unit)
        assert read_wells("wells", WELLS, as_they_are, 2)[0][1].at == [15, 5]
    for unit in ("mm", "(m)", "[m]"):
        header = header.replace(unit, unit.replace("mm", "m").replace("m", "cm"))
    (tmp_path / "w.csv").write_text(header + rows)
    assert len(read_wells("wells", WELLS, here, 2)[0]) == 4


def test_a_scale_that_converts_a_unit_of_points_is_taken(tmp_path):
    (tmp_path / "p.csv").write_text("x [mm],y [mm]\n5,15\n")
    here = sources(tmp_path, unit="cm")
    found = read_points("points", {"file": "p.csv", "scale": 0.1}, here, 2)
    np.testing.assert_allclose(found, [[0.5, 1.5]], rtol=1e-15)
    with pytest.raises(InputError, match="x .mm. in mm"):
        read_points("points", {"file": "p.csv", "scale": 10.0}, here, 2)


# ---- wells of a file are those of experiments ----------------------------------------------------

CASE = """
[grid]
shape = [4, 3]
[boundaries]
"x-" = "dirichlet"
[[unknown]]
name = "D"
initial = 1.0
truth = 2.0
WELLS
[[observation]]
random = 2
"""
INLINE = """
[[experiment]]
wells = [{ at = [0.1, 0.2], rate = -1.0 }]
[[experiment]]
wells = [{ at = [0.6, 0.5], rate = 2.0, radius = 0.4 }, { at = [0.9, 0.9], rate = 3.0 }]
"""
TABLE = """x,y,rate,radius,experiment
0.6,0.5,2,0.4,2
0.1,0.2,-1,0,1
0.9,0.9,3,0,2
"""


def loads(folder, wells):
    """By experiment, what its wells bring into every cell."""
    (folder / "case.toml").write_text(CASE.replace("WELLS", wells))
    case = load_case(folder / "case.toml", MPI.COMM_SELF)
    on = case.on(case.grid(MPI.COMM_SELF))
    experiments = on.experiments(range(case.experiment_count))
    return [x.load["u"] if x.load else None for x in experiments]


def test_wells_of_a_file_are_those_of_the_experiments_with_their_numbers(tmp_path):
    (tmp_path / "w.csv").write_text(TABLE)
    found = loads(tmp_path, '[wells]\nfile = "w.csv"')
    wanted = loads(tmp_path, INLINE)
    assert len(found) == 2
    for a, b in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(a, b)
    assert found[0].sum() == pytest.approx(-1, rel=1e-14)
    assert found[1].sum() == pytest.approx(5, rel=1e-14)


def test_wells_of_a_file_and_of_an_experiment_add_up(tmp_path):
    (tmp_path / "w.csv").write_text(TABLE)
    more = '[wells]\nfile = "w.csv"\n[[experiment]]\nwells = [{ at = [0.5, 0.5], rate = 7.0 }]'
    sums = [load.sum() for load in loads(tmp_path, more)]
    assert sums == pytest.approx([6, 5], rel=1e-14)


def test_more_experiments_than_wells_are_refused(tmp_path):
    (tmp_path / "w.csv").write_text("x,y,rate\n0.6,0.5,2\n")
    assert len(loads(tmp_path, '[wells]\nfile = "w.csv"')) == 1
    with pytest.raises(
        InputError, match="experiment: got 2 tables; allowed: at most 1"
    ):
        loads(tmp_path, '[wells]\nfile = "w.csv"\n' + INLINE)

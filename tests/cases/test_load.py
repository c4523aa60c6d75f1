"""Case files: what may be one, a shared grid, variables and keys of an older format."""

import os

import pytest
from mpi4py import MPI

from npde_opt.cases import load_case
from npde_opt.errors import InputError

CASE = """
[grid]
file = "grids/box.toml"
shape = [8, 6]
[boundaries]
"x-" = "dirichlet"
[[unknown]]
name = "D"
initial = 1.0
truth = 2.0
[[observation]]
random = 5
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "grids").mkdir()
    (tmp_path / "grids" / "box.toml").write_text(
        "shape = [4, 3]\nextent = [2.0, 1.0]\n"
    )
    return tmp_path


def load(folder, *change, **options):
    """The case with a text replaced."""
    text = CASE.replace(*change) if change else CASE
    (folder / "case.toml").write_text(text, encoding="utf-8")
    return load_case(folder / "case.toml", MPI.COMM_SELF, **options)


def refused(folder, *change, **options):
    with pytest.raises(InputError) as error:
        load(folder, *change, **options)
    return str(error.value)


def sizes(case):
    return [e.size - 1 for e in case.domain.edges]


# ---- files ---------------------------------------------------------------------------------------


def test_cases_that_are_no_regular_files(folder):
    os.mkfifo(folder / "pipe.toml")
    for name in ("pipe.toml", "missing.toml", "", "x" * 3000):
        with pytest.raises(InputError, match="--case"):
            load_case(folder / name)


def test_a_mark_of_the_byte_order_is_no_part_of_a_case(folder):
    (folder / "case.toml").write_text("\ufeff" + CASE, encoding="utf-8")
    assert load_case(folder / "case.toml", MPI.COMM_SELF).species == ("u",)


def test_text_that_is_no_toml_is_refused(folder):
    assert "; allowed: valid TOML" in refused(folder, "random = 5", "random = ")
    (folder / "case.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="valid TOML"):
        load_case(folder / "case.toml", MPI.COMM_SELF)


def test_a_folder_of_data_has_to_be_there(folder):
    assert refused(folder, data=folder / "none").startswith("--data: got ")
    assert load(folder, data=folder).sources.data_folder == folder


def test_a_budget_for_trajectories_needs_trajectories(folder):
    text = refused(folder, memory="4GB")
    assert text == "--memory: got 4GB; allowed: a case with a [time] section"
    steps = "[time]\ntimes = { end = 1.0, steps = 4 }\n[[observation]]\ntimes = [1.0]"
    case = load(folder, "[[observation]]", steps, memory="4GB")
    assert case.table.time.memory == "4GB"


# ---- grid ----------------------------------------------------------------------------------------


def test_a_grid_file_is_shared_and_overridden(folder):
    case = load(folder)
    assert sizes(case) == [8, 6] and case.domain.edges[0][-1] == 2.0
    assert "grid.file" in refused(folder, "box", "bax")
    (folder / "grids" / "box.toml").write_text("shap = [4, 3]\n")
    assert "did you mean 'shape'" in refused(folder)


def test_keys_of_a_grid_file_give_way_to_those_that_replace_them(folder):
    case = load(folder, "shape = [8, 6]", "edges = [[0, 1, 3], [0, 1]]")
    assert case.domain.edges[0].tolist() == [0, 1, 3]


def test_numbers_of_cells_replace_those_of_the_case(folder):
    assert sizes(load(folder, cells=(5, 3))) == [5, 3]
    assert refused(folder, cells=(5,)).startswith("--grid: got [5]")


# ---- variables -----------------------------------------------------------------------------------

VARIABLES = """
[variables]
name = "D"
size = 2
[case]
title = "{name} of {size}"
[grid]
"""
WITH_VARIABLES = ("[grid]", VARIABLES)


def test_variables_are_put_into_texts(folder):
    assert load(folder, *WITH_VARIABLES).table.case.title == "D of 2"
    assert (
        load(folder, *WITH_VARIABLES, variables={"size": "3"}).table.case.title
        == "D of 3"
    )


NUMBERS = """
[variables]
cells = [4, 3]
ridge = 2.5
[grid]
extent = "{cells}"
"""


def test_a_text_that_is_a_variable_alone_is_its_number_or_list(folder):
    changed = ("[grid]", NUMBERS)
    assert list(load(folder, *changed).table.grid.extent) == [4, 3]
    given = load(folder, *changed, variables={"cells": "[1, 0.5]"})
    assert list(given.table.grid.extent) == [1, 0.5]
    assert given.table.variables == {"cells": [1, 0.5], "ridge": 2.5}


@pytest.mark.parametrize("text", ["many", "true", '1"', "['a']", ""])
def test_a_variable_that_is_a_number_stays_one(folder, text):
    said = refused(folder, "[grid]", NUMBERS, variables={"ridge": text})
    assert said.startswith(f"--set ridge: got {text!r}; allowed: a number")


def test_variables_that_are_not_there_are_refused(folder):
    said = refused(folder, *WITH_VARIABLES, variables={"sice": "3"})
    assert said == "--set: got sice; allowed: name, size"
    assert "the case has no [variables]" in refused(folder, variables={"size": "3"})
    long = refused(folder, *WITH_VARIABLES, variables={"size": "3" * 2000})
    assert long.endswith("a printable text of at most 1,000 characters")


# ---- older formats -------------------------------------------------------------------------------


def test_a_case_of_an_older_format_is_refused_before_anything_else(folder):
    said = refused(
        folder, "[[observation]]", "[experiments]\nsource = 1.0\n[observations]"
    )
    first, *lines = said.splitlines()
    assert first.startswith("case file: got keys of an older format")
    keys = [line.partition(" is now ")[0].strip() for line in lines]
    assert keys == ["experiments.source", "observations.random"]

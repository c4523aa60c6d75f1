"""Boundary values of cases: text, lists, histories and tables in files, along sides and in time."""

import numpy as np
import pytest
from fits import case_of, identified
from mpi4py import MPI

from npde_opt.cases import load_case
from npde_opt.cases.check import check_main
from npde_opt.errors import InputError

CASE = """
[grid]
shape = [6, 5]
[boundaries]
"x-" = "dirichlet"
"y+" = "dirichlet"
[equation]
known = { D = 1.0 }
TIME
[[experiment]]
boundary = { BOUNDARY }
[[observation]]
MORE
"""
TIME = '[time]\nscheme = "crank-nicolson"\ntimes = { end = 1.0, steps = 4 }'


def text(boundary, time=False):
    more = "times = [1.0]" if time else ""
    filled = CASE.replace("BOUNDARY", boundary).replace("MORE", more)
    return filled.replace("TIME", TIME if time else "")


def state(tmp_path, boundary, time=False, cells=None):
    path = tmp_path / "case.toml"
    path.write_text(text(boundary, time))
    case = load_case(path, MPI.COMM_SELF, cells=cells)
    on = case.on(case.grid(MPI.COMM_SELF))
    forward = on.forward([0], case.times())
    lin = forward.linearize(on.start())
    found = lin.final[0][0].copy()
    lin.destroy()
    forward.destroy()
    return found


Y = (np.arange(5) + 0.5) / 5


def test_a_list_is_the_text_that_it_is_of(tmp_path):
    listed = state(tmp_path, f"'x-' = {(2 * Y).tolist()}, 'y-' = [1, 1, 1, 1, 1, 1]")
    said = state(tmp_path, "'x-' = '2*y', 'y-' = 1.0")
    np.testing.assert_allclose(listed, said, atol=1e-7)


def test_a_side_of_one_cell_takes_a_list(tmp_path):
    path, text_of = (
        tmp_path / "case.toml",
        CASE.replace("[6, 5]", "[6]").replace('"y+"', '"x+"'),
    )
    found = []
    for value in ("2.0", "[2.0]"):
        filled = text_of.replace("BOUNDARY", f'"x-" = {value}').replace("MORE", "")
        path.write_text(filled.replace("TIME", ""))
        case = load_case(path, MPI.COMM_SELF)
        on = case.on(case.grid(MPI.COMM_SELF))
        forward = on.forward([0])
        lin = forward.linearize(on.start())
        found.append(lin.final[0][0].copy())
        lin.destroy()
    np.testing.assert_array_equal(*found)


def test_a_list_is_averaged_on_a_coarser_grid(tmp_path):
    listed = state(tmp_path, f"'x-' = {(2 * Y).tolist()}", cells=[4, 1])
    np.testing.assert_allclose(
        listed, state(tmp_path, "'x-' = 1.0", cells=[4, 1]), atol=1e-7
    )


def test_a_table_of_places_is_linear_between_them(tmp_path):
    (tmp_path / "side.csv").write_text("head,y\n0.2,0\n2.2,1\n1.0,0.4\n")
    table = state(tmp_path, "'x-' = { file = 'side.csv', scale = 3.0 }")
    said = state(tmp_path, "'x-' = '3*(0.2 + 2*y)'")
    np.testing.assert_allclose(table, said, atol=1e-7)


def test_a_table_of_places_and_times(tmp_path):
    rows = [f"{t};{y};{(1 + t) * y}" for t in (0.5, 0.0, 1.0) for y in (0, 1)]
    (tmp_path / "side.csv").write_text("\n".join(["t [h];y;head", *rows]))
    table = state(tmp_path, "'x-' = { file = 'side.csv', column = 'head' }", time=True)
    said = state(tmp_path, "'x-' = '(1 + t)*y'", time=True)
    history = "{ value = 'y', history = [1.0, 2.0], times = [0.0, 1.0] }"
    given = state(tmp_path, f"'x-' = {history}", time=True)
    np.testing.assert_allclose(table, said, atol=1e-7)
    np.testing.assert_allclose(given, said, atol=1e-7)


def test_times_of_tables_end_steps(tmp_path):
    (tmp_path / "side.csv").write_text("t,head\n0,1\n0.3,2\n0.65,0\n")
    path = tmp_path / "case.toml"
    path.write_text(text("'y-' = { file = 'side.csv' }", time=True))
    assert {0.3, 0.65} <= set(load_case(path, MPI.COMM_SELF).times())


@pytest.mark.parametrize(
    ("boundary", "said"),
    [
        (
            "'x-' = [1, 2, 3]",
            r"boundary.x-: got 3 values; allowed: 5, one a cell of the side",
        ),
        ("'x-' = '2*t'", r"boundary.x-: got 't' at character 3"),
        (
            "'x-' = { value = 1, history = [1], times = [0] }",
            r"x-.history: got given; allowed: a",
        ),
        ("'x-' = { valeu = 1 }", "boundary.x-"),
        (
            "'x-' = { file = 'bare.csv' }",
            r"x-: got bare.csv with the columns head, depth; allow",
        ),
        (
            "'x-' = { file = 'twice.csv' }",
            r"3 rows of 2 y; allowed: each combination of them once",
        ),
        (
            "'x-' = { file = 'time.csv' }",
            r"x-: got a column t in time.csv; allowed: a section",
        ),
        ("'x-' = { file = 'none.csv' }", r"boundary.x-: got none.csv"),
    ],
)
def test_what_is_wrong_is_told_by_its_key(tmp_path, boundary, said):
    (tmp_path / "bare.csv").write_text("head,depth\n0.2,0\n2.2,1\n")
    (tmp_path / "twice.csv").write_text("head,y\n0.2,0\n2.2,1\n3,1\n")
    (tmp_path / "time.csv").write_text("t,head\n0,1\n0.3,2\n")
    with pytest.raises(InputError, match=said):
        state(tmp_path, boundary)


def test_check_says_what_is_prescribed(tmp_path, capsys):
    (tmp_path / "side.csv").write_text("head,y\n0.2,0\n2.2,1\n1.0,0.4\n")
    (tmp_path / "case.toml").write_text(
        text("'x-' = { file = 'side.csv' }, 'y+' = 'sin(x)', 'y-' = [1, 2, 3, 4, 5, 6]")
    )
    assert check_main([str(tmp_path / "case.toml")]) == 0
    out = capsys.readouterr().out
    assert "x-  dirichlet: 0.2 ... 2.2 (side.csv: 3 y)" in out
    assert (
        "y+  dirichlet: sin(x)" in out and "y-  neumann: flux 6 values 1 ... 6" in out
    )


SOUGHT = """
[grid]
shape = [6, 4]
[boundaries]
"x-" = "dirichlet"
"x+" = { kind = "robin", coefficient = 2.0 }
[equation]
known = { D = 1.0 }
recipe = "direct"
[time]
scheme = "crank-nicolson"
times = { end = 0.6, steps = 3 }
[[unknown]]
name = "a"
kind = "scalar"
initial = 1.0
truth = 2.0
[[unknown]]
name = "q"
kind = "history"
length = 2
transform = "identity"
initial = 0.5
truth = 1.0
[[experiment]]
boundary = { "x-" = "a*y*sin(5*t)", "x+" = "a", "y-" = FLUX }
[[observation]]
points = [[0.2, 0.7], [0.8, 0.5], [0.5, 0.1]]
times = [0.2, 0.4, 0.6]
[simulation]
refine = 1
steps = 1
""".replace("FLUX", '{ value = 1.0, history = "q", times = [0.0, 0.6] }')


@pytest.mark.parallel([1, 2])
def test_unknown_boundary_values_are_found(tmp_path):
    case = case_of(tmp_path, SOUGHT)
    found = identified(case, decrement=1.0)
    np.testing.assert_allclose(found.values("a"), 2.0, rtol=0.05)
    np.testing.assert_allclose(found.values("q"), 1.0, rtol=0.2)

"""Edges, active cells and sides of a case's grids."""

import numpy as np
import pytest
from mpi4py import MPI

from npde_opt.cases import load_case
from npde_opt.errors import InputError

CASE = """
[grid]
shape = [8, 6]
[boundaries]
"x-" = "dirichlet"
[[unknown]]
name = "D"
initial = 1.0
truth = 2.0
[[observation]]
random = 5
[simulation]
refine = 2
"""


def load(folder, *change, **options):
    (folder / "case.toml").write_text(CASE.replace(*change) if change else CASE)
    return load_case(folder / "case.toml", MPI.COMM_SELF, **options)


def cells(edges):
    return [e.size - 1 for e in edges]


def test_edges_that_grow_begin_at_the_origin(tmp_path):
    growing = "{ first = 0.5, equal = 1, growth = 2.0, count = 3 }"
    origin = f"edges = [{growing}, [0.0, 1.0]]\norigin = [-1.0, 7.0]"
    edges = load(tmp_path, "shape = [8, 6]", origin).domain.edges
    np.testing.assert_allclose(edges[0], [-1, -0.5, 0.5, 2.5])
    np.testing.assert_allclose(edges[1], [0, 1])


def test_boxes_have_an_extent_and_an_origin(tmp_path):
    box = "shape = [2, 4]\nextent = [1.0, 2.0]\norigin = [-1.0, 3.0]"
    edges = load(tmp_path, "shape = [8, 6]", box).domain.edges
    np.testing.assert_allclose(edges[0], [-1, -0.5, 0])
    np.testing.assert_allclose(edges[1], [3, 3.5, 4, 4.5, 5])


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        (
            "shape = [2, 2]\nextent = [1.0]",
            r"grid.extent: got \[1.0\]; allowed: 2 numbers",
        ),
        (
            "edges = [[0, 1, 1]]",
            r"grid.edges\[0\]: got 3 values; allowed: 2 or more increasing",
        ),
        ("", "grid.shape: got nothing"),
    ],
)
def test_wrong_grids_are_named(grid, message, tmp_path):
    with pytest.raises(InputError, match=message):
        load(tmp_path, "shape = [8, 6]", grid)


def test_data_are_simulated_on_finer_cells(tmp_path):
    assert cells(load(tmp_path).domain.data_edges()) == [16, 12]
    assert cells(load(tmp_path, cells=(4, 4)).domain.data_edges()) == [8, 8]
    own = load(tmp_path, "refine = 2", "shape = [9, 7]")
    assert cells(own.domain.data_edges()) == [9, 7]
    with pytest.raises(
        InputError, match=r"simulation.shape: got \[9\]; allowed: 2 positive"
    ):
        load(tmp_path, "refine = 2", "shape = [9]")


def test_the_largest_part_of_the_active_cells_may_be_kept(tmp_path):
    parts = 'shape = [8, 6]\nactive = { expression = "(x < 0.3) + (x > 0.5)" }'
    counts = {}
    for keep in ("all", "largest"):
        case = load(tmp_path, "shape = [8, 6]", f'{parts}\nkeep = "{keep}"')
        counts[keep] = case.grid(MPI.COMM_SELF).active_size
    assert counts == {"all": 6 * 6, "largest": 4 * 6}


def test_sides_are_those_of_the_grids_axes(tmp_path):
    domain = load(
        tmp_path, '"x-" =', '"y+" = { kind = "robin", coefficient = 2.0 }\n"x-" ='
    ).domain
    kinds = {side: (b.kind, b.coefficient) for side, b in domain.boundaries.items()}
    assert kinds["x-"][0] == "dirichlet" and kinds["y+"] == ("robin", 2.0)
    assert kinds["x+"][0] == kinds["y-"][0] == "neumann" and len(kinds) == 4
    with pytest.raises(
        InputError, match="boundaries.z-: got dirichlet; allowed: x-, x.,"
    ):
        load(tmp_path, '"x-" =', '"z-" = "dirichlet"\n"x-" =')
    load(
        tmp_path, '"x-" =', '"z-" = "neumann"\n"x-" ='
    )  # as all sides that are not there


def test_radial_grids_of_a_case(tmp_path):
    origin = 'shape = [8, 6]\ngeometry = "radial"\norigin = [0.5, 0.0]'
    grid = load(tmp_path, "shape = [8, 6]", origin).domain.grid(MPI.COMM_SELF)
    assert grid.radial
    assert float(grid.volume.sum()) == pytest.approx(np.pi * (1.5**2 - 0.5**2))
    closed = load(tmp_path, "shape = [8, 6]", 'shape = [8, 6]\ngeometry = "radial"')
    with pytest.raises(
        InputError, match="boundaries.x-: got dirichlet.*r = 0 is the axis"
    ):
        closed.domain.grid(MPI.COMM_SELF)

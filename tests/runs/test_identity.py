"""What makes a run the run that it is: contents of files, options and sections, not titles, places
or memory."""

import shutil

import numpy as np
import pytest
from mpi4py import MPI

from npde_opt.cases import load_case
from npde_opt.runs.identity import identity

CASE = """
[case]
title = "one"
[grid]
shape = [8]
[boundaries]
"x-" = "dirichlet"
"x+" = "dirichlet"
[equation]
terms = [{ diffusion = "D" }, { source = 1.0 }]
[[unknown]]
name = "D"
initial = { file = "start.npy" }
[[observation]]
points = { file = "obs.npz", key = "p" }
data = { file = "obs.npz", key = "d" }
sigma = 1e-3
"""


PICTURED = """
[grid]
shape = [8, 8]
[time]
times = { end = 1.0, steps = 4 }
[[unknown]]
name = "D"
initial = { picture = "k.png", range = [0.5, 1.0] }
truth = 0.7
[[observation]]
times = [1.0]
sigma = 1e-3
"""


def write(folder, scale=1.0, text=CASE):
    folder.mkdir(exist_ok=True)
    np.save(folder / "start.npy", np.full(8, 0.5))
    points = np.linspace(0.1, 0.9, 5)
    np.savez(folder / "obs.npz", p=points[:, None], d=scale * points[None])
    (folder / "case.toml").write_text(text)


def of(folder, method="newton", levels=None, data=None, **options):
    case = load_case(folder / "case.toml", MPI.COMM_WORLD, data=data, **options)
    return identity(case, MPI.COMM_WORLD, method, levels)


def differing(a, b):
    return [name for name in a if a[name] != b.get(name)]


@pytest.mark.parallel([1, 2])
def test_contents_of_files_count(tmp_path):
    folder = MPI.COMM_WORLD.bcast(tmp_path, root=0) / "a"
    if MPI.COMM_WORLD.rank == 0:
        write(folder)
    MPI.COMM_WORLD.Barrier()
    first = of(folder)
    assert first == of(folder)
    MPI.COMM_WORLD.Barrier()
    if MPI.COMM_WORLD.rank == 0:
        write(folder, scale=2.0)
    MPI.COMM_WORLD.Barrier()
    assert differing(first, of(folder)) == [
        "the contents of observation[0].points, file obs.npz",
        "the contents of observation[0].data, file obs.npz",
    ]


def test_what_changes_results_counts_and_nothing_else(tmp_path):
    write(tmp_path / "a")
    first = of(tmp_path / "a")
    assert differing(first, of(tmp_path / "a", "lbfgs")) == ["--optimizer"]
    assert differing(first, of(tmp_path / "a", levels=1)) == ["--levels"]
    assert differing(first, of(tmp_path / "a", seed=3)) == ["--seed"]
    assert differing(first, of(tmp_path / "a", cells=[16])) == ["--grid"]
    write(tmp_path / "a", text=CASE.replace("sigma = 1e-3", "sigma = 1e-2"))
    assert differing(first, of(tmp_path / "a")) == [
        "section [observation] of the case (or --set)"
    ]
    # Boxes of files that name their unit are converted to it.
    write(tmp_path / "a", text=CASE.replace('"one"', '"one"\nlength_unit = "cm"'))
    assert differing(first, of(tmp_path / "a")) == [
        "section [case] of the case (or --set)"
    ]
    write(tmp_path / "a", text=CASE.replace('"one"', '"two"'))
    assert of(tmp_path / "a") == first


def test_equal_files_elsewhere_are_equal(tmp_path):
    write(tmp_path / "a")
    first = of(tmp_path / "a")
    (tmp_path / "data").mkdir()
    for name in ("start.npy", "obs.npz"):
        shutil.move(tmp_path / "a" / name, tmp_path / "data" / name)
    assert of(tmp_path / "a", data=tmp_path / "data") == first


def test_pictures_are_those_that_the_case_reads(tmp_path, monkeypatch):
    """Beside it, wherever it is run."""
    image = pytest.importorskip("PIL.Image")
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "case.toml").write_text(PICTURED)
    monkeypatch.chdir(tmp_path)
    found = []
    for grey in (10, 20):
        image.fromarray(np.full((4, 4), grey, "uint8")).save(tmp_path / "a" / "k.png")
        found.append(of(tmp_path / "a"))
    assert differing(*found) == ["the contents of unknown[0].initial, file k.png"]


def test_files_that_a_deck_includes_count(tmp_path):
    write(
        tmp_path / "a", text=CASE.replace('"start.npy"', '"deck.grdecl", key = "PERMX"')
    )
    (tmp_path / "a" / "deck.grdecl").write_text("INCLUDE\n 'one.inc' /\n")
    (tmp_path / "a" / "one.inc").write_text("INCLUDE\n 'two.inc' /\n")
    (tmp_path / "a" / "two.inc").write_text("PERMX\n 8*0.5 /\n")
    first = of(tmp_path / "a")
    assert of(tmp_path / "a") == first
    (tmp_path / "a" / "two.inc").write_text("PERMX\n 8*0.25 /\n")
    assert differing(first, of(tmp_path / "a")) == [
        "the contents of unknown[0].initial, file two.inc"
    ]


def test_boundary_values_in_files_count(tmp_path):
    (tmp_path / "a").mkdir()
    boundary = (
        '[[experiment]]\nboundary = { "x-" = { file = "t.csv" } }\n[[observation]]'
    )
    text = PICTURED.replace('{ picture = "k.png", range = [0.5, 1.0] }', "0.5")
    text = text.replace("[time]", '[boundaries]\n"x-" = "dirichlet"\n[time]')
    (tmp_path / "a" / "case.toml").write_text(text.replace("[[observation]]", boundary))
    found = []
    for value in (1, 2):
        (tmp_path / "a" / "t.csv").write_text(
            f"t,y,u\n0,0,0\n0,1,1\n1,0,{value}\n1,1,3\n"
        )
        found.append(of(tmp_path / "a"))
    assert "the contents of experiment[0].boundary.x-, file t.csv" in differing(*found)

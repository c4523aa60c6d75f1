"""No rank holds an array of global size: what runs hold on 8 ranks, one under a mask, and one of
many experiments in groups of one rank each.
"""

import sys
import time
from contextlib import nullcontext

import numpy as np
import pytest
from held_arrays import Held
from mpi4py import MPI

from npde_opt.cases import added_noise, observed, random_points
from npde_opt.grids import Grid
from npde_opt.io import vectors
from npde_opt.observations import shares
from npde_opt.operators import patterns
from npde_opt.runs import predicted
from npde_opt.runs.options import PARSERS, read_options
from npde_opt.runs.run import Run, open_case

WORLD = MPI.COMM_WORLD
SHAPE = (128, 112)
SHARES = 2.5
"""Numbers that a rank may hold together, in even shares of the cells, of which all are 8: two
coordinates a datum, and for four cells there are five data."""
STENCILS = 6.5
"""Where operators are made, and of what is kept when all is done: five a cell, as many as a row of
a stencil has, in a box that under a mask has up to 1.3 shares."""
AROUND = 1
"""Beside it, in numbers a cell of the outline of all cells."""

WATCHED = (0, 3, 6)
"""Ranks that look at what they hold: the first gathers and writes, all others do the same, and to
look takes time."""

ONE_ITERATION = """
[[regularization]]
weight = 1.0
[simulation]
refine = 1
[optimizer]
method = "lbfgs"
levels = 1
max_iterations = 1
"""
CASE = (
    """
[grid]
shape = [128, 112]
extent = [1.2, 1.05]
active = { expression = "((x-0.6)/0.6)**2 + ((y-0.52)/0.52)**2 < 0.95" }
keep = "largest"
outside = "snap"
[equation]
terms = [{ diffusion = "D" }, { ground = [0.6, 0.5], radius = 0.1, conductance = 5.0 }]
[[unknown]]
name = "D"
initial = 1.0
truth = { expression = "exp(sin(6*x)*y)" }
[electrodes]
count = 8
radius = 0.05
current = 1.0
pattern = [[0, 4]]
[[observation]]
electrodes = true
[[observation]]
random = 3584
[[observation]]
[[observation]]
points = [[0.0, 0.0], [0.3, 0.5]]
"""
    + ONE_ITERATION
)


def run(folder, *more, ends=True):
    """One run of the driver's steps, which stops before its report unless it `ends`."""
    before = sys.argv
    sys.argv = ["identify", "--case", str(folder / "case.toml")]
    sys.argv += ["--out", str(folder / "out"), *more]
    try:
        options = read_options(PARSERS["identification"](""))
    finally:
        sys.argv = before
    case, ensemble = open_case(options, WORLD)
    with Run(options, case, ensemble, WORLD, time.monotonic()) as one:
        if one.goes_on():
            one.prepare()
            found = one.identify()
            if ends:
                one.report(found)


@pytest.fixture
def small_slabs(monkeypatch):
    """What a rank may have of any grid is made smaller than those of the cases here."""
    monkeypatch.setattr(vectors, "SLAB", 2000)
    monkeypatch.setattr(patterns, "CHUNK", 1000)
    monkeypatch.setattr(shares, "SLAB", 300)
    monkeypatch.setattr(predicted, "LARGEST", 300)
    monkeypatch.setattr(added_noise, "FEW", 1000)
    monkeypatch.setattr(random_points, "BATCH", 8000)
    monkeypatch.setattr(observed, "SHOWN", 1000)


def written(text, tmp_path):
    """The folder of all ranks in which this is case.toml."""
    folder = WORLD.bcast(tmp_path, root=0)
    if WORLD.rank == 0:
        (folder / "case.toml").write_text(text)
    WORLD.Barrier()
    return folder


def held_of(shares):
    share = SHAPE[0] * SHAPE[1] / WORLD.size
    return int(shares * share + AROUND * 2 * sum(SHAPE))


def watcher():
    # Interpolations have four numbers a cell; the planes of a stencil are exchanged together.
    several = ("operators", "linear/geometric.py", "grids/layout.py", "kept")
    wider = dict.fromkeys(several, held_of(STENCILS))
    return Held(held_of(SHARES), wider)


@pytest.mark.parallel(8)
def test_no_rank_holds_what_grows_with_the_whole_grid(tmp_path, small_slabs):
    folder = written(CASE, tmp_path)
    held = watcher()
    watches = WORLD.rank in WATCHED
    with held.watching() if watches else nullcontext():
        run(folder, ends=False)
    with held.watching() if watches else nullcontext():
        run(folder, "--resume")
    if watches:
        held.look_at_what_is_kept()
    told = WORLD.allgather(held.found)
    every = sorted({f"{where} ({n:,})" for found in told for where, n in found.items()})
    assert not every, f"more than {held.most:,} numbers:\n" + "\n".join(every)


MANY = (
    """
[grid]
shape = [16, 12]
extent = [1.2, 1.05]
[equation]
terms = [{ diffusion = "D" }, { reaction = "c" }]
known = { c = 1.0 }
[[unknown]]
name = "D"
initial = 1.0
truth = { expression = "exp(sin(6*x)*y)" }
[[observation]]
random = 4000
"""
    + ONE_ITERATION
)
MANY += "".join(
    f'[[experiment]]\nsources = [{{ shape = "1 + sin({k}*x)" }}]\n' for k in range(1, 9)
)


@pytest.mark.parallel(8)
def test_no_rank_holds_the_data_of_all_experiments(tmp_path, small_slabs):
    folder = written(MANY, tmp_path)
    # An experiment has 4,000 data, each at a point of two coordinates and of four cells.
    held = Held(4 * 4000 + 2000)
    watches = WORLD.rank in WATCHED
    with held.watching() if watches else nullcontext():
        run(folder, "--experiment-groups", "8")
    told = WORLD.allgather(held.found)
    every = sorted({f"{where} ({n:,})" for found in told for where, n in found.items()})
    assert not every, f"more than {held.most:,} numbers:\n" + "\n".join(every)


@pytest.mark.parallel(8)
def test_a_mask_of_all_cells_is_found():
    held, grid = watcher(), Grid(SHAPE)
    whole, own = np.ones(SHAPE, bool), np.ones(grid.local_shape)
    with held.watching():
        grid.own("field", own)
    assert not held.found
    with held.watching():
        grid.own("field", whole)
    assert set(held.found.values()) == {whole.size}
    assert any(place.startswith("grids/grid.py, Grid.own") for place in held.found)

"""Runs that are resumed on a number of ranks for which the coarsest grid cannot be, or can be, cut:
on more ranks than cells a grid is not coarsened, here by a limit of cells in place of ranks."""

import contextlib
import json
from types import SimpleNamespace

import pytest
from mpi4py import MPI
from run_options import run_options

from npde_opt.cases import load_case
from npde_opt.ensemble import Ensemble
from npde_opt.errors import InputError, Interrupted
from npde_opt.grids import Grid
from npde_opt.runs import drawing
from npde_opt.runs.monitor import Monitor
from npde_opt.runs.run import Run

CASE = """
[grid]
shape = [64]
[boundaries]
"x-" = "dirichlet"
"x+" = "dirichlet"
[equation]
terms = [{ diffusion = "D" }, { source = 1.0 }]
[[unknown]]
name = "D"
initial = 1.0
truth = 2.0
[[observation]]
points = [[0.3], [0.5], [0.7]]
[[regularization]]
"""


@pytest.fixture
def file(tmp_path):
    world = MPI.COMM_WORLD
    found = world.bcast(tmp_path, root=0) / "case.toml"
    if world.rank == 0:
        found.write_text(CASE)
    world.Barrier()
    return found


def run(file, out, fewest, resume=False, stop=None, plot=False):
    """Levels in the history, and the summary; None where it was stopped.

    Args:
        fewest: cells that a grid has at least.
        stop: the level whose first iteration is the run's last one.
    """
    options = run_options(file, out, resume=resume, plot=plot)
    world = MPI.COMM_WORLD
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Grid, "coarsen", _coarsening(fewest))
        case, ensemble = load_case(file), Ensemble.split(world, 1, 1)
        with (
            Run(options, case, ensemble, world, 0.0) as it,
            contextlib.suppress(Interrupted),
        ):
            assert it.goes_on()
            it.prepare()
            if stop is not None:
                patch.setattr(type(it.monitor), "__call__", _stopping(it.monitor, stop))
            it.report(it.identify())
        rows = it.out.history()
    world.Barrier()
    summary = out / "summary.json"
    levels = [int(r["level"]) for r in rows]
    return levels, json.loads(summary.read_text()) if summary.exists() else None


def _coarsening(fewest):
    coarsen = Grid.coarsen

    def limited(self, smallest=8):
        found = coarsen(self, smallest)
        return None if found is None or found.size < fewest else found

    return limited


def _ending(begin):
    def begun(self, number, count):
        if number == 1:
            raise Interrupted("enough")
        return begin(self, number, count)

    return begun


def _stopping(monitor, stop):
    watch = type(monitor).__call__

    def watched(self, row, state):
        answer = watch(self, row, state)
        if row.get("level", self._level.level) == stop:
            raise Interrupted("enough")
        return answer

    return watched


@pytest.mark.parallel([1, 2])
def test_on_fewer_ranks_it_goes_on_with_the_grids_that_it_had(file):
    levels, whole = run(file, file.parent / "whole", 32)
    assert set(levels) == {0, 1}
    out = file.parent / "stopped"
    levels, summary = run(file, out, 32, stop=1)
    assert levels[-1] == 1 and summary is None
    levels, found = run(file, out, 16, resume=True)
    assert set(levels) == {0, 1}
    assert found["objective"] == pytest.approx(whole["objective"], rel=1e-8)


@pytest.mark.parallel([1, 2])
def test_on_more_ranks_than_its_coarsest_grid_has_cells_it_is_told(file):
    out = file.parent / "stopped"
    levels, summary = run(file, out, 16, stop=0)
    assert set(levels) == {0} and summary is None
    allowed = r"a number that grid \(16,\), where the run was, can be cut into, such as"
    with pytest.raises(InputError, match=f"--resume: ranks.*{allowed}"):
        run(file, out, 64, resume=True)
    levels, found = run(file, out, 16, resume=True)
    assert set(levels) == {0, 1, 2} and found is not None


@pytest.mark.parallel([1, 2])
@pytest.mark.parametrize("fewest", [32, 64])
def test_on_more_ranks_it_goes_on_where_it_needs_coarse_grids_no_longer(file, fewest):
    levels, whole = run(file, file.parent / "whole", 16)
    out = file.parent / "stopped"
    run(file, out, 16, stop=2)
    resumed, found = run(file, out, fewest, resume=True, plot=True)
    assert resumed == levels and (out / "convergence.png").exists()
    assert found["objective"] == pytest.approx(whole["objective"], rel=1e-4)


def test_figures_name_grids_that_these_ranks_do_not_have(monkeypatch):
    """The coarsest of three was named as the finest one."""
    monkeypatch.setattr(Grid, "coarsen", _coarsening(64))
    on = SimpleNamespace(grid=Grid((64,)))
    names = drawing._level_names(on, [{"level": 0}, {"level": 2}])
    assert names == ["16 cells", "32 cells", "64 cells"]


STARTS = "[optimizer]\nrestarts = 1\n"


@pytest.mark.parallel([1, 2])
def test_all_starts_have_the_grids_of_the_first(file):
    """The second start's own grids were others', and what the first had learnt of no use."""
    if MPI.COMM_WORLD.rank == 0:
        file.write_text(CASE + STARTS)
    MPI.COMM_WORLD.Barrier()
    whole = run(file, file.parent / "whole", 32)
    out = file.parent / "stopped"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Monitor, "begin_start", _ending(Monitor.begin_start))
        levels, summary = run(file, out, 32)
    assert set(levels) == {0, 1} and summary is None
    levels, found = run(file, out, 16, resume=True)
    assert set(levels) == {0, 1}
    assert found["objective"] == pytest.approx(whole[1]["objective"], rel=1e-8)

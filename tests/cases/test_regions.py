"""Regions of one cell on the case's own grid, which coarser grids of the nested iteration do not
have, keep their start values there; averages over them are no data there."""

import numpy as np
import pytest
from mpi4py import MPI

from npde_opt.cases import load_case
from npde_opt.ensemble import Ensemble
from npde_opt.errors import InputError
from npde_opt.grids import Grid
from npde_opt.nested import identify
from npde_opt.observations import over_regions
from npde_opt.optimizers import Settings

comm = MPI.COMM_WORLD
# Region 2 is one cell, the last one of a pair: coarse cells hold what is at their middles, which is
# the upper cell here.
REGIONS = '{ file = "regions.npy" }'
INITIAL = 'initial = { expression = "where(x < 0.5, 1.0, where(x > 0.9, 7.0, 2.0))" }'
CASE = f"""
[grid]
shape = [32, 32]
[equation]
terms = [{{ diffusion = "D" }}, {{ kinetics = {{ u = "s" }} }}]
known = {{ D = 0.02 }}
[time]
times = {{ end = 1.0, steps = 8 }}
[[unknown]]
name = "s"
{INITIAL}
truth = {{ expression = "where(x < 0.5, 1.5, where(x > 0.9, 6.0, 2.5))" }}
regions = {REGIONS}
[[observation]]
times = [0.5, 1.0]
regions = {REGIONS}
sigma = 1e-3
"""


@pytest.fixture
def case(tmp_path):
    folder = comm.bcast(tmp_path, root=0)
    if comm.rank == 0:
        regions = np.zeros((32, 32))
        regions[16:] = 1
        regions[30, 4] = 2
        np.save(folder / "regions.npy", regions)
        (folder / "case.toml").write_text(CASE)
    comm.Barrier()
    return load_case(folder / "case.toml", comm)


@pytest.mark.parallel([1, 2])
def test_a_region_without_a_cell_on_a_coarser_grid_keeps_its_start_and_is_no_datum_there(
    case,
):
    ensemble = Ensemble.split(comm, 1, 1)
    case.prepare(ensemble)
    coarse = case.grid(comm).coarsen(16)
    assert coarse is not None and coarse.shape == (16, 16)
    objective, m = case.build(coarse, ensemble)
    assert np.exp(objective.space.values(m, "s")) == pytest.approx(
        [1.0, 2.0 + 5.0 * 2 / 8, 7.0], rel=1e-12
    )
    observer = objective.forward.observed.observer(0)
    np.testing.assert_array_equal(observer.unseen(), [0, 0, 1, 0, 0, 1])
    g = objective.linearize(m).gradient()
    assert objective.space.values(g, "s")[2] == 0.0


@pytest.mark.parallel([1, 2])
def test_such_a_case_reaches_the_optimum_of_its_own_grid_alone(case):
    ensemble = Ensemble.split(comm, 1, 1)
    case.prepare(ensemble)
    constants = []
    for levels in (1, None):
        found = identify(
            case.grid(comm),
            lambda grid: case.build(grid, ensemble),
            Settings(method="gauss-newton"),
            levels,
        )
        space = found.objective.space
        constants.append(space.values(found.result.m, "s"))
    np.testing.assert_allclose(constants[1], constants[0], atol=1e-5)
    # Data are simulated on a finer grid, on which the one cell is four.
    truth = space.values(case.on(space.grid).start("truth"), "s")
    np.testing.assert_allclose(constants[1], truth, atol=0.1)


PICTURE = "{ picture = 'k.png', range = [1.0, 2.0] }"


def pictured(folder, old, new):
    """The case with another first line of its kind, beside a picture that is black on the left and
    white on the right."""
    image = pytest.importorskip("PIL.Image")
    if comm.rank == 0:
        grey = np.zeros((32, 32), "uint8")
        grey[:, 16:] = 255
        image.fromarray(grey).save(folder / "k.png")
        text = (folder / "case.toml").read_text()
        assert old in text
        (folder / "case.toml").write_text(text.replace(old, new, 1))
    comm.Barrier()
    return load_case(folder / "case.toml", comm)


@pytest.mark.parallel([1, 2])
def test_a_region_without_a_cell_on_a_coarser_grid_starts_from_a_picture_too(case):
    case = pictured(case.sources.folder, INITIAL, f"initial = {PICTURE}")
    coarse = case.grid(comm).coarsen(16)
    on = case.on(coarse)
    constants = np.exp(on.space.values(on.start(), "s"))
    np.testing.assert_allclose(constants, [1.0, 2.0, 2.0], rtol=1e-12)


@pytest.mark.parallel([1, 2])
def test_where_an_unknown_is_known_it_keeps_what_a_picture_says(case):
    folder = case.sources.folder
    known = "known = { expression = 'y < 0.5' }"
    pictured(folder, INITIAL, f"initial = {PICTURE}")
    case = pictured(folder, f"regions = {REGIONS}", known)
    grid = case.grid(comm)
    fixed = case.on(grid).space.unknown("s").block.fixed
    wanted = np.full((32, 32), np.nan)
    wanted[:16, :16], wanted[16:, :16] = 1.0, 2.0
    np.testing.assert_allclose(fixed, wanted[grid.local_slice], rtol=1e-12)


def test_on_the_own_grid_it_is_refused_with_its_key():
    grid = Grid((4,), comm=MPI.COMM_SELF)
    with pytest.raises(
        InputError,
        match=r"observation\[1\].regions: got region 1 without .* 0, 1, ... without gaps",
    ):
        over_regions(
            grid, [0.0], np.array([0, 0, 2, -1]), field="observation[1].regions"
        )
    sampling = over_regions(grid, [0.0], np.array([0, 0, -1, -1]), least=2, unseen=True)
    assert sampling.size == 2
    sampling.destroy()

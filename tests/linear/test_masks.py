"""Masks in the compiled cycle: rows without active cells and gaps in others are left out, and what
is found is what the plain path finds."""

import numpy as np
import pytest
from mpi4py import MPI
from on_planes import diffusion

from npde_opt.grids import Grid
from npde_opt.linear import LinearSolver
from npde_opt.linear.planes import gathering, runs
from npde_opt.operators.stencils import StencilMatrix

PREFIX = "masktest_"
FLAT, VOLUME = (41, 36), (15, 14, 17)


def ellipsoid(shape):
    x = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    return sum(a**2 for a in x) < 0.9


def random_cells(shape):
    return np.random.default_rng(3).random(shape) < 0.7


def corner(shape):
    """An L, thick in the third axis."""
    found = np.zeros(shape, bool)
    found[: shape[0] // 3] = True
    found[:, shape[1] // 2 :] = True
    return found


def channels(shape):
    """Of one cell, from side to side, and one along all of them."""
    found = np.zeros(shape, bool)
    found[2::5] = True
    found[:, 7] = True
    return found


MASKS = [ellipsoid, random_cells, corner, channels]


def solved(shape, mask, comm, recipe, norm):
    grid = Grid(shape, active=mask(shape), boundaries={"y+": "dirichlet"}, comm=comm)
    matrix = diffusion(grid, 0.1)
    solver = LinearSolver(matrix, grid, PREFIX, recipe, rtol=1e-11, norm=norm)
    solver.update()
    b, x = grid.create_active(), grid.create_active()
    f = np.random.default_rng(2).standard_normal(shape)[grid.local_slice]
    # The second solve finds what the first one left in the fields.
    for _ in range(2):
        grid.put(np.asfortranarray(f), b)
        x.set(0.0)
        solver.solve(b, x)
    found = grid.to_natural(grid.take(x))
    levels = [] if solver.planes is None else solver.planes.levels
    solver.destroy()
    matrix.destroy()
    return found, levels


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.parametrize("norm", ["preconditioned", "unpreconditioned"])
@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("shape", [FLAT, VOLUME])
def test_solutions_are_those_of_the_plain_path(shape, mask, norm, monkeypatch):
    monkeypatch.setattr(gathering, "SPREAD", 40)
    monkeypatch.setattr(runs, "GAP", 4)
    wanted, _ = solved(shape, mask, MPI.COMM_SELF, "geometric", norm)
    found, levels = solved(shape, mask, MPI.COMM_WORLD, "planes", norm)
    if found is not None:
        assert np.allclose(found, wanted, rtol=0, atol=1e-8 * np.abs(wanted).max())
    for level in levels[:1]:
        taken = np.zeros(level.shape.size, bool)
        for begin, end in level.shape.geometry[5]:
            taken[begin:end] = True
        assert np.all(level.shape.view(taken)[level.active])
        if MPI.COMM_WORLD.size == 1 and mask is not random_cells:
            assert not np.all(level.shape.view(taken))


@pytest.mark.parametrize("gap", [1, 4, 48])
@pytest.mark.parametrize("mask", MASKS)
def test_runs_are_the_active_cells_in_the_order_of_vectors(mask, gap, monkeypatch):
    monkeypatch.setattr(runs, "GAP", gap)
    active = mask((9, 8, 11)).T.copy()
    nz, ny, nx = active.shape
    pitch, front = nx + 3, 5
    rows = np.arange(nz * ny).reshape(nz, ny)
    inner = slice(0, nz - 1), slice(2, ny), slice(1, nx - 2)
    found = runs.runs(active, inner, rows, front, pitch)
    flat = active.ravel()
    owned = np.zeros(active.shape, bool)
    owned[inner] = True
    places = np.concatenate([np.arange(p, p + c) for _, c, _, p, _ in found])
    assert np.array_equal(places, np.flatnonzero(flat & owned.ravel()))
    assert np.array_equal(found[:, runs.LINE], found[:, runs.PLACE] // nx)
    i = found[:, runs.PLACE] % nx
    assert np.array_equal(found[:, runs.START], front + found[:, runs.LINE] * pitch + i)
    covered = np.zeros_like(flat)
    line, begin, end = runs.segments(active).T
    for first, last in zip(line * nx + begin, line * nx + end, strict=True):
        assert not covered[first:last].any()
        covered[first:last] = True
    assert np.all(covered[flat])
    starts = front + line * pitch
    spans = runs.spans(starts + begin, starts + end)
    assert np.all(spans[1:, 0] >= spans[:-1, 1])
    assert np.all(np.diff(spans) <= runs.CHUNK)


@pytest.mark.parametrize(
    ("radius", "recipe"), [(1.0, "planes"), (0.7, "geometric"), (0.5, "geometric")]
)
def test_taken_by_themselves_where_cells_enough_are_active(radius, recipe):
    """8,192 of them, and a quarter of all."""
    x = np.meshgrid(*(np.linspace(-1, 1, 36),) * 3, indexing="ij")
    grid = Grid((36, 36, 36), active=sum(a**2 for a in x) < radius**2)
    solver = LinearSolver(StencilMatrix(grid), grid, PREFIX)
    assert solver.recipe == recipe
    solver.destroy()

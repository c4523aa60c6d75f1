"""Fields on a grid by sparse least squares: recovered, as a dense solve has them, on any ranks."""

import functools

import numpy as np
import pytest
from mpi4py import MPI

from npde_opt.errors import InputError
from npde_opt.grids import Grid
from npde_opt.pseudoinverse.equation_error import Term
from npde_opt.pseudoinverse.grid_fields import GridStates, fit_grid
from npde_opt.pseudoinverse.grid_rows import Rows, Sums

WORLD = MPI.COMM_WORLD
N = 20
T = np.linspace(0, 0.5, 61)
TERMS = [Term("u"), Term("u^2", 0, 2), Term("u_xx", 2)]
WINDOWS = (15, 4)


def diffusivity(x, y):
    return 0.02 * (1 + 0.5 * np.sin(2 * np.pi * x) * np.cos(np.pi * y))


@functools.cache
def whole_states(shape=(N, N), noise=0.0, seed=0):
    """u_t = div(D grad u) + u (1 - u) without flux, on cells of a half; whole [t, x, y]."""
    fine = [2 * n for n in shape]
    x, y = np.meshgrid(*[(np.arange(n) + 0.5) / n for n in fine], indexing="ij")
    D, h = diffusivity(x, y), [1 / n for n in fine]
    u = 0.5 + 0.3 * np.sin(6 * x + 1) * np.cos(9 * y) + 0.15 * np.cos(14 * x * y)

    def rate(u):
        total = u * (1 - u)
        for d in (0, 1):
            face = (np.delete(D, 0, d) + np.delete(D, -1, d)) / 2
            flux = face * np.diff(u, axis=d) / h[d]
            ends = [(1, 1) if d == axis else (0, 0) for axis in (0, 1)]
            total = total + np.diff(np.pad(flux, ends), axis=d) / h[d]
        return total

    step, found = (T[1] - T[0]) / 4, [u]
    for at in range(1, 4 * len(T) - 3):
        u = u + step / 2 * (rate(u) + rate(u + step * rate(u)))
        if at % 4 == 0:
            found.append(u)
    pairs = np.array(found).reshape(len(T), shape[0], 2, shape[1], 2)
    mean = pairs.mean(axis=(2, 4))
    size = noise * np.sqrt((mean**2).mean())
    return mean + size * np.random.default_rng(seed).standard_normal(mean.shape)


@pytest.mark.parametrize(("noise", "most"), [(0.0, 0.025), (0.005, 0.035)])
def test_a_diffusivity_is_recovered_with_a_ridge_that_is_chosen(noise, most):
    grid = Grid((N, N), comm=MPI.COMM_SELF)
    u = whole_states(noise=noise, seed=1)
    found = fit_grid(GridStates(grid, T, u), TERMS, WINDOWS, [2])
    D, true = found.coefficients[2], grid.evaluate(diffusivity)
    inner = (slice(3, -3),) * 2
    assert abs(D / true - 1)[inner].mean() < most
    assert abs(found.constants[2] / true - 1)[inner].mean() > 0.19
    constants = [c.flat[0] for c in found.coefficients[:2]]
    np.testing.assert_allclose(constants, [1, -1], rtol=0.1)
    assert np.ptp(found.coefficients[0]) == 0
    size = noise * np.sqrt((whole_states() ** 2).mean())
    assert found.noise == pytest.approx(size, rel=0.05, abs=1e-5)
    grid.destroy()


def any_states(grid, times=21):
    """Smooth, of no equation; steps of an axis may differ."""
    t = np.linspace(0, 1, times)
    u = np.zeros((times, *grid.local_shape))
    for at, time in enumerate(t):
        for d, x in enumerate(grid.coordinates()):
            u[at] += np.cos((3 + d) * x + 2 * time) + 0.5 * np.cos(7 * x - 5 * time)
    return t, u


def whole(mat):
    """A Mat as an array on every rank."""
    start, end = mat.getOwnershipRange()
    own = np.zeros((end - start, mat.getSize()[1]))
    for row in range(start, end):
        columns, values = mat.getRow(row)
        own[row - start, columns] = values
    return np.concatenate(WORLD.allgather(own))


BOXES = [((30,), {}), ((11, 9), {"extent": (1.0, 0.7)}), ((7, 6, 6), {})]


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.parametrize(("shape", "how"), BOXES)
def test_fields_are_those_of_a_dense_solve(shape, how):
    grid = Grid(shape, **how)
    t, u = any_states(grid)
    found = fit_grid(GridStates(grid, t, u), TERMS, (6, 2), [0, 2], ridge=1e-4)
    sums = Sums(grid, t, (6, 2))
    sizes = abs(found.constants)
    rows = Rows(sums, TERMS, sizes, [0, 2], u, found.noise**2)
    G, L = whole(rows.G), whole(rows.faces)
    b = np.concatenate(WORLD.allgather(sums.changes(u)))
    right = np.concatenate([b, np.zeros(len(L))])
    z = np.linalg.lstsq(np.concatenate([G, 1e-2 * L]), right)[0]
    ends = np.cumsum(WORLD.allgather(rows.own))
    wanted = rows.fields(z[ends[WORLD.rank] - rows.own : ends[WORLD.rank]])
    for c, other in zip(found.coefficients, wanted, strict=True):
        np.testing.assert_allclose(c, other, atol=1e-4 * abs(z).max() * sizes.max())
    missed = np.linalg.norm(G @ z - b) / np.linalg.norm(b)
    assert found.residual == pytest.approx(missed, rel=1e-4)
    rows.destroy()
    grid.destroy()


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.parametrize(("shape", "how"), BOXES)
def test_rows_are_sums_of_cells_and_noise_moves_them_as_it_is_told(shape, how):
    grid = Grid(shape, **how)
    t, u = any_states(grid)
    sums, sizes = Sums(grid, t, (6, 2)), np.array([2.0, 0.5, 3.0])
    rows = Rows(sums, TERMS, sizes, [0, 2], u, 0.0)
    own = np.zeros(rows.own)
    for k, j in enumerate((0, 2)):
        own[k * grid.layout.local_size : (k + 1) * grid.layout.local_size] = k + 1
        sizes[j] *= k + 1
    own[2 * grid.layout.local_size :] = 1
    terms = [s * sums.constant(x, u) for s, x in zip(sizes, TERMS, strict=True)]
    np.testing.assert_allclose(rows.product(own), sum(terms), atol=1e-11)

    e = np.sin(1e3 * np.arange(u.size)).reshape(u.shape)
    step, c = 1e-5, np.array([1.0, -2.0, 0.1])

    def residual(u):
        both = zip(c, TERMS, strict=True)
        return sums.changes(u) - sum(x * sums.constant(term, u) for x, term in both)

    slope = (residual(u + step * e) - residual(u - step * e)) / (2 * step)
    told = rows.of_noise(e, u, c)
    np.testing.assert_allclose(told, slope, atol=1e-7 * (1 + abs(slope).max()))
    rows.destroy()
    grid.destroy()


@pytest.mark.parallel([1, 2])
def test_what_cannot_be_is_told_on_all_ranks():
    grid = Grid((12, 10))
    t, u = any_states(grid)
    seen = GridStates(grid, t, u)
    for terms, windows, varying, told in (
        ([Term("u_x", 1)], (6, 2), [0], "'?u_x.*powers of u and their diffusion"),
        (TERMS, (11, 2), [2], "half window in time: got 11; allowed: 4 to 10"),
        (TERMS, (6, 5), [2], "half window in space: got 5; allowed: 2 to 4"),
        (TERMS, (6, 2), [], "numbers of terms"),
        (TERMS, (6, 2), [3], "numbers of terms"),
    ):
        with pytest.raises(InputError, match=told):
            fit_grid(seen, terms, windows, varying)
    with pytest.raises(InputError, match="ridge: got -1"):
        fit_grid(seen, TERMS, (6, 2), [2], ridge=-1.0)
    wrong = u.copy()
    if WORLD.rank == WORLD.size - 1:
        wrong[3, 1, 1] = np.nan
    for states, times, told in (
        (wrong, t, "not finite"),
        (u[:-1], t, "times and cells"),
        (u, t**2, "equal steps"),
        (u, 1e-12 * t**2, "equal steps"),
        (np.repeat(u[:1], len(t), axis=0), t, "change in time"),
    ):
        with pytest.raises(InputError, match=told):
            GridStates(grid, times, states)
    grid.destroy()

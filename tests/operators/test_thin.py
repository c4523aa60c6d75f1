"""Every operator on axes of one, two and three cells, masked, periodic and stretched, against dense
matrices written from the definition, cell by cell and face by face."""

from itertools import product

import numpy as np
import pytest

from npde_opt.errors import InputError
from npde_opt.grids import AXES, Boundary, Grid
from npde_opt.linear import LinearSolver
from npde_opt.linear.geometric import Hierarchy
from npde_opt.linear.presb import Presb
from npde_opt.observations import (
    ball_mean,
    box_mean,
    from_functionals,
    over_regions,
    points_at,
    voxels,
)
from npde_opt.operators import CellProlongation, interpolation, mass
from npde_opt.operators.stencils import StencilMatrix
from npde_opt.parameters import ParameterSpace, Regions, Unknown
from npde_opt.regularizers import (
    BiLaplacian,
    Gradient,
    TotalVariation,
    bilaplacian_scales,
)
from npde_opt.terms import Advection, Diffusion, Reaction

ROBIN = Boundary("robin", 1.7)
WALL = np.ones((5, 4), bool)
WALL[2, 1:] = False  # a thin wall with a gap
POCKETS = np.zeros((5, 4), bool)
POCKETS[0, 0] = POCKETS[2, 2] = POCKETS[3, 2] = POCKETS[4, 0] = (
    True  # single cells, and a pair
)
GRIDS = {
    "1": ((1,), "", {"x-": "dirichlet"}, None),
    "1, periodic": ((1,), "x", {}, None),
    "2, periodic": ((2,), "x", {}, None),
    "3, periodic": ((3,), "x", {}, None),
    "1 x 1": ((1, 1), "", {"x-": ROBIN, "y+": "dirichlet"}, None),
    "1 x n": ((1, 7), "", {"x-": "dirichlet", "x+": ROBIN}, None),
    "n x 1, periodic": ((7, 1), "y", {"x-": "dirichlet"}, None),
    "2 x 2": ((2, 2), "", {"x-": "dirichlet", "y-": ROBIN}, None),
    "2 x 2, periodic": ((2, 2), "xy", {}, None),
    "2 x 3, periodic": ((2, 3), "x", {"y-": "dirichlet"}, None),
    "3 x 5, periodic": ((3, 5), "xy", {}, None),
    "n x 1 x n": ((4, 1, 5), "", {"x-": "dirichlet", "y-": ROBIN, "z+": ROBIN}, None),
    "1 x n x 2, periodic": ((1, 4, 2), "xyz", {}, None),
    "wall": ((5, 4), "", {"x-": "dirichlet", "x+": ROBIN}, WALL),
    "wall, periodic": ((5, 4), "x", {"y-": "dirichlet"}, WALL),
    "pockets": ((5, 4), "", {"x-": "dirichlet", "y+": ROBIN}, POCKETS),
    "pockets, periodic": ((5, 4), "xy", {}, POCKETS),
    "2 x n, one active": ((2, 6), "x", {"y-": "dirichlet"}, np.eye(2, 6, 1, bool)),
    "n x 1 x n, masked": ((5, 1, 4), "z", {"x-": "dirichlet"}, WALL[:, None]),
}


def make(name):
    """The grid, or a skip where it has fewer cells than ranks along what PETSc cuts."""
    shape, periodic, sides, active = GRIDS[name]
    rng = np.random.default_rng(len(name))
    edges = [np.append(0, np.cumsum(0.2 + rng.random(n))) for n in shape]
    kinds = dict(sides) | {a + s: "periodic" for a in periodic for s in "-+"}
    try:
        return Grid(shape, edges=edges, boundaries=kinds, active=active)
    except InputError as error:
        if error.field != "ranks":
            raise
        pytest.skip("fewer cells than ranks")


def cells(grid):
    mask = np.ones(grid.shape, bool) if grid.mask is None else grid.mask.whole()
    return [tuple(int(i) for i in c) for c in np.argwhere(mask)], mask


def faces(grid):
    """Every face of every active cell: cell, axis, step, area, neighbour (None: a side's)."""
    active, mask = cells(grid)
    for cell in active:
        for d, step in product(range(grid.dim), (-1, 1)):
            area = np.prod([grid.widths[e][cell[e]] for e in range(grid.dim) if e != d])
            other = list(cell)
            other[d] += step
            if grid.periodic(d):
                other[d] %= grid.shape[d]
            if not 0 <= other[d] < grid.shape[d]:
                yield cell, d, step, area, None
            elif mask[tuple(other)]:
                yield cell, d, step, area, tuple(other)


def numbered(grid):
    """Numbers of the cells, x fastest, and a zero matrix."""
    n = grid.size
    return np.arange(n).reshape(grid.shape, order="F"), np.zeros((n, n))


def diffusion(grid, D):
    """D: one array a direction."""
    number, A = numbered(grid)
    for cell, d, step, area, other in faces(grid):
        half = grid.widths[d][cell[d]] / (2 * D[d][cell])
        i = number[cell]
        if other is not None:
            g = area / (half + grid.widths[d][other[d]] / (2 * D[d][other]))
            A[i, i] += g
            A[i, number[other]] -= g
            continue
        side = grid.boundaries[AXES[d] + ("+" if step > 0 else "-")]
        if side.kind != "neumann":
            A[i, i] += area / (
                half + (1 / side.coefficient if side.kind == "robin" else 0)
            )
    return A


def advection(grid, velocity, scheme):
    number, A = numbered(grid)
    for cell, d, step, area, other in faces(grid):
        side = grid.boundaries[AXES[d] + ("+" if step > 0 else "-")]
        if other is None and side.kind == "neumann":
            continue
        v, i = velocity[d], number[cell]
        inflow = -step * v * area  # through this face
        central = inflow if other is None else 0.5 * inflow
        rate = max(inflow, 0.0) if scheme == "upwind" else central
        A[i, i] += rate
        if other is not None:
            A[i, number[other]] -= rate
    return A


def volumes(grid):
    _, mask = cells(grid)
    return np.where(mask, grid.outer(grid.widths), 0.0).ravel(order="F")


def field(grid, seed):
    """Random values of all cells, on every rank."""
    return np.random.default_rng(seed).random(grid.shape) + 0.5


def local(grid, values):
    return np.asfortranarray(values[grid.local_slice])


def agrees(grid, apply, A):
    """Whether apply(owned values) is A times them, in active cells."""
    _, mask = cells(grid)
    for seed in (1, 2):
        x = np.where(mask, field(grid, seed), 0.0)
        found = grid.comm.bcast(grid.to_natural(apply(local(grid, x))), root=0)
        expected = (A @ x.ravel(order="F")).reshape(grid.shape, order="F")
        np.testing.assert_allclose(
            np.where(mask, found, 0),
            expected,
            rtol=1e-12,
            atol=1e-12 * max(np.abs(A).max(), 1e-300),
        )


def matrix_of(grid, *points):
    matrix = StencilMatrix(grid)
    planes = matrix.zeroed()
    for point in points:
        point.add_planes(planes)
    matrix.refresh()
    return matrix


def product_with(grid, matrix, transposed=False):
    def apply(x):
        given, out = grid.create_active(), grid.create_active()
        grid.put(x, given)
        (matrix.mat.multTranspose if transposed else matrix.mat.mult)(given, out)
        return np.array(grid.take(out))

    return apply


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.parametrize("name", GRIDS)
def test_terms(name):
    grid = make(name)
    D = [field(grid, 10 + d) for d in range(grid.dim)]
    names, velocity = [f"D{d}" for d in range(grid.dim)], (1.3, -0.7, 2.0)[: grid.dim]
    given = {n: local(grid, v) for n, v in zip(names, D, strict=True)}
    c = field(grid, 20)
    wanted = [
        (Diffusion(grid, names[0]).at(given), diffusion(grid, D[:1] * grid.dim)),
        (Diffusion(grid, names).at(given), diffusion(grid, D)),
        (
            Reaction(grid, "c").at({"c": local(grid, c)}),
            np.diag(c.ravel(order="F") * volumes(grid)),
        ),
        (Advection(grid, velocity).at({}), advection(grid, velocity, "upwind")),
        (
            Advection(grid, velocity, "central").at({}),
            advection(grid, velocity, "central"),
        ),
    ]
    for point, A in wanted:
        matrix = matrix_of(grid, point)
        agrees(grid, product_with(grid, matrix), A)
        agrees(grid, product_with(grid, matrix, True), A.T)
        matrix.destroy()
    weights = mass(grid)
    found = grid.comm.bcast(grid.to_natural(np.array(grid.take(weights))), root=0)
    np.testing.assert_allclose(found.ravel(order="F"), volumes(grid), rtol=1e-13)


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.parametrize("name", GRIDS)
def test_derivative_of_diffusion_is_that_of_the_reference(name):
    grid = make(name)
    D, dD, x = field(grid, 3), field(grid, 4) - 1, field(grid, 5)
    _, mask = cells(grid)
    x = np.where(mask, x, 0)
    point = Diffusion(grid).at({"D": local(grid, D)})
    found = point.derivative(grid.ghosted(local(grid, x)), {"D": local(grid, dD)})
    step = 1e-6
    change = diffusion(grid, [D + step * dD] * grid.dim) - diffusion(
        grid, [D - step * dD] * grid.dim
    )
    expected = (change @ x.ravel(order="F")).reshape(grid.shape, order="F") / (2 * step)
    found = np.asarray(found) * np.ones(grid.local_shape)
    np.testing.assert_allclose(
        np.where(grid.active, found, 0), local(grid, expected), atol=1e-7
    )


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.parametrize("name", GRIDS)
def test_regularizers(name):
    grid = make(name)
    shut = Grid(
        grid.shape,
        edges=grid.edges,
        active=None if grid.mask is None else grid.mask.whole(),
        boundaries={s: b for s, b in grid.boundaries.items() if b.kind == "periodic"},
    )
    _, mask = cells(grid)
    one, V = np.ones(grid.shape), volumes(grid)
    on = np.flatnonzero(mask.ravel(order="F"))
    L, shift = diffusion(shut, [one] * grid.dim), 0.3
    H = L + shift * np.diag(V)

    def hessian(r):
        def apply(x):
            given, out = grid.create_scalar(), grid.create_scalar()
            grid.view(given)[...] = x
            r.hessian(given, given, out)
            return np.array(grid.view(out))

        return apply

    gradient = Gradient(grid, 1.0, mass_weight=shift)
    agrees(grid, hessian(gradient), H)
    gamma, delta = bilaplacian_scales(grid.dim, 0.5, 1.0)
    prior = BiLaplacian(shut, 1.0, gamma=gamma, delta=delta)
    K = gamma * L + delta * np.diag(V)
    square = np.zeros_like(K)
    square[np.ix_(on, on)] = K[on][:, on] @ np.diag(1 / V[on]) @ K[on][:, on]
    if all(b.kind != "robin" for b in prior.grid.boundaries.values()):
        agrees(grid, hessian(prior), square)
    variation = TotalVariation(grid, 1.0, epsilon=0.1)
    p = field(grid, 6)
    vec = grid.from_natural(np.where(mask, p, 0))
    squares = np.zeros(grid.shape)
    for cell, d, _, _, other in faces(shut):
        if other is not None:
            distance = (grid.widths[d][cell[d]] + grid.widths[d][other[d]]) / 2
            squares[cell] += 0.5 * ((p[other] - p[cell]) / distance) ** 2
    expected = (np.sqrt(squares + 0.01) * V.reshape(grid.shape, order="F")).sum()
    assert variation.value(vec) == pytest.approx(expected, rel=1e-12)
    for r in (gradient, prior, variation):
        r.destroy()


def seen(grid, B, values):
    x, y = grid.from_natural(values), B.createVecLeft()
    B.mult(x, y)
    return np.concatenate(grid.comm.allgather(np.array(y.getArray())))


def active_points(grid, count=25):
    rng, (_, mask) = np.random.default_rng(8), cells(grid)
    chosen = np.argwhere(mask)[rng.integers(mask.sum(), size=count)]
    inside = rng.random(chosen.shape)
    return np.stack(
        [
            e[c] + t * w[c]
            for e, w, c, t in zip(
                grid.edges, grid.widths, chosen.T, inside.T, strict=True
            )
        ],
        axis=1,
    )


def interpolated(grid, point, values):
    """Multilinear between centres, wrapped; the weights of inactive neighbours go to the others."""
    _, mask = cells(grid)
    lines = []
    for d, x in enumerate(point):
        c, n = grid.centers[d], grid.shape[d]
        length = grid.edges[d][-1] - grid.edges[d][0]
        if n == 1:
            lines.append([(0, 1.0)])
            continue
        nodes = (
            [(c[i % n] + length * (i // n), i % n) for i in range(-1, n + 1)]
            if grid.periodic(d)
            else list(zip(c, range(n), strict=True))
        )
        k = next(
            (k for k in range(len(nodes) - 2) if x <= nodes[k + 1][0]), len(nodes) - 2
        )
        (a, i), (b, j) = nodes[k], nodes[k + 1]
        lines.append([(i, (b - x) / (b - a)), (j, (x - a) / (b - a))])
    weights = {}
    for picks in product(*lines):
        cell = tuple(i for i, _ in picks)
        weights[cell] = weights.get(cell, 0) + np.prod([w for _, w in picks])
    if not all(mask[c] for c, w in weights.items() if w):
        weights = {c: max(w, 0) * mask[c] for c, w in weights.items()}
    return sum(w * values[c] for c, w in weights.items()) / sum(weights.values())


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.parametrize("name", GRIDS)
def test_interpolation_and_observations(name):
    grid = make(name)
    points, values = active_points(grid), field(grid, 7)
    B = interpolation(grid, points)
    np.testing.assert_allclose(
        seen(grid, B, values),
        [interpolated(grid, x, values) for x in points],
        rtol=1e-11,
    )
    lower, upper = ([e[k] for e in grid.edges] for k in (0, -1))
    means = [
        points_at(grid, points[:1]),
        ball_mean(grid, points[0], 0.7),
        box_mean(grid, lower, upper),
    ]
    found = seen(
        grid, from_functionals(grid, (), means).matrix, np.full(grid.shape, 3.5)
    )
    np.testing.assert_allclose(found, 3.5, rtol=1e-12)
    found = seen(grid, from_functionals(grid, (), means[2:]).matrix, values)
    V = volumes(grid)
    assert found == pytest.approx(V @ values.ravel(order="F") / V.sum(), rel=1e-11)


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.parametrize("name", GRIDS)
def test_averages_over_regions_and_voxels(name):
    grid = make(name)
    _, mask = cells(grid)
    values, V = field(grid, 7), volumes(grid).reshape(grid.shape, order="F")
    regions = np.where(mask, 0, -1)
    regions[tuple(np.argwhere(mask)[-1])] = int(mask.sum() > 1)
    expected = [
        (V * values)[regions == r].sum() / V[regions == r].sum()
        for r in range(regions.max() + 1)
    ]
    sampling = over_regions(grid, [0.0], regions)
    np.testing.assert_allclose(
        seen(grid, sampling.matrix, values), expected, rtol=1e-12
    )
    sampling = voxels(grid, [0.0], [e[[0, -1]] for e in grid.edges])
    assert seen(grid, sampling.matrix, values) == pytest.approx(
        (V * values).sum() / V.sum(), rel=1e-12
    )
    sampling = voxels(grid, [0.0], grid.edges)
    found = seen(grid, sampling.matrix, values)
    np.testing.assert_allclose(
        found, np.where(mask, values, 0).ravel(order="F"), rtol=1e-12
    )


LONG = {
    "1 x n": ((1, 500), "", {"y-": "dirichlet"}, 0.0),
    "n x 2, periodic": ((301, 2), "y", {"x+": ROBIN}, 0.0),
    "n x 1, both periodic": ((500, 1), "xy", {}, 0.0),
    "2 x n x 1, periodic": ((2, 251, 1), "xz", {"y-": "dirichlet"}, 0.0),
    "3 x n, masked": ((3, 200), "x", {"y-": "dirichlet"}, 0.2),
    "2 x n, masked": ((2, 300), "x", {"y-": "dirichlet"}, 0.2),
}


def long_grid(name):
    shape, periodic, sides, share = LONG[name]
    active = np.random.default_rng(2).random(shape) >= share if share else None
    kinds = dict(sides) | {a + s: "periodic" for a in periodic for s in "-+"}
    return Grid(
        shape, boundaries=kinds, active=active, extent=[0.01 * n for n in shape]
    )


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.parametrize("velocity", [False, True])
@pytest.mark.parametrize("name", LONG)
def test_multigrid_solves(name, velocity):
    grid = long_grid(name)
    D, flow = field(grid, 1), (1.3, -0.7, 2.0)[: grid.dim]
    points = [
        Diffusion(grid).at({"D": local(grid, D)}),
        Reaction(grid, "c").at({"c": np.ones(grid.local_shape)}),
    ]
    A = diffusion(grid, [D] * grid.dim) + np.diag(volumes(grid))
    if velocity:
        points.append(Advection(grid, flow).at({}))
        A = A + advection(grid, flow, "upwind")
    matrix = matrix_of(grid, *points)
    solver = LinearSolver(matrix, grid, "thin_", "geometric", not velocity, rtol=1e-11)
    solver.update()
    _, mask = cells(grid)
    on = np.flatnonzero(mask.ravel(order="F"))
    b = np.where(mask, field(grid, 2), 0)
    for solve, M in ((solver.solve, A), (solver.solve_transpose, A.T)):
        given, x = grid.create_active(), grid.create_active()
        grid.put(local(grid, b), given)
        solve(given, x)
        expected = np.zeros(grid.size)
        expected[on] = np.linalg.solve(M[np.ix_(on, on)], b.ravel(order="F")[on])
        expected = expected.reshape(grid.shape, order="F")
        np.testing.assert_allclose(
            np.array(grid.take(x)),
            local(grid, expected),
            rtol=0,
            atol=1e-7 * np.abs(expected).max(),
        )
    assert solver.recipe == "geometric" and solver.iterations < 300
    levels, fine = Hierarchy(grid), matrix.mat
    levels.update(matrix)
    for R, coarse in zip(levels.coarsening.restrictions, levels.matrices, strict=True):
        whole = fine.ptap(R.transpose())
        rest = whole.copy()
        rest.axpy(-1, coarse.mat)
        assert rest.norm() <= 1e-12 * whole.norm()
        fine = whole
    solver.destroy()


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.parametrize("recipe", ["auto", "direct"])
@pytest.mark.parametrize(
    "name",
    ["2 x 2, periodic", "n x 1, periodic", "wall, periodic", "1 x n x 2, periodic"],
)
def test_complex_systems(name, recipe):
    grid = make(name)
    D, (_, mask) = field(grid, 1), cells(grid)
    matrix = matrix_of(grid, Diffusion(grid).at({"D": local(grid, D)}))
    solver = Presb(
        grid, mass(grid), matrix, None, (0.4, 0.0), "thin_", recipe, rtol=1e-12
    )
    solver.update()
    f = np.stack([np.where(mask, field(grid, k), 0) for k in (2, 3)])
    right = np.asfortranarray(f[(slice(None), *grid.local_slice)])
    found = solver.solve(right, np.zeros_like(right))
    on = np.flatnonzero(mask.ravel(order="F"))
    A = (np.diag(volumes(grid)) + 0.4j * diffusion(grid, [D] * grid.dim))[
        np.ix_(on, on)
    ]
    z = np.zeros(grid.size, complex)
    z[on] = np.linalg.solve(A, (f[0] + 1j * f[1]).ravel(order="F")[on])
    z = z.reshape(grid.shape, order="F")
    np.testing.assert_allclose(found[0], local(grid, z.real), atol=1e-9)
    np.testing.assert_allclose(found[1], local(grid, z.imag), atol=1e-9)
    solver.release()


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.parametrize("cubic", [False, True])
@pytest.mark.parametrize(
    "shape, periodic",
    [
        ((1, 20), ""),
        ((20, 1), "y"),
        ((20, 2), "y"),
        ((2, 20, 1), "xz"),
        ((3, 20), "x"),
        ((17, 2, 3), ""),
    ],
)
def test_prolongation_between_thin_grids(shape, periodic, cubic):
    rng = np.random.default_rng(1)
    kinds = {a + s: "periodic" for a in periodic for s in "-+"}
    for active in (None, rng.random(shape) > 0.4):
        fine = Grid(shape, boundaries=kinds, active=active)
        coarse = fine.coarsen(8)
        P = CellProlongation(coarse, fine, cubic)
        x, y = coarse.create_scalar(), fine.create_scalar()
        x.set(2.5)
        P.mult(x, y)
        np.testing.assert_allclose(fine.view(y)[fine.active], 2.5, rtol=1e-12)
        # a field that is constant along the long axis is kept, cell by cell
        thin = [d for d in range(fine.dim) if coarse.shape[d] == fine.shape[d]]
        values = rng.random([n if d in thin else 1 for d, n in enumerate(shape)])
        if active is None:
            P.mult(coarse.from_natural(np.broadcast_to(values, coarse.shape)), y)
            np.testing.assert_allclose(
                fine.gather(y), np.broadcast_to(values, shape), rtol=1e-11
            )


@pytest.mark.parallel([2, 3])
def test_too_few_cells_for_the_ranks_are_refused():
    with pytest.raises(InputError, match="ranks"):
        Grid((1, 1))


@pytest.mark.parallel([1, 2, 3])
def test_region_constants_where_a_rank_has_no_active_cell():
    active = np.zeros((2, 12), bool)
    active[:, :3] = True
    grid, regions = Grid((2, 12), active=active), np.zeros((2, 12), int)
    regions[1] = 1
    space = ParameterSpace(grid, [Unknown("D", block=Regions(regions))])
    m = space.from_values({"D": [2.0, 3.0]})
    out = space.create_vec()
    space.at(m).pull({"D": np.ones(grid.local_shape, order="F")}, out)
    np.testing.assert_array_equal(space.values(out, "D"), [3.0, 3.0])

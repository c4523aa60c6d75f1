"""The steady forward map: order 2, masks, ranks, transposes."""

import numpy as np
import pytest
from mpi4py import MPI
from petsc4py import PETSc

from npde_opt.errors import InputError, SolverError
from npde_opt.forward import Equation, Experiment, Steady
from npde_opt.grids import Boundary, Grid
from npde_opt.observations import at_points
from npde_opt.parameters import ParameterSpace, Unknown
from npde_opt.terms import Advection, Diffusion, Reaction, Source
from npde_opt.verify import manufactured_order

SIZES = {1: (16, 32, 64), 2: (8, 16, 32), 3: (6, 12)}
W = 1.5


@pytest.fixture(autouse=True)
def tight():
    options = PETSc.Options()
    options["state_ksp_rtol"] = "1e-13"
    yield
    options.delValue("state_ksp_rtol")


def sine(x, k=np.pi):
    return np.sin(k * x), k * np.cos(k * x), -k * k * np.sin(k * x)


def wave(x):
    a, b, c = sine(x + 0.1, 2 * np.pi)
    return 2 + a, b, c


def robin(x):
    return (
        np.cos(W * (x - 0.5)),
        -W * np.sin(W * (x - 0.5)),
        -W * W * np.cos(W * (x - 0.5)),
    )


def bump(x):
    """0 on the sides and periodic."""
    s, k = np.sin(np.pi * x) ** 2, 2 * np.pi
    return s, np.pi * np.sin(k * x), np.pi * k * np.cos(k * x)


def exponential(x):
    return np.exp(x), np.exp(x), np.exp(x)


CASES = {
    "dirichlet": (sine, "product", Boundary("dirichlet"), 1.0, 0.0),
    "robin": (robin, "product", Boundary("robin", W * np.tan(W / 2)), 1.0, 0.0),
    "periodic": (wave, "product", Boundary("periodic"), 0.0, 1.0),
    "neumann": (exponential, "sum", Boundary("neumann"), 0.0, 1.0),
}


def derivatives(f, xs, mode):
    """Value, gradient and Laplacian of the sum or product of f over the axes."""
    parts = [f(x) for x in xs]
    if mode == "sum":
        return sum(p[0] for p in parts), [p[1] for p in parts], sum(p[2] for p in parts)

    def product(d, k):
        out = 1.0
        for a, p in enumerate(parts):
            out = out * p[k if a == d else 0]
        return out

    axes = range(len(xs))
    return (
        product(0, 0),
        [product(d, 1) for d in axes],
        sum(product(d, 2) for d in axes),
    )


def solve(grid, terms, known, source, boundary=None):
    """The state, owned [i, j, k]; the unknown is a dummy that no test moves."""
    first = [0] * grid.dim if grid.mask is None else np.argwhere(grid.mask.whole())[0]
    points = np.array([[c[i] for c, i in zip(grid.centers, first, strict=True)]])
    space = ParameterSpace(grid, [Unknown("D", "log")])
    experiment = Experiment(load=source, boundary=boundary or {})
    forward = Steady(
        space, Equation(grid, terms), known, [experiment], [at_points(grid, (), points)]
    )
    m = space.from_values({"D": known["D"]})
    at = forward.linearize(m)
    return at.final[0][0].copy(order="F"), forward, at


def error(kind, dim, n, variable=True, stretched=False, comm=MPI.COMM_WORLD):
    f, mode, boundary, value, c = CASES[kind]
    s = np.linspace(0, 1, n + 1)
    edges = [s + 0.12 * np.sin(np.pi * s) if stretched else s] * dim
    sides = [a + e for a in "xyz"[:dim] for e in "-+"]
    grid = Grid(
        (n,) * dim, edges=edges, boundaries=dict.fromkeys(sides, boundary), comm=comm
    )
    xs = grid.coordinates()
    u, du, lap = derivatives(f, xs, mode)
    b, db, _ = derivatives(bump, xs, "product")
    amplitude = 0.8 if variable else 0.0
    D = np.broadcast_to(1 + amplitude * b, grid.local_shape)
    exact = value + u
    source = (
        -(sum(amplitude * p * q for p, q in zip(db, du, strict=True)) + D * lap)
        + c * exact
    )
    values = dict.fromkeys(sides, value)
    if kind == "neumann":
        values = {s: -1.0 if s[1] == "-" else float(np.e) for s in sides}
    if kind == "periodic":
        values = {}
    terms = [Diffusion(grid, "D")] + ([Reaction(grid, "c")] if c else [])
    found, forward, _ = solve(
        grid, terms, {"D": D, "c": c}, source * grid.volume, values
    )
    worst = grid.comm.allreduce(float(abs(found - exact).max()), op=MPI.MAX)
    forward.destroy()
    return worst


@pytest.mark.parametrize("dim", [1, 2, 3])
@pytest.mark.parametrize("kind", list(CASES))
def test_order_two_with_variable_D(kind, dim):
    order = manufactured_order(lambda n: error(kind, dim, n), SIZES[dim])
    assert 1.75 < order < 2.45


@pytest.mark.parametrize("variable", [False, True])
@pytest.mark.parametrize("kind", ["dirichlet", "neumann", "robin"])
def test_order_two_on_stretched_edges(kind, variable):
    order = manufactured_order(
        lambda n: error(kind, 2, n, variable, stretched=True), SIZES[2]
    )
    assert 1.75 < order < 2.45


@pytest.mark.parallel([1, 2, 3])
def test_order_two_holds_on_ranks():
    assert 1.75 < manufactured_order(lambda n: error("robin", 2, n), (8, 16)) < 2.45


def test_constant_D_one_dimension_is_exact_for_linear_u():
    edges = [np.array([0, 1, 1.5, 2, 4, 5, 5.5, 6.0])]
    grid = Grid((7,), edges=edges, boundaries={"x-": "dirichlet", "x+": "dirichlet"})
    found, _, _ = solve(
        grid, [Diffusion(grid)], {"D": 3.0}, np.zeros(7), {"x-": 1.0, "x+": 13.0}
    )
    np.testing.assert_allclose(found, 1 + 2 * grid.centers[0], rtol=1e-12)


def layered(grid, seed=0):
    rng = np.random.default_rng(seed)
    return np.exp(rng.standard_normal(grid.shape))


@pytest.mark.parallel([1, 2, 3])
def test_masked_result_is_that_of_the_smaller_domain():
    active = np.zeros((24, 20), bool)
    active[:16] = True
    kinds = {"x-": "dirichlet", "y-": Boundary("robin", 2.0)}
    values = {"x-": 1.0, "y-": -0.5, "y+": 0.3}
    whole = Grid((24, 20), extent=(2.4, 1), boundaries=kinds, active=active)
    small = Grid((16, 20), extent=(1.6, 1), boundaries=kinds, comm=MPI.COMM_SELF)
    D = layered(whole)
    found, forward, _ = solve(
        whole,
        [Diffusion(whole)],
        {"D": D[whole.local_slice]},
        1.0 * whole.volume,
        values,
    )
    expected, _, _ = solve(
        small, [Diffusion(small)], {"D": D[:16]}, 1.0 * small.volume, values
    )
    assert np.all(found[~whole.active] == 0)
    vec = whole.create_scalar()
    whole.view(vec)[...] = found
    np.testing.assert_allclose(whole.gather(vec)[:16], expected, rtol=1e-9)
    forward.destroy()


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("shape", [(40,), (27, 24), (9, 8, 10)])
def test_states_do_not_depend_on_ranks(shape, masked):
    rng = np.random.default_rng(3)
    active = rng.random(shape) > 0.25 if masked else None
    D, f = np.exp(rng.standard_normal(shape)), rng.standard_normal(shape)
    sides = {"x-": "dirichlet", "x+": Boundary("robin", 3.0)} | (
        {"y-": "periodic", "y+": "periodic"} if len(shape) > 1 else {}
    )
    results = []
    for comm in (MPI.COMM_WORLD, MPI.COMM_SELF):
        grid = Grid(shape, boundaries=sides, active=active, comm=comm)
        box = grid.local_slice
        found, forward, _ = solve(
            grid,
            [Diffusion(grid), Reaction(grid)],
            {"D": D[box], "c": 0.7},
            f[box] * grid.volume,
            {"x-": 2.0, "x+": -1.0},
        )
        vec = grid.create_scalar()
        grid.view(vec)[...] = found
        results.append(grid.gather(vec))
        forward.destroy()
    assert np.abs(results[1]).max() > 0.1
    np.testing.assert_allclose(results[0], results[1], rtol=1e-8, atol=1e-10)


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.parametrize("recipe", ["geometric", "gamg", "direct"])
def test_advection_solves_its_transpose(recipe):
    options = PETSc.Options()
    options["state_recipe"] = recipe
    try:
        grid = Grid((24, 22), boundaries={"x-": "dirichlet", "y+": "dirichlet"})
        D = layered(grid)[grid.local_slice]
        _, forward, at = solve(
            grid, [Diffusion(grid), Advection(grid, (4.0, -3.0))], {"D": D}, grid.volume
        )
    finally:
        options.delValue("state_recipe")
    assert not forward.equation.symmetric
    b, x, r = grid.standard_normal(1), grid.create_scalar(), grid.create_scalar()
    (x_adjoint,) = forward.solve(
        at.blocks[0], at.states_at[0], grid.view(b)[None].copy(), True
    )
    grid.view(x)[...] = x_adjoint
    forward.part.matrices[0].mat.multTranspose(x, r)
    r.axpy(-1, b)
    assert r.norm() < 1e-9 * b.norm()
    forward.part.matrices[0].mat.mult(x, r)
    r.axpy(-1, b)
    assert r.norm() > 1e-2 * b.norm()


def test_advection_carries_the_boundary_value_downstream():
    grid = Grid((32,), boundaries={"x-": "dirichlet"})
    found, _, _ = solve(
        grid,
        [Diffusion(grid), Advection(grid, (5.0,)), Reaction(grid)],
        {"D": 1e-6, "c": 0.0},
        np.zeros(32),
        {"x-": 2.5},
    )
    np.testing.assert_allclose(found, 2.5, rtol=1e-8)


def test_a_singular_operator_and_missing_coefficients_are_refused():
    grid = Grid((4, 4))
    space = ParameterSpace(grid, [Unknown("D", "log")])
    seen = at_points(grid, (), np.array([[0.5, 0.5]]))
    with pytest.raises(InputError, match="boundaries"):
        Steady(
            space,
            Equation(grid, [Diffusion(grid)]),
            {},
            [Experiment(load=np.zeros((4, 4)))],
            [seen],
        )
    with pytest.raises(InputError, match="coefficients"):
        Steady(
            space,
            Equation(grid, [Diffusion(grid), Reaction(grid)]),
            {},
            [Experiment(load=np.zeros((4, 4)))],
            [seen],
        )


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.parametrize("text", ["sqrt(x - 0.5)", "1/(x - 0.0625)", "c*log(x - 0.5)"])
def test_a_source_that_is_not_finite_is_named(text):
    """1/(x - 0.0625) in the one cell with its middle there; the others in half of the cells."""
    grid = Grid((8,), boundaries={"x-": "dirichlet"})
    space = ParameterSpace(grid, [Unknown("D", "log"), Unknown("a", "log")])
    terms = [Diffusion(grid, "D"), Source(grid, ("u",), "u", text, field="terms[1]")]
    cells = 1 if text.startswith("1/") else 4
    message = f"not finite in {cells} active cells; allowed: finite values"
    with pytest.raises(InputError, match=rf"terms\[1\].shape: got .*{message}"):
        Steady(space, Equation(grid, [*terms, Reaction(grid, "a")]), {"c": 1.0}, [])


def test_a_source_that_a_trial_point_makes_infinite_is_a_rejected_step():
    grid = Grid((8,), boundaries={"x-": "dirichlet"})
    space = ParameterSpace(grid, [Unknown("D", "log"), Unknown("a", "identity")])
    source = Source(grid, ("u",), "u", "sqrt(a - x)", field="terms[1]")
    equation = Equation(grid, [Diffusion(grid, "D"), source])
    forward = Steady(space, equation, {}, [Experiment()])
    m = space.from_values({"D": 1.0, "a": 0.5})
    with pytest.raises(SolverError, match=r"terms\[1\].shape is .* in 4 active cells"):
        forward.linearize(m)

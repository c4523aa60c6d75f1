"""Products with the Hessian by matrices are those by the terms' own derivatives."""

import numpy as np
import pytest
from petsc4py import PETSc

from npde_opt.errors import SolverError
from npde_opt.forward import Equation, Experiment, Steady
from npde_opt.grids import Boundary, Grid
from npde_opt.misfits import LeastSquares
from npde_opt.objective import Objective
from npde_opt.observations import at_points
from npde_opt.parameters import Field, ParameterSpace, Regions, Unknown
from npde_opt.terms import Advection, Diffusion, Reaction, Source, TensorDiffusion
from npde_opt.verify import taylor_test

HELD = {"x-": "dirichlet", "y+": Boundary("robin", 2.0)}
ROUND = {"x-": "periodic", "x+": "periodic", "y-": "dirichlet"}
ROUNDING = 1e-12


@pytest.fixture(autouse=True)
def tight():
    options = PETSc.Options()
    options["state_ksp_rtol"] = "1e-14"
    yield
    options.delValue("state_ksp_rtol")


def holes(shape):
    active = np.ones(shape, bool)
    active[2:4, 3:6] = False
    active[-1, 0] = False
    return active


CASES = {
    "plain": {},
    "periodic": {"sides": ROUND},
    "masked": {"masked": True},
    "line": {"shape": (17,), "sides": {"x-": "dirichlet", "x+": Boundary("robin", 3)}},
    "box": {"shape": (6, 5, 7), "sides": {"x-": "dirichlet", "z+": "dirichlet"}},
    "by axis": {"names": ("Dx", "Dy"), "unknowns": ("Dx", "Dy")},
    "one axis": {"names": ("Dx", "Dy"), "unknowns": ("Dy",)},
    "reaction": {"unknowns": ("D", "c")},
    "reaction alone": {"unknowns": ("c",)},
    "regions": {"regions": True},
    "fixed": {"fixed": True},
    "quantity": {"quantity": "u**2 / (1 + u)"},
    "identity": {"transform": "identity"},
}
"""Of which derivatives are matrices."""
PLAIN = (
    "plain",
    "periodic",
    "line",
    "box",
    "identity",
    "one axis",
    "reaction alone",
)
"""Of these, where nothing stands between a product's vectors and the parameters'."""


def made(
    shape=(12, 9),
    sides=HELD,
    masked=False,
    names="D",
    unknowns=("D",),
    regions=False,
    fixed=False,
    quantity="u",
    transform="log",
    extra=(),
    sources=(),
    experiments=1,
):
    """An objective, a point and a direction, the same on any number of ranks."""
    edges = [np.linspace(0, 1, n + 1) ** (1 + 0.2 * d) for d, n in enumerate(shape)]
    active = holes(shape) if masked else None
    grid = Grid(shape, edges=edges, boundaries=sides, active=active)
    numbers = np.arange(np.prod(shape)).reshape(shape)
    kept = np.where(numbers % 7 == 0, 0.9, np.nan)
    block = Regions(numbers % 5) if regions else Field(fixed=kept if fixed else None)
    space = ParameterSpace(grid, [Unknown(u, transform, block=block) for u in unknowns])
    names = names if len(shape) == 2 or names == "D" else "D"
    terms = [Diffusion(grid, names), Reaction(grid, "c")]
    terms += [term(grid) for term in extra]
    known = {n: 1.2 for n in ("D", "Dx", "Dy", "c", "a", "s") if n not in unknowns}
    driven = [
        Experiment(
            load=(1 + e) * np.ones(grid.local_shape) * grid.volume,
            boundary={"y+": 0.4} if "y+" in sides else {},
            sources=[source(grid) for source in sources],
        )
        for e in range(experiments)
    ]
    xy = np.random.default_rng(4).uniform(0.1, 0.9, (20, len(shape)))
    seen = [at_points(grid, (), xy, quantity=quantity, nearest=True)]
    forward = Steady(space, Equation(grid, terms), known, driven, seen)
    data = np.zeros((20, experiments))
    J = Objective(forward, [LeastSquares(data, 0.1, forward.layouts[0])], {})
    return J, vector(space, 1), vector(space, 2)


def vector(space, seed):
    vec = space.create_vec()
    for number, u in enumerate(space.unknowns):
        drawn = np.random.default_rng(10 * seed + number)
        own = space.own(vec, u.name)
        if u.block.listed:
            own[...] = 0.3 + 0.2 * drawn.random(u.block.count)[: own.size]
        else:
            values = 0.3 + 0.2 * drawn.random(space.grid.shape)
            own[...] = np.where(
                space.free(u.name), values[space.grid.local_slice], 0.1 * (seed == 1)
            )
    return vec


def product(J, m, dm, gauss_newton):
    at, out = J.linearize(m), dm.duplicate()
    at.data_hessian(dm, out, gauss_newton)
    at.destroy()
    return out


def both(J, m, dm, gauss_newton):
    """The product by matrices, and by the terms."""
    found = product(J, m, dm, gauss_newton)
    kept, J.forward.matrices = J.forward.matrices, None
    plain = product(J, m, dm, gauss_newton)
    J.forward.matrices = kept
    return found, plain


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.parametrize("gauss_newton", [True, False])
@pytest.mark.parametrize("case", list(CASES))
def test_products_are_those_of_the_terms(case, gauss_newton):
    J, m, dm = made(**CASES[case])
    assert J.forward.matrices is not None
    found, plain = both(J, m, dm, gauss_newton)
    assert plain.norm() > 0
    found.axpy(-1.0, plain)
    assert found.norm() <= ROUNDING * plain.norm()
    # At another point: all is taken anew.
    m.scale(1.3)
    found, plain = both(J, m, dm, gauss_newton)
    found.axpy(-1.0, plain)
    assert found.norm() <= ROUNDING * plain.norm()
    J.destroy()


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.parametrize("gauss_newton", [True, False])
@pytest.mark.parametrize("case", list(CASES))
def test_products_of_few_calls_are_those_of_many(case, gauss_newton):
    """Whatever stands in `out` before, to which they are added."""
    J, m, dm = made(**CASES[case])
    assert (J.forward.plain is not None) == (case in PLAIN)
    at, found = J.linearize(m), []
    metrics, adjoints = at.metrics, None if gauss_newton else at.adjoints
    for kept in (J.forward.plain, None):
        J.forward.plain, out = kept, vector(J.space, 5)
        at.linearization.hessian(dm, metrics, out, adjoints)
        found.append(out)
    size = found[1].norm()
    found[0].axpy(-1.0, found[1])
    assert found[0].norm() <= ROUNDING * size
    at.destroy()
    J.destroy()


def test_a_product_that_is_not_finite_is_an_error():
    J, m, dm = made()
    at, out = J.linearize(m), dm.duplicate()
    dm.set(np.inf)
    with pytest.raises(SolverError, match="not finite"):
        at.data_hessian(dm, out, True)
    at.destroy()
    J.destroy()


def test_columns_and_parts_of_experiments_take_other_ways():
    J, m, dm = made(experiments=2)
    assert J.forward.plain is None
    J.destroy()
    J, m, dm = made()
    whole, part = (product(j, m, dm, False) for j in (J, J.over([0])))
    part.axpy(-1.0, whole)
    assert part.norm() <= ROUNDING * whole.norm()
    J.destroy()


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.parametrize("case", ["plain", "by axis", "reaction", "quantity", "box"])
def test_products_are_slopes_of_the_gradient(case):
    J, m, dm = made(**CASES[case])
    orders = taylor_test(J, m, dm)
    assert orders.problems() == [], orders
    J.destroy()


@pytest.mark.parallel([1, 2, 3])
def test_products_are_symmetric():
    J, m, v = made()
    w = vector(J.space, 3)
    Hv, Hw = product(J, m, v, False), product(J, m, w, False)
    assert w.dot(Hv) == pytest.approx(v.dot(Hw), rel=1e-11)
    J.destroy()


@pytest.mark.parallel([1, 2])
def test_two_points_in_turn_and_kinds_in_turn():
    J, m, dm = made()
    other = m.copy()
    other.scale(1.5)
    first, second, out = J.linearize(m), J.linearize(other), dm.duplicate()
    for at, where in ((first, m), (second, other), (first, m)):
        for gauss_newton in (True, False, True):
            at.data_hessian(dm, out, gauss_newton)
            _, plain = both(J, where, dm, gauss_newton)
            out.axpy(-1.0, plain)
            assert out.norm() <= ROUNDING * plain.norm()
    first.destroy()
    second.destroy()
    J.destroy()


def test_a_solve_is_counted_as_one():
    J, m, dm = made()
    at, out = J.linearize(m), dm.duplicate()
    at.gradient()
    before = J.counters.snapshot()
    at.data_hessian(dm, out, False)
    after = J.counters.snapshot()
    for kind in ("forward_solves", "adjoint_solves"):
        assert after[kind] - before[kind] == 1
    J.destroy()


OTHERS = {
    "advection": {"extra": [lambda g: Advection(g, (2.0, -1.0))]},
    "source": {"sources": [lambda g: Source(g, ("u",), "u", "D*x")]},
    "large": {"shape": (96, 96)},
}
"""Whose derivatives are those of the terms."""


@pytest.mark.parametrize("case", list(OTHERS))
def test_what_matrices_do_not_know_goes_by_terms(case):
    J, _, _ = made(**OTHERS[case])
    assert J.forward.matrices is None
    J.destroy()


LATE = {
    "text": {"extra": [lambda g: Reaction(g, "a**2")], "unknowns": ("D", "a")},
    "tensor": {
        "extra": [lambda g: TensorDiffusion(g, [["a", 0.0], [0.0, "s"]])],
        "unknowns": ("D", "a"),
        "sides": {"x-": "dirichlet"},
    },
    "columns": {"experiments": 2},
}
"""Which is seen when a product is asked for."""


@pytest.mark.parallel([1, 2])
@pytest.mark.parametrize("case", list(LATE))
def test_terms_that_say_no_matrix_and_columns_go_by_terms(case):
    J, m, dm = made(**LATE[case])
    found, plain = both(J, m, dm, False)
    found.axpy(-1.0, plain)
    assert plain.norm() > 0 and found.norm() <= ROUNDING * plain.norm()
    J.destroy()

"""Checks of derivatives: right ones pass in every direction, wrong ones are caught in every
direction and named."""

import numpy as np
import pytest
from mpi4py import MPI
from petsc4py import PETSc

from npde_opt.differences import compare, noise, order
from npde_opt.ensemble import Ensemble
from npde_opt.forward import Equation, Evolution, Experiment, Steady, scheme
from npde_opt.forward.interface import Counters
from npde_opt.grids import Grid
from npde_opt.linear import factored
from npde_opt.linear.accuracy import TIGHT, tight
from npde_opt.misfits import LeastSquares, StudentT
from npde_opt.objective import Objective
from npde_opt.observations import at_points, voxels
from npde_opt.parameters import ParameterSpace, Shared, Unknown
from npde_opt.regularizers import REGULARIZERS
from npde_opt.regularizers.small import SmallPrior
from npde_opt.runs.verification import check_derivatives, direction
from npde_opt.terms import Diffusion, Kinetics, Reaction
from npde_opt.verify import WIDE, dot_product_test, manufactured_order, taylor_test

FACTORS = (0.5, 0.8, 0.9, 1.1, 1.2, 2.0)
SHAPE = (9, 8)


class Line:
    """J = curvature/2 x^2 + slope x on one number, with a gradient and Hessian wrong by factors."""

    def __init__(
        self, slope=1.0, curvature=50.0, gradient=1.0, hessian=1.0, undefined=None
    ):
        self.slope, self.curvature, self.factors, self.undefined = (
            slope,
            curvature,
            (gradient, hessian),
            undefined,
        )
        self.counters, self.points = Counters(), []

    def linearize(self, x):
        return LineAt(self, float(x[0]))


class LineAt:
    def __init__(self, line, x):
        self.line, self.x = line, x
        line.points.append(x)
        self.value = line.curvature / 2 * x**2 + line.slope * x
        if line.undefined is not None and line.undefined(x):
            self.value = np.nan

    def _vec(self, value):
        vec = PETSc.Vec().createSeq(1, comm=MPI.COMM_SELF)
        vec.set(value)
        return vec

    def gradient(self):
        return self._vec(
            self.line.factors[0] * (self.line.curvature * self.x + self.line.slope)
        )

    def hessian(self, dm, out):
        dm.copy(out)
        out.scale(self.line.factors[1] * self.line.curvature)

    def destroy(self):
        pass


def along(line, x=0.0, dx=1.0):
    m, dm = (PETSc.Vec().createSeq(1, comm=MPI.COMM_SELF) for _ in range(2))
    m.set(x)
    dm.set(dx)
    return taylor_test(line, m, dm)


@pytest.mark.parametrize("dx", [1.0, -1.0, 1e-2, 1e4])
@pytest.mark.parametrize("x", [0.0, -0.019, 3.0])
def test_slope_and_curvature_of_opposite_sign_hide_nothing(x, dx):
    right = along(Line(), x, dx)
    assert right.first == pytest.approx(2, abs=0.05) and right.problems() == []
    for factor in FACTORS:
        wrong = along(Line(gradient=factor), x, dx)
        assert wrong.first == pytest.approx(1, abs=0.1) and any(
            "gradient" in p for p in wrong.problems()
        )
        wrong = along(Line(hessian=factor), x, dx)
        assert wrong.second == pytest.approx(2, abs=0.1) and any(
            "Hessian" in p for p in wrong.problems()
        )


def test_what_depends_on_nothing_or_is_not_finite_is_no_pass():
    assert along(Line(0.0, 0.0)).problems() == ["nothing depends on it"]
    assert along(Line(undefined=lambda x: True)).problems()
    assert along(Line(undefined=lambda x: 0 < abs(x) < 1e-3)).problems()
    assert (
        along(Line(undefined=lambda x: abs(x) > 1e-3)).problems() == []
    )  # steps that are too long are passed over
    assert (
        along(Line(slope=np.nan)).problems() and along(Line(gradient=np.inf)).problems()
    )


def test_a_gradient_where_there_is_none_is_wrong():
    class Constant(Line):
        def linearize(self, x):
            at = super().linearize(x)
            at.value = 1.0
            return at

    assert any("gradient" in p for p in along(Constant()).problems())


class Rough(Line):
    """The line with an offset, and with noise of the value's and the gradient's own size times a
    factor."""

    def __init__(self, offset=0.0, value_noise=0.0, gradient_noise=0.0, **line):
        super().__init__(**line)
        self.offset, self.noises, self.rng = (
            offset,
            (value_noise, gradient_noise),
            np.random.default_rng(0),
        )

    def linearize(self, x):
        at = super().linearize(x)
        at.value = (at.value + self.offset) * (
            1 + self.noises[0] * self.rng.standard_normal()
        )
        gradient, noise = at.gradient, self.noises[1] * self.rng.standard_normal()

        def rough():
            g = gradient()
            g.scale(1 + noise)
            return g

        at.gradient = rough
        return at


HIDDEN = [
    {"offset": 1e12},
    {"offset": 1e17},
    {"offset": 1.0, "value_noise": 1e-2},
    {"offset": 1.0, "value_noise": 0.3},
]


@pytest.mark.parametrize("rough", HIDDEN)
@pytest.mark.parametrize("factor", [1.0, *FACTORS])
def test_a_gradient_that_rounding_hides_does_not_pass(rough, factor):
    problems = along(
        Rough(slope=1.0, curvature=1.0, gradient=factor, hessian=factor, **rough), 0.3
    ).problems()
    assert any(
        "gradient (cannot be told" in p or "gradient (differs" in p for p in problems
    ), problems


@pytest.mark.parametrize("factor", FACTORS)
def test_a_hessian_that_noise_hides_does_not_pass(factor):
    for size in (1e-2, 0.3):
        rough = Rough(gradient_noise=size, slope=30.0, curvature=1.0, hessian=factor)
        assert any("Hessian" in p for p in along(rough, 0.3).problems())


@pytest.mark.parametrize("offset", [0.0, 1.0, 1e6])
def test_gradient_and_hessian_wrong_by_one_factor_are_caught_where_the_gradient_is_0(
    offset,
):
    assert along(Rough(offset, slope=0.0)).problems() == []
    for factor in FACTORS:
        problems = along(
            Rough(offset, slope=0.0, gradient=factor, hessian=factor)
        ).problems()
        assert any("Hessian along the direction" in p for p in problems), problems


def test_orders_come_from_the_smallest_steps_above_rounding():
    """a e + b e^2 + rounding: 1 where the gradient is wrong by a, 2 where it is right, at whatever
    scale and sign."""
    e = np.array(WIDE)
    for scale in (1.0, 1e2):
        for a in (0.0, 0.01, -0.01, 0.3, -0.3):
            remainders = np.abs(
                a * scale * e
                + (scale * e) ** 2 / (1 + scale * e)
                + 1e-13 * np.cos(1e9 * e)
            )
            assert order(e, remainders, 1e-12) == pytest.approx(1 if a else 2, abs=0.15)
    assert order(e, [1e-15] * 8, 1e-12) == np.inf
    assert np.isnan(order(e, [1.0, np.nan] * 4, 1e-12)) and np.isnan(
        order(e, [1.0, np.inf] * 4, 1e-12)
    )


def test_central_differences_know_their_error():
    e, rng = np.array([4e-2 * 4.0**-k for k in range(10)]), np.random.default_rng(0)
    for size in (0.0, 1e-12, 1e-9):
        plus, minus = (
            np.exp(s * e) + size * rng.standard_normal(e.size) for s in (1, -1)
        )
        floor = noise(e, 1.0, plus, minus) + 1e-16 * plus
        found = compare(e, 1.0, plus, minus, floor)
        assert found.difference <= 3 * found.uncertainty < 1e-5 and found.resolved


def test_manufactured_order_is_that_of_the_last_two():
    assert manufactured_order(lambda n: 3.0 / n**2, [8, 16, 32]) == pytest.approx(2)
    assert np.isnan(manufactured_order(lambda n: np.nan, [8, 16]))


def steady(small=1.0, ensemble=None):
    """Two unknowns, D with a total variation and c of which the objective hardly knows, two
    experiments."""
    comm = ensemble.space if ensemble else MPI.COMM_WORLD
    grid = Grid(SHAPE, boundaries={"x-": "dirichlet", "x+": "dirichlet"}, comm=comm)
    space = ParameterSpace(grid, [Unknown("D", "log"), Unknown("c", "log")])
    seen = at_points(grid, (), np.random.default_rng(1).random((12, 2)))
    own = ensemble.own(2) if ensemble else range(2)
    x, y = grid.coordinates()
    sources = [np.sin(3 * x) * grid.volume, np.cos(2 * y) * grid.volume]
    equation = Equation(grid, [Diffusion(grid), Reaction(grid, "c")])
    forward = Steady(
        space, equation, {}, [Experiment(load=sources[e]) for e in own], [seen]
    )
    observed = np.stack(
        [np.random.default_rng(e).standard_normal(12) for e in own], axis=1
    )
    misfits = [StudentT(observed, 0.3, forward.layouts[0])]
    regularizers = {
        "D": REGULARIZERS["total-variation"](grid, 1e-4, epsilon=1e-2),
        "c": REGULARIZERS["gradient"](grid, 1e-6),
    }
    J = Objective(forward, misfits, regularizers, ensemble)
    m = space.from_values({"D": 1.0, "c": 1e-3 * small})
    return J, m


def evolution(complex_=False):
    grid = Grid(SHAPE, boundaries={"x-": "dirichlet"})
    x, y = grid.coordinates()
    start = np.sin(2 * x) * np.cos(y) * np.ones(grid.local_shape)
    if complex_:
        unknowns, species, gamma = [Unknown("V", "identity")], ("re", "im"), 1j
        equation = Equation(
            grid, [Diffusion(grid, "one"), Reaction(grid, "V")], species, gamma
        )
        known, method, trial = {"one": 1.0}, "crank-nicolson", Experiment({"re": start})
        values = {"V": 1.0 + 0.3 * x * np.ones(grid.local_shape)}
    else:
        unknowns, species = (
            [Unknown("D", "log"), Unknown("r", "log", block=Shared())],
            ("u",),
        )
        equation = Equation(
            grid, [Diffusion(grid), Kinetics(grid, species, "fisher-kpp")], species
        )
        known, method, trial = (
            {"K": 2.0},
            "backward-euler",
            Experiment({"u": 0.5 + 0.3 * start}),
        )
        values = {"D": 0.05, "r": 1e-2}
    space = ParameterSpace(grid, unknowns)
    times = np.linspace(0, 0.2, 5)
    sampling = voxels(
        grid, times[[2, 4]], list(grid.edges), "re**2 + im**2" if complex_ else "u"
    )
    forward = Evolution(
        space, equation, known, [trial], [sampling], scheme(method), times
    )
    (layout,) = forward.layouts
    y = np.random.default_rng(3).standard_normal(layout.size)
    regularizers = (
        {"V": REGULARIZERS["bilaplacian"](grid, 1e-3, gamma=0.1, delta=1.0)}
        if complex_
        else {
            "D": REGULARIZERS["total-variation"](grid, 1e-3),
            "r": SmallPrior(grid.comm, 1, deviation=3.0),
        }
    )
    return Objective(
        forward, [LeastSquares(y, 0.5, layout)], regularizers
    ), space.from_values(values)


CASES = {"steady": steady, "evolution": evolution, "complex": lambda: evolution(True)}


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.parametrize("kind", list(CASES))
def test_right_derivatives_pass_and_every_part_is_named(kind):
    J, m = CASES[kind]()
    found = {check.name: check for check in check_derivatives(J, m)}
    assert [c for c in found.values() if c.problems] == []
    for name in J.regularizers:
        assert f"regularizer of {name}" in found
    for u in J.space.unknowns:
        assert {f"unknown {u.name}", f"adjoint for {u.name}"} <= set(found)
    J.destroy()


class Wrong:
    """An objective whose gradient, or Hessian, is wrong in one block."""

    def __init__(self, J, name, gradient=1.0, hessian=1.0):
        self.J, self.name, self.factors = J, name, (gradient, hessian)
        self.space, self.counters, self.ensemble = J.space, J.counters, J.ensemble

    def linearize(self, m):
        return WrongAt(self, self.J.linearize(m))

    def scale(self, vec, factor):
        part = self.space.block_vec(vec, self.name)
        part.scale(factor - 1)
        self.space.add_block(vec, self.name, part)
        part.destroy()


class WrongAt:
    def __init__(self, wrong, at):
        self.wrong, self.at, self.destroy = wrong, at, at.destroy

    @property
    def value(self):
        return self.at.value

    def gradient(self):
        out = self.at.gradient().copy()
        self.wrong.scale(out, self.wrong.factors[0])
        return out

    def hessian(self, dm, out):
        self.at.hessian(dm, out)
        self.wrong.scale(out, self.wrong.factors[1])


@pytest.mark.parametrize(
    "kind, name",
    [
        ("steady", "D"),
        ("steady", "c"),
        ("evolution", "D"),
        ("evolution", "r"),
        ("complex", "V"),
    ],
)
def test_a_wrong_block_is_caught_in_six_of_six_directions(kind, name):
    J, m = CASES[kind]()
    for u in (
        J.space.unknowns
    ):  # a direction in all blocks at once: the others must not hide it
        shift = direction(J, m, u, 50)
        m.axpy(0.01, shift)
    for seed in range(len(FACTORS)):
        whole = J.create_vec()
        for u in J.space.unknowns:
            whole.axpy(1.0, direction(J, m, u, seed))
        dm = direction(J, m, J.space.unknown(name), seed)
        factor = FACTORS[seed]
        assert taylor_test(J, m, dm).problems() == []
        orders = taylor_test(Wrong(J, name, gradient=factor), m, dm)
        assert any("gradient (differs" in p for p in orders.problems()), orders
        problems = taylor_test(Wrong(J, name, hessian=factor), m, dm).problems()
        assert any(f"Hessian row {name}" in p for p in problems), problems
        if seed < 2:
            assert any(
                "gradient" in p
                for p in taylor_test(
                    Wrong(J, name, gradient=factor), m, whole
                ).problems()
            )
    J.destroy()


@pytest.mark.parallel([1, 2])
@pytest.mark.parametrize("part", ["gradient", "hessian"])
@pytest.mark.parametrize("name", ["D", "c"])
def test_a_wrong_regularizer_is_named_however_small_its_part(name, part, monkeypatch):
    J, m = steady()
    R = J.regularizers[name]
    R.alpha *= 1e-9
    good = getattr(R, part)

    def wrong(*args):
        good(*args)
        args[-1].scale(1.1)

    monkeypatch.setattr(R, part, wrong)
    bad = [c.name for c in check_derivatives(J, m) if c.problems]
    assert f"regularizer of {name}" in bad
    J.destroy()


@pytest.mark.parallel([1, 2])
@pytest.mark.parametrize("factor", [*FACTORS, -1.0, 1e6, np.nan])
def test_wrong_gauss_newton_weights_are_caught(factor, monkeypatch):
    J, m = steady()
    good = StudentT.gauss_newton_metric

    def wrong(self, d):
        weights = good(self, d)
        weights.weights *= factor
        return weights

    monkeypatch.setattr(
        J.misfits[0], "gauss_newton_metric", wrong.__get__(J.misfits[0])
    )
    found = [c for c in check_derivatives(J, m) if c.name.startswith("misfit")]
    assert any("Gauss-Newton weights" in p for p in found[0].problems), found
    J.destroy()


@pytest.mark.parallel([1, 2])
@pytest.mark.parametrize("factor", FACTORS)
def test_a_wrong_adjoint_is_caught(factor):
    J, m = steady()
    at = J.linearize(m)
    lin = at.linearization
    good = lin.apply_adjoint
    lin.apply_adjoint = lambda d, adjoints=None: good(d) * factor
    for seed in range(len(FACTORS)):
        dm = direction(J, m, J.space.unknown("c"), seed)
        d = lin.apply(dm)
        assert dot_product_test(lin, dm, d) > 0.05
    at.destroy()
    J.destroy()


@pytest.mark.parallel(2)
def test_groups_of_experiments_are_verified_together():
    J, m = steady(ensemble=Ensemble.split(MPI.COMM_WORLD, 2, 2))
    checks = list(check_derivatives(J, m))
    assert [c for c in checks if c.problems] == [] and any(
        "misfit of 2 experiments" in c.name for c in checks
    )


@pytest.mark.parallel([1, 2])
def test_solves_are_tight_inside_and_as_they_were_after(monkeypatch):
    monkeypatch.setattr(factored, "SHARE", 0)
    options = PETSc.Options()
    for name, value in (("ksp_type", "cg"), ("pc_type", "jacobi")):
        options[f"state_{name}"] = value  # factors have no tolerance
    J, m = steady()
    solver = J.forward.system.solver

    def tolerance():
        at = J.linearize(m)
        assert np.isfinite(at.value)
        at.destroy()
        return solver.ksp.getTolerances()[0]

    before = tolerance()
    with tight():
        assert tolerance() == TIGHT < before
    assert tolerance() == before
    options["state_ksp_rtol"] = "1e-5"
    with tight():
        assert tolerance() == before  # the user's own is kept
    for name in ("ksp_rtol", "ksp_type", "pc_type"):
        options.delValue(f"state_{name}")
    J.destroy()

"""Nested iteration: the hierarchy of grids, and parameters carried to the next grid."""

import functools
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from npde_opt import nested
from npde_opt.forward import Equation, Experiment, Steady
from npde_opt.grids import Grid
from npde_opt.misfits import LeastSquares
from npde_opt.nested import Identification, Prolongation, grids, identify
from npde_opt.objective import Objective
from npde_opt.observations import at_points
from npde_opt.optimizers import Settings, spectrum
from npde_opt.optimizers.conjugate_gradients import Direction
from npde_opt.optimizers.spectrum import Spectrum, learn
from npde_opt.parameters import Field, ParameterSpace, Regions, Shared, Unknown
from npde_opt.regularizers import BiLaplacian, Gradient, TotalVariation
from npde_opt.terms import Diffusion


@pytest.mark.parallel([1, 2])
def test_grids_are_coarsest_first():
    finest = Grid((64, 64))
    assert [g.shape for g in grids(finest, 1)] == [(64, 64)]
    assert [tuple(g.shape) for g in grids(finest, 2)] == [(32, 32), (64, 64)]
    found = grids(finest)
    assert found[-1] is finest and len(found) > 2
    assert all(
        2 * a.shape[0] == b.shape[0] for a, b in zip(found, found[1:], strict=False)
    )


def spaces(transform="log"):
    active = np.ones((33, 36), bool)
    active[20:, 25:] = False
    finest = Grid((33, 36), active=active)
    made = []
    for grid in grids(finest, 2):
        regions = np.zeros(grid.shape, int)
        regions[grid.shape[0] // 2 :] = 1
        made.append(
            ParameterSpace(
                grid,
                [Unknown("D", transform), Unknown("c", "log", block=Regions(regions))],
            )
        )
    return made


@pytest.mark.parallel([1, 2])
@pytest.mark.parametrize("transform", ["identity", "log"])
def test_prolonged_parameters_keep_a_constant(transform):
    coarse, fine = spaces(transform)
    m = coarse.from_values(
        {"D": np.full(coarse.grid.local_shape, 3.0), "c": [2.0, 5.0]}
    )
    given = fine.from_values(
        {"D": np.full(fine.grid.local_shape, 1.0), "c": [1.0, 1.0]}
    )
    lift = Prolongation(coarse, fine)
    values = fine.at(lift.start(m, given)).coefficients()
    assert values["D"][fine.grid.active] == pytest.approx(3.0, rel=1e-12)
    np.testing.assert_allclose(fine.values(lift.apply(m), "c"), np.log([2.0, 5.0]))
    assert given.norm() == 0 if transform == "log" else given.norm() > 0
    lift.destroy()


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.parametrize("transform", ["identity", "log"])
def test_restriction_is_the_transpose_of_prolongation(transform):
    coarse, fine = spaces(transform)
    x, y = coarse.standard_normal(1), fine.standard_normal(2)
    lift = Prolongation(coarse, fine)
    left, right = lift.apply(x).dot(y), x.dot(lift.apply_transpose(y))
    assert left == pytest.approx(right, rel=1e-12) and abs(left) > 0
    lift.destroy()


SIDES = {"y-": "dirichlet", "y+": "dirichlet"}
POINTS = np.random.default_rng(0).uniform(0.05, 0.95, (60, 2))


def forward_map(grid):
    space = ParameterSpace(grid, [Unknown("D", "log")])
    pushes = [
        Experiment(load=grid.volume * s, boundary={"y+": 1.0}) for s in (0.0, 1.0)
    ]
    return Steady(
        space,
        Equation(grid, [Diffusion(grid, "D")]),
        {},
        pushes,
        [at_points(grid, (), POINTS)],
    )


@functools.cache
def data():
    """Two experiments' values at 60 points with 1 % noise, computed on a finer grid."""
    forward = forward_map(Grid((96, 96), boundaries=SIDES))
    D = forward.grid.evaluate(lambda x, y: np.exp(np.sin(4 * x) * np.cos(3 * y)))
    lin = forward.linearize(forward.space.from_values({"D": D}))
    clean = lin.data[0].gather().T
    lin.destroy()
    noisy = [
        d + 0.01 * np.random.default_rng(k).standard_normal(60)
        for k, d in enumerate(clean)
    ]
    return np.stack(noisy, axis=1)


def problem(grid):
    forward = forward_map(grid)
    misfits = [LeastSquares(data(), 0.01, forward.layouts[0])]
    objective = Objective(
        forward, misfits, {"D": BiLaplacian(grid, 1.0, gamma=0.1, delta=0.5)}
    )
    return objective, objective.create_vec()


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.fewer(3, method=["newton"])
@pytest.mark.parametrize("method", ["newton", "gauss-newton"])
def test_what_is_learnt_on_a_coarse_grid_saves_cg_steps_on_the_finest(method):
    grid = Grid((64, 64), boundaries=SIDES)
    settings = Settings(method=method, gradient_rtol=1e-7)
    products, objectives = [], []
    for learnt in (100, 0):
        found = identify(grid, problem, replace(settings, learnt=learnt), 3)
        assert found.result.status == "converged"
        products.append(
            sum(r["inner_iterations"] for r in found.history if r["level"] == 2)
        )
        objectives.append(found.result.objective)
        found.objective.destroy()
    assert objectives[0] == pytest.approx(objectives[1], rel=1e-7)
    assert products[0] <= 0.5 * products[1]


def test_the_hessian_is_learnt_on_the_coarsest_grid_that_resolves_it():
    """Two levels below the finest at the latest."""
    found = {n: nested.learning(grids(Grid((n, n)))) for n in (32, 128, 512)}
    assert found == {32: range(1), 128: range(1, 2), 512: range(2, 4)}
    assert nested.learning([Grid((16, 16))]) == range(0)
    assert nested.learning(grids(Grid((128, 128, 128)))) == range(1, 2)


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.fewer(3, enough=[True])
@pytest.mark.parametrize("enough", [True, False])
def test_what_a_grid_does_not_resolve_is_learnt_again_on_the_next(monkeypatch, enough):
    monkeypatch.setitem(nested.FEWEST, 2, 1 << 8)
    monkeypatch.setattr(nested, "A_VECTOR", 1 if enough else 1000)
    sizes = []

    def noted(objective, *given):
        sizes.append(objective.space.grid.shape[0])
        return learn(objective, *given)

    monkeypatch.setattr(nested, "learn", noted)
    grid = Grid((128, 128), boundaries=SIDES)
    settings = Settings(gradient_rtol=1e-6)
    found = identify(grid, problem, settings, 4)
    assert sizes == ([16] if enough else [16, 32])
    plain = identify(grid, problem, replace(settings, learnt=0), 4)
    assert found.result.objective == pytest.approx(plain.result.objective, rel=1e-8)
    products = [
        sum(r["inner_iterations"] for r in each.history if r["level"] == 3)
        for each in (found, plain)
    ]
    assert products[0] <= 0.7 * products[1]
    for each in (found, plain):
        each.objective.destroy()


@pytest.mark.parallel([1, 2])
def test_a_spectrum_that_makes_the_preconditioner_indefinite_is_dropped(monkeypatch):
    """Where a regularization's preconditioner inverts something else than its Hessian, CG ended
    with an error."""
    fit = Spectrum.fit

    def too_much(self, at, gauss_newton):
        fit(self, at, gauss_newton)
        assert self.core is not None
        self.core *= 1e6

    monkeypatch.setattr(Spectrum, "fit", too_much)
    grid = Grid((32, 32), boundaries=SIDES)
    settings = Settings(method="newton", gradient_rtol=1e-7)
    objectives = []
    for learnt in (100, 0):
        found = identify(grid, problem, replace(settings, learnt=learnt), 2)
        assert found.result.status == "converged"
        objectives.append(found.result.objective)
        found.objective.destroy()
    assert objectives[0] == pytest.approx(objectives[1], rel=1e-7)


@pytest.fixture
def learnt():
    """A function that gives a spectrum of 24^2 cells, the point that it was learnt at, and a
    right-hand side."""
    owned = []

    def make():
        objective, m = problem(Grid((24, 24), boundaries=SIDES))
        noise = objective.space.standard_normal(0)
        spectrum = learn(objective, m, noise, 60, True)
        at = objective.linearize(m)
        owned.extend((spectrum, at, objective))
        return spectrum, at, noise

    yield make
    for item in owned:
        item.destroy()


@pytest.mark.parallel([1, 2])
def test_a_learnt_spectrum_is_that_of_the_hessian(learnt, monkeypatch):
    """All of H is learnt from as many products as there are data, so M^-1 H = 1 on the span of the
    data."""
    monkeypatch.setattr("npde_opt.optimizers.spectrum.LEFT", 1e-12)
    spectrum, at, noise = learnt()
    x, right, back, plain = (
        noise.duplicate(),
        noise.duplicate(),
        noise.duplicate(),
        noise.duplicate(),
    )
    at.precondition(noise, x)
    at.hessian(x, right, True)
    at.precondition(right, plain)
    plain.copy(back)
    spectrum.refine(right, back)
    for vec in (back, plain):
        vec.axpy(-1, x)
    assert back.norm() < 0.3 * x.norm() < 3 * plain.norm()


@pytest.mark.parallel([1, 2])
def test_a_learnt_spectrum_leaves_room_for_the_error_of_the_regularization_solves(
    learnt,
):
    """Along V, at least a ten-thousandth of R^-1 is left, however much the data weigh."""
    spectrum, at, noise = learnt()
    r, z = noise.duplicate(), noise.duplicate()
    for v in spectrum.vectors:
        at.regularization_hessian(v, r)
        at.precondition(r, z)
        plain = r.dot(z)
        spectrum.refine(r, z)
        assert r.dot(z) >= 0.9e-4 * plain


class Wrong:
    """An objective's point whose Hessian has grown since the spectrum was learnt."""

    def __init__(self, at):
        self.at = at
        self.regularization_hessian = at.regularization_hessian
        self.regularization_products = at.regularization_products

    def hessian(self, dm, out, gauss_newton):
        self.at.hessian(dm, out, gauss_newton)
        out.scale(5.0)


@pytest.mark.parallel([1, 2])
def test_a_spectrum_is_used_only_where_it_describes_the_hessian(learnt):
    spectrum, at, noise = learnt()
    spectrum.fit(at, True)
    assert spectrum.core is not None
    spectrum.fit(Wrong(at), True)
    assert spectrum.core is None
    z = noise.copy()
    spectrum.refine(noise, z)
    assert z.equal(noise)


class Stiffer:
    """An objective's point whose Hessian has grown along some vectors."""

    def __init__(self, at, vectors, times=3.0):
        self.at, self.images, self.times = at, [], times
        self.regularization_hessian = at.regularization_hessian
        self.regularization_products = at.regularization_products
        for v in vectors:
            self.images.append(v.duplicate())
            at.regularization_hessian(v, self.images[-1])

    def hessian(self, dm, out, gauss_newton):
        self.at.hessian(dm, out, gauss_newton)
        for image in self.images:
            out.axpy(self.times * image.dot(dm), image)


@pytest.mark.parallel([1, 2])
def test_the_part_of_a_spectrum_that_describes_the_hessian_is_used_and_restored(learnt):
    spectrum, at, noise = learnt()
    image, sizes = noise.duplicate(), []
    for v in spectrum.vectors:
        at.regularization_hessian(v, image)
        sizes.append(image.dot(v))
    order = np.argsort(-np.array(sizes))
    leading = sorted(order[: len(order) // 2].tolist())
    trailing = [spectrum.vectors[i] for i in order[len(order) // 2 :]]
    spectrum.fit(Stiffer(at, trailing, 9.0), True)
    assert spectrum.state["numbers"] == leading
    one, other = noise.copy(), noise.copy()
    spectrum.refine(noise, one)
    assert not one.equal(noise)
    restored = Spectrum(spectrum.vectors)
    restored.restore(spectrum.state)
    restored.refine(noise, other)
    assert other.equal(one)


@pytest.mark.parallel([1, 2])
def test_vectors_that_are_kept_on_a_fine_grid_do_what_lifted_ones_do(
    learnt, monkeypatch
):
    """All of them, and the half that describes the Hessian there."""
    spectrum, at, _ = learnt()
    finer, m = problem(Grid((48, 48), boundaries=SIDES))
    fine, lift = finer.linearize(m), Prolongation(at.objective.space, finer.space)
    r, found = finer.space.standard_normal(1), []
    for most in (1 << 20, 0):
        monkeypatch.setattr("npde_opt.optimizers.spectrum.AT_ONCE", most)
        lifted = spectrum.lifted(lift)
        assert lifted._keeps(r) == (most > 0)
        lifted.fit(fine, True)
        assert len(lifted.used) == len(spectrum.vectors)
        half = list(range(len(lifted.vectors) // 2))
        for numbers, core in ((None, None), (half, np.eye(len(half)))):
            if numbers is not None:
                lifted._use(numbers, core)
            z = r.copy()
            found.append((lifted.refine(r, z), z.getArray().copy()))
            z.destroy()
    for (lost, kept), (wanted, by_lifts) in zip(found[:2], found[2:], strict=True):
        assert lost == pytest.approx(wanted, rel=1e-10)
        np.testing.assert_allclose(kept, by_lifts, rtol=1e-9, atol=1e-11)
    for owned in (r, m, lift, fine, finer):
        owned.destroy()


@pytest.mark.parallel([1, 2])
def test_what_is_learnt_of_few_vectors_at_once_is_that_of_one_after_the_other(learnt):
    """The forms of CG's directions, up to what is left of their cancelling terms."""
    _, at, noise = learnt()
    rng, directions = np.random.default_rng(1), []
    for _ in range(4):
        p, hp, solved = (noise.duplicate() for _ in range(3))
        p.setArray(rng.standard_normal(p.getLocalSize()))
        at.hessian(p, hp, True)
        at.precondition(hp, solved)
        directions.append(Direction(p, hp, solved, p.dot(hp)))
    images = [d.solved.copy() for d in directions]
    for image, direction in zip(images, directions, strict=True):
        image.axpy(-1.0, direction.p)
    plain = spectrum._forms(at, directions, images)
    found = spectrum._forms_at_once(at, directions, images)
    for one, other in zip(found, plain, strict=True):
        size = np.abs(np.diag(plain[0])).max()
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-11 * size)


REGULARIZERS = {
    "gradient": lambda grid: Gradient(grid, 2.0),
    "bilaplacian": lambda grid: BiLaplacian(grid, 2.0, gamma=0.1, delta=0.5),
    "of a variance": lambda grid: BiLaplacian(
        grid, 2.0, correlation_length=0.3, variance=0.5
    ),
    "total variation": lambda grid: TotalVariation(grid, 2.0, epsilon=0.1),
}


def two_unknowns(shape, name, masked, fixed):
    """An objective of a field with a regularizer and of two numbers without one."""
    nx, ny = shape
    active = np.ones(shape, bool)
    active[2 * nx // 5 :, 2 * ny // 3 :] = not masked
    grid = Grid(shape, boundaries=SIDES, active=active)
    known = np.where(np.arange(nx * ny).reshape(shape) % 7 == 0, 0.9, np.nan)
    unknowns = [Unknown("D", "log", block=Field(fixed=known if fixed else None))]
    unknowns.append(Unknown("c", "log", block=Shared(2)))
    space = ParameterSpace(grid, unknowns)
    forward = Steady(
        space,
        Equation(grid, [Diffusion(grid, "D")]),
        {},
        [Experiment(load=grid.volume)],
        [at_points(grid, (), POINTS, nearest=True)],
    )
    misfits = [LeastSquares(np.zeros(60), 0.01, forward.layouts[0])]
    return Objective(forward, misfits, {"D": REGULARIZERS[name](grid)})


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.parametrize("name", list(REGULARIZERS))
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("fixed", [False, True])
def test_regularizers_know_products_with_many_vectors_at_once(name, masked, fixed):
    """With an unknown beside it that has no regularizer."""
    J = two_unknowns((10, 9), name, masked, fixed)
    at = J.linearize(J.space.standard_normal(3))
    drawn = [J.space.standard_normal(seed) for seed in range(5)]
    rows = np.stack([v.getArray() for v in drawn])
    product = drawn[0].duplicate()
    for some in (rows, rows[:2]):
        found = np.empty(some.shape)
        at.regularization_products(some, found)
        for v, image in zip(drawn, found, strict=False):
            at.regularization_hessian(v, product)
            wanted = product.getArray()
            np.testing.assert_allclose(image, wanted, rtol=1e-11, atol=1e-12)
    at.destroy()
    J.destroy()


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.parametrize("name", list(REGULARIZERS))
@pytest.mark.parametrize("masked", [False, True])
def test_energies_of_vectors_lifted_at_once_are_those_one_by_one(
    name, masked, monkeypatch
):
    """Of all vectors, of some at a time, of one; no more values than are allowed."""
    made = [two_unknowns((n, n), name, masked, False) for n in (10, 20, 40)]
    spaces = [J.space for J in made]
    lifts = [Prolongation(a, b) for a, b in zip(spaces, spaces[1:], strict=False)]
    vectors = [spaces[0].standard_normal(seed) for seed in range(7)]
    at = made[-1].linearize(spaces[-1].standard_normal(3))
    lifted = [lifts[1].apply(lifts[0].apply(v)) for v in vectors]
    product, wanted = lifted[0].duplicate(), np.empty((7, 7))
    for column, fine in zip(wanted.T, lifted, strict=True):
        at.regularization_hessian(fine, product)
        column[:] = [product.dot(v) for v in lifted]
    sizes, size = [], product.getSize()
    products = at.regularization_products

    def noted(rows, found):
        sizes.append(len(rows))
        products(rows, found)

    monkeypatch.setattr(at, "regularization_products", noted)
    for most, expected in ((7, [7]), (3, [3, 3, 1]), (0, [1] * 7)):
        at_once = -(-most * size // product.getComm().getSize())
        monkeypatch.setattr("npde_opt.optimizers.spectrum.AT_ONCE", at_once)
        sizes.clear()
        found = Spectrum(vectors, lifts)._energies(at)
        np.testing.assert_allclose(found, wanted, atol=1e-12 * np.abs(wanted).max())
        assert sizes == expected
    for owned in (at, *lifts, *made):
        owned.destroy()


@pytest.mark.parametrize("matrix", [np.full((2, 2), np.nan), np.diag([1.0, np.inf])])
def test_forms_that_are_not_finite_are_refused(matrix):
    with pytest.raises(ValueError, match="infs or NaNs"):
        spectrum.core(matrix)


@pytest.mark.parallel([1, 2])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_spectrum_of_which_a_combination_is_off_is_used_whole(learnt, sign):
    """Whatever the sign with which that combination goes into the test of `fit`."""
    spectrum, at, noise = learnt()
    image, sizes = noise.duplicate(), []
    for v in spectrum.vectors:
        at.regularization_hessian(v, image)
        sizes.append(image.dot(v))
    first, second = np.argsort(sizes)[:2]
    spectrum.vectors[second].scale(sign)
    off = spectrum.vectors[first].copy()
    off.axpy(sign * sizes[first] / sizes[second], spectrum.vectors[second])
    spectrum.fit(Stiffer(at, [off]), True)
    assert len(spectrum.used) == len(spectrum.vectors)


@pytest.mark.parallel([1, 2])
def test_rounding_does_not_decide_on_the_signs_of_what_is_learnt(learnt):
    spectrum, _, noise = learnt()
    assert all(v.dot(noise) > 0 for v in spectrum.vectors)


@pytest.mark.parallel([1, 2, 3])
def test_what_was_found_is_given_as_numpy_arrays():
    """Fields whole on rank 0, numbers on every rank."""
    grid = Grid((6, 5))
    regions = np.indices(grid.shape)[0] // 3
    unknowns = [Unknown("D", "log"), Unknown("c", "log", block=Regions(regions))]
    unknowns.append(Unknown("r", "log", block=Shared(2)))
    space = ParameterSpace(grid, unknowns)
    field = 1.0 + np.arange(30.0).reshape(6, 5)
    m = space.from_values(
        {"D": field[grid.local_slice], "c": [2.0, 3.0], "r": [0.5, 4.0]}
    )
    objective, result = SimpleNamespace(space=space), SimpleNamespace(m=m)
    found = Identification(objective, result, [], 0, 0, 0)
    fields = found.values("D"), found.values("c")
    if grid.comm.rank == 0:
        np.testing.assert_allclose(fields[0], field, rtol=1e-14)
        np.testing.assert_allclose(
            fields[1], np.where(regions == 0, 2.0, 3.0), rtol=1e-14
        )
    else:
        assert fields == (None, None)
    np.testing.assert_allclose(found.values("r"), [0.5, 4.0], rtol=1e-14)

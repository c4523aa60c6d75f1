"""Variable projection: J without its last layer, and derivatives while that layer follows."""

import numpy as np
import pytest
from mpi4py import MPI
from nets import Drawn, part

from npde_opt.ensemble import Ensemble
from npde_opt.errors import InputError
from npde_opt.grids import Grid
from npde_opt.misfits import LeastSquares
from npde_opt.networks import Dense, Network, Place, Stencil, Step, Tanh, Weight
from npde_opt.objective import Objective
from npde_opt.optimizers import Settings, minimize
from npde_opt.pseudoinverse.projection import Projected
from npde_opt.regularizers import Ridge
from npde_opt.verify import dot_product_test, taylor_test

WORLD = MPI.COMM_WORLD
SAMPLES, RIDGE = 14, 0.3


def layers(grid, behind=False):
    """A stencil, and on its cells a dense layer; with the layer behind them, or without."""
    place = Place.on(grid)
    first = Step(
        place, part(Stencil(place, 2, 3), "K"), Tanh(), Weight("c", (2,), inputs=1)
    )
    found = [first]
    if behind:
        last = Dense(first.target, 2)
        found.append(Step(first.target, part(last, "W"), bias=Weight("b", (2,))))
    return found


def targets(numbers):
    found = [np.random.default_rng([n, 5]).standard_normal(2) for n in numbers]
    return np.array(found).reshape(-1, 2)


def projected(ensemble=None, ridge=RIDGE, regularized=True):
    ensemble = ensemble or Ensemble.whole(WORLD)
    network = Network(
        Grid((5,), comm=ensemble.space), layers(Grid((5,), comm=ensemble.space))
    )
    space, own = network.space(), ensemble.own(SAMPLES)
    penalties = {"K": Ridge(space.blocks["K"], 0.2)} if regularized else {}
    forward = network.over(Drawn(own), space)
    J = Projected(forward, targets(own), ridge, penalties, ensemble)
    return (
        J,
        space.from_values(network.initial(3)),
        space.from_values(network.initial(4)),
    )


def whole(ridge=RIDGE):
    """The same with all its layers."""
    grid = Grid((5,), comm=WORLD)
    network = Network(grid, layers(grid, True))
    forward = network.over(Drawn(range(SAMPLES)))
    misfit = LeastSquares(targets(range(SAMPLES)).T, 1.0, forward.layouts[0])
    blocks = forward.space.blocks
    return Objective(
        forward,
        [misfit],
        {"K": Ridge(blocks["K"], 0.2), "W": Ridge(blocks["W"], ridge)},
    )


@pytest.mark.parallel([1, 2, 3])
def test_derivatives():
    J, m, dm = projected()
    orders = taylor_test(J, m, dm)
    assert orders.problems() == [], orders


def test_derivatives_without_a_ridge():
    J, m, dm = projected(ridge=0.0)
    orders = taylor_test(J, m, dm)
    assert orders.problems() == [], orders


@pytest.mark.parallel([1, 2, 3])
def test_hessians_are_symmetric_and_kaufmans_is_that_of_gauss_newton():
    J, m, dm = projected(regularized=False)
    at, other = (
        J.linearize(m),
        J.space.from_values({"K": np.ones((2, 1, 3)), "c": np.arange(2.0)}),
    )
    one, two = J.create_vec(), J.create_vec()
    for gauss_newton in (False, True):
        at.hessian(dm, one, gauss_newton)
        at.hessian(other, two, gauss_newton)
        assert one.dot(other) == pytest.approx(two.dot(dm), rel=1e-10)
    lin = at.linearization
    assert dot_product_test(lin, dm, [d.layout.noise(1) for d in lin.data]) <= 1e-12
    # K = A^T A, A the change of the residuals (with those of the ridge) that no layer undoes.
    gathered, moved = lin.data[0].gather().T, lin.apply(dm)[0].gather().T
    H = np.hstack([gathered, np.ones((SAMPLES, 1))])
    root = np.sqrt(RIDGE) * np.eye(H.shape[1])[:-1]
    rows = np.concatenate([moved @ at.solution.W, np.zeros((len(root), 2))])
    A = np.concatenate([H, root])
    left = rows - A @ np.linalg.lstsq(A, rows)[0]
    at.hessian(dm, one, True)
    assert one.dot(dm) == pytest.approx((left**2).sum(), rel=1e-9)
    assert at.information(dm) == pytest.approx((left**2).sum(), rel=1e-9)


@pytest.mark.parallel([1, 2])
def test_it_is_the_least_value_over_the_last_layer():
    J, m, dm = projected()
    at, full = J.linearize(m), whole()
    values = {name: np.asarray(v) for name, v in J.space.at(m).coefficients().items()}
    solution = at.solution
    joined = values | {"W": solution.W.T, "b": solution.intercept}
    M = full.space.from_values(joined)
    there = full.linearize(M)
    assert at.value == pytest.approx(there.value, rel=1e-12)
    gradients = [
        full.space.at(there.gradient()).coefficients(),
        J.space.at(at.gradient()).coefficients(),
    ]
    for name in ("W", "b"):
        np.testing.assert_allclose(gradients[0][name], 0, atol=1e-11)
    for name in ("K", "c"):
        np.testing.assert_allclose(
            gradients[0][name], gradients[1][name], rtol=1e-9, atol=1e-11
        )


@pytest.mark.parallel([1, 2, 3])
def test_groups_find_the_same():
    def figures(ensemble):
        J, m, dm = projected(ensemble)
        at, out = J.linearize(m), J.create_vec()
        found = [at.value, at.gradient().norm()]
        for gauss_newton in (True, False):
            at.hessian(dm, out, gauss_newton)
            found += [out.norm(), out.dot(dm)]
        return found

    groups = Ensemble.split(WORLD, WORLD.size, SAMPLES)
    np.testing.assert_allclose(figures(groups), figures(None), rtol=1e-9)
    alone = Ensemble.whole(MPI.COMM_SELF)
    np.testing.assert_allclose(figures(groups), figures(alone), rtol=1e-9)


@pytest.mark.parametrize("method", ["lbfgs", "gauss-newton"])
def test_it_is_minimized(method):
    J, m, _ = projected()
    before = J.linearize(m).value
    found = minimize(
        J, m, Settings(method=method, max_iterations=30, gradient_rtol=1e-2)
    )
    assert found.status in ("converged", "stopped_at_tolerance"), found.reason
    assert found.objective < 0.8 * before
    assert found.gradient_norm <= 1e-2 * found.gradient_norm_initial


def test_features_that_overflow_are_no_point():
    J, m, _ = projected()
    m.set(np.inf)
    assert J.linearize(m).value == np.inf


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"targets": np.zeros((3, 2))}, "targets"),
        ({"ridge": -1.0}, "ridge"),
        ({"ridge": np.nan}, "ridge"),
    ],
)
def test_what_does_not_fit_is_told(wrong, told):
    J, _, _ = projected()
    given = {"targets": np.zeros((SAMPLES, 2)), "ridge": 0.0} | wrong
    with pytest.raises(InputError, match=told):
        Projected(J.forward, **given)
    with pytest.raises(InputError, match="minibatches"):
        J.over([0, 1])

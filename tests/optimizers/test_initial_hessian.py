"""H_0 = R + d M: its inverse, its d, and that with it the number of iterations does not grow with
the mesh."""

import numpy as np
import pytest

from npde_opt.optimizers import Settings, minimize
from npde_opt.optimizers.initial_hessian import MASS_STEPS, InitialHessian
from npde_opt.optimizers.point import Point


@pytest.fixture
def fitted(problem):
    """A fine problem, its InitialHessian and a point."""
    objective = problem("fine")
    point = Point(objective, objective.start())
    initial = InitialHessian(point)
    yield objective, point, initial
    initial.release()
    point.destroy()


@pytest.mark.parallel([1, 2])
@pytest.mark.parametrize("shift", [1e6, 1.0, 1e-3])
def test_solve_inverts_multiply(fitted, shift):
    objective, point, initial = fitted
    initial.shift = shift
    r = objective.vec(lambda i: np.sin(3.0 * i) + 0.01 * i)
    x, back = r.duplicate(), r.duplicate()
    initial.solve(point.here(), r, x)
    initial.multiply(point.here(), x, back)
    assert (back - r).norm() < 1e-4 * r.norm()


@pytest.mark.parallel([1, 2])
def test_r_preconditions_where_m_takes_too_long(fitted):
    objective, point, initial = fitted
    at, calls = point.here(), []
    solve = objective.inverse.solve
    objective.inverse = type(
        "Counted",
        (),
        {"solve": staticmethod(lambda r, x: (calls.append(1), solve(r, x)))},
    )()
    r = objective.vec(np.cos)
    for shift, expected in ((1e8, False), (1e-2, True)):
        calls.clear()
        initial.shift = shift
        initial.solve(at, r, r.duplicate())
        assert bool(calls) is expected
        assert len(calls) < MASS_STEPS


@pytest.mark.parallel([1, 2])
def test_the_shift_is_the_curvature_of_the_data(fitted):
    """Exactly, where the data's Hessian is a multiple of M."""
    objective, point, initial = fitted
    step = objective.vec(lambda i: np.cos(0.3 * i))
    mass = objective.mass()
    data = mass * step
    assert initial.data_curvature(
        point.here(), step, objective.R * step + 7.0 * data
    ) == pytest.approx(7.0, rel=1e-6)
    assert (
        initial.data_curvature(point.here(), step, objective.R * step - 0.1 * data)
        == 0.0
    )


@pytest.mark.parallel([1, 2])
@pytest.mark.parametrize(
    ("method", "grows"),
    [
        ("newton", False),
        ("gauss-newton", False),
        ("bntr", False),
        ("lbfgs", False),
        ("lmvm", False),
    ]
    + [("bounded-lbfgs", False), ("bqnkls", False), ("ncg", True)],
)
def test_iterations_do_not_grow_with_the_mesh(problem, method, grows):
    """But for ncg, which knows nothing of the regularization."""
    counts = []
    for n in (64, 512):
        objective = problem("fine", n)
        result = minimize(
            objective,
            objective.start(),
            Settings(method=method, gradient_rtol=1e-6, max_iterations=300),
        )
        assert result.status == "converged"
        counts.append(sum(1 + row["inner_iterations"] for row in result.history))
    assert (counts[1] > 1.35 * counts[0]) is grows, counts

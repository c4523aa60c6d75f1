"""Gradients of quantities against differences, and their moments where these are known."""

import numpy as np
import pytest
from gaussians import field

from npde_opt.linear.accuracy import tight
from npde_opt.observations.functionals import together
from npde_opt.observations.places import box_mean, points_at
from npde_opt.posterior import Laplace, PosteriorSettings
from npde_opt.posterior.quantities import (
    OfCoefficient,
    OfStates,
    prior_deviation,
    sampled,
    slope_errors,
)

EXACT = PosteriorSettings(cut=1e-9, rtol=1e-6)


def posterior(**more):
    J, m = field("bilaplacian by length", n=6, **more)
    with tight():
        return J, Laplace(J.linearize(m), EXACT)


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.parametrize("more", [{}, {"masked": True, "small": True}, {"fixed": True}])
def test_gradients_are_those_of_differences(more):
    J, found = posterior(**more)
    grid = J.space.grid
    states = OfStates(J.forward, ["a", "b", "c"], [(0, 3), (1, 3), (1, 15)])
    seen = [
        points_at(grid, np.array([[0.6, 0.7]])),
        box_mean(grid, [0.5, 0.5], [1.0, 1.0]),
    ]
    cells = OfCoefficient(J.space, "D", together(seen), ["at", "mean"])
    m = found.at.m
    data = {}
    for block in found.at.linearization.data:
        data |= dict(zip(block.layout.members, block.gather().T, strict=True))
    wanted = [data[0][3], data[1][3], data[1][15]]
    np.testing.assert_allclose(states.values(m), wanted, rtol=1e-8)
    for quantities in (states, cells):
        values, gradients = quantities.gradients(m)
        np.testing.assert_allclose(values, quantities.values(m), rtol=1e-12)
        assert (slope_errors(found, quantities, gradients) < 1e-6).all()
        for g in gradients:
            assert 0 < found.deviation(g) < prior_deviation(found, g)


class Square:
    """a b.p + (p - m).(p - m) of the parameters p of D."""

    names = ("q",)

    def __init__(self, J, m, a):
        self.J, self.m, self.a = J, m.copy(), a
        self.b = J.space.standard_normal(7)

    def values(self, m):
        away = m.copy()
        away.axpy(-1.0, self.m)
        return np.array([self.a * self.b.dot(m) + away.dot(away)])

    def gradients(self, m):
        g = self.b.copy()
        g.scale(self.a)
        g.axpy(2.0, m)
        g.axpy(-2.0, self.m)
        return self.values(m), [g]


@pytest.mark.parallel([1, 2])
def test_pairs_of_samples_find_the_moments_of_a_square():
    """E = q(m) + tr C, Var = a^2 b^T C b + 2 tr C^2."""
    J, found = posterior()
    m = found.at.m
    square = Square(J, m, 10.0)
    value, gradients = square.gradients(m)
    told = sampled(found, square, gradients, 100)
    trace = float(found.variance.sum())
    trace = J.space.comm.allreduce(trace)
    exact = value[0] + trace
    assert told.mean[0] == pytest.approx(exact, abs=4 * told.error[0])
    assert 0 < told.error[0] < 0.1 * trace
    np.testing.assert_allclose(told.second, told.mean, rtol=1e-6)
    alone = found.deviation(gradients[0])
    assert told.deviation[0] == pytest.approx(
        np.sqrt(alone**2 + (10 * told.error[0]) ** 2), rel=0.1
    )
    assert told.gain[0] > 1

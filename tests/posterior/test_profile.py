"""Intervals by profile likelihood: of a linear problem those of its normal posterior, and of
-D lap u = w f, of which all is known: u = w u_1 / D, so that with q = w / D

    J = (A q^2 - 2 B q + c) / 2 + (log w)^2 / (2 s^2).
"""

import numpy as np
import pytest
from gaussians import COMM, dense
from scipy.optimize import brentq, minimize_scalar

from npde_opt.errors import InputError
from npde_opt.forward import Equation, Experiment, Steady
from npde_opt.grids import Grid
from npde_opt.linear.accuracy import tight
from npde_opt.misfits import LeastSquares
from npde_opt.objective import Objective
from npde_opt.observations import voxels
from npde_opt.optimizers import Settings, minimize
from npde_opt.parameters import ParameterSpace, Regions, Shared, Unknown
from npde_opt.posterior import Laplace, PosteriorSettings
from npde_opt.posterior.profile import (
    AT_BOUND,
    END,
    NO_VALUE,
    UNBOUNDED,
    Functional,
    Number,
    Profiler,
)
from npde_opt.regularizers import SmallPrior
from npde_opt.terms import Diffusion, Reaction, Source

SHAPE, SIGMA, WIDE = (6, 4), 0.05, 0.4
EXACT = PosteriorSettings(cut=1e-9, rtol=1e-9, prior_rtol=1e-12)


def grid():
    return Grid(SHAPE, boundaries={"y-": "dirichlet"}, comm=COMM)


def found(J, m):
    """Profiles of all numbers, by label."""
    settings = Settings("newton" if J.bounds() is None else "bntr", gradient_rtol=1e-9)
    m = minimize(J, m, settings).m
    laplace = Laplace(J.linearize(m), EXACT)
    profiler = Profiler(laplace)
    told = {}
    for label, unit, size in J.units(m):
        log = J.space.unknown(label.split("[")[0]).transform.multiplicative
        told[label] = profiler.of(Number(label, unit, size, log))
    return told, laplace


def linear():
    """Sources in three regions, from the state in every cell."""
    own = grid()
    labels = (np.arange(own.size) % 3).reshape(SHAPE, order="F")[own.local_slice]
    block = Regions(labels)
    space = ParameterSpace(own, [Unknown("f", "identity", block=block)])
    terms = [Diffusion(own, "D"), Reaction(own, "r"), Source(own, ["u"], "u", "f")]
    runs = [Experiment(samplings=[voxels(own, (), own.edges)])]
    forward = Steady(space, Equation(own, terms), {"D": 1.0, "r": 0.7}, runs)
    y = 3 + np.random.default_rng(3).standard_normal((own.size, 1))
    J = Objective(forward, [LeastSquares(y, SIGMA, forward.layouts[0])], {})
    return J, space


@pytest.mark.parallel([1, 2])
def test_of_a_linear_problem_they_are_its_normal_intervals():
    J, space = linear()
    with tight():
        told, laplace = found(J, space.create_vec())
        H = dense(space, lambda x, z: laplace.at.hessian(x, z, True))
    deviations = np.sqrt(np.diag(np.linalg.inv(H)))
    assert list(told) == ["f[0]", "f[1]", "f[2]"]
    for profile, deviation in zip(told.values(), deviations, strict=True):
        for end, sign in ((profile.low, -1), (profile.high, 1)):
            assert end.c == pytest.approx(
                profile.answer + sign * END * deviation, abs=3e-3 * deviation
            )
            assert end.known
        straight = (profile.c - profile.answer) / deviation
        np.testing.assert_allclose(profile.r, straight, atol=1e-4)
        assert (np.diff(profile.c) > 0).all()


def product(prior, bounds=(None, None), at_infinity=None):
    """(J, m, A, B) of -D lap u = w f, of data that are best fitted by q = 1, or by the one from
    which r at q = 0 is the one that is given."""
    own = grid()
    unknowns = [Unknown("D", "log", bounds, block=Shared())]
    if prior is not None:
        unknowns.append(Unknown("w", "log", block=Shared()))
    space = ParameterSpace(own, unknowns)
    terms = [Diffusion(own, "D"), Source(own, ["u"], "u", "w")]
    runs = [Experiment(samplings=[voxels(own, (), own.edges)])]
    known = {} if prior is not None else {"w": 1.0}
    forward = Steady(space, Equation(own, terms), known, runs)
    m = space.from_values({u.name: 1.0 for u in unknowns})
    at = forward.linearize(m)
    u = at.data[0].gather()
    at.destroy()
    noise = np.random.default_rng(5).standard_normal(u.shape)
    noise -= u * (u * noise).sum() / (u**2).sum()
    A = float((u**2).sum()) / SIGMA**2
    q = 1.0 if at_infinity is None else at_infinity / A**0.5
    y, B = q * u + SIGMA * noise, q * A
    priors = {"w": SmallPrior(COMM, 1, deviation=WIDE)} if prior else {}
    misfit = LeastSquares(y, SIGMA, forward.layouts[0])
    return Objective(forward, [misfit], priors), m, A, B


@pytest.mark.parallel([1, 2, 3])
def test_of_a_quotient_they_are_those_of_its_inverse():
    J, m, A, B = product(None)
    with tight():
        told, _ = found(J, m)
    ends = [-np.log(B / A + END / A**0.5), -np.log(B / A - END / A**0.5)]
    profile = told["D"]
    assert profile.answer == pytest.approx(-np.log(B / A), abs=1e-6)
    np.testing.assert_allclose([profile.low.c, profile.high.c], ends, rtol=5e-3)
    np.testing.assert_allclose(
        profile.r, -np.sqrt(A) * (np.exp(-profile.c) - B / A), atol=1e-3
    )


@pytest.mark.parallel([1, 2])
def test_beside_another_number_that_moves_along():
    J, m, A, B = product(True)
    with tight():
        told, _ = found(J, m)

    def rise(p):
        def of(w):
            q = np.exp(w - p)
            return A * (q - B / A) ** 2 + (w / WIDE) ** 2

        return minimize_scalar(of, bracket=(-0.1, 0.1), tol=1e-10).fun

    answer = told["D"].answer
    for end, sign in ((told["D"].low, -1), (told["D"].high, 1)):
        exact = brentq(lambda p: rise(p) - END**2, answer, answer + 3 * sign)
        assert end.known
        assert end.c - answer == pytest.approx(exact - answer, rel=5e-3)


@pytest.mark.parallel([1, 2])
def test_what_data_do_not_bound_is_told():
    # Little more than noise: a large D, of which u is 0, is as good.
    J, m, A, B = product(None, at_infinity=1.0)
    with tight():
        told, _ = found(J, m)
    assert told["D"].high.why == UNBOUNDED and not told["D"].high.known
    low = -np.log(B / A + END / A**0.5)
    assert told["D"].low.c == pytest.approx(low, abs=1e-2)
    # Of the two only the quotient is seen.
    J, m, _, _ = product(False)
    told, _ = found(J, m)
    for profile in told.values():
        assert [profile.low.why, profile.high.why] == [UNBOUNDED, UNBOUNDED]


def test_an_interval_ends_at_a_bound():
    J, m, A, B = product(None, bounds=(0.98, 1.4))
    told, _ = found(J, m)
    assert told["D"].low.why == AT_BOUND
    assert told["D"].low.c == pytest.approx(np.log(0.98), abs=1e-9)


def power_of(J, weights, power):
    """(sum_i w_i m_i)^power of all parameters, and its gradient."""

    def of(m):
        slope = J.create_vec()
        slope.setArray(weights[slice(*slope.getOwnershipRange())])
        inner = float(slope.dot(m))
        slope.scale(power * inner ** (power - 1))
        return inner**power, slope

    return of


@pytest.mark.parallel([1, 2, 3])
def test_of_functionals_of_a_linear_problem_they_are_known():
    J, space = linear()
    weights = np.array([0.5, 1.0, -0.3])
    m = minimize(J, space.create_vec(), Settings("newton", gradient_rtol=1e-9)).m
    laplace = Laplace(J.linearize(m), EXACT)
    profiler = Profiler(laplace)
    plain, squared = (
        profiler.of(Functional("g", power_of(J, weights, power))) for power in (1, 3)
    )
    for end, sign in ((plain.low, -1), (plain.high, 1)):
        away = sign * END * plain.deviation
        assert end.c - plain.answer == pytest.approx(away, rel=5e-3)
    straight = (plain.c - plain.answer) / plain.deviation
    np.testing.assert_allclose(plain.r, straight, atol=1e-3)
    # Ends of a monotone function are those of what it is a function of.
    for end, of in ((plain.low, squared.low), (plain.high, squared.high)):
        assert np.cbrt(of.c) == pytest.approx(end.c, abs=5e-3 * END * plain.deviation)
    flat = Functional("flat", lambda m: (1.0, J.create_vec()))
    with pytest.raises(InputError, match="the profile of flat: .* to first order"):
        profiler.of(flat)


def test_a_functional_takes_no_value_beyond_its_largest():
    J, m, A, B = product(None)
    m = minimize(J, m, Settings("newton", gradient_rtol=1e-9)).m
    profiler = Profiler(Laplace(J.linearize(m), EXACT))
    at = float(profiler.best.getArray()[0])

    def bump(m):
        away, slope = float(m.getArray()[0]) - at - 0.01, m.duplicate()
        slope.set(-2 * away)
        return -(away**2), slope

    told = profiler.of(Functional("bump", bump))
    assert told.high.why == NO_VALUE and not told.high.known
    assert told.high.c == pytest.approx(0.0, abs=1e-5)

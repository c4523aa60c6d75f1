"""Steps keep the posterior: detailed balance with dense matrices, and moments by quadrature."""

import numpy as np
import pytest
from gaussians import dense, field, free, whole
from rates import DEVIATION, laplace, log_rate, moments, rate

from npde_opt.errors import SolverError
from npde_opt.linear.accuracy import tight
from npde_opt.posterior import Laplace, PosteriorSettings
from npde_opt.sampling import AroundPosterior, AroundPrior, SamplingSettings, sample
from npde_opt.sampling.moves import Lengths, Moves, Place
from npde_opt.sampling.trajectories import Trajectories


def around(kind, found):
    return AroundPrior(found.prior) if kind == "pcn" else AroundPosterior(found)


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.parametrize(
    ("kind", "drift"), [("pcn", False), ("gpcn", False), ("gpcn", True), ("pcn", True)]
)
def test_detailed_balance(kind, drift):
    """pi(m) q(m, m') chance(m, m') = pi(m') q(m', m) chance(m', m), by dense matrices."""
    J, m = field("bilaplacian by length", n=5)
    with tight():
        at = J.linearize(m)
        settings = PosteriorSettings(cut=1e-9, rtol=1e-8, prior_rtol=1e-12)
        reference = around(kind, Laplace(at, settings))
        moves = Moves(J, reference, drift, 3)
        on = free(J.space)
        Q = dense(J.space, reference.precision)
        c = whole(moves.center.getArray())[on]
        s = 0.3
        rho, a = Lengths(s).rho, Lengths(s).a
        places = []
        for seed in (1, 2):
            vec = reference.change(seed)
            vec.scale(0.2)
            vec.axpy(1.0, m)
            places.append(moves.at(vec))

        def log_flow(x, y):
            """log of pi(x) q(x, y)."""
            dx, dy = (whole(p.m.getArray())[on] - c for p in (x, y))
            v = (dy - rho * dx) / s
            if drift:
                g = whole(x.slope.getArray())[on]
                v = v + a * np.linalg.solve(Q, g)
            return -x.value - 0.5 * v @ Q @ v

        x, y = places
        weights = [moves._weight(*pair, Lengths(s)) for pair in ((x, y), (y, x))]
        flows = log_flow(x, y), log_flow(y, x)
        size = abs(x.value)
        assert np.diff(weights) == pytest.approx(np.diff(flows), abs=1e-5 * size)
        chances = [moves._chance(*pair, Lengths(s)) for pair in ((x, y), (y, x))]
        assert max(chances) == 1
        assert min(chances) == pytest.approx(np.exp(-abs(np.diff(flows)[0])), rel=1e-3)
    for place in places:
        place.destroy()


@pytest.mark.parametrize(
    ("method", "steps"), [("pcn", 500), ("gpcn", 600), ("mala", 300), ("hmc", 100)]
)
def test_moments_of_a_posterior_that_is_not_normal(method, steps):
    J, m = rate()
    settings = SamplingSettings(method, steps, burn_in=60, chains=2, seed=5)
    found = sample(laplace(J, m), settings, ["log k"], log_rate(J))
    mean, deviation = moments()
    told = found.diagnoses()[1]
    assert told.mixed and told.ess > 60
    assert abs(told.mean - mean) < 4.5 * deviation / np.sqrt(told.ess)
    assert told.deviation == pytest.approx(deviation, rel=4.5 / np.sqrt(2 * told.ess))
    inside = found.mean.getArray()
    assert inside[0] == pytest.approx(told.mean)
    assert found.variance.getArray()[0] == pytest.approx(told.deviation**2)
    assert all(0.2 < share <= 1 for share in found.acceptance)
    found.destroy()


@pytest.mark.parallel([1, 2, 3])
def test_a_trajectory_gains_what_dense_matrices_say(monkeypatch):
    """dH of J + 1/2 v^T Q v over three leaps, and back by the opposite velocity; one leap is a step
    of MALA."""
    J, m = field("bilaplacian by length", n=5)
    with tight():
        settings = PosteriorSettings(cut=1e-9, rtol=1e-8, prior_rtol=1e-12)
        reference = AroundPosterior(Laplace(J.linearize(m), settings))
        moves, lengths = Trajectories(J, reference, 3, 4), Lengths(0.3)
        Q, on = dense(J.space, reference.precision), free(J.space)
        kept = []
        turned, velocity = moves._turned, reference.change(7)

        def watched(place, v, lengths):
            found = turned(place, v, lengths)
            kept.append(v.copy())
            return found

        monkeypatch.setattr(moves, "_turned", watched)
        monkeypatch.setattr(moves, "_count", lambda seed: 3)
        monkeypatch.setattr(reference, "change", lambda seed: velocity.copy())
        here = moves.at(reference.center())
        there, chance = moves.tried(here, lengths, 0)

        def total(place, v):
            own = whole(v.getArray())[on]
            return place.value + 0.5 * own @ Q @ own

        last = kept[-1]
        last.axpy(-lengths.a, there.image)
        gained = total(there, last) - total(here, velocity)
        assert chance == pytest.approx(np.exp(min(0.0, -gained)), rel=1e-4)
        velocity = last.copy()
        velocity.scale(-1.0)
        back, chance = moves.tried(there, lengths, 0)
        assert chance == pytest.approx(np.exp(min(0.0, gained)), rel=1e-4)
        back.m.axpy(-1.0, here.m)
        assert back.m.norm() < 1e-6 * here.m.norm()
        steps = Moves(J, reference, True, 4)
        monkeypatch.setattr(moves, "_count", lambda seed: 1)
        one, chance = moves.tried(here, lengths, 0)
        same, also = steps.tried(here, lengths, 0)
        assert chance == pytest.approx(also, rel=1e-6)
        same.m.axpy(-1.0, one.m)
        assert same.m.norm() < 1e-9 * one.m.norm()


@pytest.mark.parallel([1, 2])
def test_a_normal_posterior_takes_every_step_around_itself():
    """With data that hardly bend the posterior every step of any length is taken; the burn-in stops
    before chains that forget where they are, which the user may ask for."""
    J, m = rate(y=1.0, sigma=1e3)
    settings = SamplingSettings("gpcn", steps=20, burn_in=20, chains=1)
    found = sample(laplace(J, m), settings, ["log k"], log_rate(J))
    assert found.acceptance[0] > 0.999 and found.steps == (0.8,)
    found.destroy()
    asked = SamplingSettings("gpcn", steps=2, burn_in=0, chains=1, step=1.0)
    found = sample(laplace(J, m), asked, ["log k"], log_rate(J))
    assert found.steps == (1.0,)
    found.destroy()


def test_what_is_taken_does_not_hang_on_what_is_proposed():
    """Of a single number, too: proposals that are taken are as far away as others. With few taken
    the same random numbers for both would take those nearby."""
    J, m = rate(y=1.0, sigma=1e3)
    moves = Moves(J, AroundPosterior(laplace(J, m)), False, 0)
    moves.at = lambda proposed: Place(proposed, 0.0, 0.0)
    moves._chance = lambda here, there, lengths: 1 / 16
    far = []
    for number in range(600):
        here = moves.at(m.copy())
        there, _, _ = moves.step(here, 1.0, number)
        if there is not here:
            far.append(abs(float(there.m.getArray()[0] - m.getArray()[0])))
        there.destroy()
    assert 25 < len(far) < 55
    assert np.mean(far) == pytest.approx(DEVIATION * np.sqrt(2 / np.pi), rel=0.3)


@pytest.mark.parallel([1, 2])
def test_samples_keep_bounds():
    """Starts too, of which the Laplace posterior knows no bounds."""
    J, m = rate(bounds=(0.5, 0.8))
    settings = SamplingSettings("gpcn", steps=40, burn_in=10, chains=3)
    found = sample(laplace(J, m), settings, ["log k"], log_rate(J))
    log_k = found.traces[:, :, 2]
    assert np.log(0.5) <= log_k.min() < log_k.max() <= np.log(0.8)
    assert np.ptp(log_k) > 0.2 and found.failed == (0, 0, 0)
    found.destroy()


@pytest.mark.parallel([1, 2])
@pytest.mark.parametrize("what", ["value", "gradient"])
def test_a_solve_that_fails_is_a_step_that_is_not_taken(monkeypatch, what):
    J, m = rate()
    around, told, linearize = laplace(J, m), [], J.linearize

    def failing(vec):
        here = linearize(vec)
        told.append(0)
        if len(told) in (7, 9):
            here = Failing(here, what)
        return here

    monkeypatch.setattr(J, "linearize", failing)
    settings = SamplingSettings("mala", steps=10, burn_in=2, chains=1)
    found = sample(around, settings, ["log k"], log_rate(J))
    assert found.failed == (2,)
    assert found.traces[0, 3, 1] == 0 and found.traces[0, 3, 2] == found.traces[0, 2, 2]
    told[:] = [0] * 6
    with pytest.raises(SolverError, match="DIVERGED_ITS"):
        sample(around, settings, ["log k"], log_rate(J))


@pytest.mark.parallel([1, 2])
@pytest.mark.parametrize("method", ["mala", "hmc"])
def test_no_step_leads_where_the_gradient_overflows(monkeypatch, method):
    J, m = rate()
    around, told, linearize = laplace(J, m), [], J.linearize

    def overflowing(vec):
        here = linearize(vec)
        told.append(here)
        if len(told) == 4:
            here.gradient().set(np.inf)
        return here

    monkeypatch.setattr(J, "linearize", overflowing)
    settings = SamplingSettings(method, steps=4, burn_in=0, chains=1, leaps=1)
    found = sample(around, settings, ["log k"], log_rate(J))
    chances = found.traces[0, :, 1]
    assert found.failed == (0,) and chances[2] == 0 and np.count_nonzero(chances) == 3
    found.destroy()


class Failing:
    """A point of which one thing fails."""

    def __init__(self, at, what):
        self.at, self.what = at, what

    def fail(self):
        raise SolverError("state_", "DIVERGED_ITS", "More of them.")

    @property
    def value(self):
        return self.fail() if self.what == "value" else self.at.value

    def gradient(self):
        return self.fail() if self.what == "gradient" else self.at.gradient()

    def destroy(self):
        self.at.destroy()

"""Hot copies bring a chain over what separates hills, and keep the posterior."""

import numpy as np
import pytest
from gaussians import COMM, dense, field, free, whole
from hills import hills, log_density, share

from npde_opt.errors import InputError
from npde_opt.linear.accuracy import tight
from npde_opt.posterior import Laplace, PosteriorSettings
from npde_opt.sampling import AroundPosterior, SamplingSettings, sample
from npde_opt.sampling.groups import There, sample_in_groups
from npde_opt.sampling.moves import Moves
from npde_opt.sampling.run import _around, _begun, _moves
from npde_opt.sampling.tempering import WIDEST, ladder

METHODS = ["pcn", "gpcn", "mala", "hmc"]


def number(laplace):
    return ["p"], lambda m: laplace.space.values(m, "p")


@pytest.mark.parametrize(("method", "steps"), [("pcn", 1500), ("hmc", 500)])
def test_weights_of_two_hills(method, steps):
    laplace = hills()
    settings = SamplingSettings(method, steps, burn_in=100, chains=2, temperatures=3)
    found = sample(laplace, settings, *number(laplace))
    told, exact = found.diagnoses()[1], share()
    on = (found.traces[:, :, 2] > 0).mean()
    assert 0.55 < exact < 0.65 and told.mixed and told.ess > 30
    assert abs(on - exact) < 4 * np.sqrt(exact * (1 - exact) / told.ess)
    assert found.temperatures == (1.0, 4.0, 16.0) and len(found.swaps) == 2
    assert min(found.swaps) > 0.3
    found.destroy()
    # Without them a chain of local steps stays where it begins.
    alone = SamplingSettings("hmc", 200, burn_in=100, chains=1)
    found = sample(laplace, alone, *number(laplace))
    assert (found.traces[:, :, 2] > 0).all()
    assert found.temperatures == (1.0,) and found.swaps == ()
    found.destroy()


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.parametrize("method", METHODS)
def test_an_exchange_is_in_detailed_balance(method):
    """pi_a(x) pi_b(y) chance = pi_a(y) pi_b(x) chance back; places are those that solves find."""
    laplace, settings = hills(), SamplingSettings(method, temperatures=(1.0, 3.0))
    around = [_around(laplace, settings, t) for t in (1.0, 3.0)]
    ladder_ = _begun(laplace, around, settings, (1.0, 3.0), 5, lambda m: np.zeros(1))
    cold, hot = ladder_, ladder_.hot[0]
    x, y = (float(laplace.space.values(w.here.m, "p")[0]) for w in (cold, hot))
    gap = log_density(y) + log_density(x, 3.0) - log_density(x) - log_density(y, 3.0)
    assert abs(gap) > 1e-3
    chance = ladder_._exchanged(cold, hot, 0.0)
    back = ladder_._exchanged(cold, hot, 1.0)
    assert chance == pytest.approx(min(1.0, np.exp(gap)), rel=1e-9)
    assert back == pytest.approx(min(1.0, np.exp(-gap)), rel=1e-9)
    for walk, p, t in ((cold, y, 1.0), (hot, x, 3.0)):
        assert float(laplace.space.values(walk.here.m, "p")[0]) == p
        assert walk.here.value == pytest.approx(-log_density(p, t), rel=1e-9)
        fresh = walk.moves.at(walk.here.m.copy())
        assert (fresh.value, fresh.rest) == (walk.here.value, walk.here.rest)
        if walk.here.slope is not None:
            assert fresh.slope.equal(walk.here.slope)
            assert fresh.image.equal(walk.here.image)
        fresh.destroy()
    ladder_.destroy()


@pytest.mark.parallel([1, 2, 3])
def test_a_hot_posterior_is_that_of_the_misfit_over_its_temperature():
    """Of a linear problem the reference is the posterior: precision P + D / T, and its center the
    minimizer; I is the same everywhere, and its gradient 0."""
    J, m = field("bilaplacian by length", n=5)
    with tight():
        at = J.linearize(m)
        settings = PosteriorSettings(cut=1e-9, rtol=1e-8, prior_rtol=1e-12)
        laplace = Laplace(at, settings)
        around, on = AroundPosterior(laplace, 5.0), free(J.space)
        P = dense(J.space, laplace.prior.precision)
        D = dense(J.space, lambda x, y: at.data_hessian(x, y, True))
        Q = dense(J.space, around.precision)
        np.testing.assert_allclose(Q, P + D / 5, atol=1e-6 * np.abs(Q).max())
        inverse = dense(J.space, around.apply)
        np.testing.assert_allclose(inverse @ Q, np.eye(len(Q)), atol=1e-5)
        pull = J.space.create_vec()
        at.regularization_gradient(pull)
        wanted = -0.8 * np.linalg.solve(P + D / 5, whole(pull.getArray())[on])
        away = around.center()
        away.axpy(-1.0, m)
        found = whole(away.getArray())[on]
        np.testing.assert_allclose(found, wanted, atol=1e-5 * np.abs(wanted).max())


@pytest.mark.parallel([1, 2])
def test_the_gradient_at_a_temperature_is_that_of_differences():
    laplace = hills()
    for t in (1.0, 4.0):
        moves = Moves(laplace.objective, AroundPosterior(laplace, t), True, 1, t)
        p, h = 0.7, 1e-4
        places = [
            moves.at(laplace.space.from_values({"p": p + d})) for d in (-h, 0.0, h)
        ]
        slope = (places[2].rest - places[0].rest) / (2 * h)
        found = float(laplace.space.values(places[1].slope, "p")[0])
        assert found == pytest.approx(slope, rel=1e-5)
        for place in places:
            place.destroy()


def test_a_ladder_is_taken_half_of_the_time_where_the_posterior_is_normal():
    x = np.full(40, 1e4)
    found = ladder(x, 8)
    assert len(found) == 8 and found[0] == 1
    rng, rates = np.random.default_rng(0), []
    for a, b in zip(found, found[1:], strict=False):
        misfits = [0.5 * t * rng.chisquare(40, 20_000) for t in (a, b)]
        log = (1 / a - 1 / b) * (misfits[0] - misfits[1])
        rates.append(np.exp(np.minimum(0, log)).mean())
    assert 0.4 < min(rates) < max(rates) < 0.6
    # What the data hardly see needs few.
    assert ladder(np.array([1e-3]), 3) == (1.0, WIDEST, WIDEST**2)
    assert ladder(np.empty(0), 2) == (1.0, WIDEST)


class Stopped(Exception):
    pass


def stop(number, chain):
    if chain.progress.done >= 12:
        raise Stopped


@pytest.mark.parallel([1, 2])
@pytest.mark.parametrize("method", METHODS)
def test_a_chain_with_copies_goes_on_to_the_bit(tmp_path, method):
    out = COMM.bcast(tmp_path)
    laplace = hills()
    settings = SamplingSettings(
        method, steps=16, burn_in=6, chains=1, checkpoint=4, temperatures=4
    )
    rest = number(laplace)
    whole = sample(laplace, settings, *rest)
    with pytest.raises(Stopped):
        sample(laplace, settings, *rest, out, watch=stop)
    again = sample(hills(), settings, *rest, out)
    assert np.array_equal(again.traces, whole.traces)
    assert again.swaps == whole.swaps and again.steps == whole.steps
    assert np.array_equal(again.mean.getArray(), whole.mean.getArray())


@pytest.mark.parallel([1, 2])
def test_other_copies_are_refused(tmp_path):
    out = COMM.bcast(tmp_path)
    laplace, short = hills(), {"steps": 4, "burn_in": 2, "chains": 1}
    rest = number(laplace)
    sample(laplace, SamplingSettings(**short, temperatures=3), *rest, out)
    for asked, said in ((1, "got 1; allowed: 3"), ((1.0, 2.0), r"got \[1.0, 2.0\]")):
        with pytest.raises(InputError, match=f"sampling: temperatures: {said}"):
            other = SamplingSettings(**short, temperatures=asked)
            sample(laplace, other, *rest, out)


@pytest.mark.parametrize(
    "asked",
    [
        *(0, -1, 201, 1.5, "3", None, (), ("a", "b"), ((1.0, 2.0), (3.0, 4.0))),
        *((2.0, 3.0), (1.0, 1.0), (1.0, np.inf), (1.0, np.nan), (2.0, 1.0)),
    ],
)
def test_temperatures_that_cannot_be(asked):
    with pytest.raises(InputError, match="sampling.temperatures: got .* rising"):
        SamplingSettings(temperatures=asked)


@pytest.mark.parallel([2, 3])
def test_groups_find_what_one_finds():
    laplace = hills()
    settings = SamplingSettings("gpcn", 12, burn_in=4, chains=3, temperatures=3)

    def there(own):
        found = hills(own)
        names, figures = number(found)
        return There(found, tuple(names), figures, lambda: None)

    found = sample(laplace, settings, *number(laplace))
    parts = sample_in_groups(laplace, COMM.size, there, settings)
    np.testing.assert_allclose(parts.traces, found.traces, rtol=1e-8)
    np.testing.assert_allclose(parts.swaps, found.swaps, rtol=1e-8)
    assert parts.temperatures == found.temperatures


def test_a_gradient_that_overflows_at_one_temperature_ends_the_exchange(monkeypatch):
    laplace, settings = hills(), SamplingSettings("mala", temperatures=(1.0, 2.0))
    around = [_around(laplace, settings, t) for t in (1.0, 2.0)]
    ladder_ = _begun(laplace, around, settings, (1.0, 2.0), 5, lambda m: np.zeros(1))
    hot, before = ladder_.hot[0], [ladder_.here, ladder_.hot[0].here]
    monkeypatch.setattr(hot.moves, "_gradient", lambda place: _infinite(place))
    assert ladder_._exchanged(ladder_, hot, 0.0) == 0
    assert ladder_.here is before[0] and hot.here is before[1]
    assert ladder_.here.slope.norm() > 0  # not given back
    ladder_.destroy()


def _infinite(place):
    found = place.m.duplicate()
    found.set(np.inf)
    return found


def test_one_temperature_is_a_chain_without_copies():
    laplace = hills()
    settings = SamplingSettings("hmc", temperatures=(1.0,))
    moves = _moves(laplace.objective, _around(laplace, settings, 1.0), settings, 3, 1.0)
    assert not settings.tempered and moves.temperature == 1

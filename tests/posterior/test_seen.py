"""What data see of directions, kept: products and sums by it are those of solves."""

from dataclasses import replace

import numpy as np
import pytest
from gaussians import COMM, field

from npde_opt.ensemble import Ensemble
from npde_opt.linear.accuracy import tight
from npde_opt.objective import Objective
from npde_opt.posterior import Laplace, PosteriorSettings
from npde_opt.posterior.columns import gram, mapped, views
from npde_opt.posterior.whole import Whole


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.parametrize("groups", [1, 2])
def test_products_are_those_with_the_hessian(groups):
    if groups == 2 and COMM.size != 2:
        pytest.skip("two groups of one rank")
    ensemble = Ensemble.split(COMM, groups, 2) if groups == 2 else None
    J, m = field(n=5, ensemble=ensemble, masked=True, small=True)
    at, space = J.linearize(m), J.space
    drawn = [space.standard_normal(seed) for seed in range(5)]
    columns = np.asfortranarray(np.array([v.getArray() for v in drawn]).T)
    with tight():
        images = mapped(space, lambda a, b: at.data_hessian(a, b, True), columns)
        whole = gram(space, columns, images)
        first, last = (at.seen(views(space, c)) for c in (columns[:, :3], columns))
        assert (first.count, last.count) == (3, 5)
        found, size = at.products(first, last), np.abs(whole).max()
        np.testing.assert_allclose(found, whole[:3], atol=1e-9 * size)
        shares = np.arange(6.0).reshape(3, 2) - 2
        mixed, wanted = first.mixed(shares), images[:, :3] @ shares
        far = np.abs(wanted).max()
        for number in range(2):
            pulled = at.pulled(mixed, number).getArray(readonly=True)
            np.testing.assert_allclose(pulled, wanted[:, number], atol=1e-9 * far)
    at.destroy()
    J.destroy()


def nearly(found, J, at):
    """The posterior of pairs that are a bit off, by products with J alone."""
    rough = found.vectors.copy(order="F")
    for seed, own in enumerate(rough.T):
        drawn = J.space.standard_normal(seed)
        smooth = drawn.duplicate()
        found.prior.solve(drawn, smooth)
        own += 2e-4 * smooth.getArray(readonly=True)
    settings = PosteriorSettings(cut=0.1, rtol=0.4)
    return Laplace(at, settings, rough, sure=True)


@pytest.mark.parallel([1, 2, 3])
def test_sums_by_states_alone_are_those_by_products():
    J, m = field(n=6)
    at = J.linearize(m)
    with tight():
        found = nearly(Laplace(at, PosteriorSettings(cut=0.03)), J, at)
        assert found.pairs.seen is not None
        assert found.pairs.seen.count == len(found.values)
        before = J.counters.snapshot()["adjoint_solves"]
        whole = Whole(found)
        assert J.counters.snapshot()["adjoint_solves"] == before
        pairs = replace(found.pairs, seen=None)
        plain = Whole(Laplace(at, found.settings, pairs=pairs))
        for name in ("determined", "expected_information"):
            first, second = (getattr(w, name) for w in (whole, plain))
            assert first.value == pytest.approx(second.value, rel=1e-7)
            assert first.error == pytest.approx(second.error, rel=1e-6)
    at.destroy()
    J.destroy()


def test_of_more_data_than_parameters_nothing_is_kept(monkeypatch):
    J, m = field(n=6)
    at = J.linearize(m)
    found = nearly(Laplace(at, PosteriorSettings(cut=0.03)), J, at)
    assert found.pairs.seen is not None
    J.data_count = J.space.size + 1
    assert nearly(Laplace(at, PosteriorSettings(cut=0.03)), J, at).pairs.seen is None
    # Nor where experiments are evaluated part by part.
    monkeypatch.setattr(Objective, "in_parts", property(lambda J: True))
    assert at.seen([J.space.standard_normal(0)]) is None
    at.destroy()
    J.destroy()


@pytest.mark.parallel([1, 2])
def test_samples_are_the_same_before_and_after_sums_of_the_same_draws():
    J, m = field(n=8)  # on 6 x 6 cells the search ends with all directions
    at = J.linearize(m)
    found = Laplace(at, PosteriorSettings(cut=0.1))
    before = list(found.posterior_samples(20))
    fresh = Laplace(at, found.settings, pairs=found.pairs)
    assert Whole(fresh).determined.error > 0
    for number, (a, b) in enumerate(
        zip(before, fresh.posterior_samples(20), strict=True)
    ):
        assert a.equal(b), number
    others = list(fresh.posterior_samples(3, seed=7))
    assert not others[0].equal(before[0])
    prior = list(fresh.prior_samples(3, seed=7))
    away, image = prior[2].copy(), others[2].copy()
    mean = fresh.prior.mean()
    away.axpy(-1.0, mean)
    image.axpy(-1.0, m)
    fresh._shrink(away, 1 - 1 / np.sqrt(1 + fresh.values))
    image.axpy(-1.0, away)
    assert image.norm() < 1e-7 * away.norm()
    at.destroy()
    J.destroy()

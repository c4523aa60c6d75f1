"""Sums over all eigenvalues, of which only the leading ones are known."""

import math
from dataclasses import replace

import numpy as np
import pytest
import scipy.linalg
from gaussians import dense, field

from npde_opt.linear.accuracy import tight
from npde_opt.posterior import Laplace, PosteriorSettings
from npde_opt.posterior.whole import Whole


@pytest.mark.parallel([1, 2, 3])
def test_sums_are_of_all_and_do_not_jump_where_a_pair_is_at_the_cut():
    J, m = field(n=6)
    at = J.linearize(m)
    with tight():
        prior = Laplace(at, PosteriorSettings(cut=10.0)).prior
        D = dense(prior.space, lambda x, y: at.data_hessian(x, y, True))
        x = scipy.linalg.eigh(D, dense(prior.space, prior.precision))[0]
        place = next(float(v) for v in x[::-1] if v < 0.5)
        ends = [
            Laplace(at, PosteriorSettings(cut=place * share, rtol=1e-4, block=2))
            for share in (1 - 1e-5, 1 + 1e-5)
        ]
    assert ends[0].determined - ends[1].determined > 0.05  # a pair more
    found = [Whole(laplace, 8) for laplace in ends]
    for name, exact in (
        ("determined", (x / (1 + x)).sum()),
        ("expected_information", 0.5 * np.log1p(x).sum()),
    ):
        first, second = (getattr(whole, name) for whole in found)
        assert 0 < first.error < 0.3
        assert first.value == pytest.approx(exact, abs=4 * first.error)
        assert second.value == pytest.approx(first.value, abs=1e-3)
        assert abs(first.told - first.value) < first.error
    at.destroy()
    J.destroy()


def test_what_is_known_whole_has_no_error_and_what_ended_early_or_has_a_wide_cut_none():
    J, m = field(n=4)
    at = J.linearize(m)
    all_of_it = Laplace(at, PosteriorSettings(cut=1e-12))
    found = Whole(all_of_it).determined
    assert found.error == 0
    assert found.value == pytest.approx(all_of_it.determined, rel=1e-6)
    early = Laplace(at, PosteriorSettings(cut=1e-2, most=2, block=2))
    wide = Laplace(at, PosteriorSettings(cut=50.0, block=1))
    kept = Laplace(at, PosteriorSettings(cut=0.1, block=2)).pairs
    rest = {"values": kept.values[1:], "vectors": kept.vectors[:, 1:]}
    short = replace(kept, **rest, duals=None, below=kept.below[:0])
    without = Laplace(at, PosteriorSettings(cut=0.1), pairs=short)
    assert wide.pairs.complete and without.pairs.complete
    for laplace in (early, wide, without):
        found = Whole(laplace).determined
        assert math.isnan(found.error) and found.value == laplace.determined
    at.destroy()
    J.destroy()

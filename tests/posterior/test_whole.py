"""Sums over all eigenvalues, of which only the leading ones are known."""

import math

import numpy as np
import pytest
import scipy.linalg
from gaussians import dense, field

from npde_opt.linear.accuracy import tight
from npde_opt.posterior import Laplace, PosteriorSettings
from npde_opt.posterior.whole import Whole


@pytest.mark.parallel([1, 2, 3])
def test_sums_are_of_all_and_do_not_jump_where_a_pair_is_at_the_cut():
    J, m = field(n=6, small="field")
    at = J.linearize(m)
    with tight():
        prior = Laplace(at, PosteriorSettings(cut=10.0)).prior
        D = dense(prior.space, lambda x, y: at.data_hessian(x, y, True))
        x = scipy.linalg.eigh(D, dense(prior.space, prior.precision))[0]
        place = next(float(v) for v in x[::-1] if v < 0.2)
        ends = [
            Laplace(at, PosteriorSettings(cut=place * share, rtol=1e-4, block=4))
            for share in (1 - 1e-5, 1 + 1e-5)
        ]
    assert ends[0].determined - ends[1].determined > 0.05  # a pair more
    found = [Whole(laplace) for laplace in ends]
    for name, exact in (
        ("determined", (x / (1 + x)).sum()),
        ("expected_information", 0.5 * np.log1p(x).sum()),
    ):
        first, second = (getattr(whole, name) for whole in found)
        assert 0 < first.error < 0.1
        assert first.value == pytest.approx(exact, abs=4 * first.error)
        assert second.value == pytest.approx(first.value, abs=1e-3)
        assert abs(first.told - first.value) < first.error
    at.destroy()
    J.destroy()


def test_what_is_known_whole_has_no_error_and_what_ended_early_none_at_all():
    J, m = field(n=3)
    at = J.linearize(m)
    all_of_it = Laplace(at, PosteriorSettings(cut=1e-12))
    found = Whole(all_of_it).determined
    assert found.error == 0
    assert found.value == pytest.approx(all_of_it.determined, rel=1e-6)
    early = Laplace(at, PosteriorSettings(cut=1e-2, most=2, block=2))
    found = Whole(early).determined
    assert math.isnan(found.error) and found.value == early.determined
    at.destroy()
    J.destroy()

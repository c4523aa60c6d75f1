"""Few numbers without a prior beside a field."""

import numpy as np
import pytest
from gaussians import dense, field, free, whole

from npde_opt.errors import InputError
from npde_opt.linear.accuracy import tight
from npde_opt.posterior import Laplace, PosteriorSettings


@pytest.mark.parallel([1, 2, 3])
def test_a_number_without_a_prior_has_what_the_data_leave_it():
    """(D + P)^-1 with P 0 in its row and column."""
    J, m = field("bilaplacian by length", n=6, small="flat")
    at = J.linearize(m)
    with tight():
        found = Laplace(at, PosteriorSettings(cut=1e-6, rtol=1e-7, prior_rtol=1e-12))
        D = dense(J.space, lambda x, y: at.data_hessian(x, y, True))
        P = dense(J.space, found.prior.precision)
    assert list(found.prior.flat) == ["k"]
    units = {label: unit for label, unit, _ in J.space.units(m)}
    own = whole(units["k"].getArray())[free(J.space)] > 0
    P[own, :] = P[:, own] = 0.0
    C = np.diag(np.linalg.inv(D + P))
    variance = whole(found.variance)[free(J.space)]
    np.testing.assert_allclose(variance, C, rtol=2e-3)
    np.testing.assert_allclose(found.deviation(units["k"]) ** 2, C[own][0], rtol=1e-3)
    for sample in found.posterior_samples(2):
        assert np.isfinite(whole(sample.getArray())).all()
    at.destroy()


@pytest.mark.parallel([1, 2])
def test_a_number_that_no_datum_sees_is_refused():
    J, m = field("bilaplacian by length", n=6, small="flat")
    with J.together():
        J.space.own(m, "k")[...] = -1000.0  # a rate of 0
    with pytest.raises(InputError, match="the prior of k: got none; allowed: a prior"):
        Laplace(J.linearize(m))

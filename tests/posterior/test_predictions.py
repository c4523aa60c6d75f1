"""Bands of predicted data and the coverage against dense matrices."""

import numpy as np
import pytest
from gaussians import COMM, dense, field, free, whole

from npde_opt.ensemble import Ensemble
from npde_opt.linear.accuracy import tight
from npde_opt.posterior import Laplace, PosteriorSettings
from npde_opt.posterior.predictions import bands, coverage


def jacobian(at, space):
    """(data, parameters) of this group's experiments, by block, output and column."""
    rows = []

    def seen(x, out):
        found = at.linearization.apply(x)
        rows.append(np.concatenate([d.gather().ravel() for d in found]))
        out.set(0.0)

    dense(space, seen)
    return np.array(rows).T


def exact(at, found):
    """Deviations of predictions, and roots of sums of squared sensitivities."""
    space = found.space
    jac = jacobian(at, space)
    D = dense(space, lambda x, y: at.data_hessian(x, y, True))
    wide = np.sqrt(np.diag(jac @ dense(space, found.apply) @ jac.T))
    return wide, np.sqrt(np.diag(D))


def told(at, found, samples):
    seen = np.concatenate([d.gather().ravel() for d in bands(found, samples)])
    return seen, whole(coverage(found, at.metrics, samples))[free(found.space)]


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.parametrize("more", [{"masked": True, "small": True}, {"fixed": True}])
def test_what_lies_along_the_pairs_is_known(more):
    J, m = field("bilaplacian by length", n=5, **more)
    at = J.linearize(m)
    with tight():
        settings = PosteriorSettings(cut=1e-9, rtol=1e-7, prior_rtol=1e-12)
        found = Laplace(at, settings)
        for given, wanted in zip(told(at, found, 2), exact(at, found), strict=True):
            np.testing.assert_allclose(given, wanted, rtol=1e-3)


@pytest.mark.parallel([1])
def test_what_lies_beside_them_is_sampled():
    J, m = field("bilaplacian by length", n=5)
    at = J.linearize(m)
    found = Laplace(at, PosteriorSettings(cut=5.0, rtol=1e-5))
    for given, wanted in zip(told(at, found, 80), exact(at, found), strict=True):
        np.testing.assert_allclose(given, wanted, rtol=0.35)


@pytest.mark.parallel([2])
def test_groups_tell_of_their_own_data():
    settings = PosteriorSettings(cut=1e-9, rtol=1e-6)
    found = []
    for groups in (1, 2):
        J, m = field(n=5, ensemble=Ensemble.split(COMM, groups, 2))
        laplace = Laplace(J.linearize(m), settings)
        blocks = bands(laplace, 2)
        own = np.concatenate([d.gather().T for d in blocks])
        everyone = J.ensemble.across.allgather(own)
        seen = J.space.create_vec()
        seen.setArray(coverage(laplace, laplace.at.metrics, 2))
        found.append((np.concatenate(everyone), seen.norm()))
    np.testing.assert_allclose(found[0][0], found[1][0], rtol=1e-3)
    np.testing.assert_allclose(found[0][1], found[1][1], rtol=1e-3)

"""Bands of predicted data, coverage and resolution against dense matrices."""

import numpy as np
import pytest
import scipy.linalg
from gaussians import COMM, dense, field, free, whole

from npde_opt.ensemble import Ensemble
from npde_opt.linear.accuracy import tight
from npde_opt.posterior import Laplace, PosteriorSettings
from npde_opt.posterior.predictions import coverage, resolution, spread

SIGMA = 0.01
"""Of the data of `gaussians.field`."""


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
    """Deviations of predictions, their resolution, and roots of sums of squared sensitivities."""
    space = found.space
    jac = jacobian(at, space)
    D = dense(space, lambda x, y: at.data_hessian(x, y, True))
    JCJ = np.diag(jac @ dense(space, found.apply) @ jac.T)
    return np.sqrt(JCJ), JCJ / SIGMA**2, np.sqrt(np.diag(D))


def told(at, found, samples):
    seen = spread(found, samples)
    of_data = [
        np.concatenate([d.gather().ravel() for d in blocks])
        for blocks in (seen.deviations, seen.resolution)
    ]
    return *of_data, whole(coverage(found, at.metrics, samples))[free(found.space)]


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


@pytest.mark.parallel([1, 2])
@pytest.mark.parametrize("more", [{"masked": True}, {"fixed": True}])
def test_resolution_is_what_the_data_decide(more):
    J, m = field("bilaplacian by length", n=5, **more)
    with tight():
        at = J.linearize(m)
        settings = PosteriorSettings(cut=1e-9, rtol=1e-8, prior_rtol=1e-12)
        found = Laplace(at, settings)
        P, Q = (dense(J.space, a) for a in (found.prior.precision, found.precision))
        own = whole(resolution(found))[free(J.space)]
    wanted = np.diag(np.eye(len(P)) - np.linalg.solve(Q, P))
    np.testing.assert_allclose(own, wanted, atol=1e-4)
    assert own.sum() == pytest.approx(found.determined, rel=1e-6)


def test_resolutions_are_those_of_the_whole_matrices_on_16_by_16():
    """D = J^T W J of 32 data, C = (P + D)^-1, N = J C J^T W and R = C D."""
    J, m = field("bilaplacian by length", n=16)
    space = J.space
    with tight():
        at = J.linearize(m)
        settings = PosteriorSettings(cut=1e-9, rtol=1e-8, prior_rtol=1e-12)
        found = Laplace(at, settings)
        P = dense(space, found.prior.precision)
        rows = []
        for k in range(32):
            unit = [layout.zeros() for layout in J.forward.layouts]
            experiment, place = divmod(k, 16)
            (block,) = (d for d in unit if experiment in d.layout.members)
            block.column(experiment)[place] = 1.0
            g = at.linearization.apply_adjoint(unit)
            rows.append(whole(g.getArray())[free(space)])
            g.destroy()
        of_data = spread(found, 0).resolution
        of_model = whole(resolution(found))[free(space)]
    jac = np.array(rows)
    D = jac.T @ jac / SIGMA**2
    C = scipy.linalg.inv(P + D, check_finite=False)
    N = np.diag(jac @ C @ jac.T) / SIGMA**2
    own = np.concatenate([d.gather().T.ravel() for d in of_data])
    np.testing.assert_allclose(own, N, atol=1e-6)
    R = np.diag(C @ D)
    np.testing.assert_allclose(of_model, R, atol=1e-6 * np.abs(R).max())
    assert N.sum() == pytest.approx(found.determined, rel=1e-6)
    assert N.min() > 0 and N.max() < 1


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
        blocks = spread(laplace, 2).deviations
        own = np.concatenate([d.gather().T for d in blocks])
        everyone = J.ensemble.across.allgather(own)
        seen = J.space.create_vec()
        seen.setArray(coverage(laplace, laplace.at.metrics, 2))
        found.append((np.concatenate(everyone), seen.norm()))
    np.testing.assert_allclose(found[0][0], found[1][0], rtol=1e-3)
    np.testing.assert_allclose(found[0][1], found[1][1], rtol=1e-3)

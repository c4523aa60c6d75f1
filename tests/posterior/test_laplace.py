"""Eigenpairs, variances and samples against dense linear algebra."""

import numpy as np
import pytest
import scipy.linalg
from gaussians import dense, field, free, whole

from npde_opt.linear.accuracy import tight
from npde_opt.posterior import Laplace, PosteriorSettings

EXACT = PosteriorSettings(cut=1e-3, rtol=1e-6, prior_rtol=1e-12)


def matrices(at, prior):
    """D and P."""
    D = dense(prior.space, lambda x, y: at.data_hessian(x, y, True))
    return D, dense(prior.space, prior.precision)


def on(space, own):
    return whole(own)[free(space)]


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.parametrize(
    ("kind", "more"),
    [
        ("bilaplacian", {}),
        ("bilaplacian by length", {"masked": True}),
        ("gradient", {"masked": True, "small": True}),
        ("total-variation", {"fixed": True}),
        ("ridge", {"small": True}),
    ],
)
def test_all_is_as_dense_matrices_say(kind, more):
    J, m = field(kind, n=6, **more)
    at = J.linearize(m)
    with tight():
        found = Laplace(at, EXACT)
        D, P = matrices(at, found.prior)
        values, vectors = scipy.linalg.eigh(D, P)
        values = values[::-1]
        kept = values[values > EXACT.cut]
        assert found.pairs.complete
        np.testing.assert_allclose(found.values, kept, rtol=1e-8)
        C = np.linalg.inv(P + D)
        x, y = J.space.standard_normal(1), J.create_vec()
        found.apply(x, y)
        given, image = on(J.space, x.getArray()), on(J.space, y.getArray())
        size = np.abs(C @ given).max()
        np.testing.assert_allclose(image, C @ given, atol=3e-3 * size)
        found.precision(y, x)
        np.testing.assert_allclose(
            on(J.space, x.getArray()), given, atol=1e-6 * np.abs(given).max()
        )
    prior = on(J.space, found.prior_variance)
    np.testing.assert_allclose(prior, np.diag(np.linalg.inv(P)), rtol=1e-3)
    np.testing.assert_allclose(on(J.space, found.variance), np.diag(C), rtol=2e-3)
    at.destroy()
    J.destroy()


def exact(J, m):
    """The posterior with the exact smallest cut."""
    at = J.linearize(m)
    with tight():
        return at, Laplace(at, PosteriorSettings(cut=1e-9, rtol=1e-8))


@pytest.mark.parallel([1, 2])
@pytest.mark.parametrize(
    ("kind", "more"),
    [
        ("bilaplacian by length", {"masked": True}),
        ("gradient", {"fixed": True}),
        ("total-variation", {"small": True}),
    ],
)
def test_samples_have_the_covariance_of_both(kind, more):
    J, m = field(kind, n=5, **more)
    at, found = exact(J, m)
    count = 200
    for draw, precise, mean in (
        (found.prior_samples, found.prior.precision, found.prior.mean()),
        (found.posterior_samples, found.precision, m),
    ):
        root = np.linalg.cholesky(dense(J.space, precise))
        rows = []
        for sample in draw(count):
            sample.axpy(-1.0, mean)
            rows.append(on(J.space, sample.getArray()) @ root)
            sample.destroy()
        whitened = np.array(rows)
        assert np.abs(whitened.mean(axis=0)).max() < 4.5 / np.sqrt(count)
        errors = np.sqrt(count) * (whitened.T @ whitened / count - np.eye(len(root)))
        np.fill_diagonal(errors, np.diag(errors) / np.sqrt(2))
        assert np.abs(errors).max() < 4.5
        assert 0.9 < np.sqrt(np.mean(errors**2)) < 1.1
    at.destroy()
    J.destroy()

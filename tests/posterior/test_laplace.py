"""Eigenpairs, variances and samples against dense linear algebra."""

import numpy as np
import pytest
import scipy.linalg
from gaussians import dense, field, free, whole
from rates import rate

from npde_opt.errors import InputError
from npde_opt.linear.accuracy import tight
from npde_opt.objective import Objective
from npde_opt.posterior import Laplace, PosteriorSettings, diagonal
from npde_opt.posterior.columns import column, gram
from npde_opt.posterior.eigenpairs import leading
from npde_opt.posterior.prior import Prior

EXACT = PosteriorSettings(cut=1e-3, rtol=1e-6, prior_rtol=1e-12)


def matrices(at, prior):
    """D and P."""
    D = dense(prior.space, lambda x, y: at.data_hessian(x, y, True))
    return D, dense(prior.space, prior.precision)


def on(space, own):
    return whole(own)[free(space)]


KINDS = [
    ("bilaplacian by length", {"masked": True}),
    ("bilaplacian", {"small": "field", "masked": True}),
    ("bilaplacian", {}),
    ("gradient", {"masked": True, "small": True}),
    ("total-variation", {"fixed": True}),
    ("ridge", {"small": True}),
]


@pytest.mark.parallel([1, 2])
@pytest.mark.parametrize(("kind", "more"), KINDS)
def test_all_is_as_dense_matrices_say(kind, more):
    as_dense(kind, more)


@pytest.mark.parallel([3])
@pytest.mark.parametrize(("kind", "more"), KINDS[1:2])
def test_three_ranks_have_what_dense_matrices_say(kind, more):
    as_dense(kind, more)


def as_dense(kind, more):
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


@pytest.mark.parallel([1, 2, 3])
def test_directions_have_the_same_signs_on_any_ranks():
    J, m = field("bilaplacian", n=6)
    at = J.linearize(m)
    vectors = Laplace(at, EXACT).vectors
    fixed = J.space.standard_normal(0)
    along = gram(J.space, column(fixed), vectors)[0]
    assert len(along) > 3 and (along > 0).all()
    at.destroy()
    J.destroy()


def exact(J, m):
    """The posterior with the exact smallest cut."""
    at = J.linearize(m)
    with tight():
        return at, Laplace(at, PosteriorSettings(cut=1e-9, rtol=1e-8))


@pytest.mark.parametrize(
    ("kind", "more"),
    [("gradient", {"fixed": True}), ("total-variation", {"small": True})],
)
def test_samples_have_the_covariance_of_both(kind, more):
    of_samples(kind, more)


@pytest.mark.parallel([1, 2])
def test_ranks_have_samples_with_the_covariance_of_both():
    of_samples("bilaplacian by length", {"masked": True})


def of_samples(kind, more):
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


@pytest.mark.parallel([1, 2])
def test_what_is_fixed_takes_no_part_whatever_a_right_side_is_there():
    J, m = field("bilaplacian by length", n=8, fixed=True)
    at = J.linearize(m)
    numbers = np.arange(*m.getOwnershipRange())
    fixed = numbers % 5 == 0
    found = Laplace(at, PosteriorSettings(), fixed=fixed)
    r, x, y = J.space.standard_normal(1), J.create_vec(), J.create_vec()
    for action in (found.prior.solve, found.apply):
        whole_side, held = r.copy(), r.copy()
        found.prior.mask(held)
        assert held.norm() < whole_side.norm()
        action(whole_side, x)
        action(held, y)
        assert (x.getArray()[fixed] == 0).all()
        assert y.norm() > 0
        y.axpy(-1.0, x)
        assert y.norm() <= 1e-6 * x.norm()
    for wrong in (fixed.astype(int), fixed[:-1]):
        with pytest.raises(InputError, match="bool of shape"):
            Laplace(at, PosteriorSettings(), fixed=wrong)
    at.destroy()
    J.destroy()


@pytest.mark.parallel([1, 2])
def test_sampled_variances_hold_where_data_tell_nearly_all(monkeypatch):
    monkeypatch.setattr(diagonal, "FEW", 0)
    J, m = field("gradient", n=6)
    at = J.linearize(m)
    told = np.where(np.arange(*m.getOwnershipRange()) % 2, 1e6, 0.0)

    def data_hessian(x, out, gauss_newton=False):
        out.setArray(told * x.getArray(readonly=True))

    monkeypatch.setattr(at, "data_hessian", data_hessian)
    found = Laplace(at, PosteriorSettings(cut=1e-3, rtol=1e-6, samples=50))
    P = dense(J.space, found.prior.precision)
    D = np.diag(whole(told))
    error = found.prior_diagonal.errors["D"]
    assert error == pytest.approx(0.2)
    for own, exact_one in ((found.variance, P + D), (found.prior_variance, P)):
        wanted = np.diag(np.linalg.inv(exact_one))
        np.testing.assert_allclose(whole(own), wanted, rtol=4 * error)
    np.testing.assert_allclose(whole(found.variance)[1::2], 1e-6, rtol=1e-2)
    at.destroy()
    J.destroy()


@pytest.mark.parallel([1, 2])
def test_eigenvalues_that_lie_together_are_all_found():
    J, m = field("ridge", n=16)
    at = J.linearize(m)
    prior = Prior(at)
    told = np.where(np.arange(*m.getOwnershipRange()) % 4, 0.0, 400.0)

    def data(x, out):
        products.append(1)
        out.setArray(told * x.getArray(readonly=True))

    products: list[int] = []
    for most, complete in ((1000, True), (40, False)):
        products.clear()
        found = leading(prior, data, PosteriorSettings(most=most))
        assert found.complete == complete
        assert found.products == len(products)
        assert len(found.values) == 64 if complete else len(found.values) <= 40
    at.destroy()
    J.destroy()


@pytest.mark.parallel([1, 2])
def test_small_pairs_beside_very_large_ones_are_seen(monkeypatch):
    """A random block is mostly the largest pairs, whose errors hide the others."""
    J, m = field("ridge", n=16)
    at = J.linearize(m)
    prior = Prior(at)
    one, image = J.space.standard_normal(1), J.create_vec()
    prior.precision(one, image)
    p = image.getArray()[0] / one.getArray()[0]  # of a ridge the same everywhere
    cells = np.arange(*m.getOwnershipRange())
    x = np.where(cells < 5, 1e6, np.where(cells < 45, 0.2, 0.0))

    def data(v, out):
        out.setArray(p * x * v.getArray(readonly=True))

    def rough(b, out, rtol=None):
        """As a solve that is exact to 1e-3."""
        noise = J.space.standard_normal(int(abs(b.norm()) * 1e6) % 1000)
        b.copy(out)
        out.scale(1 / p)
        out.axpy(1e-3 * out.norm() / noise.norm(), noise)

    monkeypatch.setattr(prior, "solve", rough)
    start = np.zeros((len(x), 5))
    start[cells < 5] = np.eye(256)[cells[cells < 5], :5]
    found = leading(prior, data, PosteriorSettings(cut=0.1), np.asfortranarray(start))
    assert found.complete and len(found.values) == 45
    at.destroy()
    J.destroy()


@pytest.mark.parametrize(("relative", "fixed"), [(1e-5, 0.0), (0.0, 0.05)])
def test_rough_products_do_not_lead_on_for_ever(relative, fixed):
    """Errors of the size of what is multiplied hide small pairs in mixtures: these are found once
    they are multiplied by themselves. Where errors are as large there, the search ends."""
    J, m = field("ridge", n=16)
    at = J.linearize(m)
    prior, x = Prior(at), 10.0 ** (5 - np.arange(256) / 5)
    one, image = J.space.standard_normal(1), J.create_vec()
    prior.precision(one, image)
    p = image.getArray()[0] / one.getArray()[0]  # of a ridge the same everywhere

    def data(v, out):
        products.append(1)
        exact = p * x * v.getArray(readonly=True)
        wrong = np.random.default_rng(len(products)).standard_normal(256) / 16
        size = relative * np.linalg.norm(exact) + fixed * np.sqrt(p)
        out.setArray(exact + size * wrong)

    products: list[int] = []
    near = np.random.default_rng(0).standard_normal((256, 30))
    start = np.asfortranarray(np.eye(256)[:, :30] + 1e-2 * near)
    found = leading(prior, data, PosteriorSettings(most=150), start, sure=True)
    assert len(products) < 110
    assert found.complete == (fixed == 0) and found.stuck == (fixed > 0)
    if found.complete:
        wanted = x[: len(found.values)]
        assert (np.abs(found.values - wanted) < 1e-2 * (1 + wanted)).all()
    at.destroy()
    J.destroy()


@pytest.mark.parallel([1, 2])
def test_an_exact_hessian_that_is_no_minimum_is_refused():
    """Far from the answer u = 1 / k bends downward against its data."""
    J, m = rate(sigma=0.2)
    there = J.space.from_values({"k": np.exp(0.8)})
    at = J.linearize(there)
    said = r"posterior.gauss_newton: .* the objective falls, and this is no minimum"
    with pytest.raises(InputError, match=said):
        Laplace(at, PosteriorSettings(gauss_newton=False))
    assert Laplace(at).values[0] > 0
    exact = Laplace(J.linearize(m), PosteriorSettings(gauss_newton=False))
    assert exact.values[0] > 0


@pytest.mark.parallel([1, 2])
def test_a_field_without_a_regularization_has_no_posterior():
    J, m = field(n=5)
    at = Objective(J.forward, J.misfits, {}).linearize(m)
    with pytest.raises(InputError, match="the prior of D: got none; .* improper"):
        Laplace(at)


def test_no_more_columns_are_drawn_than_there_are_directions(monkeypatch):
    J, m = field(n=3)
    at, drawn = J.linearize(m), []
    sample = J.space.standard_normal
    monkeypatch.setattr(
        J.space, "standard_normal", lambda seed: drawn.append(seed) or sample(seed)
    )
    found = Laplace(at, PosteriorSettings(cut=1e-3, block=10_000))
    assert found.pairs.complete and len(drawn) <= 2 * 9
    at.destroy()
    J.destroy()

"""Misfits of several columns are those of the columns, one at a time."""

import numpy as np
import pytest
from mpi4py import MPI

from npde_opt.errors import InputError
from npde_opt.misfits import (
    CorrelatedErrors,
    Huber,
    LeastSquares,
    ProportionalErrors,
    StudentT,
)
from npde_opt.observations import DataLayout

COMM = MPI.COMM_WORLD
TIMES, PLACES, COLUMNS = 3, 4, 5
CORRELATION = 0.6 ** np.abs(np.subtract.outer(np.arange(TIMES), np.arange(TIMES)))
KINDS = {
    "least-squares": LeastSquares,
    "huber": lambda y, s, layout: Huber(y, s, layout, 0.7),
    "student-t": lambda y, s, layout: StudentT(y, s, layout, 3.0),
    "proportional": lambda y, s, layout: ProportionalErrors(y, s, layout, 0.7, 0.1),
    "correlated": lambda y, s, layout: CorrelatedErrors(y, s, layout, CORRELATION),
}


def layout(members):
    """Each rank has some places at all times."""
    places = np.arange(PLACES)[COMM.rank :: COMM.size]
    order = (PLACES * np.arange(TIMES)[:, None] + places).ravel()
    return DataLayout(COMM, TIMES * PLACES, order, tuple(members))


def values(seed):
    return np.random.default_rng(seed).standard_normal((TIMES * PLACES, COLUMNS))


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.parametrize("kind", list(KINDS))
def test_columns_are_misfits_of_their_own(kind):
    y, d, change = values(0), values(1), values(2)
    sigma = 0.5 + np.abs(values(3))
    if kind != "correlated":
        y[2, 1] = np.nan
    whole = KINDS[kind](y, sigma, layout(range(COLUMNS)))
    at = whole.layout.block(d)
    total = 0
    for e in range(COLUMNS):
        own = KINDS[kind](y[:, e], sigma[:, e], layout([e]))
        here = own.layout.block(d[:, e])
        assert whole.values(at)[e] == pytest.approx(own.value(here), rel=1e-13)
        gradient = whole.gradient(at).column(e)
        np.testing.assert_allclose(
            gradient, own.gradient(here).values[:, 0], rtol=1e-12
        )
        for name in ("hessian_metric", "gauss_newton_metric"):
            image, single = whole.layout.block(change), own.layout.block(change[:, e])
            getattr(whole, name)(at).apply(image, slice(e, e + 1))
            getattr(own, name)(here).apply(single)
            np.testing.assert_allclose(image.column(e), single.values[:, 0], rtol=1e-12)
            others = np.arange(COLUMNS) != e
            untouched = whole.layout.block(change).values[:, others]
            np.testing.assert_array_equal(image.values[:, others], untouched)
        part = whole.over([e])
        assert part.count == own.count == whole.counts[e]
        assert part.value(here) == pytest.approx(own.value(here), rel=1e-13)
        total += own.chi_squared(here) * own.count
    assert whole.chi_squared(at) == pytest.approx(total / whole.count, rel=1e-12)


@pytest.mark.parametrize(
    ("y", "sigma", "text"),
    [
        (np.zeros(12), 1.0, "data: got 12 values; allowed: 12 outputs x 5 columns"),
        (
            np.zeros((5, 12)),
            1.0,
            "data: got 5 outputs x 12 columns; allowed: 12 outputs x 5 col",
        ),
        (
            np.zeros((12, 5)),
            np.ones(7),
            r"sigma: got shape \(7,\); allowed: a number, 12 values",
        ),
        (
            np.zeros((12, 5)),
            0.0,
            "sigma: got 0.0; allowed: positive standard deviations",
        ),
    ],
)
def test_shapes_that_do_not_fit_are_named(y, sigma, text):
    with pytest.raises(InputError, match=text):
        LeastSquares(y, sigma, layout(range(COLUMNS)))


def test_sigma_is_one_an_output_one_a_column_or_one_a_datum():
    y, d, own = values(0), values(1), layout(range(COLUMNS))
    for sigma in (np.full(12, 0.5), np.full((1, 5), 0.5), np.full((12, 5), 0.5)):
        misfit = LeastSquares(y, sigma, own)
        assert misfit.value(own.block(d)) == pytest.approx(2 * ((d - y) ** 2).sum())


@pytest.mark.parallel([1, 2, 3])
def test_owned_data_are_those_of_the_whole():
    y, found = values(0), layout(range(COLUMNS))
    y[2, 1] = np.nan
    whole = Huber(y, 0.1, found)
    own = Huber(y[found.order], 0.1, found, owned=True)
    d = found.noise(3)
    assert own.count == whole.count == y.size - 1
    assert own.value(d) == whole.value(d)
    np.testing.assert_array_equal(own.gradient(d).values, whole.gradient(d).values)
    with pytest.raises(InputError, match="owned outputs"):
        LeastSquares(y[found.order, :1], 0.1, found, owned=True)

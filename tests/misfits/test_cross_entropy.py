"""Softmax cross-entropy of columns whose outputs lie on several ranks."""

import numpy as np
import pytest
from mpi4py import MPI

from npde_opt.errors import InputError
from npde_opt.misfits import SoftmaxCrossEntropy
from npde_opt.observations import DataLayout
from npde_opt.runs.verification import MisfitAlone, vector_of
from npde_opt.verify import taylor_test

COMM = MPI.COMM_WORLD
LABELS = np.array([2, 0, np.nan, 3, 2])
RANKS = pytest.mark.parallel([1, 2, 3])


def layout(outputs=4, columns=5):
    """Outputs in turns; of two outputs a third rank has none."""
    order = np.arange(outputs)[COMM.rank :: COMM.size]
    return DataLayout(COMM, outputs, order, tuple(range(columns)))


def expected(d):
    """phi of each column from all outputs."""
    values = np.log(np.exp(d).sum(axis=0))
    known = np.isfinite(LABELS)
    values[known] -= d[LABELS[known].astype(int), np.flatnonzero(known)]
    return np.where(known, values, 0.0)


@RANKS
def test_values_are_the_formula_and_large_outputs_do_not_overflow():
    misfit = SoftmaxCrossEntropy(LABELS, layout())
    d = misfit.layout.noise(0)
    np.testing.assert_allclose(misfit.values(d), expected(d.gather()), rtol=1e-13)
    assert misfit.count == 4
    assert misfit.value(d) == pytest.approx(expected(d.gather()).sum(), rel=1e-13)
    assert misfit.chi_squared(d) == pytest.approx(misfit.value(d) / 2)
    far = d.like(d.values + 1000)
    np.testing.assert_allclose(misfit.values(far), misfit.values(d), rtol=1e-10)
    p = misfit.probabilities(d)
    assert COMM.allreduce(p.sum()) == pytest.approx(5)


@RANKS
def test_derivatives():
    misfit = SoftmaxCrossEntropy(LABELS, layout())
    d, change = misfit.layout.noise(0), misfit.layout.noise(1)
    orders = taylor_test(MisfitAlone(misfit), vector_of(d), vector_of(change))
    assert orders.problems() == [], orders
    forth, back = change.copy(), misfit.layout.noise(2)
    other = back.copy()
    misfit.hessian_metric(d).apply(forth)
    misfit.gauss_newton_metric(d).apply(back)
    assert forth.dot(other) == pytest.approx(back.dot(change), rel=1e-12)
    assert forth.dot(change) > 0
    # A constant more in all outputs of a column changes nothing.
    ones = d.like(np.ones_like(d.values))
    misfit.hessian_metric(d).apply(ones)
    assert np.abs(ones.values).max(initial=0) < 1e-15


@RANKS
def test_some_columns_are_a_misfit_of_their_own():
    misfit = SoftmaxCrossEntropy(LABELS, layout())
    d, picks = misfit.layout.noise(0), [1, 2, 4]
    part = misfit.over(picks)
    own = part.layout.zeros()
    own.values[...] = d.values[:, picks]
    np.testing.assert_allclose(part.values(own), misfit.values(d)[picks], rtol=1e-13)
    assert part.count == 2 and part.layout.members == (1, 2, 4)
    weighted = misfit.layout.noise(1)
    whole = weighted.copy()
    misfit.hessian_metric(d).apply(whole)
    misfit.hessian_metric(d).apply(weighted, slice(1, 3))
    np.testing.assert_allclose(
        weighted.values[:, 1:3], whole.values[:, 1:3], rtol=1e-13
    )
    np.testing.assert_array_equal(
        weighted.values[:, 3:], misfit.layout.noise(1).values[:, 3:]
    )


@RANKS
def test_the_most_probable_class_is_the_first_of_the_largest():
    misfit = SoftmaxCrossEntropy(np.array([1, 0, 1]), layout(2, 3))
    d = misfit.layout.block(np.array([[0.0, 2.0, 5.0], [1.0, 2.0, -1.0]]))
    assert misfit.classes(d).tolist() == [1, 0, 0]
    assert misfit.misread(d) == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("labels", "text"),
    [
        ([0, 1], "labels: got 2 labels; allowed: 5, one a column"),
        ([0, 1, 2, 3, -1], "labels: got -1.0; allowed: whole numbers from 0 to 3"),
        ([0, 1, 2, 3, 0.5], "labels: got 0.5; allowed: whole numbers from 0 to 3"),
        ([0, 1, 2, 3, np.inf], "labels: got inf; allowed: whole numbers from 0 to 3"),
        (["a", "b", "c", "a", "b"], "labels: got .* allowed: whole numbers, or NaN"),
        (
            [0, 1, 2, 3, 7],
            r"labels: got 8 classes \(a label is 7\); allowed: at most 4, one an",
        ),
    ],
)
def test_labels_that_cannot_be_are_named(labels, text):
    with pytest.raises(InputError, match=text):
        SoftmaxCrossEntropy(np.array(labels), layout())

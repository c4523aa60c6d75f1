"""Classifiers whose last layer is solved for: the same on all ranks, whatever the method."""

import numpy as np
import pytest
from mpi4py import MPI

from npde_opt.errors import InputError
from npde_opt.pseudoinverse import Fold, Gram
from npde_opt.pseudoinverse.learning import RIDGES, Online, train

WORLD = MPI.COMM_WORLD


def blobs(count, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(3, size=count)
    return 2 * np.eye(3)[labels] @ np.array(
        [[1, 0], [0, 1], [-1, -1]]
    ) + rng.standard_normal((count, 2)), labels


def cubic(x):
    return np.stack(
        [x[:, 0] ** i * x[:, 1] ** j for i in range(4) for j in range(4 - i)][1:], 1
    )


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.parametrize("method", [Fold, Gram])
@pytest.mark.parametrize("ridge", ["gcv", "held", 0.1])
def test_classes_are_told_apart(method, ridge):
    x, labels = blobs(900)
    own = slice(WORLD.rank, None, WORLD.size)
    found = train(method(9, 3, True, WORLD), cubic, x[own], labels[own], ridge)
    new, wanted = blobs(600, 1)
    confusion = found.confusion(new[own], wanted[own], WORLD)
    assert confusion.sum() == 600
    np.testing.assert_array_equal(confusion.sum(axis=1), np.bincount(wanted))
    assert np.trace(confusion) / 600 > 0.9
    if ridge == "held":
        assert [r for r, _ in found.tried] == list(RIDGES)
        assert min(e for _, e in found.tried) < 0.1
        whole = train(
            Fold(9, 3, True), cubic, x, labels, found.solution.ridge[0]
        ).solution
        np.testing.assert_allclose(found.solution.W, whole.W, atol=1e-6)


@pytest.mark.parallel([1, 2, 3])
def test_the_same_rows_are_held_back_on_any_ranks():
    x, labels = blobs(700)
    alone = train(Fold(9, 3, True), cubic, x, labels)
    numbers = np.arange(700)[WORLD.rank :: WORLD.size]
    apart = slice(*[700 * k // WORLD.size for k in (WORLD.rank, WORLD.rank + 1)])
    for own, of in ((numbers, numbers), (apart, None)):
        fit = Fold(9, 3, True, WORLD)
        found = train(fit, cubic, x[own], labels[own], numbers=of)
        assert found.tried == alone.tried
        np.testing.assert_allclose(found.solution.W, alone.solution.W, atol=1e-9)


def test_no_ridge_that_helps_is_told():
    x, labels = blobs(30)
    with pytest.raises(InputError, match="features"):
        train(
            Gram(3, 3, True, single=True),
            lambda x: np.repeat(x[:, :1] * 1e8, 3, 1),
            x,
            labels,
        )


@pytest.mark.parallel([1, 2])
@pytest.mark.parametrize("method", [Fold, Gram])
def test_samples_that_come_later_count_as_much(method, tmp_path):
    x, labels = blobs(300)
    own = slice(WORLD.rank, None, WORLD.size)
    whole = train(Fold(9, 3, True), cubic, x, labels, 0.1).solution
    x, labels, file = x[own], labels[own], tmp_path / f"{WORLD.rank}.npz"
    begun = Online(method(9, 3, True, WORLD), cubic).partial_fit(x[:70], labels[:70])
    before = begun.readout(0.1).solution.W
    begun.save(file)
    found = (
        Online(method.load(file, WORLD), cubic)
        .partial_fit(x[70:], labels[70:])
        .readout(0.1)
    )
    assert abs(before - whole.W).max() > 1e-3
    np.testing.assert_allclose(found.solution.W, whole.W, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(found.solution.intercept, whole.intercept, rtol=1e-8)


@pytest.mark.parametrize(
    ("labels", "told"), [([0, 3], "got 3"), ([0], "shape"), ([0.5, 1.0], "float64")]
)
def test_labels_that_are_no_classes_are_told(labels, told):
    with pytest.raises(InputError, match=told):
        Online(Fold(9, 3), cubic).partial_fit(np.zeros((2, 2)), np.array(labels))

"""Overlaps of cells are their common lengths, whatever the roundings of edges and the unit."""

import numpy as np
import pytest

from npde_opt.grids.overlap import consecutive, multiply_along, overlap, overlap_lengths

A = np.array([0.0, 0.2, 0.25, 0.7, 1.0])


def by_definition(a, b):
    upper = np.minimum.outer(a[1:], b[1:])
    lower = np.maximum.outer(a[:-1], b[:-1])
    return np.clip(upper - lower, 0, None)


@pytest.mark.parametrize("unit", [1e-12, 1.0, 1e12])
@pytest.mark.parametrize(
    "b",
    [
        A,
        np.linspace(0, 1, 2),
        np.linspace(0, 1, 12),
        np.array([-1.0, 0.1, 0.22, 0.24, 3.0]),
        np.array([0.3, 0.4, 0.5]),
        np.array([2.0, 3.0]),
    ],
)
def test_lengths_and_fractions(b, unit):
    expected = by_definition(A, b)
    found = overlap_lengths(A * unit, b * unit)
    np.testing.assert_allclose(
        found.toarray(), expected * unit, rtol=1e-12, atol=1e-13 * unit
    )
    assert (found.data > 0).all()
    covered = expected.sum(axis=0)[:, None]
    shares = np.divide(
        expected.T, covered, out=np.zeros_like(expected.T), where=covered > 0
    )
    np.testing.assert_allclose(
        overlap(A * unit, b * unit).toarray(), shares, atol=1e-12
    )


def test_rounded_edges_do_not_overlap():
    moved = np.nextafter(A, 2)
    np.testing.assert_array_equal(
        overlap_lengths(A, moved).toarray() > 0, np.eye(4, dtype=bool)
    )
    np.testing.assert_array_equal(overlap(A, moved).toarray(), np.eye(4))


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_products_along_an_axis(axis):
    values = np.random.default_rng(0).random((4, 4, 4))
    fractions = overlap(A, np.linspace(0, 1, 7))
    expected = np.moveaxis(
        np.tensordot(fractions.toarray(), values, (1, axis)), 0, axis
    )
    np.testing.assert_allclose(
        multiply_along(fractions, values, axis), expected, rtol=1e-13
    )
    assert multiply_along(fractions, np.ones((4, 0)), 0).shape == (6, 0)


def test_consecutive_numbers():
    found = consecutive(np.array([5, 0, 7]), np.array([2, 0, 3]))
    assert found.tolist() == [5, 6, 7, 8, 9]
    assert consecutive(np.empty(0, int), np.empty(0, int)).size == 0

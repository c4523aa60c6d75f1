"""Values on other cells of the same box: volume means, or what lies at the middles."""

import numpy as np
import pytest

from npde_opt.cases.resampling import cell_of, nearest_values, resample

FINE = [np.linspace(0, 1, 13), np.linspace(0, 2, 9)]
COARSE = [np.linspace(0, 1, 6), np.linspace(0, 2, 4)]


def test_resampling_keeps_the_mean():
    values = np.random.default_rng(0).random((12, 8))
    assert resample(values, FINE, COARSE).mean() == pytest.approx(
        values.mean(), rel=1e-13
    )


def test_values_stay_on_their_own_cells():
    values = np.random.default_rng(0).random((12, 8))
    np.testing.assert_array_equal(resample(values, FINE, FINE), values)
    np.testing.assert_array_equal(nearest_values(values, FINE, FINE), values)


def test_constants_stay_constants():
    assert resample(np.ones((5, 3)), COARSE, FINE) == pytest.approx(1.0, rel=1e-14)


def test_labels_are_not_averaged():
    labels = np.repeat([0, 2], [6, 6])[:, None] * np.ones(8)
    found = nearest_values(labels, FINE, COARSE)
    assert found[:, 0].tolist() == [0, 0, 2, 2, 2]


def test_places_outside_belong_to_the_first_and_the_last_cell():
    edges = np.array([0.0, 1.0, 3.0])
    assert cell_of(np.array([-1.0, 0.5, 1.0, 2.9, 7.0]), edges).tolist() == [
        0,
        0,
        1,
        1,
        1,
    ]

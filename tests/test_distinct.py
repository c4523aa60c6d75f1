"""Distinct numbers, as np.unique has them."""

import numpy as np
import pytest

from npde_opt.distinct import distinct, numbered


@pytest.mark.parametrize(
    "values", [[], [3], [2, 1, 2, 2, 0, 1], [[0.5, -1.0], [0.5, 2.0]]]
)
def test_distinct_numbers_are_those_of_numpy(values):
    given = np.array(values)
    np.testing.assert_array_equal(distinct(given), np.unique(given))
    found, place = numbered(given.ravel())
    wanted = np.unique(given, return_inverse=True)
    np.testing.assert_array_equal(found, wanted[0])
    np.testing.assert_array_equal(place, wanted[1].ravel())

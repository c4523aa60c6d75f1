"""Measured data are taken by their shape, which says which datum is which."""

import numpy as np
import pytest

from npde_opt.cases.measured import by_experiment, by_time
from npde_opt.errors import InputError


def test_by_experiment():
    values = np.arange(6.0)
    rows, columns = values.reshape(3, 2), values.reshape(2, 3)
    np.testing.assert_array_equal(by_experiment("d", rows, 3, 2, False), rows)
    np.testing.assert_array_equal(by_experiment("d", columns, 3, 2, True), columns.T)
    for shape, total, count in (
        ((6,), 1, 6),
        ((6,), 6, 1),
        ((1, 6), 1, 6),
        ((6, 1), 1, 6),
    ):
        found = by_experiment("d", values.reshape(shape), total, count, False)
        assert found.shape == (total, count)
    for shape in ((2, 3), (6,), (1, 6), (6, 1), (3, 2, 2)):
        with pytest.raises(InputError, match="3 experiments x 2 observations") as error:
            by_experiment("d", np.zeros(shape), 3, 2, False)
        assert ("transposed" in str(error.value)) == (shape == (2, 3))


def test_by_time():
    values = np.arange(24.0)
    for shape in ((24,), (2, 12)):
        found = by_time("d", values.reshape(shape), 2, 12, (4, 3))
        np.testing.assert_array_equal(found, values.reshape(2, 12))
    maps = values.reshape(2, 4, 3)
    flat = [m.ravel(order="F") for m in maps]
    np.testing.assert_array_equal(by_time("d", maps, 2, 12, (4, 3)), flat)
    np.testing.assert_array_equal(by_time("d", maps[0], 1, 12, (4, 3)), flat[:1])
    for given in (values, maps):
        part = by_time("d", given, 2, 12, (4, 3), slice(3, 8))
        whole = values.reshape(2, 12) if given is values else np.array(flat)
        np.testing.assert_array_equal(part, whole[:, 3:8])
    with pytest.raises(InputError, match=r"\(11,\); allowed: 12 values, one a place$"):
        by_time("d", np.zeros(11), 1, 12, None)
    for shape in ((12, 2), (2, 3, 4), (4, 6), (23,)):
        with pytest.raises(InputError, match="times x places") as error:
            by_time("d", np.zeros(shape), 2, 12, (4, 3))
        assert ("transposed" in str(error.value)) == (shape in ((12, 2), (2, 3, 4)))

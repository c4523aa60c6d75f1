"""Nested iteration: the hierarchy of grids, and parameters carried to the next grid."""

import numpy as np
import pytest

from npde_opt.grids import Grid
from npde_opt.nested import grids, prolong
from npde_opt.parameters import ParameterSpace, Unknown


@pytest.mark.parallel([1, 2])
def test_grids_are_coarsest_first():
    finest = Grid((64, 64))
    assert [g.shape for g in grids(finest, 1)] == [(64, 64)]
    assert [tuple(g.shape) for g in grids(finest, 2)] == [(32, 32), (64, 64)]
    found = grids(finest)
    assert found[-1] is finest and len(found) > 2
    assert all(2 * a.shape[0] == b.shape[0] for a, b in zip(found, found[1:], strict=False))


@pytest.mark.parallel([1, 2])
def test_prolonged_parameters_keep_a_constant():
    coarse, fine = (ParameterSpace(g, [Unknown("D", "log")]) for g in grids(Grid((32, 32)), 2))
    m = coarse.from_values({"D": np.full(coarse.grid.local_shape, 3.0)})
    start = fine.from_values({"D": np.full(fine.grid.local_shape, 1.0)})
    out = prolong(coarse, fine, m, start)
    assert out.getArray() == pytest.approx(np.log(3.0), rel=1e-12)
    assert not start.getArray().any()

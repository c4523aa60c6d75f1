"""Peak signal-to-noise ratio by column."""

import numpy as np
import pytest
from mpi4py import MPI

from npde_opt.misfits import PSNR, LeastSquares
from npde_opt.observations import DataLayout

COMM = MPI.COMM_WORLD


@pytest.mark.parallel([1, 2, 3])
def test_columns_with_gaps(size=7):
    """Data that were not observed do not count, and a column without any has no ratio."""
    layout = DataLayout(COMM, size, np.arange(COMM.rank, size, COMM.size), (0, 1, 2, 3))
    rng = np.random.default_rng(0)
    y, d = rng.random((size, 4)), rng.random((size, 4))
    y[2:, 1] = y[:, 2] = np.nan
    d[:, 3] = y[:, 3]
    found = PSNR(2.0)(LeastSquares(y, 0.1, layout), layout.block(d))
    squares = [np.mean((d - y)[:, 0] ** 2), np.mean((d - y)[:2, 1] ** 2)]
    expected = [*(10 * np.log10(4.0 / np.array(squares))), np.nan, np.inf]
    np.testing.assert_allclose(found, expected, rtol=1e-13)

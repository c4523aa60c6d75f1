"""Rows that go to other ranks, and answers that come back; masks of which each rank asks for other
cells."""

import numpy as np
import pytest
from mpi4py import MPI

from npde_opt.grids import Grid
from npde_opt.grids.posted import Posted

COMM = MPI.COMM_WORLD


@pytest.mark.parallel([1, 2, 3])
def test_rows_come_to_their_rank_and_answers_come_back():
    rng = np.random.default_rng(COMM.rank)
    to = rng.integers(0, COMM.size, 7 * COMM.rank)  # of the first rank nothing
    posted = Posted(COMM, to)
    rows = np.stack([to, np.arange(to.size), np.full(to.size, COMM.rank)], axis=1)
    came = posted.there(rows)
    assert (came[:, 0] == COMM.rank).all()
    assert len(came) == COMM.allreduce(np.bincount(to, minlength=COMM.size))[COMM.rank]
    assert (np.diff(came[:, 2]) >= 0).all()
    answers = posted.back(came[:, 1] + 1000.0 * came[:, 2])
    np.testing.assert_array_equal(answers, np.arange(to.size) + 1000 * COMM.rank)


@pytest.mark.parallel([1, 2, 3])
def test_each_rank_asks_a_mask_for_other_cells():
    whole = np.random.default_rng(0).random((9, 7, 4)) > 0.4
    grid = Grid(whole.shape, active=whole)
    rng = np.random.default_rng(10 + COMM.rank)
    cells = [rng.integers(0, n, 20 * COMM.rank + 1) for n in whole.shape]
    np.testing.assert_array_equal(grid.mask.listed(cells), whole[tuple(cells)])

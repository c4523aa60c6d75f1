"""Noise of simulated data is the same on any number of ranks."""

import numpy as np
import pytest
from mpi4py import MPI

from npde_opt.cases.added_noise import FEW, Noise
from npde_opt.observations.shares import Share

COMM = MPI.COMM_WORLD
SIZES = ((3, 50), (1, 4), (2, 900))


def drawn(comm, count):
    """Of two experiments, one without noise of its second observation."""
    share = Share(comm, SIZES)
    noise = Noise(7, share, count)
    asked = [(0, 0), (0, 1), (0, 2), (1, 0), (1, 2)]
    return share, {key: noise.next(*key) for key in asked}


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.parametrize("count", [FEW, FEW + 1])
def test_each_rank_has_its_part_of_what_one_draws(count):
    share, own = drawn(COMM, count)
    _, whole = drawn(MPI.COMM_SELF, count)
    for (e, i), values in own.items():
        assert values.shape == share.shapes[i]
        np.testing.assert_array_equal(values, whole[e, i][:, share.places[i]])


def test_few_data_have_one_generator_and_many_one_each():
    _, few = drawn(MPI.COMM_SELF, FEW)
    stream = np.random.default_rng([7, 2])
    for (_, i), values in few.items():
        wanted = stream.standard_normal(SIZES[i][0] * SIZES[i][1])
        np.testing.assert_array_equal(values.ravel(), wanted)
    _, many = drawn(MPI.COMM_SELF, FEW + 1)
    every = np.concatenate([v.ravel() for v in many.values()])
    assert np.unique(every).size == every.size
    assert abs(every.mean()) < 0.05 and abs(every.std() - 1) < 0.05

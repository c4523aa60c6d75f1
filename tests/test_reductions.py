"""Reductions give every rank the same answer, NaN included."""

import math

import numpy as np
import pytest
from mpi4py import MPI

from npde_opt import errors, reductions

comm = MPI.COMM_WORLD



@pytest.mark.parallel([1, 2, 3])
@pytest.mark.parametrize("at", [0, -1])
def test_a_nan_on_one_rank_is_a_nan_on_all(at):
    mine = math.nan if comm.rank == at % comm.size else float(comm.rank)
    assert math.isnan(reductions.largest(comm, mine))
    assert math.isnan(reductions.smallest(comm, mine))
    assert math.isnan(reductions.total(comm, mine))


@pytest.mark.parallel([1, 2, 3])
def test_arrays_are_reduced_entry_by_entry():
    mine = np.array([comm.rank, -comm.rank, np.nan if comm.rank == 0 else 1.0])
    last = comm.size - 1
    np.testing.assert_array_equal(reductions.largest(comm, mine), [last, 0, np.nan])
    np.testing.assert_array_equal(reductions.smallest(comm, mine), [0, -last, np.nan])
    np.testing.assert_array_equal(reductions.total(comm, mine[:2]), [last * comm.size / 2, -last * comm.size / 2])
    assert reductions.largest(comm, np.arange(2) + comm.rank).dtype.kind == "i"


@pytest.mark.parallel([1, 2, 3])
def test_numbers_stay_numbers():
    assert reductions.largest(comm, comm.rank) == comm.size - 1
    assert reductions.smallest(comm, -math.inf) == -math.inf
    assert isinstance(reductions.total(comm, 1.5), float)
    assert isinstance(reductions.largest(comm, 1.5), float)
    assert isinstance(reductions.total(comm, 1), int)


@pytest.mark.parallel([1, 2, 3])
def test_everywhere_and_anywhere():
    assert reductions.everywhere(comm, True)
    assert reductions.anywhere(comm, comm.rank == 0)
    assert reductions.everywhere(comm, comm.rank == 0) == (comm.size == 1)
    assert not reductions.anywhere(comm, False)


@pytest.mark.parallel([2, 3])
@pytest.mark.parametrize("values", [(1.0, 1.1), (1, 2), (math.nan, 1.0), (1.0, math.nan), (math.inf, 1.0), ("a", "b"),
                                    (None, 1.0), (True, 1.0), (math.inf, -math.inf)])
def test_values_that_differ_are_an_error_on_all_ranks(values):
    with pytest.raises(errors.NpdeError, match="the weight differs between ranks") as failure:
        reductions.same(comm, values[0] if comm.rank == 0 else values[1], "the weight")
    assert all(str(value) in str(failure.value) for value in values)


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.parametrize("value", [1.5, math.nan, math.inf, -math.inf, 0.0, 3, True, "text", None, (1, "a")])
def test_values_that_agree_are_returned(value):
    np.testing.assert_equal(reductions.same(comm, value, "it"), value)
    assert type(reductions.same(comm, value, "it")) is type(value)


@pytest.mark.parallel([2, 3])
def test_rounding_is_no_difference_and_all_go_on_with_the_same_bits():
    found = reductions.same(comm, 0.1 if comm.rank == 0 else 0.1 * (1 + 4e-16), "it")
    assert len(set(comm.allgather(found.hex()))) == 1

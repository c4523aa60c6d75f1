"""Memory of states that is used again."""

import numpy as np
import pytest

from npde_opt.networks.recycled import LEAST, MOST, Recycled

SHAPE = (2, LEAST // 16)
REAL = np.dtype(float)


def address(array):
    return array.__array_interface__["data"][0]


def test_memory_comes_back_with_the_last_view_of_it():
    pool = Recycled()
    first = pool.empty(SHAPE, REAL)
    place, view = address(first), first[1, 3:]
    del first
    other = pool.empty(SHAPE, REAL)
    assert address(other) != place
    del view
    assert pool.held == LEAST
    assert address(pool.empty(SHAPE[::-1], REAL)) == place


def test_another_precision_of_as_many_bytes_may_have_it():
    pool = Recycled()
    place = address(pool.empty(SHAPE, REAL))
    found = pool.zeros((2, *SHAPE), np.dtype(np.float32))
    assert address(found) == place and not found.any()


@pytest.mark.parametrize("size", [LEAST - 1, MOST + 1])
def test_small_and_large_arrays_are_the_systems(size):
    pool = Recycled()
    assert pool.empty((size,), np.dtype(np.uint8)).size == size
    assert pool.held == 0


def test_no_more_is_held_than_is_allowed():
    pool = Recycled(most=LEAST)
    both = [pool.empty(SHAPE, REAL) for _ in range(2)]
    del both[:]
    assert pool.held == LEAST

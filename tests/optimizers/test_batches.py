"""Minibatches without replacement, in an order that seed and epoch alone decide."""

from types import SimpleNamespace

import numpy as np
import pytest

from npde_opt.errors import InputError
from npde_opt.optimizers.batches import Batches


def objective(count):
    return SimpleNamespace(
        numbers=np.arange(count), data_count=count, over=len, of_epoch=len
    )


def test_every_epoch_sees_every_experiment_once_in_another_order():
    batches = Batches(objective(10), 4, seed=3)
    first, second = batches.of(0), batches.of(1)
    assert [b.size for b in first] == [4, 3, 3]
    assert (
        sorted(np.concatenate(first))
        == sorted(np.concatenate(second))
        == list(range(10))
    )
    assert np.concatenate(first).tolist() != np.concatenate(second).tolist()


def test_the_order_is_a_function_of_seed_and_epoch():
    """A resumed run goes on with them."""
    batches = Batches(objective(10), 5, seed=3)
    batches.of(0)
    assert np.concatenate(batches.of(7)).tolist() == [3, 4, 2, 6, 1, 9, 7, 0, 8, 5]
    other = Batches(objective(10), 5, seed=4)
    assert (
        np.concatenate(other.of(7)).tolist() != np.concatenate(batches.of(7)).tolist()
    )


@pytest.mark.parametrize("size", [None, 10, 64])
def test_one_batch_of_all(size):
    assert Batches(objective(10), size, 0).of(0) == [None]


def test_an_objective_that_is_no_sum_has_no_batches():
    with pytest.raises(
        InputError, match="batch: got 4; allowed: None, as this objective"
    ):
        Batches(SimpleNamespace(), 4, 0)

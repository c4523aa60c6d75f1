"""Minibatches without replacement: every epoch all experiments once, in another order.

The order is a function of the seed and of the epoch alone: it is the same on any number of ranks
and of groups, and in a run that was resumed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np

from npde_opt.errors import InputError
from npde_opt.optimizers.interface import Objective


@runtime_checkable
class Divisible(Protocol):
    """An objective that is a sum over experiments, which are data_count data.

    Attributes:
        numbers: of its experiments, as `over` takes them.
    """

    data_count: int

    @property
    def numbers(self) -> np.ndarray: ...

    def over(self, columns: Sequence[int] | np.ndarray) -> Divisible:
        """Of some experiments, scaled so that the mean over parts, weighted by their numbers of
        data, is the whole."""

    def of_epoch(self, epoch: int) -> Divisible:
        """With what is drawn anew for every epoch; itself where nothing is."""


Batch = np.ndarray | None
"""Numbers of experiments; None: all."""


class Batches:
    """Of an objective.

    Args:
        size: experiments a batch at most; batches are as equal as can be. None, or as many as there
            are: one batch of all.

    Raises:
        InputError: for a size where the objective is not a sum over experiments.
    """

    def __init__(self, objective: Objective, size: int | None, seed: int):
        self.seed, self.numbers = seed, np.zeros(1, int)
        if size is not None:
            if not isinstance(objective, Divisible):
                allowed = "None, as this objective is not a sum over experiments"
                raise InputError("batch", size, allowed)
            self.numbers = objective.numbers
        self.count = 1 if size is None else -(-self.numbers.size // size)

    def of(self, epoch: int) -> list[Batch]:
        """Those of an epoch, one after the other."""
        if self.count == 1:
            return [None]
        order = np.random.default_rng([self.seed, epoch]).permutation(self.numbers)
        return list(np.array_split(order, self.count))

"""Standard normal numbers for the noise of simulated data, the same on any number of ranks.

Where all data together are few, one generator draws all of them, one experiment after the other,
and each rank takes its own. Where they are many each rank draws its own alone: those of observation
i of experiment e are the list of numbers of the seed (seed, 2, e, i), place after place.
"""

from __future__ import annotations

import math
from functools import cached_property

import numpy as np

from npde_opt.draws import normal_numbers
from npde_opt.observations.shares import Share

FEW = 1 << 16
"""Data up to which all are drawn by every rank."""


class Noise:
    """Args:
    count: data of all experiments, those without noise included.
    """

    def __init__(self, seed: int, share: Share, count: int):
        self.seed, self.share, self.few = seed, share, count <= FEW

    @cached_property
    def _stream(self) -> np.random.Generator:
        """Made where noise is asked for: numpy loads what draws it."""
        return np.random.default_rng([self.seed, 2])

    def skip(self, i: int) -> None:
        """Goes past the data of an observation of an experiment that other ranks have."""
        if self.few:
            self._stream.standard_normal(math.prod(self.share.sizes[i]))

    def next(self, e: int, i: int) -> np.ndarray:
        """Of the own data of an observation of an experiment (times, own places): of few data to
        be asked for in the order of experiments and observations."""
        own, (times, places) = self.share.places[i], self.share.sizes[i]
        if self.few:
            whole = self._stream.standard_normal(math.prod((times, places)))
            return np.asarray(whole.reshape(times, places)[:, own])
        numbers = np.arange(own.start * times, own.stop * times)
        drawn = normal_numbers([self.seed, 2, e, i], numbers)
        return drawn.reshape(-1, times).T

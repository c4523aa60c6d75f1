"""What is known of a case's experiments: a group of ranks has the data of its own ones, and a rank
of it its share of the places of every observation (see observations/shares.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from mpi4py import MPI

from npde_opt.observations.shares import Share


@dataclass(frozen=True)
class HeldOut:
    """Data that are not fitted.

    Attributes:
        name: what they are, in words.
        observed, noise: as those of `Data`, NaN for what they do not hold.
    """

    name: str
    observed: list[np.ndarray]
    noise: list[np.ndarray]


@dataclass(frozen=True)
class Data:
    """What is known of a group's experiments, of which each rank has its share.

    Attributes:
        numbers: of these experiments among all.
        share: which data are this rank's.
        observed: by experiment, own values by observation, time and place (NaN: not observed).
        sigma: their standard deviations, as the misfit takes them.
        origin: where they come from, in words.
        noise: variances that the spread of replicates tells, by experiment (NaN: not known).
        held_out: what was measured and is not fitted.
    """

    numbers: range
    share: Share
    observed: list[np.ndarray]
    sigma: list[np.ndarray]
    origin: str
    noise: list[np.ndarray]
    held_out: list[HeldOut]

    def of(
        self, values: list[np.ndarray], experiments: Sequence[int]
    ) -> list[np.ndarray]:
        """Of these lists those of some experiments, by their numbers among all."""
        return [values[self.numbers.index(e)] for e in experiments]

    def moved(self, comm: MPI.Intracomm) -> Data:
        """The same on a part of the ranks, which has all of them. Collective on all ranks."""
        share = Share(comm, self.share.sizes)
        found = self._each(lambda values: self.share.moved(values, share))
        return replace(found, share=share)

    def of_all(self, comm: MPI.Intracomm, count: int) -> Data:
        """The same of all `count` experiments, of which groups of ranks have their own, shared by
        all ranks. Collective."""

        def made(values: list[np.ndarray]) -> list[np.ndarray]:
            own = dict(zip(self.numbers, values, strict=True))
            return self.share.of_all(own, comm, count)

        found = self._each(made)
        return replace(found, numbers=range(count), share=self.share.over(comm))

    def _each(self, made: Callable[[list[np.ndarray]], list[np.ndarray]]) -> Data:
        """With other lists in place of all that are by experiment."""
        return replace(
            self,
            observed=made(self.observed),
            sigma=made(self.sigma),
            noise=made(self.noise),
            held_out=[
                replace(h, observed=made(h.observed), noise=made(h.noise))
                for h in self.held_out
            ],
        )

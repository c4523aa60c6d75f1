"""x' = (x - shift) / scale of each channel, stored with a model: what samples become before a
network sees them, and outputs after."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from mpi4py import MPI

from npde_opt import reductions


@dataclass(frozen=True, eq=False)
class Normalisation:
    """Args:
    shift, scale: of each channel (channels,).
    """

    shift: np.ndarray
    scale: np.ndarray

    @classmethod
    def none(cls, channels: int) -> Normalisation:
        return cls(np.zeros(channels), np.ones(channels))

    @classmethod
    def standard(cls, comm: MPI.Intracomm, values: np.ndarray) -> Normalisation:
        """Mean 0 and deviation 1 of each channel; a channel that does not vary is only shifted.
        Collective.

        Args:
            comm: all ranks, which have different samples or cells.
            values: this rank's [sample, channel, k, j, i].
        """
        axes = (0, 2, 3, 4)
        cells = float(values.size // max(values.shape[1], 1))
        count = reductions.total(comm, cells)
        mean = reductions.total(comm, values.sum(axes, dtype=float)) / count
        away = values - by_channel(mean)
        variance = reductions.total(comm, (away**2).sum(axes, dtype=float)) / count
        deviation = np.sqrt(variance)
        return cls(mean, np.where(deviation > 0, deviation, 1.0))

    @property
    def trivial(self) -> bool:
        """Whether it changes nothing."""
        return not self.shift.any() and bool((self.scale == 1).all())

    def apply(self, values: np.ndarray) -> np.ndarray:
        """Of [sample, channel, k, j, i], in its precision; the same array where it is trivial."""
        if self.trivial:
            return values
        found = (values - by_channel(self.shift)) / by_channel(self.scale)
        return np.asarray(found, values.dtype)

    def undo(self, values: np.ndarray) -> np.ndarray:
        found = values * by_channel(self.scale) + by_channel(self.shift)
        return np.asarray(found, values.dtype)


def by_channel(numbers: np.ndarray) -> np.ndarray:
    """(channels,) so that it broadcasts to [sample, channel, k, j, i]."""
    return numbers[:, None, None, None]

"""x' = (x - shift) / scale of each channel, or of sqrt(x), stored with a model: what samples become
before a network sees them, and outputs after."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from mpi4py import MPI

from npde_opt import reductions
from npde_opt.errors import InputError, collective


@dataclass(frozen=True, eq=False)
class Normalisation:
    """Args:
    shift, scale: of each channel (channels,).
    roots: whether x is replaced by its square root: counts then vary as much at all sizes.
    """

    shift: np.ndarray
    scale: np.ndarray
    roots: bool = False

    @classmethod
    def none(cls, channels: int) -> Normalisation:
        return cls(np.zeros(channels), np.ones(channels))

    @classmethod
    def standard(
        cls, comm: MPI.Intracomm, values: np.ndarray, roots: bool = False
    ) -> Normalisation:
        """Mean 0 and deviation 1 of each channel, or of its roots; a channel that does not vary is
        only shifted. Collective.

        Args:
            comm: all ranks, which have different samples or cells.
            values: this rank's [sample, channel, k, j, i].

        Raises:
            InputError: for roots of negative numbers.
        """
        with collective(comm):
            values = _roots(values) if roots else values
        axes = (0, 2, 3, 4)
        cells = float(values.size // max(values.shape[1], 1))
        count = reductions.total(comm, cells)
        mean = reductions.total(comm, values.sum(axes, dtype=float)) / count
        away = values - by_channel(mean)
        variance = reductions.total(comm, (away**2).sum(axes, dtype=float)) / count
        deviation = np.sqrt(variance)
        return cls(mean, np.where(deviation > 0, deviation, 1.0), roots)

    @property
    def trivial(self) -> bool:
        """Whether it changes nothing."""
        return not (self.roots or self.shift.any()) and bool((self.scale == 1).all())

    def apply(self, values: np.ndarray) -> np.ndarray:
        """Of [sample, channel, k, j, i], in its precision; the same array where it is trivial.

        Raises:
            InputError: for roots of negative numbers.
        """
        if self.trivial:
            return values
        plain = _roots(values) if self.roots else values
        found = (plain - by_channel(self.shift)) / by_channel(self.scale)
        return np.asarray(found, values.dtype)

    def undo(self, values: np.ndarray) -> np.ndarray:
        found = values * by_channel(self.scale) + by_channel(self.shift)
        if self.roots:
            found = np.maximum(found, 0) ** 2
        return np.asarray(found, values.dtype)

    def over(self, channels: int) -> Normalisation:
        """Of so many channels, among which each of these has an equal share, one after the other:
        what lies on cells may be the outputs of a dense layer."""
        return self.of_outputs(np.arange(channels), channels)

    def of_outputs(self, order: np.ndarray, size: int) -> Normalisation:
        """With some of the outputs of a sample, channel by channel, as channels.

        Args:
            order: numbers of these outputs. size: of all.
        """
        channel = order // (size // len(self.scale))
        return Normalisation(self.shift[channel], self.scale[channel], self.roots)


def by_channel(numbers: np.ndarray) -> np.ndarray:
    """(channels,) so that it broadcasts to [sample, channel, k, j, i]."""
    return numbers[:, None, None, None]


def _roots(values: np.ndarray) -> np.ndarray:
    if (values < 0).any():
        raise InputError(
            "data.normalisation", f"roots of {values.min():g}", "numbers >= 0"
        )
    return np.asarray(np.sqrt(values), values.dtype)

"""What samples give to a network: their cells at its first layer, or one step after the other of
sequences; with noise, where the case adds some.

Noise of a sample is drawn for all of its cells, from the seed and the number of the sample, so that
it is the same on any number of ranks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from npde_opt.errors import InputError
from npde_opt.grids import Grid
from npde_opt.networks import Place
from npde_opt.training.samples import WHOLE, Box, Samples, Shape


class Given:
    """Inputs of a group's samples; see networks.Inputs.

    Args:
        inputs: normalised, at this rank's cells [sample, channel, k, j, i].
        sequence: whether part n of a sample is step n along x, else part 0 is the whole.
    """

    def __init__(self, inputs: np.ndarray, sequence: bool = False):
        self.inputs, self.sequence = inputs, sequence

    def __len__(self) -> int:
        return len(self.inputs)

    def part(self, number: int, samples: Sequence[int], place: Place) -> np.ndarray:
        chosen = self.chosen(samples)
        if self.sequence:
            chosen = chosen[..., number : number + 1]
        shape = place.shape(len(samples))
        found = np.moveaxis(chosen, 1, 0)
        if found.shape[0] != place.channels or found.size != int(np.prod(shape)):
            there = f"{chosen.shape[1]} channels on {chosen.shape[2:]} cells"
            allowed = f"{place.channels} channels on {place.cells} cells (z, y, x)"
            raise InputError("inputs", there, allowed)
        return found.reshape(shape)

    def chosen(self, samples: Sequence[int]) -> np.ndarray:
        """The inputs of some samples."""
        return np.asarray(self.inputs[_range(samples)])


Draw = Callable[[np.ndarray, Sequence[int], int], np.ndarray]
"""(inputs without noise, numbers of the group's samples, epoch): inputs with noise, normalised."""


class Fresh(Given):
    """Inputs with noise that every epoch of a training draws anew.

    Args:
        inputs: with the noise that the samples have otherwise.
        clean: without noise, not normalised.
    """

    def __init__(
        self, inputs: np.ndarray, clean: np.ndarray, draw: Draw, sequence: bool = False
    ):
        super().__init__(inputs, sequence)
        self.clean, self.draw = clean, draw

    def of_epoch(self, epoch: int) -> Given:
        return OfEpoch(self.clean, self.draw, epoch, self.sequence)


class OfEpoch(Given):
    """Inputs of one epoch. Those that were asked for last are kept: several layers read them."""

    def __init__(
        self, clean: np.ndarray, draw: Draw, epoch: int, sequence: bool = False
    ):
        super().__init__(clean, sequence)
        self.draw, self.epoch = draw, epoch
        self._last: tuple[tuple[int, ...], np.ndarray] = ((), clean[:0])

    def chosen(self, samples: Sequence[int]) -> np.ndarray:
        asked = tuple(samples)
        if asked != self._last[0]:
            self._last = asked, self.draw(super().chosen(samples), asked, self.epoch)
        return self._last[1]


def _range(samples: Sequence[int]) -> Sequence[int] | slice:
    """Neighbours as a slice, which copies nothing."""
    numbers = np.asarray(samples)
    if numbers.size and (np.diff(numbers) == 1).all():
        return slice(int(numbers[0]), int(numbers[-1]) + 1)
    return samples


def noisy(
    inputs: np.ndarray,
    deviation: float,
    seed: int,
    numbers: Sequence[int],
    shape: Shape,
    box: Box,
) -> np.ndarray:
    """Inputs with normal noise.

    Args:
        inputs: at the cells of `box` of samples of this `shape`.
        numbers: of the samples.
    """
    out = inputs.copy()
    for own, number in zip(out, numbers, strict=True):
        every = np.random.default_rng([seed, int(number)]).standard_normal(
            (len(own), *shape)
        )
        own += deviation * every[(slice(None), *box)]
    return out


@dataclass(frozen=True)
class Cells:
    """Where the targets of some samples lie.

    Args:
        whole: cells of a whole target.
        box: this rank's of them.
    """

    whole: Shape
    box: Box

    @classmethod
    def of(cls, samples: Samples, shape: Shape, box: Box) -> Cells:
        """Targets lie on the inputs' cells where there are as many of them, else are whole.

        Args:
            shape: of whole inputs. box: this rank's cells of them.
        """
        there = samples.targets.shape[2:]
        if there == samples.inputs.shape[2:]:
            return cls(shape, box)
        return cls(there, WHOLE)

    def inside(self, targets: np.ndarray, margin: int) -> np.ndarray:
        """Targets [sample, channel, k, j, i] without those near the sides, which are NaN. Raises
        InputError where none are left."""
        axes = [n for n in self.whole if n > 1]
        if 2 * margin >= min(axes, default=1):
            allowed = f"less than half of the {min(axes, default=1)} cells of a sample"
            raise InputError("loss.margin", margin, allowed)
        out = targets.copy()
        for axis, (n, part) in enumerate(zip(self.whole, self.box, strict=True), 2):
            place = np.arange(n)[part]
            near = (place < margin) | (place >= n - margin)
            if n > 1:
                out[(slice(None),) * axis + (near,)] = np.nan
        return out


def cells_along(shape: Shape) -> tuple[int, ...]:
    """Cells along x, y, z of samples [k, j, i], without the axes that they do not have."""
    cells = list(shape[::-1])
    while len(cells) > 1 and cells[-1] == 1:
        cells.pop()
    return tuple(cells)


def box_of(grid: Grid) -> Box:
    """This rank's cells [k, j, i]."""
    missing = [slice(0, 1)] * (3 - grid.dim)
    k, j, i = missing + list(grid.local_slice[::-1])
    return (k, j, i)

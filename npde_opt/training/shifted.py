"""More samples from few: copies of pictures that are shifted by a few cells, 0 where nothing comes
in. How far is drawn from the seed and the number of the copy, the same on any number of ranks."""

from __future__ import annotations

import numpy as np

from npde_opt.errors import InputError
from npde_opt.training.samples import WHOLE, Box, Source


class Shifted(Source):
    """Each sample of a source `copies` times: copy c of sample n has the number copies n + c, and
    copy 0 is the sample itself.

    Args:
        source: labelled.
        most: cells along each axis at most.

    Raises:
        InputError: for a source without labels.
    """

    def __init__(self, source: Source, copies: int, most: int, seed: int = 0):
        if source.labels is None:
            raise InputError("data.copies", copies, "1, where there are no classes")
        self.name, self.channels, self.shape = (
            source.name,
            source.channels,
            source.shape,
        )
        self.classes, self.files = source.classes, source.files
        self.count = source.count * copies
        self.labels = np.repeat(source.labels, copies)
        self._source, self._copies, self._most, self._seed = source, copies, most, seed

    def of(self, numbers: np.ndarray) -> np.ndarray:
        """Numbers of all copies of some samples."""
        copies = np.arange(self._copies)
        return (self._copies * numbers[:, None] + copies).ravel()

    def _inputs(self, numbers: np.ndarray, box: Box, dtype: np.dtype) -> np.ndarray:
        samples, place = np.unique(numbers // self._copies, return_inverse=True)
        whole = self._source.samples(samples, WHOLE, dtype.type).inputs
        empty = np.empty((self.channels, *self.shape), np.uint8)[(slice(None), *box)]
        out = np.empty((len(numbers), *empty.shape), dtype)
        for own, number, sample in zip(out, numbers, place, strict=True):
            own[...] = moved(whole[sample], self._shift(int(number)))[
                (slice(None), *box)
            ]
        return out

    def _shift(self, number: int) -> tuple[int, int, int]:
        """Cells along z, y, x."""
        if number % self._copies == 0:
            return 0, 0, 0
        drawn = np.random.default_rng([self._seed, number]).integers(
            -self._most, self._most + 1, 3
        )
        k, j, i = (
            int(d) if n > 1 else 0 for d, n in zip(drawn, self.shape, strict=True)
        )
        return k, j, i


def moved(values: np.ndarray, shift: tuple[int, int, int]) -> np.ndarray:
    """[channel, k, j, i] with each value so many cells further."""
    out = np.zeros_like(values)
    to, off = [slice(None)], [slice(None)]
    for cells, n in zip(shift, values.shape[1:], strict=True):
        to.append(slice(max(cells, 0), n + min(cells, 0)))
        off.append(slice(max(-cells, 0), n - max(cells, 0)))
    out[tuple(to)] = values[tuple(off)]
    return out

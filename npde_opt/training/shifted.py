"""More samples from few: copies of pictures that are shifted by a few cells, turned and bent, 0
where nothing comes in,

    copy(x) = picture(c + R (x - c) - s + d(x)),

c the middle, R a turn, s the shift and d a smooth field. All is drawn from the seed and the number
of the copy, the same on any number of ranks.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from npde_opt.errors import InputError
from npde_opt.training.samples import WHOLE, Box, Source
from npde_opt.training.warped import Bumps, between

TOGETHER = 64
"""Bent copies that are made at once: few enough to stay in the cache."""


class Shifted(Source):
    """Each sample of a source `copies` times: copy c of sample n has the number copies n + c, and
    copy 0 is the sample itself.

    Args:
        source: labelled.
        most: cells along each axis at most.
        turn: degrees at most.
        bend: standard deviation of d, in cells.

    Raises:
        InputError: for a source without labels, and for turns of what is no picture.
    """

    def __init__(
        self,
        source: Source,
        copies: int,
        most: int,
        seed: int = 0,
        turn: float = 0.0,
        bend: float = 0.0,
    ):
        if source.labels is None:
            raise InputError("data.copies", copies, "1, where there are no classes")
        depth, *cells = source.shape
        plane = depth == 1 and min(cells) > 1
        for name, value in (("turn", turn), ("bend", bend)):
            if value and not plane:
                allowed = "0, where samples are no pictures of two axes"
                raise InputError(f"data.{name}", value, allowed)
        self._turn, self._bend = math.radians(turn), bend
        self._bumps = Bumps(source.shape[1:]) if bend else None
        self.name, self.channels, self.shape = (
            source.name,
            source.channels,
            source.shape,
        )
        self.classes, self.files = source.classes, source.files
        self.count = source.count * copies
        self.labels = np.repeat(source.labels, copies)
        self._source, self._copies, self._most, self._seed = source, copies, most, seed
        self._drawn = np.zeros((self.count, 3), np.int32)
        self._known = np.zeros(self.count, bool)

    def of(self, numbers: np.ndarray) -> np.ndarray:
        """Numbers of all copies of some samples."""
        copies = np.arange(self._copies)
        return (self._copies * numbers[:, None] + copies).ravel()

    def _inputs(self, numbers: np.ndarray, box: Box, dtype: np.dtype) -> np.ndarray:
        samples, place = np.unique(numbers // self._copies, return_inverse=True)
        whole = self._source.samples(samples, WHOLE, dtype.type).inputs
        empty = np.empty((self.channels, *self.shape), np.uint8)[(slice(None), *box)]
        out = np.empty((len(numbers), *empty.shape), dtype)
        bent = bool(self._turn or self._bend)
        for first in range(0, len(numbers) if bent else 0, TOGETHER):
            some = slice(first, first + TOGETHER)
            whole_copies = self._bent(whole[place[some]], numbers[some])
            out[some] = whole_copies[(slice(None), slice(None), *box)]
        if not bent:
            shifts = self._shifts(numbers)
            for first in range(0, len(numbers), TOGETHER):
                some = slice(first, first + TOGETHER)
                copies = moved(whole[place[some]], shifts[some])
                out[some] = copies[(slice(None), slice(None), *box)]
        return out

    def _shifts(self, numbers: np.ndarray) -> np.ndarray:
        """Cells along z, y, x [number, 3]; drawn once, as that takes longer than to shift."""
        for number in numbers[~self._known[numbers]].tolist():
            if number % self._copies:
                rng = np.random.default_rng([self._seed, number])
                self._drawn[number] = self._shift(rng)
        self._known[numbers] = True
        return self._drawn[numbers]

    def _shift(self, rng: np.random.Generator) -> tuple[int, int, int]:
        """Cells along z, y, x."""
        drawn = rng.integers(-self._most, self._most + 1, 3)
        k, j, i = (
            int(d) if n > 1 else 0 for d, n in zip(drawn, self.shape, strict=True)
        )
        return k, j, i

    def _bent(self, values: np.ndarray, numbers: np.ndarray) -> np.ndarray:
        """Copies of these numbers of samples [sample, channel, 1, j, i]."""
        copies = np.flatnonzero(numbers % self._copies)
        y, x = (np.empty((copies.size, *self.shape[1:])) for _ in range(2))
        for at, number in enumerate(numbers[copies].tolist()):
            rng = np.random.default_rng([self._seed, number])
            _, j, i = self._shift(rng)
            down, across = turned(self.shape[1:], rng.uniform(-self._turn, self._turn))
            y[at], x[at] = down - j, across - i
            if self._bumps is not None:
                y[at] += self._bend * self._bumps.field(rng)
                x[at] += self._bend * self._bumps.field(rng)
        out = values.copy()
        out[copies] = between(values[copies], y, x)
        return out


def turned(shape: tuple[int, ...], angle: float) -> tuple[np.ndarray, np.ndarray]:
    """c + R (x - c): rows and columns [j, i] of the cells, turned around the middle."""
    rows, columns = shape
    y = np.arange(rows)[:, None] - (rows - 1) / 2
    x = np.arange(columns) - (columns - 1) / 2
    cos, sin = math.cos(angle), math.sin(angle)
    return cos * y + sin * x + (rows - 1) / 2, cos * x - sin * y + (columns - 1) / 2


def moved(values: np.ndarray, shifts: np.ndarray) -> np.ndarray:
    """Samples [sample, channel, k, j, i] with each value so many cells [sample, 3] further."""
    cells = values.shape[2:]
    most = np.abs(shifts).max(axis=0, initial=0)
    padded = np.pad(values, [(0, 0), (0, 0), *((m, m) for m in most)])
    windows = sliding_window_view(padded, cells, axis=(2, 3, 4))
    k, j, i = (most - shifts).T
    return windows[np.arange(len(values)), :, k, j, i]

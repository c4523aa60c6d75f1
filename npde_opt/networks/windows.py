"""The two loops of a convolution on a box of outputs,

    product   y_c(I) = sum_{d, t} W[c, d, t] P_d(o + s I + e t)
    gather    G[c, d, t] = sum_I y_c(I) P_d(o + s I + e t).

What a box reads is copied once, with its ghosts, by the place of cells of x in a stride,

    read [p, d, s, z, y, x] = P_d(o + p + s x),

where what a tap reads of a row of outputs lies in one piece: at x + e t // s of place e t % s. Of
short rows, those of several samples lie in each other, [p, d, z, y, (x, s)], as one long row.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from npde_opt.grids.halo import ALL, Ghosts, Range
from npde_opt.networks.reads import Reads
from npde_opt.networks.strips import WORK, Box, Flat

if TYPE_CHECKING:
    from npde_opt.networks.sums_of_rows import Rows

SHORT = 64
"""Cells of a row, below which the loops lose by the ends of rows."""


@lru_cache(maxsize=64)
def _places(reads: Reads) -> tuple[dict[int, int], int]:
    """Of x: the places in a stride that taps read, with how many strides beyond the last output
    each is read; and the largest of these."""
    stride, dilation, taps = reads.strides[-1], reads.dilations[-1], reads.taps[-1]
    beyond: dict[int, int] = {}
    for t in range(taps):
        shift, place = divmod(dilation * t, stride)
        beyond[place] = max(beyond.get(place, 0), shift)
    return beyond, max(beyond.values())


@lru_cache(maxsize=256)
def _offsets(reads: Reads, channels: int, steps: tuple[int, ...]) -> np.ndarray:
    """Where taps (d, tz, ty, tx) read in an array whose neighbours along p, d, s, z, y, x are so
    far from each other."""
    from npde_opt.networks.sums_of_rows import longer

    lead = (1,) * (3 - len(reads.taps))
    taps, dilations = (*lead, *reads.taps), (*lead, *reads.dilations)
    d, z, y, x = np.indices((channels, *taps)).reshape(4, -1)
    shift, place = np.divmod(dilations[2] * x, reads.strides[-1])
    number = {p: n for n, p in enumerate(_places(reads)[0])}
    p = np.array([number[int(at)] for at in place])
    z, y = dilations[0] * z, dilations[1] * y
    return longer(np.array(steps) @ np.stack([p, d, 0 * d, z, y, shift]))


@dataclass(frozen=True)
class Arranged:
    """What the outputs of a box read, for the loops.

    Args:
        offsets: where taps read in the line.
        steps: from row to row (s, k, j) of outputs.
        beside: samples that lie beside each other along x; None: they are rows of their own.
    """

    line: np.ndarray
    offsets: np.ndarray
    steps: tuple[int, int, int]
    beside: int | None


class Windows:
    """The loops over what a state with its ghosts has at the boxes of outputs.

    Args:
        ghosts: of planes [d, s, k, j, i].
        w: weights [c, d, tz, ty, tx].
    """

    def __init__(self, ghosts: Ghosts, reads: Reads, w: np.ndarray):
        from npde_opt.networks import sums_of_rows

        self.ghosts, self.reads, self.loops = ghosts, reads, sums_of_rows
        self.dtype, self.shape = ghosts.values.dtype, w.shape
        self._w = sums_of_rows.whole(w.reshape(len(w), -1), self.dtype)
        self._total = np.zeros(self._w.shape)
        self._missing = (1,) * (3 - len(reads.taps))
        self._kept: Arranged | None = None
        # Says in the workspace what is there, and holds no state there.
        self._own = object()
        self._of: Box | None = None

    def _arranged(self, box: Box, length: int) -> Arranged:
        """Asked for again, of the last box, it is there.

        Args:
            length: outputs along x.
        """
        if self._of is box and self._kept is not None and WORK.owner is self._own:
            return self._kept
        samples = box.samples.stop - box.samples.start
        beside = samples if samples > 1 and length < SHORT else None
        line, read = self._read(box, length, beside)
        steps = tuple(n // line.itemsize for n in read.strides)
        s_z, s_y, _ = (*self._missing, *self.reads.strides)
        rows = (steps[2] if beside is None else 0, s_z * steps[3], s_y * steps[4])
        offsets = _offsets(self.reads, self.shape[1], steps)
        self._of, self._kept = box, Arranged(line, offsets, rows, beside)
        WORK.owner = self._own
        return self._kept

    def late(self, box: Box) -> bool:
        """Whether the outputs of a box read what other ranks bring; see Reading."""
        width, n = self.ghosts.widths[0], self.ghosts.owned[0]
        return self.ghosts.waits((*self._outer(box), (0, n + 2 * width, 1)))

    def _outer(self, box: Box) -> list[Range]:
        """The rows along z and y that the outputs of a box read."""
        reads = self.reads
        *spans, _ = reads.spans([*(r.stop - r.start for r in box.rows), 1])
        axes = zip(reads.offsets, reads.strides, box.rows, spans, strict=False)
        return [(o + s * r.start, n, 1) for o, s, r, n in axes]

    def _read(
        self, box: Box, length: int, beside: int | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """What the outputs of a box read, as it lies, and as [p, d, s, z, y, x]."""
        reads, (beyond, most) = self.reads, _places(self.reads)
        outer = self._outer(box)
        spans = [n for _, n, _ in outer]
        channels, samples = self.shape[1], box.samples.stop - box.samples.start
        cells = (*spans, length + most)
        lead = (len(beyond), channels)
        shape = (*lead, samples, *cells) if beside is None else (*lead, *cells, beside)
        line = WORK.take("read", shape, self.dtype)
        found = line if beside is None else np.moveaxis(line, -1, 2)
        for part, (place, more) in zip(found, beyond.items(), strict=True):
            x = (reads.offsets[-1] + place, length + more, reads.strides[-1])
            there = part[..., : length + more]
            self.ghosts.read(there, (ALL, box.samples), (*outer, x))
        missing = tuple(range(3, 3 + len(self._missing)))
        return line.reshape(-1), np.expand_dims(found, missing)

    def _beside(self, like: np.ndarray, samples: int) -> np.ndarray:
        """An array for outputs [c, k, j, (i, s)] of a box."""
        channels, _, *rows, length = like.shape
        shape = (channels, *self._missing, *rows, length * samples)
        return WORK.take("outputs", shape, self.dtype)

    def product(self, box: Box, out: np.ndarray, add: bool = False) -> None:
        """out [c, s, k, j, i] of the box = or += W * P."""
        read = self._arranged(box, out.shape[-1])
        if read.beside is None:
            self._combine(read, out, add)
            return
        found = self._beside(out, read.beside)
        self._combine(read, found[:, None], False)
        by_sample = np.moveaxis(_by_cell(found, out), -1, 1)
        if add:
            out += by_sample
        else:
            out[...] = by_sample

    def _rows(self, read: Arranged, results: np.ndarray) -> Rows:
        """What the loops read and their results."""
        to = Flat(results)
        box = to.line, to.counts, to.steps, to.length
        return read.offsets, read.line, read.steps, *box

    def _combine(self, read: Arranged, out: np.ndarray, add: bool) -> None:
        self.loops.combine(self._w, *self._rows(read, out), add)

    def gather(self, box: Box, y: np.ndarray) -> None:
        """Adds y (x) P of a box to the total; y [c, s, k, j, i] of the box."""
        read = self._arranged(box, y.shape[-1])
        if read.beside is not None:
            rows = self._beside(y, read.beside)
            _by_cell(rows, y)[...] = np.moveaxis(y, 1, -1)
            y = rows[:, None]
        self.loops.gather(self._total, *self._rows(read, y))

    @property
    def weights(self) -> np.ndarray:
        """The total so far, of the shape of w."""
        taps = prod(self.shape[1:])
        return self._total[:, :taps].reshape(self.shape)


def _by_cell(rows: np.ndarray, like: np.ndarray) -> np.ndarray:
    """Rows [c, k, j, (i, s)] as [c, ..., i, s], with the axes of cells that a box has."""
    channels, samples, *cells = like.shape
    return rows.reshape(channels, *cells, samples)

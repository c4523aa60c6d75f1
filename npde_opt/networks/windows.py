"""The two loops of a convolution on a box of outputs,

    product   y_c(I) = sum_{d, t} W[c, d, t] P_d(o + s I + e t)
    gather    G[c, d, t] = sum_I y_c(I) P_d(o + s I + e t).

What a box reads is copied once, with its ghosts, by the place of cells of x in a stride,

    read [p, d, s, z, y, x] = P_d(o + p + s x),

where what a tap reads of a row of outputs lies in one piece: at x + e t // s of place e t % s.
"""

from __future__ import annotations

from functools import lru_cache
from math import prod

import numpy as np

from npde_opt.grids.halo import ALL, Ghosts, Range
from npde_opt.networks.reads import Reads
from npde_opt.networks.strips import WORK, Box, Flat


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
def _offsets(reads: Reads, shape: tuple[int, ...]) -> np.ndarray:
    """Where taps (d, tz, ty, tx) read in an array [p, d, s, z, y, x] of this shape."""
    steps = np.array([prod(shape[axis + 1 :]) for axis in range(6)])
    lead = (1,) * (3 - len(reads.taps))
    taps, dilations = (*lead, *reads.taps), (*lead, *reads.dilations)
    d, z, y, x = np.indices((shape[1], *taps)).reshape(4, -1)
    shift, place = np.divmod(dilations[2] * x, reads.strides[-1])
    number = {p: n for n, p in enumerate(_places(reads)[0])}
    p = np.array([number[int(at)] for at in place])
    z, y = dilations[0] * z, dilations[1] * y
    from npde_opt.networks.sums_of_rows import longer

    found = np.stack([p, d, np.zeros_like(d), z, y, shift])
    return longer(steps @ found)


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
        self._kept: np.ndarray | None = None
        # Says in the workspace what is there, and holds no state there.
        self._own = object()
        self._of: Box | None = None

    def _read(self, box: Box, length: int) -> np.ndarray:
        """What the outputs of a box read [p, d, s, z, y, x]; asked for again, of the last box, it
        is there.

        Args:
            length: outputs along x.
        """
        if self._of is box and self._kept is not None and WORK.owner is self._own:
            return self._kept
        reads, (beyond, most) = self.reads, _places(self.reads)
        counts = [*(r.stop - r.start for r in box.rows), length]
        *spans, _ = reads.spans(counts)
        outer: list[Range] = [
            (o + s * r.start, n, 1)
            for o, s, r, n in zip(
                reads.offsets, reads.strides, box.rows, spans, strict=False
            )
        ]
        channels, samples = self.shape[1], box.samples.stop - box.samples.start
        shape = (channels, samples, *spans, length + most)
        found = WORK.take("read", (len(beyond), *shape), self.dtype)
        for part, (place, more) in zip(found, beyond.items(), strict=True):
            x = (reads.offsets[-1] + place, length + more, reads.strides[-1])
            there = part[..., : length + more]
            self.ghosts.read(there, (ALL, box.samples), (*outer, x))
        lead = (len(found), channels, samples)
        self._of, self._kept = (
            box,
            found.reshape(*lead, *self._missing, *found.shape[3:]),
        )
        WORK.owner = self._own
        return self._kept

    def _arranged(
        self, box: Box, out: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, tuple[int, int, int]]:
        """Where taps read, what they read, and how far from row to row (s, k, j) of outputs."""
        read = self._read(box, out.shape[-1])
        offsets = _offsets(self.reads, read.shape)
        by_sample, by_z, by_y = (prod(read.shape[axis:]) for axis in (3, 4, 5))
        s_z, s_y, _ = (*self._missing, *self.reads.strides)
        return offsets, read.reshape(-1), (by_sample, s_z * by_z, s_y * by_y)

    def product(self, box: Box, out: np.ndarray, add: bool = False) -> None:
        """out [c, s, k, j, i] of the box = or += W * P."""
        offsets, read, steps = self._arranged(box, out)
        to = Flat(out)
        self.loops.combine(
            self._w,
            offsets,
            read,
            steps,
            add,
            to.line,
            to.counts,
            to.steps,
            out.shape[-1],
        )

    def gather(self, box: Box, y: np.ndarray) -> None:
        """Adds y (x) P of a box to the total; y [c, s, k, j, i] of the box."""
        offsets, read, steps = self._arranged(box, y)
        other = Flat(y)
        self.loops.gather(
            self._total,
            offsets,
            read,
            steps,
            other.line,
            other.counts,
            other.steps,
            y.shape[-1],
        )

    @property
    def weights(self) -> np.ndarray:
        """The total so far, of the shape of w."""
        taps = prod(self.shape[1:])
        return self._total[:, :taps].reshape(self.shape)

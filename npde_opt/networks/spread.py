"""The product of a convolution where few channels come of many,

    y_c(I) = sum_t M[c, t](o + I + e t),    M[c, t](J) = sum_d W[c, d, t] P_d(J):

one product of matrices for all taps, which are then added where they belong. What is read is copied
once, and not once a tap along x.
"""

from __future__ import annotations

import numpy as np

from npde_opt.compiling import compiled
from npde_opt.grids.halo import ALL, Ghosts
from npde_opt.networks.reads import Reads
from npde_opt.networks.strips import WORK, Box


def is_cheaper(w: np.ndarray, reads: Reads) -> bool:
    """Whether fewer values are moved so than by columns.

    Args:
        w: weights [c, d, tz, ty, tx].
    """
    c, d, taps = w.shape[0], w.shape[1], int(np.prod(reads.taps))
    return max(reads.strides) == 1 and d + 2 * c * taps <= d * reads.taps[-1]


class Spread:
    """Args:
    ghosts: of planes [d, s, k, j, i].
    w: weights [c, d, tz, ty, tx].
    """

    def __init__(self, ghosts: Ghosts, reads: Reads, w: np.ndarray):
        self.ghosts, self.reads, self.dtype = ghosts, reads, ghosts.values.dtype
        c, d = w.shape[:2]
        by_tap = w.reshape(c, d, -1).transpose(0, 2, 1).reshape(-1, d)
        lead = (1,) * (3 - len(reads.taps))
        steps = np.array([*lead, *reads.dilations])
        self.places = steps * np.array(list(np.ndindex(*lead, *reads.taps)))
        self.matrix = np.ascontiguousarray(by_tap, self.dtype)

    def product(self, box: Box, out: np.ndarray, add: bool) -> None:
        """out [c, s, k, j, i] of the box = or += W * P."""
        reads, channels = self.reads, self.matrix.shape[1]
        spans = reads.spans(out.shape[2:])
        starts = [r.start for r in box.rows] + [0]
        ranges = [
            (o + first, n, 1)
            for o, first, n in zip(reads.offsets, starts, spans, strict=True)
        ]
        shape = (out.shape[1], *spans)
        read = WORK.take("read", (channels, *shape), self.dtype)
        self.ghosts.read(read, (ALL, box.samples), tuple(ranges))
        found = WORK.take("spread", (len(self.matrix), *shape), self.dtype)
        flat = found.reshape(len(found), -1)
        np.matmul(self.matrix, read.reshape(channels, -1), out=flat)
        if not add:
            out[...] = 0
        lead = (1,) * (3 - len(spans))
        planes = out.reshape(*out.shape[:2], *lead, *out.shape[2:])
        add_taps(
            found.reshape(len(out), -1, out.shape[1], *lead, *spans),
            self.places,
            planes,
        )


@compiled
def add_taps(found: np.ndarray, places: np.ndarray, out: np.ndarray) -> None:
    """out [c, s, k, j, i] += the sum over taps of found [c, tap, s, k, j, i] from places [tap, 3]
    (z, y, x) on."""
    for c in range(out.shape[0]):
        for s in range(out.shape[1]):
            for k in range(out.shape[2]):
                for j in range(out.shape[3]):
                    line = out[c, s, k, j]
                    for t in range(len(places)):
                        z, y, x = places[t]
                        part = found[c, t, s, k + z, j + y]
                        for i in range(len(line)):
                            line[i] += part[i + x]

"""The two loops of a convolution on a box of outputs,

    product   y_c(I) = sum_{d, t} W[c, d, t] P_d(o + s I + e t)
    gather    G[c, d, t] = sum_I y_c(I) P_d(o + s I + e t),

as products of small matrices. Of what a box reads, the taps of x are copied beside each other,

    columns [z, y, (d, tx), (sample, x)],

where all that a row of outputs reads along y lies in one piece: the taps of y cost nothing, those
of z are a product each. (Taps of y with a dilation are, too.)
"""

from __future__ import annotations

import numpy as np

from npde_opt.grids import of_cells
from npde_opt.grids.halo import ALL, Ghosts, Range
from npde_opt.networks.reads import Reads
from npde_opt.networks.spread import Spread, is_cheaper
from npde_opt.networks.strips import WORK, Box


class Kernel:
    """Weights [c, d, tz, ty, tx] as matrices (c, all taps that are one product)."""

    def __init__(self, w: np.ndarray, reads: Reads, dtype: np.dtype):
        self.shape = (*w.shape[:2], *(1,) * (3 - len(reads.taps)), *reads.taps)
        self.merged = reads.merged
        by_tap = self._by_tap(w)
        self.parts = np.ascontiguousarray(by_tap, dtype)

    def _by_tap(self, w: np.ndarray) -> np.ndarray:
        """[products, c, taps of a product]"""
        c, d, z, y, x = self.shape
        whole = w.reshape(self.shape)
        if self.merged:
            return whole.transpose(2, 0, 3, 1, 4).reshape(z, c, y * d * x)
        return whole.transpose(2, 3, 0, 1, 4).reshape(z * y, c, d * x)

    def arranged(self, parts: np.ndarray) -> np.ndarray:
        """[c, d, tz, ty, tx] from such matrices."""
        c, d, z, y, x = self.shape
        if self.merged:
            return parts.reshape(z, c, y, d, x).transpose(1, 3, 0, 2, 4)
        return parts.reshape(z, y, c, d, x).transpose(2, 3, 0, 1, 4)


class Windows:
    """The loops over what a state with its ghosts has at the boxes of outputs.

    Args:
        ghosts: of planes [d, s, k, j, i].
        w: weights [c, d, tz, ty, tx].
    """

    def __init__(self, ghosts: Ghosts, reads: Reads, w: np.ndarray):
        self.ghosts, self.reads = ghosts, reads
        self.dtype = ghosts.values.dtype
        self.kernel = Kernel(w, reads, self.dtype)
        self.spread = Spread(ghosts, reads, w) if is_cheaper(w, reads) else None
        self.total = np.zeros(self.kernel.parts.shape)
        self._missing = 3 - len(reads.taps)
        self._columns: np.ndarray | None = None
        # Says in the workspace whose columns are there, and holds no state there.
        self._own = object()
        self._of: Box | None = None

    def columns(self, box: Box, length: int) -> np.ndarray:
        """What the outputs of a box read; asked for again, of the last box, they are there.

        Args:
            length: outputs along x.
        """
        if self._of is box and self._columns is not None and WORK.owner is self._own:
            return self._columns
        d, taps = self.ghosts.values.shape[0], self.reads.taps[-1]
        samples = box.samples.stop - box.samples.start
        counts = [*(r.stop - r.start for r in box.rows), length]
        *spans, _ = self.reads.spans(counts)
        outer: list[Range] = [
            (o + s * r.start, n, 1)
            for o, s, r, n in zip(
                self.reads.offsets, self.reads.strides, box.rows, spans, strict=False
            )
        ]
        shape = (*(1,) * self._missing, *spans, d, taps, samples, length)
        columns = WORK.take("columns", shape, self.dtype)
        for t in range(taps):
            there = columns[:, :, :, t].transpose(2, 3, 0, 1, 4)
            there = there[of_cells((0,) * self._missing + (ALL,) * len(counts))]
            x = (
                self.reads.offsets[-1] + self.reads.dilations[-1] * t,
                length,
                self.reads.strides[-1],
            )
            self.ghosts.read(there, (ALL, box.samples), (*outer, x))
        self._of, self._columns = (
            box,
            columns.reshape(*shape[:2], d * taps, samples * length),
        )
        WORK.owner = self._own
        return self._columns

    def _views(self, box: Box, length: int) -> list[np.ndarray]:
        """By product [k, j, taps, (sample, x)]."""
        columns = self.columns(box, length)
        rows = [1] * self._missing + [r.stop - r.start for r in box.rows]
        lead = (1,) * self._missing
        _, e_y, _ = (*lead, *self.reads.dilations)
        e_z = (*lead, *self.reads.dilations)[0]
        s_z, s_y, _ = (*lead, *self.reads.strides)
        shape = self.kernel.shape
        by_z, by_y, by_tap, by_x = columns.strides
        size = self.kernel.parts.shape[2]
        strides = (s_z * by_z, s_y * by_y, by_tap, by_x)
        starts = [e_z * z * by_z for z in range(shape[2])]
        if not self.kernel.merged:
            starts = [a + e_y * y * by_y for a in starts for y in range(shape[3])]
        whole = (*rows, size, columns.shape[3])
        return [np.ndarray(whole, self.dtype, columns, a, strides) for a in starts]

    def product(self, box: Box, out: np.ndarray, add: bool = False) -> None:
        """out [c, s, k, j, i] of the box = or += W * P."""
        if self.spread is not None:
            self.spread.product(box, out, add)
            return
        rows = _by_row(out)
        views = self._views(box, out.shape[-1])
        one = out.shape[1] == 1
        shape = (*rows.shape[:3], rows.shape[3] * rows.shape[4])
        direct = one and not add
        target = rows[:, :, :, 0] if direct else WORK.take("outputs", shape, self.dtype)
        for n, (matrix, view) in enumerate(zip(self.kernel.parts, views, strict=True)):
            if n == 0:
                np.matmul(matrix, view, out=target)
                continue
            more = WORK.take("more outputs", shape, self.dtype)
            np.matmul(matrix, view, out=more)
            target += more
        if add:
            rows += target.reshape(rows.shape)
        elif not direct:
            rows[...] = target.reshape(rows.shape)

    def gather(self, box: Box, y: np.ndarray) -> None:
        """Adds y (x) P of a box to the total; y [c, s, k, j, i] of the box."""
        rows = _by_row(y)
        flat = rows[:, :, :, 0]
        if y.shape[1] > 1:
            shape = (*rows.shape[:3], rows.shape[3] * rows.shape[4])
            flat = WORK.take("rows", shape, self.dtype)
            flat.reshape(rows.shape)[...] = rows
        c, size = self.kernel.parts.shape[1:]
        found = WORK.take("products", (*flat.shape[:2], c, size), self.dtype)
        for total, view in zip(self.total, self._views(box, y.shape[-1]), strict=True):
            np.matmul(flat, view.swapaxes(-1, -2), out=found)
            total += found.reshape(-1, c, size).sum(axis=0)

    @property
    def weights(self) -> np.ndarray:
        """The total so far, [c, d, tz, ty, tx] with all three taps."""
        return self.kernel.arranged(self.total)


def _by_row(u: np.ndarray) -> np.ndarray:
    """[k, j, c, s, i] of a box [c, s, k, j, i], a view."""
    channels, samples, *cells = u.shape
    planes = u.reshape(channels, samples, *(1,) * (3 - len(cells)), *cells)
    return planes.transpose(2, 3, 0, 1, 4)

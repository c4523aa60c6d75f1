"""A convolution: y_c(I) = sum over channels d and taps t of W[c, d, t] u_d(s I - p + t e),

along every axis with stride s, padding p and dilation e. W [c, d, tz, ty, tx]; what lies outside
is zero or the nearest value, of periodic axes the value at the other end.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from math import prod

import numpy as np
from petsc4py import PETSc

from npde_opt.errors import InputError
from npde_opt.grids import of_cells
from npde_opt.grids.halo import Ghosts
from npde_opt.networks.axes import MODES, Axis
from npde_opt.networks.interface import Loops, Reading
from npde_opt.networks.matrices import assembled
from npde_opt.networks.place import Place
from npde_opt.networks.reads import Reads
from npde_opt.networks.strips import WORK, Box
from npde_opt.networks.windows import Windows

Sizes = int | Sequence[int]
"""One for all axes, or one an axis x, y, z."""


class Stencil(Loops):
    """Args:
    source: where states lie.
    channels: of the result.
    kernel: taps an axis.
    stride, dilation: see above.
    padding: cells before the first one; None: as many as keep a stride of 1 from changing the
        number of cells of odd kernels.
    mode: 'zero' or 'replicate', on axes that are not periodic.

    Raises:
        InputError: for sizes that cannot be.
    """

    def __init__(
        self,
        source: Place,
        channels: int,
        kernel: Sizes = 3,
        *,
        stride: Sizes = 1,
        dilation: Sizes = 1,
        padding: Sizes | None = None,
        mode: str = "zero",
    ):
        if mode not in MODES[:2]:
            raise InputError("padding", repr(mode), ", ".join(MODES[:2]))
        self.source = source
        taps = _sizes(source, kernel, "kernel", 1)
        strides = _sizes(source, stride, "stride", 1)
        dilations = _sizes(source, dilation, "dilation", 1)
        same = [e * (t - 1) for t, e in zip(taps, dilations, strict=True)]
        before = [r // 2 for r in same]
        after = [r - b for r, b in zip(same, before, strict=True)]
        if padding is not None:
            before = after = _sizes(source, padding, "padding", 0)
        layout = source.layout
        self.axes = [
            Axis(
                counts=layout.counts[d],
                at=layout.position[d],
                taps=taps[d],
                stride=strides[d],
                dilation=dilations[d],
                before=before[d],
                after=after[d],
                mode="periodic" if source.periodic(d) else mode,
            )
            for d in range(source.dim)
        ]
        self.target = source.with_cells([a.target for a in self.axes], channels)
        self.taps = tuple(taps[::-1])
        self.shape = (channels, source.channels, *self.taps)

    @property
    def inputs(self) -> int:
        return self.source.channels * prod(self.taps)

    def with_channels(self, channels: int) -> Stencil:
        """The same taps, with so many channels of the result."""
        found = copy.copy(self)
        found.target = self.target.with_channels(channels)
        found.shape = (channels, *self.shape[1:])
        return found

    @property
    def _planes(self) -> list[Axis]:
        """In the order of memory."""
        return self.axes[::-1]

    def reading(self, w: np.ndarray, u: np.ndarray) -> Reading:
        nearest = [d for d, axis in enumerate(self.axes) if axis.mode == "replicate"]
        ghosts = Ghosts(self.source, u, [a.width for a in self.axes], nearest=nearest)
        reads = Reads(
            offsets=tuple(a.offset for a in self._planes),
            strides=tuple(a.stride for a in self._planes),
            dilations=tuple(a.dilation for a in self._planes),
            taps=self.taps,
        )
        return Correlation(self, Windows(ghosts, reads, w))

    def back(self, w: np.ndarray, y: np.ndarray) -> Reading:
        ghosts = Ghosts(self.target, y, [a.target_width for a in self.axes])
        lags = [a.lags for a in self._planes]
        reads = Reads(
            offsets=tuple(a.back_offset for a in self._planes),
            strides=(1,) * len(self.axes),
            dilations=tuple(distance for _, distance in lags),
            taps=tuple(count for count, _ in lags),
        )
        return Transpose(self, Windows(ghosts, reads, self._by_period(w)))

    def _by_period(self, w: np.ndarray) -> np.ndarray:
        """The weights [(cells of a period, d), c, lags] of the transpose, last lag first: tap t of
        an axis, which is e t cells from where its output begins to read, is of lag e t // s for
        cell e t % s of a period."""
        axes, dim, (c, d) = self._planes, len(self.axes), w.shape[:2]
        lags, strides = [a.lags[0] for a in axes], [a.stride for a in axes]
        whole = np.zeros(
            (c, d, *(n * s for n, s in zip(lags, strides, strict=True))), w.dtype
        )
        steps = [a.dilation if a.stride > 1 else 1 for a in axes]
        ends = [e * (a.taps - 1) + 1 for e, a in zip(steps, axes, strict=True)]
        places = [slice(0, n, e) for n, e in zip(ends, steps, strict=True)]
        whole[:, :, *places] = w
        pairs = [n for pair in zip(lags, strides, strict=True) for n in pair]
        split = np.flip(whole.reshape(c, d, *pairs), tuple(range(2, 2 + 2 * dim, 2)))
        by_lag, by_cell = range(2, 2 + 2 * dim, 2), range(3, 3 + 2 * dim, 2)
        return split.transpose(*by_cell, 1, 0, *by_lag).reshape(-1, c, *lags)

    def matrix(self, w: np.ndarray) -> PETSc.Mat:
        sources = [axis.sources(axis.at) for axis in self.axes]
        return assembled(self.source, self.target, sources, w)


def flipped(w: np.ndarray) -> np.ndarray:
    """The weights [d, c, -t] of the transpose."""
    return np.flip(w, tuple(range(2, w.ndim))).swapaxes(0, 1)


def held(of: Stencil) -> int:
    """Values of a cell of a box: what is read is there once more, with its ghosts."""
    return 2 * sum(of.shape[:2])


class Correlation(Reading):
    """W * u at boxes of the target."""

    adds: bool = True

    def __init__(self, of: Stencil, windows: Windows):
        self.of, self.windows = of, windows
        self.width, self.gathers = held(of), True
        self.shared = windows.ghosts.shared

    def late(self, box: Box) -> bool:
        return self.windows.late(box)

    def product(self, box: Box, out: np.ndarray, add: bool = False) -> None:
        self.windows.product(box, out, add)

    def gather(self, box: Box, other: np.ndarray) -> None:
        self.windows.gather(box, other)

    @property
    def weights(self) -> np.ndarray:
        return self.windows.weights


class Transpose(Reading):
    """W^T * y at boxes of the source. With strides, cells of a period are the channels of a plain
    product, and then put side by side. Of axes whose ghosts are copies, also the cotangents of
    these are found, and added to those of the cells that they copy."""

    def __init__(self, of: Stencil, windows: Windows):
        self.of, self.windows = of, windows
        self.width = held(of)
        self.outside = [axis.own_outside for axis in of.axes[::-1]]
        self.strides = tuple(axis.stride for axis in of.axes[::-1])
        # The first wanted cell within its period.
        self.shifts = [(a.wanted(a.at)[0] + a.before) % a.stride for a in of.axes[::-1]]
        plain = all(a.stride == 1 and a.mode != "replicate" for a in of.axes)
        self.gathers = plain
        # Elsewhere boxes of results are not those of the product that reads.
        self.shared = plain and windows.ghosts.shared

    def late(self, box: Box) -> bool:
        return self.windows.late(box)

    def product(self, box: Box, out: np.ndarray, add: bool = False) -> None:
        if not any(below or above for below, above in self.outside):
            self._cells(box, out, add)
            return
        rows, sides = list[slice](), list[tuple[int, int]]()
        for part, n, ends in zip(
            box.rows, self.of.source.cells, self.outside, strict=False
        ):
            below, above = ends[0] * (part.start == 0), ends[1] * (part.stop == n)
            first = ends[0] + part.start - below
            rows.append(slice(first, ends[0] + part.stop + above))
            sides.append((below, above))
        sides.append(self.outside[-1])
        wanted = [n + a + b for n, (a, b) in zip(out.shape[2:], sides, strict=True)]
        found = WORK.take("cotangents", (*out.shape[:2], *wanted), out.dtype)
        self._cells(Box(box.samples, tuple(rows)), found)
        for axis, (below, above) in enumerate(sides, 2):
            found = np.moveaxis(
                folded(np.moveaxis(found, axis, 0), below, above), 0, axis
            )
        if add:
            out += found
        else:
            out[...] = found

    def _cells(self, box: Box, out: np.ndarray, add: bool = False) -> None:
        """Of wanted cells, counted from the first one."""
        if max(self.strides) == 1:
            self.windows.product(box, out, add)
            return
        ranges = [(r.start, r.stop) for r in box.rows] + [(0, out.shape[-1])]
        firsts = [a + shift for (a, _), shift in zip(ranges, self.shifts, strict=True)]
        lasts = [
            b + shift - 1 for (_, b), shift in zip(ranges, self.shifts, strict=True)
        ]
        periods = [
            slice(a // s, b // s + 1)
            for a, b, s in zip(firsts, lasts, self.strides, strict=True)
        ]
        channels, samples = out.shape[:2]
        counts = [p.stop - p.start for p in periods]
        shape = (prod(self.strides) * channels, samples, *counts)
        found = WORK.take("periods", shape, out.dtype)
        self.windows.product(Box(box.samples, tuple(periods[:-1])), found)
        parts = found.reshape(*self.strides, *out.shape[:2], *counts)
        for cell in np.ndindex(*self.strides):
            ways = zip(cell, firsts, lasts, self.strides, strict=True)
            places = [_every(r, first, last, s) for r, first, last, s in ways]
            to = out[of_cells([here for here, _ in places])]
            part = parts[cell][of_cells([there for _, there in places])]
            if add:
                to += part
            else:
                to[...] = part

    def gather(self, box: Box, other: np.ndarray) -> None:
        self.windows.gather(box, other)

    @property
    def weights(self) -> np.ndarray:
        return flipped(self.windows.weights)


def _every(r: int, first: int, last: int, stride: int) -> tuple[slice, slice]:
    """Of cells first ... last the ones at place r of a period: where they are among these, and
    which periods they are of, counted from that of `first`."""
    start = (r - first) % stride
    count = max((last - first - start) // stride + 1, 0)
    period = (first + start) // stride - first // stride
    return slice(start, None, stride), slice(period, period + count)


def folded(rows: np.ndarray, below: int, above: int) -> np.ndarray:
    """Rows without the first and last ones, which are added to the nearest of the others."""
    if below:
        rows[below] += rows[:below].sum(axis=0)
    if above:
        rows[len(rows) - above - 1] += rows[len(rows) - above :].sum(axis=0)
    return rows[below : len(rows) - above]


def _sizes(place: Place, given: Sizes, name: str, least: int) -> list[int]:
    """By axis. Raises InputError."""
    found = [given] * place.dim if isinstance(given, int) else list(given)
    if len(found) != place.dim or min(found) < least:
        raise InputError(
            name, given, f"integers >= {least}, one or {place.dim}, one an axis"
        )
    return found

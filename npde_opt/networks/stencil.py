"""A convolution: y_c(I) = sum over channels d and taps t of W[c, d, t] u_d(s I - p + t e),

along every axis with stride s, padding p and dilation e. W [c, d, tz, ty, tx]; what lies outside
is zero or the nearest value, of periodic axes the value at the other end.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np
from petsc4py import PETSc

from npde_opt.errors import InputError
from npde_opt.grids import of_cells
from npde_opt.grids.halo import with_halo
from npde_opt.networks.axes import MODES, Axis
from npde_opt.networks.correlation import correlate, products
from npde_opt.networks.matrices import assembled
from npde_opt.networks.place import Place

Sizes = int | Sequence[int]
"""One for all axes, or one an axis x, y, z."""


class Stencil:
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

    @property
    def _strides(self) -> tuple[int, ...]:
        return tuple(a.stride for a in self.axes[::-1])

    @property
    def _dilations(self) -> tuple[int, ...]:
        return tuple(a.dilation for a in self.axes[::-1])

    def apply(self, w: np.ndarray, u: np.ndarray) -> np.ndarray:
        """[c, s, k, j, i] of the target."""
        padded = self._padded(u)
        return correlate(w, padded, self._strides, self._dilations, self.target.cells)

    def _padded(self, u: np.ndarray) -> np.ndarray:
        """What the own outputs read."""
        widths = [a.width for a in self.axes]
        found = _with_halo(self.source, u, widths)
        for d, axis in enumerate(self.axes):
            rows = np.moveaxis(found, -1 - d, 0)
            first, start = int(axis.ends[axis.at]), int(axis.ends[axis.at]) - axis.width
            if axis.mode == "replicate" and first < int(axis.ends[axis.at + 1]):
                _replicate(rows, -start, axis.cells - 1 - start)
        return found[of_cells(self._window(axis) for axis in self.axes[::-1])]

    def _window(self, axis: Axis) -> slice:
        start, stop = axis.reads(axis.at)
        shift = axis.width - int(axis.ends[axis.at])
        return slice(start + shift, stop + shift)

    def transpose(self, w: np.ndarray, y: np.ndarray) -> np.ndarray:
        """[d, s, k, j, i] of the source."""
        spread = self._spread(y)
        flipped = np.flip(w, tuple(range(2, w.ndim))).swapaxes(0, 1)
        wanted = [np.subtract(*axis.wanted(axis.at)[::-1]) for axis in self.axes[::-1]]
        one = (1,) * len(self.axes)
        found = correlate(flipped, spread, one, self._dilations, tuple(int(n) for n in wanted))
        for d, axis in enumerate(self.axes):
            found = np.moveaxis(_folded(np.moveaxis(found, -1 - d, 0), axis), 0, -1 - d)
        return np.ascontiguousarray(found)

    def _spread(self, y: np.ndarray) -> np.ndarray:
        """Cotangents at the places s I of a line with zeros between them, of all outputs that
        read the wanted cells."""
        ghosted = _with_halo(self.target, y, [a.target_width for a in self.axes])
        places, parts, sizes = list[slice](), list[slice](), list[int]()
        for axis in self.axes[::-1]:
            first, last = axis.wanted(axis.at)
            low, high = axis.spread(axis.at)
            start = first + axis.before - axis.reach
            sizes.append(max(last - first + axis.reach, 0) if last > first else 0)
            shift = axis.target_width - int(axis.target_ends[axis.at])
            parts.append(slice(low + shift, high + shift))
            places.append(slice(axis.stride * low - start, None, axis.stride))
        out = np.zeros((*y.shape[:2], *sizes), y.dtype)
        if 0 not in sizes:
            out[of_cells(places)] = ghosted[of_cells(parts)]
        return out

    def weights(self, y: np.ndarray, u: np.ndarray) -> np.ndarray:
        """[c, d, tz, ty, tx]"""
        return products(y, self._padded(u), self._strides, self._dilations, self.taps)

    def matrix(self, w: np.ndarray) -> PETSc.Mat:
        sources = [axis.sources(axis.at) for axis in self.axes]
        return assembled(self.source, self.target, sources, w)


class Mixing(Stencil):
    """y_c = sum_d W[c, d] u_d in every cell: a stencil of one tap."""

    def __init__(self, source: Place, channels: int):
        super().__init__(source, channels, 1)
        self.shape = (channels, source.channels)

    def apply(self, w: np.ndarray, u: np.ndarray) -> np.ndarray:
        out = w.astype(u.dtype, copy=False) @ u.reshape(u.shape[0], -1)
        return out.reshape(w.shape[0], *u.shape[1:])

    def transpose(self, w: np.ndarray, y: np.ndarray) -> np.ndarray:
        return self.apply(w.T, y)

    def weights(self, y: np.ndarray, u: np.ndarray) -> np.ndarray:
        return (y.reshape(y.shape[0], -1) @ u.reshape(u.shape[0], -1).T).astype(float)

    def matrix(self, w: np.ndarray) -> PETSc.Mat:
        return super().matrix(w.reshape(*w.shape, *(1,) * self.source.dim))


def _sizes(place: Place, given: Sizes, name: str, least: int) -> list[int]:
    """By axis. Raises InputError."""
    found = [given] * place.dim if isinstance(given, int) else list(given)
    if len(found) != place.dim or min(found) < least:
        raise InputError(name, given, f"integers >= {least}, one or {place.dim}, one an axis")
    return found


def _with_halo(place: Place, u: np.ndarray, widths: Sequence[int]) -> np.ndarray:
    """Of planes [c, s, k, j, i]; themselves where no ghosts are wanted."""
    if not any(widths):
        return u
    axes = (0, 1, *range(u.ndim - 1, 1, -1))
    return with_halo(place, u.transpose(axes), widths).transpose(axes)


def _replicate(rows: np.ndarray, first: int, last: int) -> None:
    """Fills the rows before `first` and behind `last` with these, where there are such rows."""
    if 0 < first < len(rows):
        rows[:first] = rows[first]
    if 0 <= last < len(rows) - 1:
        rows[last + 1 :] = rows[last]


def _folded(rows: np.ndarray, axis: Axis) -> np.ndarray:
    """Adds the cotangents of copies outside to those of the cells that they copy."""
    first, last = int(axis.ends[axis.at]), int(axis.ends[axis.at + 1])
    start, stop = axis.wanted(axis.at)
    below, above = first - start, stop - last
    if below:
        rows[below] += rows[:below].sum(axis=0)
    if above:
        rows[len(rows) - above - 1] += rows[len(rows) - above :].sum(axis=0)
    return rows[below : len(rows) - above]

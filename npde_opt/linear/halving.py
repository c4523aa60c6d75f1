"""P^T A P where P halves one axis, on planes of values A[i, i + o].

Cell 2I of the axis is the coarse unknown I; cell 2r + 1 takes l_r of its parent r and u_r of r + 1.
Written for one offset in the other axes, with a_- a_0 a_+ the couplings to the cells before, at and
after along this axis:

    row 2r + 1 of A P, to r and r + 1:   p_r = a_- + l_r a_0,   q_r = u_r a_0 + a_+
    row 2I of A P, to I - 1, I, I + 1:   l_{I-1} a_-,   u_{I-1} a_- + a_0 + l_I a_+,   u_I a_+
    row I of P^T A P: the row 2I, plus l_I (p_I, q_I) to I, I + 1,
                      plus u_{I-1} (p_{I-1}, q_{I-1}) to I - 1, I.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from mpi4py import MPI

from npde_opt.grids.layout import Layout, neighbours
from npde_opt.grids.scattered import Mask, halved

Offset = tuple[int, ...]
Planes = dict[Offset, np.ndarray]
"""Offset to owned values [k, j, i] (x last)."""
Slab = tuple[slice, ...]
"""Part of the owned box [k, j, i]."""
Split = dict[Offset, tuple[np.ndarray, np.ndarray]]
"""Offset to the even rows and the odd ones."""
SLAB = 1 << 16
"""Cells whose values are worked on at a time: what is made on the way stays in a cache."""


class Halving:
    """The interpolation along one axis from a coarse layout to a fine one.

    Args:
        layout, mask: of the fine cells; no mask for all.
        centers: coordinates of the fine cells along the axis.
        ends: boundary kind of every axis's upper side.
    """

    def __init__(
        self,
        layout: Layout,
        mask: Mask | None,
        axis: int,
        centers: np.ndarray,
        ends: Sequence[str],
        comm: MPI.Intracomm,
    ):
        self.layout, self.axis, self.comm = layout, axis, comm
        self.wraps = [end == "periodic" for end in ends]
        self.periodic = self.wraps[axis]
        self.coarse = layout.coarsened([d == axis for d in range(layout.dim)])
        self.count = (centers.size + 1) // 2
        self.mask: Mask | None = None
        if mask is not None:
            self.mask = halved(mask, [d == axis for d in range(layout.dim)])
        self.lower, self.upper = line_weights(centers, ends[axis])
        self.first, self.cells = self.coarse.start[axis], self.coarse.local_shape[axis]
        self._near = None if self.mask is None else self.mask.at(self._around())

    def parent(self, cells: np.ndarray, which: int) -> np.ndarray:
        """Coarse index of the lower (0) or upper (1) parent of fine cells."""
        found = cells // 2 + which
        return (
            found % self.count if self.periodic else np.minimum(found, self.count - 1)
        )

    def weight(self, cells: list[np.ndarray], which: int) -> np.ndarray:
        """Weights of a parent for cells given by one 1-D index array an axis, broadcastable to
        their box. Collective."""
        i = cells[self.axis]
        shape = [-1 if d == self.axis else 1 for d in range(self.layout.dim)]
        odd = i % 2 == 1
        lower = np.where(odd, self.lower[i // 2 + 1], 1.0).reshape(shape)
        upper = np.where(odd, self.upper[i // 2 + 1], 0.0).reshape(shape)
        if self.mask is not None:
            beside = list(cells)
            beside[self.axis] = self.parent(i, 1)
            there = self.mask.at(beside)
            lower, upper = lower + upper * ~there, upper * there
        return upper if which else lower

    def _around(self) -> list[np.ndarray]:
        """Coarse cells r + 1 of `_slots`, by axis, and one more on either side along others."""
        cells = [
            np.arange(first - 1, first + count + 1) % n
            if wraps
            else np.clip(np.arange(first - 1, first + count + 1), 0, n - 1)
            for first, count, n, wraps in zip(
                self.layout.start,
                self.layout.local_shape,
                self.layout.shape,
                self.wraps,
                strict=True,
            )
        ]
        r = np.arange(self.first, self.first + self.cells + 1)
        cells[self.axis] = (
            r % self.count if self.periodic else np.minimum(r, self.count - 1)
        )
        return cells

    def _slots(self, shift: Offset, slab: Slab) -> tuple[np.ndarray, np.ndarray]:
        """l_r and u_r [k, j, r] for r from one before the first owned coarse cell to the last, at
        the owned cells of a slab shifted by at most one along the other axes."""
        r = np.arange(self.first, self.first + self.cells + 1)
        shape = [-1 if d == self.axis else 1 for d in range(self.layout.dim)]
        lower, upper = self.lower[r].reshape(shape), self.upper[r].reshape(shape)
        if self._near is not None:
            box = [slice(None)] * self.layout.dim
            for d, (step, cells) in enumerate(zip(shift, slab[::-1], strict=True)):
                if d != self.axis:
                    box[d] = slice(1 + step + cells.start, 1 + step + cells.stop)
            there = self._near[tuple(box)]
            lower, upper = lower + upper * ~there, upper * there
        return lower.T, upper.T

    def galerkin(self, planes: Planes) -> Planes:
        """The planes of P^T A P. Collective."""
        others = sorted({o[: self.axis] + (0,) + o[self.axis + 1 :] for o in planes})
        beside = self._beside(planes)
        shape = self.coarse.local_shape[::-1]
        found: Planes = {
            self._at(other, step): np.empty(shape)
            for other in others
            for step in (0, -1, 1)
        }
        for slab in self._slabs():
            split = self._split(planes, beside, slab)
            for other in others:
                self._fill(found, split, other, slab)
        return found

    def _slabs(self) -> list[Slab]:
        """Parts of the owned box [k, j, i] of about SLAB cells, each with all that is along the
        axis: what is made on the way has their size."""
        shape = self.layout.local_shape[::-1]
        whole = tuple(slice(0, n) for n in shape)
        along = self.layout.dim - 1 - self.axis
        whole = (*whole[:along], slice(None), *whole[along + 1 :])
        if self.layout.dim == 1:
            return [whole]
        across = 1 if along == 0 else 0
        n = shape[across]
        thick = max(1, SLAB * n // max(1, math.prod(shape)))
        return [
            (*whole[:across], slice(a, min(a + thick, n)), *whole[across + 1 :])
            for a in range(0, n, thick)
        ]

    def _fill(self, found: Planes, split: Split, other: Offset, slab: Slab) -> None:
        """The planes of one offset in the other axes, in a slab."""
        d = self.layout.dim - 1 - self.axis
        right, left = [slice(None)] * self.layout.dim, [slice(None)] * self.layout.dim
        right[d], left[d] = slice(1, None), slice(None, -1)
        R, L = tuple(right), tuple(left)
        row_lower, row_upper = self._slots((0,) * self.layout.dim, slab)
        lower, upper = row_lower, row_upper
        if self.mask is not None and any(other):
            lower, upper = self._slots(other, slab)
        minus, zero, plus = (self._at(other, step) for step in (-1, 0, 1))
        here, below, above = (found[o][slab] for o in (zero, minus, plus))
        even, odd = split[zero]
        p, q = odd * lower, odd * upper
        here[...] = even
        if minus in split:
            even_minus, odd_minus = split[minus]
            p += odd_minus
            here += even_minus * upper[L]
        if plus in split:
            even_plus, odd_plus = split[plus]
            q += odd_plus
            here += even_plus * lower[R]
        here += row_lower[R] * p[R]
        here += row_upper[L] * q[L]
        np.multiply(row_upper[L], p[L], out=below)
        np.multiply(row_lower[R], q[R], out=above)
        if minus in split:
            below += even_minus * lower[L]
        if plus in split:
            above += even_plus * upper[R]

    def _at(self, other: Offset, step: int) -> Offset:
        return other[: self.axis] + (step,) + other[self.axis + 1 :]

    def _beside(self, planes: Planes) -> tuple[np.ndarray, np.ndarray] | None:
        """The layers of all planes [plane, k, j, i] just below and above the owned box; None where
        there are no others. Collective."""
        if not self._exchanges:
            return None
        d = self.layout.dim - 1 - self.axis
        ends = [0, -1] if self.layout.local_shape[self.axis] else []
        layers = np.stack([np.take(plane, ends, axis=d) for plane in planes.values()])
        return neighbours(layers, self.layout, self.axis, self.periodic, self.comm)

    def _split(
        self,
        planes: Planes,
        beside: tuple[np.ndarray, np.ndarray] | None,
        slab: Slab,
    ) -> Split:
        """Rows 2I, and rows 2r + 1 from the one before the first owned coarse cell on, of every
        plane in a slab."""
        d = self.layout.dim - 1 - self.axis
        start, count = self.layout.start[self.axis], self.layout.local_shape[self.axis]
        found: Split = {}
        for k, (offset, plane) in enumerate(planes.items()):
            part = plane[slab]
            moved = np.moveaxis(part, d, 0)
            own = moved[1 - start % 2 :: 2]
            odd = np.zeros(
                [self.cells + 1 if e == d else n for e, n in enumerate(part.shape)]
            )
            slots, lead = np.moveaxis(odd, d, 0), int(start % 2 == 0)
            slots[lead : lead + len(own)] = own
            if beside is not None and count:
                below, above = (np.moveaxis(b[k][slab], d, 0)[0] for b in beside)
                if lead:
                    slots[0] = below
                if (start + count) % 2 == 1:
                    slots[-1] = above
            found[offset] = np.moveaxis(moved[start % 2 :: 2], 0, d), odd
        return found

    @property
    def _exchanges(self) -> bool:
        return self.periodic or self.layout.processes[self.axis] > 1


def line_weights(fine: np.ndarray, end: str) -> tuple[np.ndarray, np.ndarray]:
    """l_r and u_r for r = -1, 0, ..., coarse cells - 1 along an axis with fine centres `fine`.

    The last odd cell has one parent (half of it before a Dirichlet side, whose value is zero);
    cells beyond the ends have none, or are the first or last cell again where the axis is periodic.
    """
    coarse, n = fine[::2], fine.size
    lower, upper = np.zeros(coarse.size + 1), np.zeros(coarse.size + 1)
    inner = n // 2 if n % 2 else n // 2 - 1
    odd = fine[1::2][:inner]
    upper[1 : inner + 1] = (odd - coarse[:inner]) / (
        coarse[1 : inner + 1] - coarse[:inner]
    )
    lower[1 : inner + 1] = 1 - upper[1 : inner + 1]
    if end == "periodic":
        if n % 2 == 0:
            lower[[0, -1]] = upper[[0, -1]] = 0.5
        else:
            lower[0], upper[-1] = 1.0, 1.0
    elif n % 2 == 0:
        lower[-1] = 0.5 if end == "dirichlet" else 1.0
    return lower, upper

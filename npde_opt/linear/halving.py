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

from collections.abc import Sequence

import numpy as np
from mpi4py import MPI

from npde_opt.grids.layout import Layout, neighbours
from npde_opt.grids.scattered import Mask, halved

Offset = tuple[int, ...]
Planes = dict[Offset, np.ndarray]
"""Offset to owned values [k, j, i] (x last)."""


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

    def _slots(self, shift: Offset) -> tuple[np.ndarray, np.ndarray]:
        """l_r and u_r [k, j, r] for r from one before the first owned coarse cell to the last, at
        the owned cells shifted by at most one along the other axes."""
        r = np.arange(self.first, self.first + self.cells + 1)
        shape = [-1 if d == self.axis else 1 for d in range(self.layout.dim)]
        lower, upper = self.lower[r].reshape(shape), self.upper[r].reshape(shape)
        if self._near is not None:
            box = [
                slice(1 + s, 1 + s + n)
                for s, n in zip(shift, self.layout.local_shape, strict=True)
            ]
            box[self.axis] = slice(None)
            there = self._near[tuple(box)]
            lower, upper = lower + upper * ~there, upper * there
        return lower.T, upper.T

    def galerkin(self, planes: Planes) -> Planes:
        """The planes of P^T A P. Collective."""
        d = self.layout.dim - 1 - self.axis
        others = sorted({o[: self.axis] + (0,) + o[self.axis + 1 :] for o in planes})
        right, left = [slice(None)] * self.layout.dim, [slice(None)] * self.layout.dim
        right[d], left[d] = slice(1, None), slice(None, -1)
        R, L = tuple(right), tuple(left)
        split = self._split(planes)
        row_lower, row_upper = self._slots((0,) * self.layout.dim)
        out: Planes = {}
        for other in others:
            lower, upper = (
                (row_lower, row_upper) if self.mask is None else self._slots(other)
            )
            minus, zero, plus = (self._at(other, step) for step in (-1, 0, 1))
            even, odd = split[zero]
            here, p, q = even.copy(), odd * lower, odd * upper
            below, above = None, None
            if minus in split:
                even, odd = split[minus]
                p += odd
                here += even * upper[L]
                below = even * lower[L]
            if plus in split:
                even, odd = split[plus]
                q += odd
                here += even * lower[R]
                above = even * upper[R]
            here += row_lower[R] * p[R]
            here += row_upper[L] * q[L]
            to_below, to_above = row_upper[L] * p[L], row_lower[R] * q[R]
            out[zero] = here
            out[minus] = (
                to_below if below is None else np.add(to_below, below, out=below)
            )
            out[plus] = (
                to_above if above is None else np.add(to_above, above, out=above)
            )
        return out

    def _at(self, other: Offset, step: int) -> Offset:
        return other[: self.axis] + (step,) + other[self.axis + 1 :]

    def _split(self, planes: Planes) -> dict[Offset, tuple[np.ndarray, np.ndarray]]:
        """Rows 2I, and rows 2r + 1 from the one before the first owned coarse cell on, of every
        plane."""
        d = self.layout.dim - 1 - self.axis
        start, count = self.layout.start[self.axis], self.layout.local_shape[self.axis]
        ghosts = (
            neighbours(
                np.stack(list(planes.values())),
                self.layout,
                self.axis,
                self.periodic,
                self.comm,
            )
            if self._exchanges
            else None
        )
        out = {}
        for k, (offset, plane) in enumerate(planes.items()):
            moved = np.moveaxis(plane, d, 0)
            own = moved[1 - start % 2 :: 2]
            odd = np.zeros(
                [self.cells + 1 if e == d else n for e, n in enumerate(plane.shape)]
            )
            slots, lead = np.moveaxis(odd, d, 0), int(start % 2 == 0)
            slots[lead : lead + len(own)] = own
            if ghosts is not None and count:
                if lead:
                    slots[0] = np.moveaxis(ghosts[0][k], d, 0)[0]
                if (start + count) % 2 == 1:
                    slots[-1] = np.moveaxis(ghosts[1][k], d, 0)[0]
            out[offset] = np.moveaxis(moved[start % 2 :: 2], 0, d), odd
        return out

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

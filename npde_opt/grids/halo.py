"""Ghosts of any width, corners included, of all channels and columns in one exchange an axis.

Ranks lie in a grid of processes; along an axis every rank knows from the layout which rows the
others of its line want and which it has, so that each pair of ranks exchanges one message, also
where the width is more than a rank's cells. Rows of later axes are exchanged with the ghosts of
earlier ones, which fills the corners.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Protocol

import numpy as np
from mpi4py import MPI

from npde_opt import traffic
from npde_opt.grids.layout import Layout

Index = tuple[slice | int, ...]
Range = tuple[int, int, int]
"""(first, count, step)"""
Slab = tuple[int, int]
"""(axis, 0 below the owned cells or 1 above them)"""
ALL = slice(None)


class Cells(Protocol):
    """Cells that are spread over ranks: those of a grid, for one."""

    @property
    def comm(self) -> MPI.Intracomm: ...
    @property
    def layout(self) -> Layout: ...
    @property
    def dim(self) -> int: ...
    @property
    def local_shape(self) -> tuple[int, ...]: ...
    def periodic(self, axis: int) -> bool: ...


class Ghosts:
    """Owned planes [..., k, j, i] with ghosts all round, as one array that is read in parts and
    never made: ghosts lie in slabs, those of x beside the owned cells, those of y beside both, and
    so on. Places count from the first ghost. Making one is collective.

    Args:
        values: the owned planes; they are not copied.
        widths: of the ghosts on either side, by axis x, y, z.
        outside: what lies outside the domain, on axes that are not periodic.
        nearest: the axes where that is the nearest cell instead.
    """

    def __init__(
        self,
        grid: Cells,
        values: np.ndarray,
        widths: Sequence[int],
        outside: float = 0.0,
        nearest: Sequence[int] = (),
    ):
        self.values, self.widths, self.outside = values, tuple(widths), outside
        self.owned = values.shape[: -grid.dim - 1 : -1]
        self.lead = (ALL,) * (values.ndim - grid.dim)
        self.slabs: list[np.ndarray | None] = []
        for d, width in enumerate(self.widths):
            alone = len(grid.layout.counts[d]) == 1 and not grid.periodic(d)
            constant = alone and d not in nearest
            self.slabs.append(
                None if constant or not width else self._slabs(grid, d, nearest)
            )

    def whole(self) -> tuple[Range, ...]:
        """All of it, by axis z, y, x."""
        sizes = zip(self.owned[::-1], self.widths[::-1], strict=True)
        return tuple((0, n + 2 * w, 1) for n, w in sizes)

    def read(self, out: np.ndarray, lead: Index, box: tuple[Range, ...]) -> None:
        """out [..., k, j, i] = the cells of a box, given by axis z, y, x.

        Args:
            lead: which of the axes before those of the grid.
        """
        self._read(out, (*lead,), box)

    def _read(self, out: np.ndarray, first: Index, box: tuple[Range, ...]) -> None:
        """Of the axes of the box; `first` has what is read of those before."""
        for where, slab, there in _pieces(self.owned, self.widths, box):
            to = (..., *where)
            if slab is None:
                out[to] = self.values[(*first, *there)]
                continue
            axis, side = slab
            rows = self.slabs[axis]
            out[to] = self.outside if rows is None else rows[side][(*first, *there)]

    def _rows(self, d: int, chosen: Sequence[int] | np.ndarray) -> np.ndarray:
        """Owned rows [row, ...] across axis d, with the ghosts of axes before it."""
        after = (ALL,) * (len(self.owned) - 1 - d)
        box = tuple(
            (0, n + 2 * w, 1)
            for n, w in zip(self.owned[:d], self.widths[:d], strict=True)
        )[::-1]
        shape = self.values.shape[: len(self.lead) + len(after)]
        out = np.empty(
            (len(chosen), *shape, *(n for _, n, _ in box)), self.values.dtype
        )
        for number, at in enumerate(chosen):
            self._read(out[number, ...], (*self.lead, *after, int(at)), box)
        return out

    def _slabs(self, grid: Cells, d: int, nearest: Sequence[int]) -> np.ndarray:
        """Ghosts [side, ...] along axis d."""
        layout, periodic, width = grid.layout, grid.periodic(d), self.widths[d]
        if len(layout.counts[d]) == 1 and not periodic:
            ends = np.repeat(self._rows(d, [0, self.owned[d] - 1]), width, axis=0)
            return self._sides(ends, d)
        at, counts, first = layout.position[d], layout.counts[d], layout.start[d]
        stride = int(np.prod(layout.processes[:d], dtype=int))
        own = _wanted(layout, d, at, width, periodic)
        beside = self._rows(d, []).shape[1:]
        rows = np.full((2 * width, *beside), self.outside, self.values.dtype)
        requests, received = list[MPI.Request](), list[tuple[np.ndarray, np.ndarray]]()
        for p in range(len(counts)):
            rank = layout.rank + (p - at) * stride
            theirs = _wanted(layout, d, p, width, periodic)
            sent = theirs[(theirs >= first) & (theirs < first + counts[at])] - first
            start = sum(counts[:p])
            here = np.flatnonzero((own >= start) & (own < start + counts[p]))
            if p == at:
                rows[here] = self._rows(d, sent)
                continue
            if here.size:
                buffer = np.empty((here.size, *beside), rows.dtype)
                received.append((here, buffer))
                traffic.taken(buffer)
                requests.append(grid.comm.Irecv(buffer, rank, d))
            if sent.size:
                given = self._rows(d, sent)
                traffic.sent(given)
                requests.append(grid.comm.Isend(given, rank, d))
        MPI.Request.Waitall(requests)
        for here, buffer in received:
            rows[here] = buffer
        if d in nearest and counts[at]:
            self._fill_nearest(rows, d, own, layout)
        return self._sides(rows, d)

    def _sides(self, rows: np.ndarray, d: int) -> np.ndarray:
        """Rows [row, ...] below and above as [side, ...], their axis where it belongs."""
        place = len(self.lead) + len(self.owned) - d
        return np.moveaxis(rows.reshape(2, self.widths[d], *rows.shape[1:]), 1, place)

    def _fill_nearest(
        self, rows: np.ndarray, d: int, own: np.ndarray, layout: Layout
    ) -> None:
        """Rows outside the domain."""
        first, count, n = (
            layout.start[d],
            layout.counts[d][layout.position[d]],
            layout.shape[d],
        )
        half = len(own) // 2
        for part, cell in ((np.arange(half), 0), (half + np.arange(half), n - 1)):
            missing = part[own[part] < 0]
            if not missing.size:
                continue
            owned = first <= cell < first + count
            rows[missing] = (
                self._rows(d, [cell - first])[0] if owned else rows[own == cell][0]
            )


@lru_cache(maxsize=8192)
def _pieces(
    owned: tuple[int, ...], widths: tuple[int, ...], box: tuple[Range, ...]
) -> list[tuple[Index, Slab | None, Index]]:
    """The parts of a box: (where they lie in it, the slab that has them or None for owned cells,
    where they lie there)."""
    if not box:
        return [((), None, ())]
    d = len(box) - 1
    n, width = owned[d], widths[d]
    first, count, step = box[0]
    found: list[tuple[Index, Slab | None, Index]] = []
    parts = ((0, 0, width), (None, width, width + n), (1, width + n, 2 * width + n))
    for side, begin, end in parts:
        low = max(-((first - begin) // step), 0)
        high = min(-((first - end) // step), count)
        if low >= high:
            continue
        where, there = (
            slice(low, high),
            _strided((first + low * step - begin, high - low, step)),
        )
        if side is None:
            inner = _pieces(owned, widths, box[1:])
            found += [((where, *a), slab, (there, *b)) for a, slab, b in inner]
        else:
            rest = tuple(_strided(r) for r in box[1:])
            found.append(((where, *(ALL,) * d), (d, side), (there, *rest)))
    return found


def _strided(cells: Range) -> slice:
    first, count, step = cells
    return slice(first, first + (count - 1) * step + 1 if count else first, step)


def with_halo(
    grid: Cells, values: np.ndarray, width: int | Sequence[int], outside: float = 0.0
) -> np.ndarray:
    """Owned values [..., i, j, k] with ghosts all round; those outside the domain are `outside`, of
    periodic axes the values at the other end. Collective.

    Args:
        values: with any axes before those of the grid, which is [..., s, i, j, k] of columns.
        width: cells on either side, of all axes or one an axis.

    Returns:
        an array of its own, in the memory order of `values`.
    """
    widths = [width] * grid.dim if isinstance(width, int) else list(width)
    lead = values.ndim - grid.dim
    shape = (
        *values.shape[:lead],
        *(n + 2 * w for n, w in zip(grid.local_shape, widths, strict=True)),
    )
    out = np.empty_like(values, shape=shape)
    axes = (*range(lead), *range(values.ndim - 1, lead - 1, -1))
    ghosts = Ghosts(grid, values.transpose(axes), widths, outside)
    ghosts.read(out.transpose(axes), ghosts.lead, ghosts.whole())
    return out


def _wanted(layout: Layout, d: int, at: int, width: int, periodic: bool) -> np.ndarray:
    """Global rows along axis d that the ranks of position `at` want below and above theirs; -1
    outside the domain."""
    count, n = layout.counts[d][at], layout.shape[d]
    first = sum(layout.counts[d][:at])
    ghosts = np.concatenate([np.arange(-width, 0), count + np.arange(width)])
    rows = first + ghosts
    return rows % n if periodic else np.where((rows >= 0) & (rows < n), rows, -1)

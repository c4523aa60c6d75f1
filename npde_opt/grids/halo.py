"""Ghosts of any width, corners included, of all channels and columns in one exchange an axis.

Ranks lie in a grid of processes; along an axis every rank knows from the layout which rows the
others of its line want and which it has, so that each pair of ranks exchanges one message, also
where the width is more than a rank's cells. Rows of later axes are exchanged with the ghosts of
earlier ones, which fills the corners. Messages are waited for where what they bring is read first:
who works on cells without ghosts before that works while they are under way.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Protocol

import numpy as np
from mpi4py import MPI

from npde_opt.grids.exchange import Exchange, line_of
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
        self._layout, self._nearest = grid.layout, tuple(nearest)
        self._slabs: list[np.ndarray | None] = []
        # Of axes that ranks share, what the slabs come from.
        self._exchanges: list[Exchange | None] = []
        for d, width in enumerate(self.widths):
            self._add(grid, d, width)

    def _add(self, grid: Cells, d: int, width: int) -> None:
        """The slabs of an axis."""
        alone = len(grid.layout.counts[d]) == 1 and not grid.periodic(d)
        rows: np.ndarray | None = None
        exchange: Exchange | None = None
        if alone and width and d in self._nearest:
            rows = np.repeat(self._rows(d, [0, self.owned[d] - 1]), width, axis=0)
        elif not alone and width:
            exchange = self._posted(grid, d)
            rows = exchange.rows
        self._slabs.append(None if rows is None else self._sides(rows, d))
        self._exchanges.append(exchange)

    def waits(self, box: tuple[Range, ...]) -> bool:
        """Whether others bring some of the cells of a box, given by axis z, y, x."""
        parts = zip(box[::-1], self._exchanges, self.widths, self.owned, strict=True)
        for (first, count, step), exchange, width, n in parts:
            if exchange is None:
                continue
            below, above = exchange.line.brought
            last = first + (count - 1) * step
            if (below and first < width) or (above and last >= width + n):
                return True
        return False

    @property
    def shared(self) -> bool:
        """Whether others bring any."""
        return any(e is not None and any(e.line.brought) for e in self._exchanges)

    @property
    def finished(self) -> bool:
        """Whether all that others bring was waited for."""
        return all(e is None or e.finished for e in self._exchanges)

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
            rows = self._slab(axis, side)
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

    def _posted(self, grid: Cells, d: int) -> Exchange:
        """Ghosts [row, ...] along axis d, of which those of others are under way."""
        line = line_of(grid.layout, d, self.widths[d], grid.periodic(d))
        after = self.values.shape[: len(self.lead) + len(self.owned) - 1 - d]
        before = [n + 2 * w for n, w in zip(self.owned, self.widths, strict=True)][:d]
        shape = (len(line.rows), *after, *before[::-1])
        exchange = Exchange(line, np.empty(shape, self.values.dtype))
        if self._copies(d):
            self._fill_nearest(exchange, d, owned=True)
        else:
            exchange.rows[line.outside] = self.outside
        exchange.post(grid.comm, d, lambda chosen: self._rows(d, chosen))
        return exchange

    def _copies(self, d: int) -> bool:
        """Whether cells outside the domain are the nearest ones."""
        return d in self._nearest and self._layout.local_shape[d] > 0

    def _slab(self, d: int, side: int) -> np.ndarray | None:
        """Ghosts [side, ...] along axis d, of which those of a side are there."""
        exchange = self._exchanges[d]
        came = exchange is not None and exchange.line.brought[side]
        if exchange is not None and came and exchange.finish() and self._copies(d):
            self._fill_nearest(exchange, d, owned=False)
        return self._slabs[d]

    def _sides(self, rows: np.ndarray, d: int) -> np.ndarray:
        """Rows [row, ...] below and above as [side, ...], their axis where it belongs."""
        place = len(self.lead) + len(self.owned) - d
        return np.moveaxis(rows.reshape(2, self.widths[d], *rows.shape[1:]), 1, place)

    def _fill_nearest(self, exchange: Exchange, d: int, owned: bool) -> None:
        """Rows outside the domain, where the nearest cell is an own one; or else."""
        layout, rows, global_rows = self._layout, exchange.rows, exchange.line.rows
        first, n = layout.start[d], layout.shape[d]
        half = len(global_rows) // 2
        for part, cell in ((np.arange(half), 0), (half + np.arange(half), n - 1)):
            missing = part[global_rows[part] < 0]
            if not missing.size:
                continue
            if (first <= cell < first + layout.local_shape[d]) != owned:
                continue
            found = (
                self._rows(d, [cell - first]) if owned else rows[global_rows == cell]
            )
            rows[missing] = found[0]


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

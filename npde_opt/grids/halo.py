"""Ghosts of any width, corners included, of all channels and columns in one exchange an axis.

Ranks lie in a grid of processes; along an axis every rank knows from the layout which rows the
others of its line want and which it has, so that each pair of ranks exchanges one message, also
where the width is more than a rank's cells. Rows of later axes are exchanged with the ghosts of
earlier ones, which fills the corners.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from mpi4py import MPI

from npde_opt.grids.grid import of_cells
from npde_opt.grids.layout import Layout


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
    lead = values.shape[: values.ndim - grid.dim]
    shape = (*lead, *(n + 2 * w for n, w in zip(grid.local_shape, widths, strict=True)))
    out = np.full_like(values, outside, shape=shape)
    inner = [slice(w, w + n) for n, w in zip(grid.local_shape, widths, strict=True)]
    out[of_cells(inner)] = values
    for d, w in enumerate(widths):
        if w:
            done = [slice(None)] * d
            filled = out[of_cells([*done, slice(None), *inner[d + 1 :]])]
            _fill(np.moveaxis(filled, len(lead) + d, 0), grid, d, w)
    return out


def _fill(rows: np.ndarray, grid: Cells, d: int, width: int) -> None:
    """Fills the first and last `width` rows of [row, ...], which lie along axis d of the grid."""
    layout, periodic = grid.layout, grid.periodic(d)
    at, counts = layout.position[d], layout.counts[d]
    stride = int(np.prod(layout.processes[:d], dtype=int))
    owned = rows[width : width + counts[at]]
    first = layout.start[d]
    own = _wanted(layout, d, at, width, periodic)
    places = np.concatenate([np.arange(width), width + counts[at] + np.arange(width)])
    requests, received = list[MPI.Request](), list[tuple[np.ndarray, np.ndarray]]()
    for p in range(len(counts)):
        rank = layout.rank + (p - at) * stride
        theirs = _wanted(layout, d, p, width, periodic)
        sent = theirs[(theirs >= first) & (theirs < first + counts[at])] - first
        start = sum(counts[:p])
        here = places[(own >= start) & (own < start + counts[p])]
        if p == at:
            rows[here] = owned[sent]
            continue
        if here.size:
            buffer = np.empty((here.size, *rows.shape[1:]), rows.dtype)
            received.append((here, buffer))
            requests.append(grid.comm.Irecv(buffer, rank, d))
        if sent.size:
            requests.append(grid.comm.Isend(np.ascontiguousarray(owned[sent]), rank, d))
    MPI.Request.Waitall(requests)
    for here, buffer in received:
        rows[here] = buffer


def _wanted(layout: Layout, d: int, at: int, width: int, periodic: bool) -> np.ndarray:
    """Global rows along axis d that the ranks of position `at` want below and above theirs; -1
    outside the domain."""
    count, n = layout.counts[d][at], layout.shape[d]
    first = sum(layout.counts[d][:at])
    ghosts = np.concatenate([np.arange(-width, 0), count + np.arange(width)])
    rows = first + ghosts
    return rows % n if periodic else np.where((rows >= 0) & (rows < n), rows, -1)

"""Where matrices of stencils on structured grids have entries, as PETSc wants it: index arrays,
made once a set of offsets.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property

import numpy as np
from mpi4py import MPI
from petsc4py import PETSc

from npde_opt.grids.numbering import Numbering

Offset = tuple[int, ...]
Csr = tuple[np.ndarray, np.ndarray, np.ndarray]
CHUNK = 1 << 15


class Pattern:
    """Where an `OffsetMatrix` has entries: in each row one an offset to the cell. Matrices of one
    pattern share its arrays.

    Args:
        numbering: the unknowns; cells without a number have no row.
        offsets: one integer an axis each, the centre first.
        periodic: by axis.
    """

    def __init__(
        self,
        comm: MPI.Intracomm,
        numbering: Numbering,
        offsets: Sequence[Offset],
        periodic: Sequence[bool],
    ):
        self.comm, self.numbering, self.layout = comm, numbering, numbering.layout
        self.offsets, self.periodic = list(offsets), tuple(periodic)
        self.is_csr = distinct(self.offsets, self.layout.shape, self.periodic)
        """False where a row has two entries in one column."""
        self._is_made = False
        self._missing: np.ndarray | None = None
        if numbering.mask is not None:
            columns = self.columns()
            self._missing = np.packbits(columns < 0, axis=1)
            self._make(columns)

    def make(self) -> None:
        """Makes the index arrays, where they are not made yet. Collective."""
        if not self._is_made:
            self._make(self.columns())

    def _make(self, columns: np.ndarray) -> None:
        self._is_made = True
        if self.is_csr:
            self._as_csr(columns)

    def columns(self) -> np.ndarray:
        """Global numbers (offsets, owned cells) of the entries' columns, -1 for none; the first
        plane is the row."""
        layout, low, near = self.layout, list[int](), list[np.ndarray]()
        columns = np.empty((len(self.offsets), layout.local_size), PETSc.IntType)
        for along_axis, i, n, p in zip(
            zip(*self.offsets, strict=True),
            layout.owned(),
            layout.shape,
            self.periodic,
            strict=True,
        ):
            low.append(min(along_axis))
            first = i[0] if i.size else 0
            cells = np.arange(first + low[-1], first + i.size + max(along_axis))
            near.append(cells % n if p else cells)
        numbers = self.numbering.at(near)
        for plane, offset in zip(columns, self.offsets, strict=True):
            box = tuple(
                slice(o - a, o - a + n)
                for o, a, n in zip(offset, low, layout.local_shape, strict=True)
            )
            plane[...] = numbers[box].ravel(order="F")
        columns[1:, columns[0] < 0] = -1
        return columns

    def _as_csr(self, columns: np.ndarray) -> None:
        local, _ = self.numbering.sizes
        first = self.comm.scan(local) - local
        self.order = sorted(
            range(len(self.offsets)), key=lambda s: self.offsets[s][::-1]
        )
        own = (columns >= first) & (columns < first + local)
        keep = np.ascontiguousarray(own[self.order].T)
        lengths = keep.sum(
            axis=1, dtype=np.int8 if len(self.offsets) < 128 else np.int32
        )
        rows = np.repeat(
            np.arange(local, dtype=PETSc.IntType), lengths[columns[0] >= 0]
        )
        j = columns[self.order].T[keep] - PETSc.IntType(first)
        self.sort: np.ndarray | None = None
        if np.any((np.diff(j) <= 0) & (np.diff(rows) == 0)):
            self.sort = np.lexsort((j, rows)).astype(PETSc.IntType)
            j = j[self.sort]
        away = np.nonzero(((columns >= 0) & ~own).ravel())[0]
        number, target = (
            np.tile(columns[0] - first, len(self.offsets))[away],
            columns.ravel()[away],
        )
        order = np.lexsort((target, number))
        number, oj = number[order], np.ascontiguousarray(target[order])
        which, cell = np.divmod(away[order], max(self.layout.local_size, 1))
        self.away_cells = [
            (s, np.nonzero(which == s)[0], cell[which == s])
            for s in range(len(self.offsets))
        ]
        self.own, self.away = (
            (starts(rows, local), np.ascontiguousarray(j)),
            (starts(number, local), oj),
        )
        self.firsts = np.concatenate(
            [[0], np.cumsum(lengths, dtype=int)[CHUNK - 1 :: CHUNK], [j.size]]
        )
        self._kept = [
            np.packbits(keep[cells : cells + CHUNK])
            for cells in range(0, len(keep), CHUNK)
        ]

    def chunks(self) -> Iterator[tuple[int, int, np.ndarray]]:
        """Number, first cell and mask (cells, offsets in the order of columns) of the own block's
        entries."""
        k = len(self.offsets)
        for chunk, bits in enumerate(self._kept):
            cells = min(CHUNK, self.layout.local_size - chunk * CHUNK)
            yield (
                chunk,
                chunk * CHUNK,
                np.unpackbits(bits, count=cells * k).reshape(cells, k).view(bool),
            )

    @cached_property
    def places(self) -> np.ndarray | None:
        """Of the own block's entries, in the order of its arrays: where each stands among the
        values of all planes, one plane after the other; None where there are more than CHUNK
        cells, for which this would take as much memory as the entries."""
        if self.layout.local_size > CHUNK:
            return None
        found = [np.empty(0, np.intp)]
        for _, _, keep in self.chunks():
            cell, column = np.nonzero(keep)
            found.append(np.array(self.order)[column] * self.layout.local_size + cell)
        whole = np.concatenate(found)
        return whole if self.sort is None else whole[self.sort]

    def clear_missing(self, flat: Sequence[np.ndarray]) -> None:
        """Writes 0 at inactive cells and towards them into values (offsets, owned cells)."""
        if self._missing is not None:
            for plane, bits in zip(flat, self._missing, strict=True):
                plane[np.unpackbits(bits, count=plane.size).view(bool)] = 0

    def wrap(self, own: Csr, away: Csr) -> PETSc.Mat:
        """A matrix on CSR arrays: the own block's, with local columns, and those of other
        columns."""
        i, j, a = away
        parts = (
            own if self.comm.size == 1 else (own, (i, j.copy(), a))
        )  # PETSc renumbers these columns in place
        mat = PETSc.Mat().createAIJWithArrays(
            (self.numbering.sizes,) * 2, parts, comm=self.comm
        )
        mat.setOption(PETSc.Mat.Option.NO_OFF_PROC_ENTRIES, True)
        return mat


def distinct(
    offsets: Sequence[Offset], shape: Sequence[int], periodic: Sequence[bool]
) -> bool:
    """Whether no two offsets lead to one cell round a periodic axis."""
    places = {
        tuple(s % n if p else s for s, n, p in zip(o, shape, periodic, strict=True))
        for o in offsets
    }
    return len(places) == len(set(offsets))


def starts(rows: np.ndarray, count: int) -> np.ndarray:
    """CSR row starts of sorted row numbers."""
    out = np.zeros(count + 1, PETSc.IntType)
    np.cumsum(np.bincount(rows, minlength=count), out=out[1:])
    return out

"""Matrices of stencils on structured grids, with values as planes: A[i, i + o] = plane_o[i] for a few offsets o.

A grid's stencil matrix has, for every active cell, one entry for the cell and one for each of its active face neighbours.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from mpi4py import MPI
from petsc4py import PETSc

from npde_opt.grids import Grid, along
from npde_opt.layout import Numbering

Offset = tuple[int, ...]
Planes = dict[Offset, np.ndarray]
"""Owned values [k, j, i] (x last) by offset."""
Csr = tuple[np.ndarray, np.ndarray, np.ndarray]
CHUNK = 1 << 15


class OffsetMatrix:
    """A square AIJ matrix with, in each row, one entry an offset to the cell; its pattern is preallocated once.

    Values come as one plane an offset; those without an unknown or a column are ignored. PETSc uses the arrays kept
    here, so that an update writes each value once and nothing else; other types (-<prefix>mat_type) take them as COO.

    Args:
        numbering: the unknowns; cells without a number have no row.
        offsets: one integer an axis each, the centre first.
        periodic: by axis.
    """

    def __init__(self, comm: MPI.Intracomm, numbering: Numbering, offsets: Sequence[Offset], periodic: Sequence[bool],
                 prefix: str | None = None):
        self.comm, self.numbering, self.layout = comm, numbering, numbering.layout
        self.offsets, self.periodic = list(offsets), tuple(periodic)
        columns = self._columns()
        kind = PETSc.Options().getString((prefix or "") + "mat_type", "aij")
        self._shared = comm.allreduce(int(kind == "aij" and self._share(columns)), op=MPI.MIN) == 1
        if not self._shared:
            self._preallocate(columns, kind)
        if prefix:
            self.mat.setOptionsPrefix(prefix)

    def _columns(self) -> np.ndarray:
        """Global numbers (offsets, owned cells) of the entries' columns, -1 for none; the first plane is the row."""
        owned, dim, layout = self.layout.owned(), self.layout.dim, self.layout
        columns = np.empty((len(self.offsets), layout.local_size), PETSc.IntType)
        for plane, offset in zip(columns, self.offsets, strict=True):
            cells = [(i + o) % n if p else i + o for i, o, n, p in
                     zip(owned, offset, layout.shape, self.periodic, strict=True)]
            plane[...] = self.numbering.of([along(c, d, dim) for d, c in enumerate(cells)]).ravel(order="F")
        columns[1:, columns[0] < 0] = -1
        return columns

    def _share(self, columns: np.ndarray) -> bool:
        """Builds the matrix on arrays of our own; False where a row has two entries in one column."""
        local, size = self.numbering.sizes
        first = self.comm.scan(local) - local
        self._order = sorted(range(len(self.offsets)), key=lambda s: self.offsets[s][::-1])
        own = (columns >= first) & (columns < first + local)
        keep = np.ascontiguousarray(own[self._order].T)
        lengths = keep.sum(axis=1, dtype=np.int8)
        rows = np.repeat(np.arange(local, dtype=PETSc.IntType), lengths[columns[0] >= 0])
        j = columns[self._order].T[keep] - PETSc.IntType(first)
        self._sort: np.ndarray | None = None
        if np.any((np.diff(j) <= 0) & (np.diff(rows) == 0)):
            self._sort = np.lexsort((j, rows)).astype(PETSc.IntType)
            j = j[self._sort]
        away = np.nonzero(((columns >= 0) & ~own).ravel())[0]
        number, target = np.tile(columns[0] - first, len(self.offsets))[away], columns.ravel()[away]
        order = np.lexsort((target, number))
        number, oj = number[order], np.ascontiguousarray(target[order])
        which, cell = np.divmod(away[order], max(self.layout.local_size, 1))
        self._away = [(s, np.nonzero(which == s)[0], cell[which == s]) for s in range(len(self.offsets))]
        doubled = np.any((np.diff(j) == 0) & (np.diff(rows) == 0)) | np.any((np.diff(oj) == 0) & (np.diff(number) == 0))
        if self.comm.allreduce(int(doubled)):
            return False
        self._a, self._oa = np.zeros(j.size), np.zeros(oj.size)
        i, oi = starts(rows, local), starts(number, local)
        self._firsts = np.concatenate([[0], np.cumsum(lengths, dtype=int)[CHUNK - 1::CHUNK], [j.size]])
        self._kept = [np.packbits(keep[cells: cells + CHUNK]) for cells in range(0, len(keep), CHUNK)]
        self._pattern = (i, np.ascontiguousarray(j)), (oi, oj)
        self.mat = self._wrap(*((*p, a) for p, a in zip(self._pattern, (self._a, self._oa), strict=True)))
        return True

    def _wrap(self, own: Csr, away: Csr) -> PETSc.Mat:
        """A matrix on CSR arrays: the own block's, with local columns, and those of other columns."""
        i, j, a = away
        parts = own if self.comm.size == 1 else (own, (i, j.copy(), a))  # PETSc renumbers these columns in place
        mat = PETSc.Mat().createAIJWithArrays((self.numbering.sizes,) * 2, parts, comm=self.comm)
        mat.setOption(PETSc.Mat.Option.NO_OFF_PROC_ENTRIES, True)
        return mat

    def _preallocate(self, columns: np.ndarray, kind: str) -> None:
        self.mat = PETSc.Mat().create(self.comm)
        self.mat.setSizes((self.numbering.sizes,) * 2)
        self.mat.setType(kind)
        self.mat.setPreallocationCOO(np.tile(columns[0], len(self.offsets)), columns.ravel())

    def set_planes(self, planes: Planes) -> None:
        """Updates the matrix from owned values [k, j, i] by offset. Collective."""
        self._update([planes[o].reshape(-1) for o in self.offsets])

    def _update(self, planes: Sequence[np.ndarray]) -> None:
        if not self._shared:
            self.mat.setValuesCOO(np.concatenate(planes))
            return
        target = self._a if self._sort is None else np.empty_like(self._a)
        block = np.empty((CHUNK, len(self.offsets)))
        for chunk, cells, keep in self._chunks():
            for column, s in enumerate(self._order):
                block[: len(keep), column] = planes[s][cells: cells + CHUNK]
            target[self._firsts[chunk]: self._firsts[chunk + 1]] = block[: len(keep)][keep]
        if self._sort is not None:
            np.take(target, self._sort, out=self._a)
        for s, entries, cells in self._away:
            self._oa[entries] = planes[s][cells]
        self.mat.assemble()

    def _chunks(self) -> Iterator[tuple[int, int, np.ndarray]]:
        """Number, first cell and mask (cells, offsets in the order of columns) of the own block's entries."""
        k = len(self.offsets)
        for chunk, bits in enumerate(self._kept):
            cells = min(CHUNK, self.layout.local_size - chunk * CHUNK)
            yield chunk, chunk * CHUNK, np.unpackbits(bits, count=cells * k).reshape(cells, k).view(bool)

    @property
    def shared(self) -> bool:
        """Whether PETSc uses the arrays kept here."""
        return self._shared

    def rest_of_sweep(self, target: PETSc.Mat | None = None) -> PETSc.Mat:
        """D + L - A as sliced ELLPACK, D + L the lower triangle of every rank's own block: a forward sweep of Gauss-Seidel
        from zero, x = (D + L)^-1 b, leaves the residual b - A x = (D + L - A) x. Goes into a `target` made here before.
        Collective; for shared matrices."""
        (i, j), (oi, oj) = self._pattern
        keep, kept = np.empty(j.size, bool), np.zeros_like(i)
        for first in range(0, i.size - 1, CHUNK):
            rows = i[first: first + CHUNK + 1]
            part = slice(rows[0], rows[-1])
            keep[part] = j[part] > np.repeat(np.arange(first, first + rows.size - 1, dtype=j.dtype), np.diff(rows))
            count = np.concatenate([[0], np.cumsum(keep[part], dtype=i.dtype)])
            kept[first + 1: first + rows.size] = kept[first] + count[rows[1:] - rows[0]]
        rest = self._wrap((kept, j[keep], -self._a[keep]), (oi, oj, -self._oa))
        found = rest.convert(PETSc.Mat.Type.SELL, target or PETSc.Mat())
        rest.destroy()
        return found

    def destroy(self) -> None:
        self.mat.destroy()


def starts(rows: np.ndarray, count: int) -> np.ndarray:
    """CSR row starts of sorted row numbers."""
    out = np.zeros(count + 1, PETSc.IntType)
    np.cumsum(np.bincount(rows, minlength=count), out=out[1:])
    return out


def stencil_offsets(dim: int) -> list[Offset]:
    """Centre, x-, x+, y-, y+, z-, z+."""
    unit = [tuple(int(d == e) for e in range(dim)) for d in range(dim)]
    return [(0,) * dim, *(tuple(s * o for o in u) for u in unit for s in (-1, 1))]


class StencilMatrix(OffsetMatrix):
    """The stencil of 1 + 2 dim points on a grid's active cells (see `Grid.create_active`)."""

    def __init__(self, grid: Grid, prefix: str | None = None):
        self.grid = grid
        self._entries: np.ndarray | None = None
        self._missing: np.ndarray | None = None
        super().__init__(grid.comm, Numbering(grid.layout, grid.active_global), stencil_offsets(grid.dim),
                         [grid.periodic(d) for d in range(grid.dim)], prefix)

    def _columns(self) -> np.ndarray:
        columns = super()._columns()
        if self.grid.active_global is not None:
            self._missing = columns < 0
        return columns

    def entries(self) -> np.ndarray:
        """A reusable array (1 + 2 dim, *local_shape) to fill and hand to `set_values`: centre, x-, x+, y-, ... What it
        holds at inactive cells or towards inactive or missing neighbours is ignored."""
        if self._entries is None:
            self._entries = np.empty((len(self.offsets), self.layout.local_size))
        dim = self.layout.dim
        return self._entries.reshape(-1, *self.layout.local_shape[::-1]).transpose(0, *range(dim, 0, -1))

    def set_values(self, values: np.ndarray) -> None:
        """Updates the matrix. Collective."""
        self._update(list(values.transpose(0, *range(self.layout.dim, 0, -1)).reshape(len(values), -1)))

    def planes(self) -> Planes:
        """The values last set, owned [k, j, i] by offset, 0 at inactive cells and towards them. After `freeze` they
        are read back from the matrix."""
        flat = self._read() if self._entries is None else self._entries
        if self._missing is not None:
            flat[self._missing] = 0
        return dict(zip(self.offsets, flat.reshape(-1, *self.layout.local_shape[::-1]), strict=True))

    def _read(self) -> np.ndarray:
        flat = np.zeros((len(self.offsets), self.layout.local_size))
        source = self._a
        if self._sort is not None:
            source = np.empty_like(self._a)
            source[self._sort] = self._a
        for chunk, cells, keep in self._chunks():
            block = np.zeros(keep.shape)
            block[keep] = source[self._firsts[chunk]: self._firsts[chunk + 1]]
            flat[self._order, cells: cells + CHUNK] = block.T
        for s, entries, cells in self._away:
            flat[s, cells] = self._oa[entries]
        return flat

    def freeze(self) -> None:
        """Frees the entries, where the matrix can give them back."""
        self._entries = None if self._shared else self._entries


def combine(target: StencilMatrix, parts: Sequence[tuple[float, StencilMatrix]], diagonal: np.ndarray) -> None:
    """target := sum of factor times matrix, plus a diagonal of owned values [i, j, k]. Collective."""
    entries = target.entries()
    entries[...] = 0
    for factor, matrix in parts:
        for plane, values in zip(entries, matrix.planes().values(), strict=True):
            plane += factor * values.T
    entries[0] += diagonal
    target.set_values(entries)

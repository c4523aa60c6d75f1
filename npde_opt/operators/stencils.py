"""Matrices of stencils on structured grids, with values as planes: A[i, i + o] = plane_o[i] for a
few offsets o.

A grid's stencil matrix has, for every active cell, one entry for the cell and one for each of its
active face neighbours; others have those of any offsets, from a pattern made once a set of offsets.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from mpi4py import MPI
from petsc4py import PETSc

from npde_opt import reductions
from npde_opt.grids import Grid
from npde_opt.grids.numbering import Numbering
from npde_opt.petsc_options import from_options

Offset = tuple[int, ...]
Planes = dict[Offset, np.ndarray]
"""Owned values [k, j, i] (x last) by offset."""
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
        columns = self.columns()
        self._missing = (
            None if numbering.mask is None else np.packbits(columns < 0, axis=1)
        )
        self.is_csr = self._as_csr(columns)
        """False where a row has two entries in one column."""

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

    def _as_csr(self, columns: np.ndarray) -> bool:
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
        doubled = np.any((np.diff(j) == 0) & (np.diff(rows) == 0)) | np.any(
            (np.diff(oj) == 0) & (np.diff(number) == 0)
        )
        if reductions.anywhere(self.comm, bool(doubled)):
            return False
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
        return True

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

    def clear_missing(self, flat: np.ndarray) -> None:
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


class OffsetMatrix:
    """A square AIJ matrix with a pattern made before.

    Values come as one plane an offset; those without an unknown or a column are ignored. PETSc uses
    the arrays kept here, so that an update writes each value once and nothing else; other types
    (-<prefix>mat_type) take them as COO.
    """

    def __init__(self, pattern: Pattern, prefix: str | None = None):
        self.pattern, self.comm, self.layout, self.offsets = (
            pattern,
            pattern.comm,
            pattern.layout,
            pattern.offsets,
        )
        kind = PETSc.Options().getString((prefix or "") + "mat_type", "aij")
        self.shared = pattern.is_csr and kind == "aij"
        """Whether PETSc uses the arrays kept here."""
        if self.shared:
            self._a, self._oa = (
                np.zeros(pattern.own[1].size),
                np.zeros(pattern.away[1].size),
            )
            self.mat = pattern.wrap((*pattern.own, self._a), (*pattern.away, self._oa))
        else:
            columns = pattern.columns()
            self.mat = PETSc.Mat().create(self.comm)
            self.mat.setSizes((pattern.numbering.sizes,) * 2)
            with from_options((prefix or "") + "mat_type"):
                self.mat.setType(kind)
                self.mat.setPreallocationCOO(
                    np.tile(columns[0], len(self.offsets)), columns.ravel()
                )
        if prefix:
            self.mat.setOptionsPrefix(prefix)

    def set_planes(self, planes: Planes) -> None:
        """Updates the matrix from owned values [k, j, i] by offset. Collective."""
        self._update([planes[o].reshape(-1) for o in self.offsets])

    def _update(self, planes: Sequence[np.ndarray]) -> None:
        if not self.shared:
            self.mat.setValuesCOO(np.concatenate(planes))
            return
        pattern = self.pattern
        target = self._a if pattern.sort is None else np.empty_like(self._a)
        block = np.empty((CHUNK, len(self.offsets)))
        for chunk, cells, keep in pattern.chunks():
            for column, s in enumerate(pattern.order):
                block[: len(keep), column] = planes[s][cells : cells + CHUNK]
            target[pattern.firsts[chunk] : pattern.firsts[chunk + 1]] = block[
                : len(keep)
            ][keep]
        if pattern.sort is not None:
            np.take(target, pattern.sort, out=self._a)
        for s, entries, cells in pattern.away_cells:
            self._oa[entries] = planes[s][cells]
        self.mat.assemble()

    def rows(self) -> tuple[Csr, Csr]:
        """(starts, columns, values) of the own block, with local columns, and of other columns,
        with global ones: PETSc's arrays, of shared matrices."""
        return (*self.pattern.own, self._a), (*self.pattern.away, self._oa)

    def rest_of_sweep(self, target: PETSc.Mat | None = None) -> PETSc.Mat:
        """D + L - A as sliced ELLPACK, D + L the lower triangle of every rank's own block: a
        forward sweep of Gauss-Seidel from zero, x = (D + L)^-1 b, leaves the residual b - A x = (D
        + L - A) x. Goes into a `target` made here before. Collective; for shared matrices."""
        (i, j), away = self.pattern.own, self.pattern.away
        keep, kept = np.empty(j.size, bool), np.zeros_like(i)
        for first in range(0, i.size - 1, CHUNK):
            rows = i[first : first + CHUNK + 1]
            part = slice(rows[0], rows[-1])
            keep[part] = j[part] > np.repeat(
                np.arange(first, first + rows.size - 1, dtype=j.dtype), np.diff(rows)
            )
            count = np.concatenate([[0], np.cumsum(keep[part], dtype=i.dtype)])
            kept[first + 1 : first + rows.size] = (
                kept[first] + count[rows[1:] - rows[0]]
            )
        rest = self.pattern.wrap((kept, j[keep], -self._a[keep]), (*away, -self._oa))
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
    """A stencil on a grid's active cells (see `Grid.create_active`).

    Args:
        offsets: to the cells of the stencil, the centre first; None: the 1 + 2 dim points of
            `stencil_offsets`.
    """

    def __init__(
        self,
        grid: Grid,
        prefix: str | None = None,
        offsets: Sequence[Offset] | None = None,
    ):
        self.grid = grid
        self._entries: np.ndarray | None = None
        periodic = tuple(grid.periodic(d) for d in range(grid.dim))
        narrow = stencil_offsets(grid.dim)
        cells = tuple(narrow if offsets is None else offsets)
        self.narrow = set(cells) <= set(narrow)
        """Whether geometric multigrid knows its cells."""
        super().__init__(
            grid.once(
                ("stencil", periodic, cells),
                lambda: Pattern(
                    grid.comm,
                    Numbering(grid.layout, grid.mask),
                    cells,
                    periodic,
                ),
            ),
            prefix,
        )

    def zeroed(self) -> dict[Offset, np.ndarray]:
        """The entries by offset, owned [i, j, k], set to 0: to be added to, before `refresh`."""
        values = self.entries()
        values[...] = 0
        return dict(zip(self.offsets, values, strict=True))

    def refresh(self) -> None:
        """Puts the entries into the matrix. Collective."""
        self.set_values(self.entries())

    def entries(self) -> np.ndarray:
        """A reusable array (offsets, *local_shape) to fill and hand to `set_values`: centre, x-,
        x+, y-, ... What it holds at inactive cells or towards inactive or missing neighbours is
        ignored."""
        if self._entries is None:
            self._entries = np.empty((len(self.offsets), self.layout.local_size))
        dim = self.layout.dim
        return self._entries.reshape(-1, *self.layout.local_shape[::-1]).transpose(
            0, *range(dim, 0, -1)
        )

    def set_values(self, values: np.ndarray) -> None:
        """Updates the matrix. Collective."""
        self._update(
            list(
                values.transpose(0, *range(self.layout.dim, 0, -1)).reshape(
                    len(values), -1
                )
            )
        )

    def planes(self) -> Planes:
        """The values last set, owned [k, j, i] by offset, 0 at inactive cells and towards them.
        After `freeze` they are read back from the matrix."""
        flat = self._read() if self._entries is None else self._entries
        self.pattern.clear_missing(flat)
        return dict(
            zip(
                self.offsets,
                flat.reshape(-1, *self.layout.local_shape[::-1]),
                strict=True,
            )
        )

    def _read(self) -> np.ndarray:
        pattern, flat = (
            self.pattern,
            np.zeros((len(self.offsets), self.layout.local_size)),
        )
        source = self._a
        if pattern.sort is not None:
            source = np.empty_like(self._a)
            source[pattern.sort] = self._a
        for chunk, cells, keep in pattern.chunks():
            block = np.zeros(keep.shape)
            block[keep] = source[pattern.firsts[chunk] : pattern.firsts[chunk + 1]]
            flat[pattern.order, cells : cells + CHUNK] = block.T
        for s, entries, cells in pattern.away_cells:
            flat[s, cells] = self._oa[entries]
        return flat

    def freeze(self) -> None:
        """Frees the entries, where the matrix can give them back."""
        self._entries = None if self.shared else self._entries


def combine(
    target: StencilMatrix,
    parts: Sequence[tuple[float, StencilMatrix]],
    diagonal: np.ndarray,
) -> None:
    """target := sum of factor times matrix, plus a diagonal of owned values [i, j, k].
    Collective."""
    entries = target.zeroed()
    for factor, matrix in parts:
        for offset, values in matrix.planes().items():
            plane = entries[offset]
            plane += factor * values.T
    centre = entries[target.offsets[0]]
    centre += diagonal
    target.refresh()

"""Matrices of stencils on structured grids, with values as planes: A[i, i + o] = plane_o[i] for a
few offsets o.

A grid's stencil matrix has, for every active cell, one entry for the cell and one for each of its
active face neighbours; others have those of any offsets, from a pattern made once a set of offsets.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
from petsc4py import PETSc

from npde_opt.grids import Grid
from npde_opt.grids.numbering import Numbering
from npde_opt.operators import patterns
from npde_opt.operators.halves import Half, Planes, Shell
from npde_opt.operators.many import MatrixProduct
from npde_opt.operators.patterns import Csr, Offset, Pattern
from npde_opt.petsc_options import from_options


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
        self._prefix = prefix
        kind = PETSc.Options().getString((prefix or "") + "mat_type", "aij")
        self._kind = kind
        self.shared = pattern.is_csr and kind == "aij"
        """Whether PETSc uses the arrays kept here."""
        self._mat: PETSc.Mat | None = None

    @property
    def mat(self) -> PETSc.Mat:
        """PETSc's matrix, made when it is first asked for. Collective."""
        if self._mat is None:
            self._mat = self._made()
        return self._mat

    def _made(self) -> PETSc.Mat:
        pattern = self.pattern
        pattern.make()
        if self.shared:
            self._a, self._oa = (
                np.zeros(pattern.own[1].size),
                np.zeros(pattern.away[1].size),
            )
            mat = pattern.wrap((*pattern.own, self._a), (*pattern.away, self._oa))
        else:
            columns = pattern.columns()
            mat = PETSc.Mat().create(self.comm)
            mat.setSizes((pattern.numbering.sizes,) * 2)
            with from_options((self._prefix or "") + "mat_type"):
                mat.setType(self._kind)
                mat.setPreallocationCOO(
                    np.tile(columns[0], len(self.offsets)), columns.ravel()
                )
        if self._prefix:
            mat.setOptionsPrefix(self._prefix)
        return mat

    def set_planes(self, planes: Planes) -> None:
        """Updates the matrix from owned values [k, j, i] by offset. Collective."""
        self._update([planes[o].reshape(-1) for o in self.offsets])

    def _update(self, planes: Sequence[np.ndarray]) -> None:
        mat = self.mat
        if not self.shared:
            mat.setValuesCOO(np.concatenate(planes))
            return
        pattern = self.pattern
        if pattern.places is None:
            self._take_chunks(planes)
        else:
            whole = np.concatenate(planes)
            # Numbers within bounds: with "clip" numpy writes to `out` without a copy.
            np.take(whole, pattern.places, out=self._a, mode="clip")
        for s, entries, cells in pattern.away_cells:
            if entries.size:
                self._oa[entries] = planes[s][cells]
        mat.assemble()

    def _take_chunks(self, planes: Sequence[np.ndarray]) -> None:
        """Values of the own block, CHUNK cells at a time."""
        pattern = self.pattern
        target = self._a if pattern.sort is None else np.empty_like(self._a)
        block = np.empty((patterns.CHUNK, len(self.offsets)))
        for chunk, cells, keep in pattern.chunks():
            for column, s in enumerate(pattern.order):
                block[: len(keep), column] = planes[s][cells : cells + patterns.CHUNK]
            target[pattern.firsts[chunk] : pattern.firsts[chunk + 1]] = block[
                : len(keep)
            ][keep]
        if pattern.sort is not None:
            np.take(target, pattern.sort, out=self._a)

    def rows(self) -> tuple[Csr, Csr]:
        """(starts, columns, values) of the own block, with local columns, and of other columns,
        with global ones: PETSc's arrays, of shared matrices. Collective."""
        self.mat  # noqa: B018
        return (*self.pattern.own, self._a), (*self.pattern.away, self._oa)

    def rest_of_sweep(self, target: PETSc.Mat | None = None) -> PETSc.Mat:
        """D + L - A as sliced ELLPACK, D + L the lower triangle of every rank's own block: a
        forward sweep of Gauss-Seidel from zero, x = (D + L)^-1 b, leaves the residual b - A x = (D
        + L - A) x. Goes into a `target` made here before. Collective; for shared matrices."""
        (i, j), away = self.pattern.own, self.pattern.away
        keep, kept = np.empty(j.size, bool), np.zeros_like(i)
        for first in range(0, i.size - 1, patterns.CHUNK):
            rows = i[first : first + patterns.CHUNK + 1]
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
        if self._mat is not None:
            self._mat.destroy()


def stencil_offsets(dim: int) -> list[Offset]:
    """Centre, x-, x+, y-, y+, z-, z+."""
    return list(_narrow(dim))


@cache
def _narrow(dim: int) -> tuple[Offset, ...]:
    unit = [tuple(int(d == e) for e in range(dim)) for d in range(dim)]
    return ((0,) * dim, *(tuple(s * o for o in u) for u in unit for s in (-1, 1)))


PLANES = 1 << 13
"""Cells from which on compiled loops pay for their loading."""


class StencilMatrix(OffsetMatrix):
    """A stencil on a grid's active cells (see `Grid.create_active`).

    Symmetric ones of face neighbours, on grids of PLANES cells without a mask, are kept as planes
    (halves.py): products need no more, and PETSc's matrix is made when somebody asks for it.

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
        self._values: Planes | None = None
        self._half: Half | None = None
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
        whole = set(cells) == set(narrow) and grid.mask is None
        self._light = self.shared and whole and grid.dim > 1 and grid.size >= PLANES
        self._shell: PETSc.Mat | None = None
        self._product: MatrixProduct | None = None

    @property
    def mat(self) -> PETSc.Mat:
        """PETSc's matrix with the present values, made when it is first asked for. Collective."""
        if self._mat is None:
            self._mat = self._made()
            half, self._half = self._half, None
            if half is not None:
                # What is kept is not read back from the matrix.
                planes = half.whole()
                kept = {o: np.ascontiguousarray(planes[o]) for o in self.offsets}
                self._update([values.reshape(-1) for values in kept.values()])
                self._values = kept
        return self._mat

    @property
    def operator(self) -> PETSc.Mat:
        """A Mat with the products of `product`. Collective."""
        if not self._light:
            return self.mat
        if self._shell is None:
            sizes = (self.pattern.numbering.sizes,) * 2
            self._shell = PETSc.Mat().createPython(sizes, Shell(self), comm=self.comm)
            self._shell.setUp()
        return self._shell

    def product(
        self,
        x: PETSc.Vec,
        y: PETSc.Vec,
        transposed: bool = False,
        factor: float = 1.0,
        weights: PETSc.Vec | None = None,
    ) -> None:
        """y = A x, or A^T x, times a number and weights of the cells. Collective."""
        if self._half is not None:
            self.products(
                x.getArray(readonly=True)[None], y.getArray()[None], factor, weights
            )
            return
        action = self.mat.multTranspose if transposed else self.mat.mult
        action(x, y)
        if weights is not None:
            y.pointwiseMult(y, weights)
        if factor != 1.0:
            y.scale(factor)

    def products(
        self,
        rows: np.ndarray,
        found: np.ndarray,
        factor: float = 1.0,
        weights: PETSc.Vec | None = None,
    ) -> None:
        """The same of every row x (n, own active cells), into a row of `found`; both in C order.
        Collective; on all ranks of as many rows."""
        cells = None if weights is None else weights.getArray(readonly=True)
        if self._half is not None:
            self._half.multiply(rows, found, factor, cells)
            return
        if self._product is None:
            self._product = MatrixProduct(self.mat)
        self._product.apply(rows, found)
        if factor != 1.0:
            found *= factor
        if cells is not None:
            found *= cells

    def largest_row(self) -> float:
        """The largest sum of |A_ij| of a row. Collective."""
        if self._half is not None:
            return self._half.largest_row()
        return float(self.mat.norm(PETSc.NormType.NORM_INFINITY))

    def diagonal(self, out: PETSc.Vec) -> None:
        """The diagonal. Collective."""
        if self._half is not None:
            out.setArray(self._half.diagonal.reshape(-1))
        else:
            self.mat.getDiagonal(out)

    def zeroed(self) -> dict[Offset, np.ndarray]:
        """The entries by offset, owned [i, j, k], set to 0: to be added to, before `refresh`."""
        values = self._entries()
        for plane in values.values():
            plane.fill(0.0)
        return {offset: plane.T for offset, plane in values.items()}

    def refresh(self) -> None:
        """Takes the entries. Collective."""
        values = self._entries()
        if self._light and self._mat is None:
            how = self.layout, self.pattern.periodic, self.comm
            self._half = Half.of(values, *how)
        if self._half is None:
            self._update([values[o].reshape(-1) for o in self.offsets])
        else:
            self._values = None

    def _entries(self) -> Planes:
        """Arrays by offset, [k, j, i]; those that are kept, where there are such."""
        if self._values is None:
            kept = {} if self._half is None else self._half.values
            shape = self.layout.local_shape[::-1]
            self._values = {
                o: kept[o] if o in kept else np.empty(shape) for o in self.offsets
            }
        self._half = None
        return self._values

    def entries(self) -> np.ndarray:
        """An array (offsets, *local_shape) to fill and hand to `set_values`: centre, x-, x+, y-,
        ... What it holds at inactive cells or towards inactive or missing neighbours is
        ignored. It begins with the present values."""
        planes = self.planes()
        found = np.stack([planes[o] for o in self.offsets])
        return found.transpose(0, *range(self.layout.dim, 0, -1))

    def set_values(self, values: np.ndarray) -> None:
        """Updates the matrix. Collective."""
        for plane, given in zip(self._entries().values(), values, strict=True):
            plane.T[...] = given
        self.refresh()

    def planes(self) -> Planes:
        """The values last set, owned [k, j, i] by offset, 0 at inactive cells and towards them.
        After `freeze` they are read back from the matrix."""
        if self._half is not None:
            return self._half.whole()
        shape = self.layout.local_shape[::-1]
        if self._values is None:
            found = dict(zip(self.offsets, self._read(), strict=True))
        else:
            found = {o: v.reshape(-1) for o, v in self._values.items()}
        self.pattern.clear_missing(list(found.values()))
        return {o: v.reshape(shape) for o, v in found.items()}

    def kept_planes(self) -> Planes:
        """`planes`, of one of o and -o where this is what is kept: not to be written to."""
        return self.planes() if self._half is None else self._half.kept()

    def _read(self) -> np.ndarray:
        pattern, flat = (
            self.pattern,
            np.zeros((len(self.offsets), self.layout.local_size)),
        )
        if self._mat is None or not self.shared:
            return flat
        source = self._a
        if pattern.sort is not None:
            source = np.empty_like(self._a)
            source[pattern.sort] = self._a
        for chunk, cells, keep in pattern.chunks():
            block = np.zeros(keep.shape)
            block[keep] = source[pattern.firsts[chunk] : pattern.firsts[chunk + 1]]
            flat[pattern.order, cells : cells + patterns.CHUNK] = block.T
        for s, entries, cells in pattern.away_cells:
            flat[s, cells] = self._oa[entries]
        return flat

    def freeze(self) -> None:
        """Frees the entries, where the matrix can give them back."""
        self._values = None if self.shared else self._values

    def destroy(self) -> None:
        super().destroy()
        if self._product is not None:
            self._product.destroy()
        if self._shell is not None:
            self._shell.destroy()


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

"""The assembled path: operators as sums over shifts,

    K = sum_s S_s (x) W_s,

with shifts S_s between cells as AIJ matrices that are made once (what lies outside, strides and
dilations are in them), and small dense W_s. A state is a dense block of one column a channel and
sample, so that products are PETSc's sparse times dense and BLAS's of small weights with what was
shifted.

The shifts of a box are products of those of its axes, S_(z,y,x) = S_(z,y) S_x, which is what is
applied: with X = [S_x ...] above each other, and Y = [S_(z,y) ...] beside each other,

    W * u = Y W X u,    W^T * y = X^T W^T Y^T y,    y (x) u = (Y^T y) (X u)^T.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np
from petsc4py import PETSc

from npde_opt.grids.layout import Layout
from npde_opt.networks.diffusion import Diffusion
from npde_opt.networks.interface import Bilinear, Reading
from npde_opt.networks.matrices import of_entries
from npde_opt.networks.parts import Transposed
from npde_opt.networks.place import Place
from npde_opt.networks.stencil import Stencil
from npde_opt.networks.strips import Box, by_channel, over_cells


class Sparse:
    """A matrix between cells and its transpose, on blocks of dense columns.

    Args:
        matrix: it is destroyed with this. Collective.
    """

    def __init__(self, matrix: PETSc.Mat):
        self.matrix, self.back = matrix, matrix.transpose(PETSc.Mat())

    def apply(self, u: np.ndarray) -> np.ndarray:
        """A u of columns (columns, own cells), in double precision. Collective."""
        return _product(self.matrix, u)

    def transpose(self, y: np.ndarray) -> np.ndarray:
        """A^T y"""
        return _product(self.back, y)

    def destroy(self) -> None:
        self.matrix.destroy()
        self.back.destroy()


def _product(A: PETSc.Mat, u: np.ndarray) -> np.ndarray:
    """Arrays are rows of cells, which is how PETSc keeps columns: nothing is copied."""
    out = np.empty((len(u), A.getLocalSize()[0]))
    given, found = (
        PETSc.Mat().createDense(
            ((x.shape[1], None), (None, len(x))), array=x.T, comm=A.comm
        )
        for x in (u, out)
    )
    A.matMult(given, found)
    given.destroy()
    found.destroy()
    return out


class Shifts:
    """The shifts of a stencil: X and Y, see above. Collective."""

    def __init__(self, stencil: Stencil):
        source, target, axes = stencil.source, stencil.target, stencil.axes
        counts = [target.layout.counts[0], *source.layout.counts[1:]]
        middle = source.with_cells(counts, 1)
        along = [axis.sources(axis.at) for axis in axes]
        still, moved = (
            [own[:, None] for own in p.layout.owned()] for p in (middle, target)
        )
        self.taps = prod(stencil.taps[:-1]), stencil.taps[-1]
        self.along_x = Sparse(_gathering(source, middle, [along[0], *still[1:]]))
        self.across = Sparse(_summing(middle, target, [moved[0], *along[1:]]))

    def destroy(self) -> None:
        self.along_x.destroy()
        self.across.destroy()


def _gathering(
    source: Place, target: Place, sources: Sequence[np.ndarray]
) -> PETSc.Mat:
    """Shifts above each other: a rank's rows go tap by tap."""
    column = _read(source.layout, sources)
    copies, size = column.shape
    row = target.layout.global_index(target.layout.owned_mesh())
    rows = _in_copies(target, np.broadcast_to(row, column.shape), copies)
    return of_entries(
        target.comm,
        (copies * size, source.layout.local_size),
        rows.ravel(),
        column.ravel(),
        np.ones(column.size),
    )


def _summing(source: Place, target: Place, sources: Sequence[np.ndarray]) -> PETSc.Mat:
    """Shifts beside each other: a rank's columns go tap by tap."""
    column = _read(source.layout, sources)
    copies, size = column.shape
    row = target.layout.global_index(target.layout.owned_mesh())
    return of_entries(
        target.comm,
        (size, copies * source.layout.local_size),
        np.broadcast_to(row, column.shape).ravel(),
        _in_copies(source, column, copies).ravel(),
        np.ones(column.size),
    )


def _read(layout: Layout, sources: Sequence[np.ndarray]) -> np.ndarray:
    """PETSc's numbers of the cells (taps, outputs) that are read, -1 where there is none.

    Args:
        sources: by axis x, y, z the cells (own outputs, taps).
    """
    dim, every = layout.dim, list[np.ndarray]()
    for d, cells in enumerate(sources):
        shape = [1] * (2 * dim)
        shape[2 * dim - 1 - d], shape[dim - 1 - d] = cells.shape
        every.append(cells.T.reshape(shape))
    outputs, taps = (prod(cells.shape[n] for cells in sources) for n in (0, 1))
    return layout.global_index(every).reshape(taps, outputs)


def _in_copies(place: Place, cell: np.ndarray, copies: int) -> np.ndarray:
    """Numbers of cells [copy, ...] where each rank has all its cells once a copy, -1 as given."""
    ends = np.concatenate(
        [[0], np.cumsum(place.comm.allgather(place.layout.local_size))]
    )
    owner = np.searchsorted(ends, cell, side="right") - 1
    first, size = ends[owner], np.diff(ends)[np.minimum(owner, len(ends) - 2)]
    copy = np.arange(copies).reshape(copies, *(1,) * (cell.ndim - 1))
    return np.where(cell < 0, -1, copies * first + copy * size + (cell - first))


class Shifted:
    """A stencil by its shifts.

    Args:
        stencil: see stencil.py. shifts: its own.
    """

    local = False

    def __init__(self, stencil: Stencil, shifts: Shifts):
        self.stencil, self.shifts = stencil, shifts
        self.source, self.target = stencil.source, stencil.target
        self.shape, self.inputs = stencil.shape, stencil.inputs
        c, d = self.shape[:2]
        self.sizes = c * shifts.taps[0], d * shifts.taps[1]

    def before(self, u: np.ndarray) -> np.ndarray:
        """X u [s, (d, tx), cells]"""
        rows = self.shifts.along_x.apply(_columns(u))
        cells = rows.shape[1] // self.shifts.taps[1]
        return rows.reshape(u.shape[1], self.sizes[1], cells)

    def behind(self, y: np.ndarray) -> np.ndarray:
        """Y^T y [s, (c, tz, ty), cells]"""
        rows = self.shifts.across.transpose(_columns(y))
        cells = rows.shape[1] // self.shifts.taps[0]
        return rows.reshape(y.shape[1], self.sizes[0], cells)

    def _matrix(self, w: np.ndarray) -> np.ndarray:
        """W as (c tz ty, d tx)."""
        (c, d), (across, along) = self.shape[:2], self.shifts.taps
        return w.reshape(c, d, across, along).transpose(0, 2, 1, 3).reshape(self.sizes)

    def forward(self, w: np.ndarray, before: np.ndarray) -> np.ndarray:
        """Y W of X u."""
        mixed = self._matrix(w) @ before
        rows = self.shifts.across.apply(_rows(mixed, self.shape[0]))
        return _state(rows, self.target, len(before))

    def backward(self, w: np.ndarray, behind: np.ndarray) -> np.ndarray:
        """X^T W^T of Y^T y."""
        mixed = self._matrix(w).T @ behind
        rows = self.shifts.along_x.transpose(_rows(mixed, self.shape[1]))
        return _state(rows, self.source, len(behind))

    def gradient(self, behind: np.ndarray, before: np.ndarray) -> np.ndarray:
        """y (x) u from Y^T y and X u."""
        (c, d), (across, along) = self.shape[:2], self.shifts.taps
        found = (behind @ before.swapaxes(1, 2)).sum(axis=0)
        return (
            found.reshape(c, across, d, along).transpose(0, 2, 1, 3).reshape(self.shape)
        )

    def apply(self, w: np.ndarray, u: np.ndarray) -> np.ndarray:
        return self.forward(w, self.before(u))

    def transpose(self, w: np.ndarray, y: np.ndarray) -> np.ndarray:
        return self.backward(w, self.behind(y))

    def weights(self, y: np.ndarray, u: np.ndarray) -> np.ndarray:
        return self.gradient(self.behind(y), self.before(u))

    def reading(self, w: np.ndarray, u: np.ndarray) -> Reading:
        before = self.before(u)
        return Whole(self, self.forward(w, before), before, back=False)

    def back(self, w: np.ndarray, y: np.ndarray) -> Reading:
        behind = self.behind(y)
        return Whole(self, self.backward(w, behind), behind, back=True)

    def matrix(self, w: np.ndarray) -> PETSc.Mat:
        return self.stencil.matrix(w)


def _columns(u: np.ndarray) -> np.ndarray:
    """(sample and channel, cells) of a state [c, s, k, j, i]."""
    cells = prod(u.shape[2:])
    return np.ascontiguousarray(u.swapaxes(0, 1)).reshape(
        u.shape[0] * u.shape[1], cells
    )


def _rows(mixed: np.ndarray, channels: int) -> np.ndarray:
    """(sample and channel, taps and cells) of [s, (c, taps), cells]."""
    samples, rows, cells = mixed.shape
    return mixed.reshape(samples * channels, rows // channels * cells)


def _state(rows: np.ndarray, place: Place, samples: int) -> np.ndarray:
    """The state [c, s, k, j, i] of columns (sample and channel, cells)."""
    split = rows.reshape(samples, place.channels, *place.cells)
    return np.ascontiguousarray(split.swapaxes(0, 1))


class Whole(Reading):
    """The product of a stencil with a state, all of it, and what was shifted for it."""

    gathers = True

    def __init__(self, of: Shifted, found: np.ndarray, shifted: np.ndarray, back: bool):
        self.of, self.found, self.shifted, self.back = of, found, shifted, back
        self.width = 2 * len(found)
        self.other: np.ndarray | None = None

    def product(self, box: Box, out: np.ndarray, add: bool = False) -> None:
        if add:
            out += self.found[box.index]
        else:
            out[...] = self.found[box.index]

    def gather(self, box: Box, other: np.ndarray) -> None:
        """Keeps what the product in the weights is with."""
        if self.other is None:
            self.other = np.empty_like(self.found)
        self.other[box.index] = other

    @property
    def weights(self) -> np.ndarray:
        """Collective."""
        other = np.empty_like(self.found) if self.other is None else self.other
        if self.back:
            return self.of.gradient(self.shifted, self.of.before(other))
        return self.of.gradient(self.of.behind(other), self.shifted)


class Spread:
    """Diffusion of each channel, L (x) diag k, with an assembled Laplacian L."""

    local = False

    def __init__(self, diffusion: Diffusion, laplacian: Sparse):
        self.diffusion, self.laplacian = diffusion, laplacian
        self.source = self.target = diffusion.source
        self.shape, self.inputs = diffusion.shape, diffusion.inputs

    def image(self, u: np.ndarray) -> np.ndarray:
        """L u"""
        rows = u.reshape(u.shape[0] * u.shape[1], prod(u.shape[2:]))
        return self.laplacian.apply(rows).reshape(u.shape)

    def apply(self, w: np.ndarray, u: np.ndarray) -> np.ndarray:
        found = self.image(u)
        found *= by_channel(w, u)
        return found

    def transpose(self, w: np.ndarray, y: np.ndarray) -> np.ndarray:
        return self.apply(w, y)

    def weights(self, y: np.ndarray, u: np.ndarray) -> np.ndarray:
        return over_cells(self.image(u) * y)

    def reading(self, w: np.ndarray, u: np.ndarray) -> Reading:
        return Image(w, self.image(u))

    def back(self, w: np.ndarray, y: np.ndarray) -> Reading:
        return self.reading(w, y)

    def matrix(self, w: np.ndarray) -> PETSc.Mat:
        return self.diffusion.matrix(w)


class Image(Reading):
    """k L u from L u, at boxes."""

    gathers = True

    def __init__(self, k: np.ndarray, image: np.ndarray):
        self.k, self.image = k, image
        self.width, self.total = 3 * len(k), np.zeros(len(k))

    def product(self, box: Box, out: np.ndarray, add: bool = False) -> None:
        here = self.image[box.index]
        if add:
            out += here * by_channel(self.k, out)
        else:
            np.multiply(here, by_channel(self.k, out), out=out)

    def gather(self, box: Box, other: np.ndarray) -> None:
        self.total += over_cells(self.image[box.index] * other)

    @property
    def weights(self) -> np.ndarray:
        return self.total


class Assembly:
    """Gives operators by their shifts, of which those that are alike share one set; others, which
    have only small dense matrices, as they are."""

    def __init__(self) -> None:
        self._made: dict[object, Shifts | Sparse] = {}

    def __call__(self, operator: Bilinear) -> Bilinear:
        """Collective."""
        if isinstance(operator, Transposed):
            return Transposed(self(operator.operator))
        if isinstance(operator, Stencil):
            return Shifted(operator, self._shifts(operator))
        if isinstance(operator, Diffusion):
            return Spread(operator, self._laplacian(operator))
        return operator

    def _shifts(self, stencil: Stencil) -> Shifts:
        key = tuple(stencil.axes)
        found = self._made.get(key)
        if not isinstance(found, Shifts):
            found = self._made[key] = Shifts(stencil)
        return found

    def _laplacian(self, diffusion: Diffusion) -> Sparse:
        place = diffusion.source
        key = place.layout.counts, place.wraps, diffusion.outside
        found = self._made.get(key)
        if not isinstance(found, Sparse):
            one = Diffusion(place.with_channels(1), diffusion.outside)
            found = self._made[key] = Sparse(one.matrix(np.ones(1)))
        return found

    def destroy(self) -> None:
        """Collective."""
        for shifts in self._made.values():
            shifts.destroy()
        self._made.clear()

"""A dense layer: y_c = sum over channels d and cells x of W[c, (d, x)] u_d(x), a stencil that is as
large as the grid. The result is in a single cell, on rank 0."""

from __future__ import annotations

import numpy as np
from petsc4py import PETSc

from npde_opt import reductions
from npde_opt.networks.interface import Reading
from npde_opt.networks.matrices import entries
from npde_opt.networks.place import Place, as_rows, from_rows
from npde_opt.networks.strips import Box


class Dense:
    """Args:
    source: where states lie; columns of W go as Place.order says.
    channels: outputs.
    """

    def __init__(self, source: Place, channels: int):
        self.source, self.target = source, source.point(channels)
        self.shape = (channels, source.size)
        self._columns = source.order()
        self._all = self._columns.size == source.size
        # Where all is on rank 0 no rank has anything to say to another; the one cell that a
        # convolution leaves may be on another.
        several = any(n > 1 for n in source.layout.processes)
        self._shared = several and not source.same_cells(self.target)

    @property
    def inputs(self) -> int:
        return self.source.size

    local = False

    def reading(self, w: np.ndarray, u: np.ndarray) -> Reading:
        return Made(self.apply(w, u))

    def back(self, w: np.ndarray, y: np.ndarray) -> Reading:
        return Made(self.transpose(w, y))

    def _own(self, w: np.ndarray, dtype: np.dtype) -> np.ndarray:
        """The columns of this rank's cells."""
        return (w if self._all else w[:, self._columns]).astype(dtype, copy=False)

    @property
    def _has(self) -> bool:
        """Whether the result lies on this rank."""
        return self.target.layout.local_size > 0

    def apply(self, w: np.ndarray, u: np.ndarray) -> np.ndarray:
        found = self._own(w, u.dtype) @ as_rows(u)
        if self._shared:
            found = reductions.total(self.source.comm, found)
        return self._placed(found, u)

    def _placed(self, rows: np.ndarray, u: np.ndarray) -> np.ndarray:
        shape = self.target.shape(u.shape[1])
        return (
            from_rows(rows, shape, u.dtype) if self._has else np.zeros(shape, u.dtype)
        )

    def _everywhere(self, y: np.ndarray) -> np.ndarray:
        """The outputs (c, s) of rank 0, on all ranks that have cells of the source."""
        if not self._shared:
            return as_rows(y)
        rows = (
            as_rows(y) if self._has else np.zeros((self.shape[0], y.shape[1]), y.dtype)
        )
        return reductions.total(self.source.comm, rows)

    def transpose(self, w: np.ndarray, y: np.ndarray) -> np.ndarray:
        shape = self.source.shape(y.shape[1])
        if not self._columns.size:
            self._everywhere(y)
            return np.zeros(shape, y.dtype)
        return from_rows(self._own(w, y.dtype).T @ self._everywhere(y), shape, y.dtype)

    def weights(self, y: np.ndarray, u: np.ndarray) -> np.ndarray:
        out = np.zeros(self.shape)
        rows = self._everywhere(y)
        if self._columns.size:
            found = rows @ as_rows(u).T
            out[:, slice(None) if self._all else self._columns] = found
        return out

    def matrix(self, w: np.ndarray) -> PETSc.Mat:
        """Rows lie on rank 0."""
        column = np.arange(self.source.layout.size)
        if not self._has:
            column = column[:0]
        cells = _natural(self.source)[column]
        every = w.reshape(self.shape[0], self.source.channels, -1)[:, :, column]
        return entries(self.source, self.target, np.zeros_like(column), cells, every)


class Made(Reading):
    """A result that is there as a whole."""

    def __init__(self, found: np.ndarray):
        self.found, self.width, self.gathers = found, 2 * found.shape[0], False

    def product(self, box: Box, out: np.ndarray, add: bool = False) -> None:
        if add:
            out += self.found[box.index]
        else:
            out[...] = self.found[box.index]

    def gather(self, box: Box, other: np.ndarray) -> None:
        raise NotImplementedError

    @property
    def weights(self) -> np.ndarray:
        raise NotImplementedError


def _natural(place: Place) -> np.ndarray:
    """PETSc's number of every cell, x fastest."""
    mesh = np.meshgrid(*(np.arange(n) for n in place.layout.shape), indexing="ij")
    return place.layout.global_index([m.ravel(order="F") for m in mesh])

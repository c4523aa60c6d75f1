"""Where a state of a network lives: channels on the cells of a grid, which are spread over ranks.

States of s samples are arrays in the order of memory, x last,

    u [c, s, k, j, i]       (fewer axes on grids of fewer)

so that channels times everything else is a matrix, and an image is a plane.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from mpi4py import MPI

from npde_opt.grids import Grid, of_cells
from npde_opt.grids.layout import Layout


@dataclass(frozen=True, eq=False)
class Place:
    """Args:
    comm: the ranks that share the cells.
    layout: which rank has which box of them.
    wraps: which of the axes x, y, z are periodic.
    channels: values a cell.
    """

    comm: MPI.Intracomm
    layout: Layout
    wraps: tuple[bool, ...]
    channels: int

    @classmethod
    def on(cls, grid: Grid, channels: int = 1) -> Place:
        wraps = tuple(grid.periodic(d) for d in range(grid.dim))
        return cls(grid.comm, grid.layout, wraps, channels)

    def with_channels(self, channels: int) -> Place:
        """The same cells."""
        return replace(self, channels=channels)

    def with_cells(self, counts: Sequence[Sequence[int]], channels: int) -> Place:
        """Other cells on the same ranks.

        Args:
            counts: by axis, how many the ranks along it have.
        """
        layout = Layout(
            tuple(tuple(int(n) for n in c) for c in counts), self.layout.rank
        )
        return replace(self, layout=layout, channels=channels)

    def point(self, channels: int) -> Place:
        """A single cell, on rank 0: where the features of a dense layer are."""
        counts = [[1] + [0] * (len(c) - 1) for c in self.layout.counts]
        return self.with_cells(counts, channels)

    @property
    def dim(self) -> int:
        return self.layout.dim

    @property
    def local_shape(self) -> tuple[int, ...]:
        """Owned cells along x, y, z."""
        return self.layout.local_shape

    def periodic(self, axis: int) -> bool:
        return self.wraps[axis]

    @property
    def size(self) -> int:
        """Values of a sample, of all ranks."""
        return self.channels * self.layout.size

    @property
    def cells(self) -> tuple[int, ...]:
        """Owned cells by axis, in the order of memory (k, j, i)."""
        return self.local_shape[::-1]

    def shape(self, samples: int) -> tuple[int, ...]:
        """Of this rank's part of a state."""
        return (self.channels, samples, *self.cells)

    def order(self) -> np.ndarray:
        """The numbers of the owned values of a sample among all of them, which go channel by
        channel, each x fastest; in the order of memory (channels * cells,)."""
        one = np.zeros(1, np.int64)
        for n, own in zip(
            self.layout.shape[::-1], self.layout.owned()[::-1], strict=True
        ):
            one = (one[:, None] * n + own).ravel()
        channels = np.arange(self.channels) * self.layout.size
        return (channels[:, None] + one).ravel()

    def own(self, values: np.ndarray) -> np.ndarray:
        """This rank's part of whole samples [..., k, j, i], as a view."""
        box = tuple(
            slice(a, a + n)
            for a, n in zip(self.layout.start[::-1], self.cells, strict=True)
        )
        return values[of_cells(box)]

    def same_cells(self, other: Place) -> bool:
        return self.layout.counts == other.layout.counts


def as_rows(u: np.ndarray) -> np.ndarray:
    """A state [c, s, k, j, i] as outputs by samples [(c, k, j, i), s], a copy."""
    return np.moveaxis(u, 1, -1).reshape(-1, u.shape[1])


def from_rows(rows: np.ndarray, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """The state of a shape [c, s, k, j, i] whose outputs by samples are given."""
    channels, samples, *cells = shape
    split = rows.reshape(channels, *cells, samples)
    return np.ascontiguousarray(np.moveaxis(split, -1, 1), dtype)


def fields(u: np.ndarray) -> np.ndarray:
    """A state [c, s, k, j, i] as columns of fields of cells [c, s, i, j, k], a view; and back."""
    return u.transpose(0, 1, *range(u.ndim - 1, 1, -1))

"""A part of the cells between edges: what one rank reads and evaluates of a field.

Ranks that share a communicator have parts of the same cells. What is true of all cells, like the
smallest value of a field, is found by them together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from mpi4py import MPI

from npde_opt.grids import Grid

Edges = list[np.ndarray]
Box = tuple[slice, ...]


@dataclass(frozen=True, eq=False)
class Part:
    """Args:
    edges: of all cells, one array an axis.
    box: the cells of this rank.
    comm: the ranks whose boxes make up all cells.
    """

    edges: Edges
    box: Box
    comm: MPI.Intracomm

    @classmethod
    def whole(cls, edges: Sequence[np.ndarray]) -> Part:
        """All cells, by this rank alone."""
        box = tuple(slice(0, e.size - 1) for e in edges)
        return cls(list(edges), box, MPI.COMM_SELF)

    @classmethod
    def of(cls, grid: Grid) -> Part:
        """The cells of a grid that a rank owns."""
        return cls(list(grid.edges), grid.local_slice, grid.comm)

    @property
    def cells(self) -> tuple[int, ...]:
        """Numbers of all cells along the axes."""
        return tuple(e.size - 1 for e in self.edges)

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """Of this rank's cells."""
        return tuple(s.stop - s.start for s in self.box)

    @cached_property
    def own_edges(self) -> Edges:
        """Of this rank's cells; one alone along an axis of which it has none."""
        pairs = zip(self.edges, self.box, strict=True)
        return [e[s.start : s.stop + 1] for e, s in pairs]

    @property
    def empty(self) -> bool:
        """Whether this rank has no cell."""
        return 0 in self.shape

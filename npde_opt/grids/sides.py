"""The sides of the box: their cells, the ghosts outside, and the middles of their faces."""

from __future__ import annotations

import numpy as np

from npde_opt.grids.geometry import AXES
from npde_opt.grids.grid import Grid, along


class Side:
    """The cells at a side that this rank has; none where it has no part of the side.

    Attributes:
        here: whether there are some.
        cells, ghosts: slices of owned and of ghosted arrays, whose axis across the side has length
            1, or 0 where there are none: a *layer*.
        active: which of the cells are.
        coordinates: of the middles of the faces, shaped to broadcast.
    """

    def __init__(self, grid: Grid, name: str):
        self.grid, self.name = grid, name
        self.axis, self.upper = AXES.index(name[0]), name[1] == "+"
        d = self.axis
        at_end = grid.stop[d] == grid.shape[d] if self.upper else grid.start[d] == 0
        self.here = bool(at_end) and grid.local_shape[d] > 0
        end = slice(-1, None) if self.upper else slice(0, 1)
        end = end if self.here else slice(0, 0)
        cells, ghosts = [slice(None)] * grid.dim, [slice(1, -1)] * grid.dim
        cells[d] = ghosts[d] = end
        self.cells, self.ghosts = tuple(cells), tuple(ghosts)
        self.active = np.broadcast_to(grid.active, grid.local_shape)[self.cells]
        edge = grid.edges[d][-1 if self.upper else 0]
        self.coordinates = grid.coordinates()
        self.coordinates[d] = along(np.full(int(self.here), edge), d, grid.dim)

    @property
    def areas(self) -> np.ndarray:
        """Of the faces at the side, as a layer."""
        area = self.grid.side_area(self.axis, self.upper)
        return area if self.here else area[self.cells]

    def indicator(self) -> np.ndarray:
        """The ghosted field that is 1 in the ghosts outside the side."""
        out = np.zeros([n + 2 for n in self.grid.local_shape], order="F")
        out[self.ghosts] = 1.0
        return out

    def layer(self, whole: np.ndarray, leading: int) -> np.ndarray:
        """This rank's part of values [..., cells] of the whole side, behind `leading` axes."""
        grid, d = self.grid, self.axis
        others = [s for e, s in enumerate(grid.local_slice) if e != d]
        own = whole[(slice(None),) * leading + tuple(others)]
        return np.expand_dims(own, leading + d)[(slice(None),) * leading + self.cells]

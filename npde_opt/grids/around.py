"""One ghost cell all round a rank's cells: u -> [0, u, 0] along every axis, and what others own
where there are others.

Messages are under way while owned cells are copied.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from npde_opt.grids.layout import Layers

if TYPE_CHECKING:
    from npde_opt.grids.halo import Cells


class Around:
    """Of one field after another.

    Args:
        shared: axes along which cells beside the own ones are others' or, where they are periodic,
            at the other end.
    """

    def __init__(self, grid: Cells, shared: Sequence[int]):
        self.dim, layout = grid.dim, grid.layout
        self._shape = tuple(n + 2 for n in grid.local_shape)
        self._inner = (slice(1, -1),) * grid.dim
        self._layers = [Layers(layout, d, grid.periodic(d), grid.comm) for d in shared]
        sides = [(d, ghost) for d in range(grid.dim) for ghost in (0, -1)]
        self._borders = [(slice(None),) * d + (ghost,) for d, ghost in sides]
        self._filled = [self._of_others(grid, d) for d in shared]
        """By such axis, below and above: whether there are cells, and where they go."""

    def _of_others(self, grid: Cells, d: int) -> list[tuple[bool, tuple[slice, ...]]]:
        first, n = grid.layout.start[d], grid.local_shape[d]
        at_ends = first == 0, first + n == grid.layout.shape[d]
        ghosts = slice(1), slice(-1, None)
        return [
            (
                grid.periodic(d) or not end,
                (*self._inner[:d], ghost, *self._inner[d + 1 :]),
            )
            for end, ghost in zip(at_ends, ghosts, strict=True)
        ]

    def of(self, own: np.ndarray, outside: float) -> np.ndarray:
        """Owned values [i, j, k] in double precision with ghosts; corners and cells outside the
        domain are `outside`. Collective."""
        for layers in self._layers:
            layers.post(own.T)
        out = np.empty(self._shape, order="F")
        for border in self._borders:
            out[border] = outside
        out[self._inner] = own
        for layers, sides in zip(self._layers, self._filled, strict=True):
            for layer, (there, ghost) in zip(layers.finish(), sides, strict=True):
                if there:
                    out[ghost] = layer.T
        return out

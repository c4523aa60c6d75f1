"""y_c = sum_d W[c, d] u_d in every cell."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from petsc4py import PETSc

from npde_opt.networks.interface import Loops, Reading
from npde_opt.networks.matrices import assembled
from npde_opt.networks.place import Place
from npde_opt.networks.strips import Box, together

if TYPE_CHECKING:
    from npde_opt.networks.sums_of_rows import Rows


class Mixing(Loops):
    """Args:
    source: where states lie.
    channels: of the result.
    """

    local = True

    def __init__(self, source: Place, channels: int):
        self.source, self.target = source, source.with_channels(channels)
        self.shape = (channels, source.channels)

    @property
    def inputs(self) -> int:
        return self.source.channels

    def reading(self, w: np.ndarray, u: np.ndarray) -> Reading:
        return Mixed(w, u, back=False)

    def back(self, w: np.ndarray, y: np.ndarray) -> Reading:
        return Mixed(w.T, y, back=True)

    def matrix(self, w: np.ndarray) -> PETSc.Mat:
        cells = [own[:, None] for own in self.source.layout.owned()]
        return assembled(
            self.source, self.target, cells, w.reshape(*w.shape, *(1,) * len(cells))
        )


class Mixed(Reading):
    """The product of a matrix with the channels of a state."""

    adds: bool = True

    def __init__(self, w: np.ndarray, u: np.ndarray, back: bool):
        from npde_opt.networks import sums_of_rows

        self.u, self.back, self.loops = u, back, sums_of_rows
        self.shape = w.shape
        self.w = sums_of_rows.whole(w, u.dtype)
        self.width, self.gathers = sum(w.shape), True
        self._total = np.zeros(self.w.shape)

    def _rows(self, box: Box, results: np.ndarray) -> Rows:
        """What the loops read and their results."""
        (read, to), rows, length = together(self.u[box.index], results)
        offsets = self.loops.evenly(read.steps[0], self.shape[1])
        counts = self.shape[0], *rows
        return offsets, read.line, read.steps[1:], to.line, counts, to.steps, length

    def product(self, box: Box, out: np.ndarray, add: bool = False) -> None:
        self.loops.combine(self.w, *self._rows(box, out), add)

    def gather(self, box: Box, other: np.ndarray) -> None:
        self.loops.gather(self._total, *self._rows(box, other))

    @property
    def weights(self) -> np.ndarray:
        found = self._total[:, : self.shape[1]]
        return found.T if self.back else found

"""y_c = sum_d W[c, d] u_d in every cell."""

from __future__ import annotations

import numpy as np
from petsc4py import PETSc

from npde_opt.networks.interface import Loops, Reading
from npde_opt.networks.matrices import assembled
from npde_opt.networks.place import Place
from npde_opt.networks.strips import WORK, Box, matrices


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

    def __init__(self, w: np.ndarray, u: np.ndarray, back: bool):
        self.w, self.u, self.back = w.astype(u.dtype, copy=False), u, back
        self.width, self.gathers = sum(w.shape), True
        self.total = np.zeros(w.shape[::-1])

    def product(self, box: Box, out: np.ndarray, add: bool = False) -> None:
        rows, target = matrices(self.u[box.index]), matrices(out)
        if not add:
            np.matmul(self.w, rows, out=target)
            return
        more = WORK.take("outputs", target.shape, out.dtype)
        np.matmul(self.w, rows, out=more)
        target += more

    def gather(self, box: Box, other: np.ndarray) -> None:
        found = matrices(self.u[box.index]) @ matrices(other).swapaxes(-1, -2)
        self.total += found.sum(axis=(0, 1))

    @property
    def weights(self) -> np.ndarray:
        return self.total if self.back else self.total.T

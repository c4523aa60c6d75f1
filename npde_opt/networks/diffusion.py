"""y_c = k_c lap u_c: the 5-point (3, 7 on a line, in a volume) Laplacian of each channel, of cells
of size 1.

No flux passes the sides, or what lies outside is zero; periodic axes have the other end there. It
is its own transpose.
"""

from __future__ import annotations

import numpy as np
from petsc4py import PETSc

from npde_opt.errors import InputError
from npde_opt.grids.halo import Ghosts
from npde_opt.networks.interface import Loops, Reading
from npde_opt.networks.matrices import entries
from npde_opt.networks.place import Place
from npde_opt.networks.strips import WORK, Box, by_channel, over_cells

OUTSIDE = ("no flux", "zero")


class Diffusion(Loops):
    """Args:
    source: where states lie.
    outside: of OUTSIDE.

    Raises:
        InputError: for another word.
    """

    def __init__(self, source: Place, outside: str = OUTSIDE[0]):
        if outside not in OUTSIDE:
            raise InputError("outside", repr(outside), ", ".join(OUTSIDE))
        self.source = self.target = source
        self.shape = (source.channels,)
        self.outside = outside

    @property
    def inputs(self) -> int:
        return 1

    def reading(self, w: np.ndarray, u: np.ndarray) -> Reading:
        dim = self.source.dim
        nearest = range(dim) if self.outside == OUTSIDE[0] else ()
        return Spreading(w, Ghosts(self.source, u, [1] * dim, nearest=nearest))

    def back(self, w: np.ndarray, y: np.ndarray) -> Reading:
        return self.reading(w, y)

    def matrix(self, w: np.ndarray) -> PETSc.Mat:
        layout, dim = self.source.layout, self.source.dim
        own = [a.ravel() for a in np.meshgrid(*layout.owned(), indexing="ij")]
        centre = layout.global_index(own)
        columns, signs = list[np.ndarray](), list[np.ndarray]()
        for d in range(dim):
            n = layout.shape[d]
            for step in (-1, 1):
                beside = [a + step * (a_d == d) for a_d, a in enumerate(own)]
                if self.source.periodic(d):
                    beside[d] = beside[d] % n
                column = layout.global_index(beside)
                columns += [column, centre]
                off = np.where(column < 0, 1.0 if self.outside == "zero" else 0.0, 1.0)
                signs += [np.ones(centre.size), -off]
        row = np.tile(centre, len(columns))
        identity = np.eye(len(w))[:, :, None] * w[:, None, None]
        return entries(
            self.source,
            self.target,
            row,
            np.concatenate(columns),
            identity * np.concatenate(signs),
        )


class Spreading:
    """k_c lap u_c at boxes of cells."""

    def __init__(self, w: np.ndarray, ghosts: Ghosts):
        self.ghosts, self.dtype = ghosts, ghosts.values.dtype
        self.k = np.ascontiguousarray(w, self.dtype)
        self.width, self.gathers = 3 * len(w), True
        self.total = np.zeros(len(w))
        dim = len(ghosts.widths)
        self.steps = np.array([dim > 2, dim > 1], np.int64)
        self._missing = (1,) * (3 - dim)
        self._of: Box | None = None

    def _padded(self, box: Box) -> np.ndarray:
        """What the cells of a box read [c, s, k, j, i]."""
        u, n = self.ghosts.values, self.ghosts.owned[0]
        rows = tuple((r.start, r.stop - r.start + 2, 1) for r in box.rows)
        cells = (*rows, (0, n + 2, 1))
        samples = box.samples.stop - box.samples.start
        shape = (len(u), samples, *(count for _, count, _ in cells))
        padded = WORK.take("padded", shape, self.dtype)
        self.ghosts.read(padded, (slice(None), box.samples), cells)
        return padded.reshape(*shape[:2], *self._missing, *shape[2:])

    def _laplacian(self, box: Box, u: np.ndarray) -> np.ndarray:
        """lap u of a box, of the shape of `u`; asked for again, of the last box, it is there."""
        from npde_opt.networks import loops

        found = WORK.take("laplacian", u.shape, self.dtype)
        if self._of is not box or WORK.spread is not self:
            whole = found.reshape(*u.shape[:2], *self._missing, *u.shape[2:])
            loops.laplacian(self._padded(box), self.steps, whole)
            self._of, WORK.spread = box, self
        return found

    def product(self, box: Box, out: np.ndarray, add: bool = False) -> None:
        found, k = self._laplacian(box, out), by_channel(self.k, out)
        if not add:
            np.multiply(found, k, out=out)
            return
        more = WORK.take("more", out.shape, self.dtype)
        np.multiply(found, k, out=more)
        out += more

    def gather(self, box: Box, other: np.ndarray) -> None:
        more = WORK.take("more", other.shape, self.dtype)
        np.multiply(self._laplacian(box, other), other, out=more)
        self.total += over_cells(more)

    @property
    def weights(self) -> np.ndarray:
        return self.total

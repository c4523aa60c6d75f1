"""y_c = k_c lap u_c: the 5-point (3, 7 on a line, in a volume) Laplacian of each channel, of cells
of size 1.

No flux passes the sides, or what lies outside is zero; periodic axes have the other end there. It
is its own transpose.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
from petsc4py import PETSc

from npde_opt.errors import InputError
from npde_opt.grids.halo import Ghosts
from npde_opt.networks.interface import Loops, Reading
from npde_opt.networks.matrices import entries
from npde_opt.networks.place import Place
from npde_opt.networks.strips import Box, Flat

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
        axes, no_flux = range(self.source.dim), self.outside == OUTSIDE[0]
        # At sides that no flux passes, loops have the cell itself.
        own = [no_flux and self._alone(d) for d in axes]
        widths = [0 if itself else 1 for itself in own]
        nearest = axes if no_flux else ()
        return Spreading(w, Ghosts(self.source, u, widths, nearest=nearest))

    def _alone(self, axis: int) -> bool:
        """Whether both sides of an axis are this rank's, and not of each other."""
        split = len(self.source.layout.counts[axis]) > 1
        return not split and not self.source.periodic(axis)

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


class Spreading(Reading):
    """k_c lap u_c at boxes of cells."""

    def __init__(self, w: np.ndarray, ghosts: Ghosts):
        u = ghosts.values
        dim = len(ghosts.widths)
        self._missing = (1,) * (3 - dim)
        self.u = np.ascontiguousarray(u).reshape(
            *u.shape[:2], *self._missing, *u.shape[2:]
        )
        self._ghosts, self.shared = ghosts, ghosts.shared
        self.k = np.ascontiguousarray(w, u.dtype)
        self.width, self.gathers = 2 * len(w), True
        self.total = np.zeros(len(w))

    @cached_property
    def _read(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """What loops read: the state, and what lies around along x, y and z. It is asked for at
        the first box, as it waits for what other ranks bring."""
        x, y, z = (self._around(axis) for axis in range(3))
        return self.u, x, y, z

    def _around(self, axis: int) -> np.ndarray:
        """What lies around at the lower side and the upper one of an axis [2, c, s, ...]; nothing
        of axes without ghosts, and those that the grid does not have."""
        at, ghosts = 4 - axis, self._ghosts
        there = axis < len(ghosts.widths) and ghosts.widths[axis] > 0
        shape = list(self.u.shape)
        shape[at] = 1
        found = np.empty((2 if there and self.u.size else 0, *shape), self.u.dtype)
        if not len(found):
            return found.squeeze(at + 1)
        cells = zip(ghosts.widths[::-1], ghosts.owned[::-1], strict=True)
        whole = [(width, n, 1) for width, n in cells]
        place = len(whole) - 1 - axis
        for side, first in enumerate((0, ghosts.owned[axis] + 1)):
            whole[place] = (first, 1, 1)
            part = found[side].reshape(*shape[:2], *shape[2 + len(self._missing) :])
            ghosts.read(part, ghosts.lead, tuple(whole))
        return found.squeeze(at + 1)

    def _first(self, box: Box) -> tuple[int, int, int]:
        rows = [*(0 for _ in self._missing), *(r.start for r in box.rows)]
        return box.samples.start, rows[0], rows[1]

    def product(self, box: Box, out: np.ndarray, add: bool = False) -> None:
        from npde_opt.networks import loops

        u, x, y, z, first, flat = *self._read, self._first(box), Flat(out)
        loops.diffuse(
            u, x, y, z, self.k, first, add, flat.line, flat.counts, flat.steps
        )

    def gather(self, box: Box, other: np.ndarray) -> None:
        self.both(box, np.zeros_like(other), other)

    def both(self, box: Box, out: np.ndarray, other: np.ndarray) -> None:
        """In one pass over the state."""
        from npde_opt.networks import loops

        u, x, y, z, first = *self._read, self._first(box)
        to, beside = Flat(out), Flat(other)
        loops.diffused(
            u,
            x,
            y,
            z,
            self.k,
            first,
            to.line,
            to.steps,
            beside.line,
            beside.counts,
            beside.steps,
            self.total,
        )

    @property
    def weights(self) -> np.ndarray:
        return self.total

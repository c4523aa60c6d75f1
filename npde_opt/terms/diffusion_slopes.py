"""-div(D grad u) by D, entry by entry: where few cells make calls dear, derivatives at one point
are matrices.

With J_f(u) the difference of u across face f, from the cell below (a) to that above (b), a cell's
residual is g J of its lower face less g J of its upper one, and lambda^T r = sum_f g_f J_f(lambda)
J_f(u). The conductance g_f = area / S, S = l_a / (2 D_a) + l_b / (2 D_b), has the derivatives

    g_a = area / S^2 l_a / (2 D_a^2),    g_ab = 2 g_a / S l_b / (2 D_b^2),
    g_aa = 2 g_a (l_a / (2 D_a^2) / S - 1 / D_a),

and those of b alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from npde_opt.grids import Grid
from npde_opt.operators.stencils import stencil_offsets
from npde_opt.terms.faces import faces, jump, sides
from npde_opt.terms.interface import Planes


class CellSlopes:
    """Of one D, owned cells; ghosted, and 0 beyond the sides, where nothing changes. Collective."""

    def __init__(self, grid: Grid, D: np.ndarray):
        self._grid, self._D = grid, D
        self.halves = grid.ghosted((0.5 / D) / D)
        """1 / (2 D^2)."""

    @cached_property
    def inverse(self) -> np.ndarray:
        """1 / D."""
        return self._grid.ghosted(1 / self._D)


class FaceSlopes:
    """Of the conductances of the owned cells' faces normal to one axis.

    Args:
        d: the axis.
        cells: of its D.
        spans: twice the lengths from faces to the centres below and above them.
        weights, sums: area / S^2 and S of faces.
    """

    def __init__(
        self,
        d: int,
        cells: CellSlopes,
        spans: Sequence[np.ndarray],
        weights: np.ndarray,
        sums: np.ndarray,
    ):
        self.d, self.cells, self.sums = d, cells, sums
        below, above = faces(cells.halves, d)
        self._resistances = below * spans[0], above * spans[1]
        self.first = tuple(weights * part for part in self._resistances)
        """g_a, g_b."""

    @cached_property
    def second(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """g_aa, g_ab, g_bb."""
        below, above = faces(self.cells.inverse, self.d)
        over = [part / self.sums for part in self._resistances]
        a, b = (2.0 * part for part in self.first)
        return a * (over[0] - below), a * over[1], b * (over[1] - above)

    def add_slopes(self, u: np.ndarray, planes: Planes) -> None:
        """Adds dr_i / dD_j at the offset j - i, of a ghosted u."""
        moved = jump(u, self.d)
        (from_below, up_below), (from_here, up_above) = (
            sides(part * moved, self.d) for part in self.first
        )
        centre, before, after = self._along(planes)
        before += from_below
        centre += from_here
        centre -= up_below
        after -= up_above

    def add_bends(self, adjoint: np.ndarray, u: np.ndarray, planes: Planes) -> None:
        """Adds d2(lambda^T r) / dD_i dD_j at the offset j - i, of ghosted fields."""
        product = jump(adjoint, self.d)
        product *= jump(u, self.d)
        aa, ab, bb = (sides(part * product, self.d) for part in self.second)
        centre, before, after = self._along(planes)
        # A cell is above its lower face and below its upper one.
        centre += bb[0]
        centre += aa[1]
        before += ab[0]
        after += ab[1]

    def _along(self, planes: Planes) -> list[np.ndarray]:
        """Those of the cell and of its lower and upper neighbours."""
        offsets = stencil_offsets(self.cells.halves.ndim)
        return [planes[offsets[s]] for s in (0, 1 + 2 * self.d, 2 + 2 * self.d)]

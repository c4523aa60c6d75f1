"""The V-cycle of symmetric matrices on whole grids of one rank, in single precision on planes:

    down   x := q(D^-1 A) D^-1 b,   b_coarse = P^T (b - A x)
    up     x := x + P x_coarse,     x := x + q(D^-1 A) D^-1 (b - A x)

q is Chebyshev's polynomial of degree 2 for eigenvalues of D^-1 A between a quarter of their bound
(Gershgorin) and the bound, the same down and up, so that the cycle is symmetric. The coarsest
matrix is inverted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from petsc4py import PETSc

from npde_opt.grids import Grid
from npde_opt.lazily import loaded_lazily
from npde_opt.linear.plane_levels import (
    Line,
    Planes,
    Shape,
    galerkin,
    halvings,
    one_half,
    transfers,
    widened,
    without_outside,
)
from npde_opt.operators.stencils import Offset

if TYPE_CHECKING:
    from npde_opt.linear import loops
else:
    loops = loaded_lazily("npde_opt.linear.loops")

SINGLE = np.float32
PART = 4.0
"""The smoother works on eigenvalues down to their bound over this."""


BAND = 1 << 17
"""Cells of a band of rows whose sweeps go together: its planes and fields stay in the cache."""


class PlaneLevel:
    """One level: its stencil, and the fields that a cycle works on."""

    def __init__(self, shape: Shape):
        self.shape, self.periodic = shape, shape.periodic[0]
        count = len(shape.offsets)
        self.A = np.zeros((count, *shape.field), SINGLE)
        self.inverse = shape.zeros(SINGLE)
        self.b, self.x, self.y, self.r = (shape.zeros(SINGLE) for _ in range(4))
        self._factors = (SINGLE(0), SINGLE(0), SINGLE(0))
        self._bands = shape.bands(BAND)

    def take(self, planes: Planes, scale: float) -> None:
        """New values."""
        for o, target in zip(self.shape.offsets, self.A, strict=True):
            loops.put(planes[o].reshape(-1), scale, target, self.periodic)
        diagonal = self.A[0, 1:, 1:-1]
        np.divide(1, diagonal, out=self.inverse[1:, 1:-1], where=diagonal != 0)
        self._take_bound(float(loops.bound(self.A, self.inverse, self.shape.tables)))

    def _take_bound(self, high: float) -> None:
        """The coefficients of Chebyshev's recursion."""
        low = high / PART
        middle, half = (high + low) / 2, (high - low) / 2
        ratio = middle / half
        rho = 1 / (2 * ratio - 1 / ratio)
        self._factors = SINGLE(1 / middle), SINGLE(rho / ratio), SINGLE(2 * rho / half)

    def smooth_from_zero(self) -> None:
        """x = q(D^-1 A) D^-1 b, and r = b - A x."""
        fixed = self.A, self.inverse, self.shape.tables, self.b, self.x, self.y
        loops.smooth_from_zero(*fixed, self.r, self._factors, *self._bands, self.periodic)

    def correct_and_smooth(self, transfer: PlaneTransfer, e: np.ndarray) -> None:
        """x := x + P e, x := x + q(D^-1 A) D^-1 (b - A x)"""
        fixed = self.A, self.inverse, self.shape.tables, self.b, self.x, self.y
        up = e, transfer.parents, transfer.along
        loops.correct_and_smooth(*fixed, *up, self._factors, *self._bands, self.periodic)


class PlaneTransfer:
    """P between a level and the next: rows and weights of P^T and P, and of both along x."""

    def __init__(self, fine: Shape, coarse: Shape, lines: Sequence[Line | None]):
        rows, weights, up_rows, up_weights = transfers(fine, coarse, lines)
        self.children = rows, weights.astype(SINGLE)
        self.parents = up_rows, up_weights.astype(SINGLE)
        line = lines[0] or Line(np.zeros(1), np.zeros(1))
        lower, upper = line.lower.astype(SINGLE), line.upper.astype(SINGLE)
        self.along = lines[0] is not None, lower, upper


class PlaneCycle:
    """Context of a Python PC.

    Args:
        grid: whole (no mask), on one rank.
        offsets: of the finest stencil.
    """

    def __init__(self, grid: Grid, offsets: Sequence[Offset]):
        self.grid = grid
        self.periodic = tuple(grid.periodic(d) for d in range(grid.dim))
        self.lines = halvings(grid)
        cells, shapes = list(grid.shape), [Shape(grid.shape, self.periodic, offsets)]
        for lines in self.lines:
            offsets = widened(offsets, lines)
            halved = [line is not None for line in lines]
            cells = [(n + 1) // 2 if h else n for n, h in zip(cells, halved, strict=True)]
            shapes.append(Shape(cells, self.periodic, offsets))
        self.levels = [PlaneLevel(shape) for shape in shapes]
        pairs = zip(shapes, shapes[1:], self.lines, strict=False)
        self.transfers = [PlaneTransfer(fine, coarse, lines) for fine, coarse, lines in pairs]
        self.inverse: np.ndarray = np.empty((0, 0))
        self.scale = 1.0

    def update(self, planes: Planes) -> None:
        """Takes the values of a symmetric matrix, owned [k, j, i] by offset; those towards what
        is outside are set to 0."""
        own = one_half(planes, self.periodic)
        without_outside(own, self.periodic)
        # In single precision units of 1e-40 would be 0.
        largest = float(loops.largest(own[(0,) * self.grid.dim].reshape(-1)))
        self.scale = 1 / largest if 0 < largest < np.inf else 1.0
        for n, level in enumerate(self.levels):
            level.take(own, self.scale)
            if n < len(self.lines):
                for axis, line in enumerate(self.lines[n]):
                    if line is not None:
                        own = galerkin(own, axis, line, self.periodic)
        self._invert(own)

    def _invert(self, planes: Planes) -> None:
        """The coarsest matrix, dense."""
        shape = self.levels[-1].shape
        A = dense(shape, planes) * self.scale
        try:
            self.inverse = np.linalg.inv(A)
        except np.linalg.LinAlgError:
            self.inverse = np.full_like(A, np.nan)

    def apply(self, pc: PETSc.PC, b: PETSc.Vec, x: PETSc.Vec) -> None:
        given, found = b.getArray(readonly=True), x.getArray()
        size = float(loops.largest(given))
        if not 0 < size < np.inf:
            found[...] = 0 if size == 0 else np.nan
            return
        top = self.levels[0]
        loops.put(given, 1 / size, top.b, top.periodic)
        self.cycle()
        loops.take(top.x, size * self.scale, found)

    def cycle(self) -> None:
        """x of the finest level from its b."""
        for level, transfer, below in zip(
            self.levels, self.transfers, self.levels[1:], strict=False
        ):
            level.smooth_from_zero()
            loops.restrict(level.r, transfer.children, transfer.along, below.b)
        last = self.levels[-1]
        solved = self.inverse @ last.b[1:, 1:-1].ravel().astype(float)
        last.shape.put(solved, last.x)
        for n in range(len(self.transfers) - 1, -1, -1):
            self.levels[n].correct_and_smooth(self.transfers[n], self.levels[n + 1].x)

    def view(self, pc: PETSc.PC, viewer: PETSc.Viewer) -> None:
        sizes = ", ".join(str(int(np.prod(level.shape.cells))) for level in self.levels)
        viewer.printfASCII(f"  V-cycle of Chebyshev smoothing on planes of {sizes} unknowns\n")

    def release(self) -> None:
        """Nothing of PETSc's is kept."""


def dense(shape: Shape, planes: Planes) -> np.ndarray:
    """The matrix of a level as an array."""
    stencil, (ahead, _, shift) = shape.stencil(planes, np.float64), shape.tables
    n = shape.cells[0]
    A = np.zeros((shape.rows * n,) * 2)
    for o, plane in enumerate(stencil):
        rows = np.repeat(np.arange(shape.rows), n)
        place = np.tile(np.arange(n), shape.rows)
        to_row, to = ahead[rows + 1, o] - 1, place + shift[o]
        if shape.periodic[0]:
            to %= n
        kept = (to_row >= 0) & (to >= 0) & (to < n)
        i, j = (rows * n + place)[kept], (to_row * n + to)[kept]
        np.add.at(A, (i, j), plane[1:, 1:-1].ravel()[kept])
        if o:
            np.add.at(A, (j, i), plane[1:, 1:-1].ravel()[kept])
    return A

"""The V-cycle of symmetric matrices on grids of one rank, in single precision on planes:

    down   x := q(D^-1 A) D^-1 b,   b_coarse = P^T (b - A x)
    up     x := x + P x_coarse,     x := x + q(D^-1 A) D^-1 (b - A x)

q is Chebyshev's polynomial of degree 2 for eigenvalues of D^-1 A between a quarter of their bound
(Gershgorin) and the bound, the same down and up, so that the cycle is symmetric. The coarsest
matrix is inverted.

Under a mask planes are 0 at inactive cells and towards them, and coarse cells are all that a fine
one gives to: those beyond the rim, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from petsc4py import PETSc

from npde_opt.grids import Grid
from npde_opt.lazily import loaded_lazily
from npde_opt.linear.planes.levels import (
    SINGLE,
    Line,
    Planes,
    Shape,
    dense,
    galerkin,
    halvings,
    one_half,
    rows_before,
    transfer,
    widened,
)
from npde_opt.operators.stencils import Offset

if TYPE_CHECKING:
    from npde_opt.linear.planes import galerkin_loops, rows, sweeps
else:
    galerkin_loops = loaded_lazily("npde_opt.linear.planes.galerkin_loops")
    rows = loaded_lazily("npde_opt.linear.planes.rows")
    sweeps = loaded_lazily("npde_opt.linear.planes.sweeps")

PART = 4.0
"""The smoother works on eigenvalues down to their bound over this."""


class PlaneLevel:
    """One level: its stencil, and the fields that a cycle works on."""

    def __init__(self, shape: Shape):
        self.shape = shape
        self.A = shape.couplings(SINGLE)
        self.inverse = shape.zeros(SINGLE)
        # Of what lies outside, too.
        self.inverse[...] = 1
        self.b, self.x = shape.zeros(SINGLE), shape.zeros(SINGLE)
        self._factors = (SINGLE(0), SINGLE(0), SINGLE(0))
        self._y, self._v = shape.zeros(SINGLE), np.zeros(sweeps.CHUNK, SINGLE)

    def take(
        self, own: Planes, before: np.ndarray, scale: float, sums: np.ndarray
    ) -> None:
        """New values, of the finest level, times `scale`; sums = A 1."""
        centre, *couplings = (own[o].reshape(-1) for o in self.shape.offsets)
        given = centre, tuple(couplings), before, scale
        found = self.A, self._y, self.inverse, sums
        bound = galerkin_loops.take(*given, *found, self.shape.geometry)
        self._taken(float(bound))

    def take_from_above(self) -> None:
        """New values of the level below."""
        shape, below = self.shape, self._below
        fine = self.A, self._y, shape.geometry
        coarse = below.A, below._y, below.shape.geometry
        galerkin_loops.coarsen(*fine, *self._galerkin, *coarse)
        inverse = below.shape.steps, below.inverse, below.shape.geometry
        below._wrap()
        below._taken(float(galerkin_loops.finish(below.A, below._y, *inverse)))

    def _wrap(self) -> None:
        for field in (*self.A, self._y):
            self.shape.wrap(field)

    def _taken(self, bound: float) -> None:
        self._wrap()
        self.shape.wrap(self.inverse)
        self._take_bound(bound)

    def planes(self) -> Planes:
        """The values, owned [k, j, i] by offset."""
        cells = self.shape.cells[::-1]

        def owned(field: np.ndarray) -> np.ndarray:
            found = np.empty(cells)
            rows.take(field, 1.0, found.reshape(-1), self.shape.geometry)
            return found

        centre, *others = self.shape.offsets
        found = {o: owned(self.A[n]) for n, o in enumerate(others)}
        return {centre: 1 / owned(self.inverse), **found}

    def _take_bound(self, high: float) -> None:
        """The coefficients of Chebyshev's recursion."""
        low = high / PART
        middle, half = (high + low) / 2, (high - low) / 2
        ratio = middle / half
        rho = 1 / (2 * ratio - 1 / ratio)
        self._factors = SINGLE(1 / middle), SINGLE(rho / ratio), SINGLE(2 * rho / half)

    def link(self, below: PlaneLevel, halved: Sequence[Line | None]) -> None:
        """The next level."""
        self._below, self._transfer = below, transfer(self.shape, below.shape, halved)
        self._galerkin = galerkin(self.shape, halved)
        self._row, self._row_below = (
            np.zeros(shape.cells[0] + 2, SINGLE) for shape in (self.shape, below.shape)
        )

    def down(self) -> None:
        """x = q(D^-1 A) D^-1 b, and b of the next level."""
        values = self.A, self.inverse, self.b, self.x
        geometry, below = self.shape.geometry, self._below.shape.geometry
        how = self._factors, self._transfer, geometry, below
        sweeps.down(*values, self._below.b, *how, self._y, self._v, self._row)

    def up(self) -> tuple[float, float]:
        """x := x + P e, x := x + q(D^-1 A) D^-1 (b - A x); b^T x and x^T x."""
        values = self.A, self.inverse, self.b, self.x
        geometry, below = self.shape.geometry, self._below.shape.geometry
        how = self._factors, self._transfer, geometry, below
        return sweeps.up(
            *values, self._below.x, *how, self._y, self._v, self._row_below
        )


class Unknowns:
    """Values at active cells, x fastest, beside fields of all cells: those at inactive cells are
    coupled to nothing."""

    def __init__(self, grid: Grid):
        mask = grid.active_global
        self.active = None if mask is None else mask.ravel(order="F")

    def spread(self, values: np.ndarray) -> np.ndarray:
        """Of all cells, 0 at inactive ones."""
        if self.active is None:
            return values
        whole = np.zeros(self.active.size, values.dtype)
        whole[self.active] = values
        return whole

    def take(
        self, field: np.ndarray, factor: float, shape: Shape, out: np.ndarray
    ) -> None:
        """out = factor times the field."""
        if self.active is None:
            rows.take(field, factor, out, shape.geometry)
            return
        whole = np.empty(self.active.size, out.dtype)
        rows.take(field, factor, whole, shape.geometry)
        out[...] = whole[self.active]

    def square(self, field: np.ndarray, shape: Shape) -> float:
        """The sum of squares at active cells."""
        whole = np.empty(int(np.prod(shape.cells)))
        rows.take(field, 1.0, whole, shape.geometry)
        if self.active is not None:
            whole *= self.active
        return float(np.vdot(whole, whole))


class PlaneCycle:
    """Context of a Python PC.

    Args:
        grid: on one rank.
        offsets: of the finest stencil.
    """

    def __init__(self, grid: Grid, offsets: Sequence[Offset]):
        self.grid, self.unknowns = grid, Unknowns(grid)
        self.periodic = tuple(grid.periodic(d) for d in range(grid.dim))
        self.halved = halvings(grid)
        cells, shapes = list(grid.shape), [Shape(grid.shape, self.periodic, offsets)]
        for along in self.halved:
            offsets = widened(offsets, along)
            cells = [
                (n + 1) // 2 if line is not None else n
                for n, line in zip(cells, along, strict=True)
            ]
            shapes.append(Shape(cells, self.periodic, offsets))
        self.levels = [PlaneLevel(shape) for shape in shapes]
        for level, below, along in zip(
            self.levels, self.levels[1:], self.halved, strict=False
        ):
            level.link(below, along)
        self.inverse: np.ndarray = np.empty((0, 0))
        self.scale = 1.0
        """Levels hold the values times this."""
        self.sums = shapes[0].zeros(SINGLE)
        """Row sums of the finest level."""
        self._before = rows_before(grid.shape)

    def update(self, planes: Planes) -> None:
        """Takes the values of a symmetric matrix, owned [k, j, i] by offset; those towards what
        is outside are set to 0."""
        own = one_half(planes, self.periodic)
        # In single precision units of 1e-40 would be 0.
        largest = float(rows.largest(own[(0,) * self.grid.dim].reshape(-1)))
        self.scale = 1 / largest if 0 < largest < np.inf else 1.0
        self.levels[0].take(own, self._before, self.scale, self.sums)
        for level in self.levels[:-1]:
            level.take_from_above()
        self._invert()

    def _invert(self) -> None:
        """The coarsest matrix, dense."""
        A = dense(self.levels[-1].planes(), self.periodic)
        try:
            self.inverse = np.linalg.inv(A)
        except np.linalg.LinAlgError:
            self.inverse = np.full_like(A, np.nan)

    def apply(self, pc: PETSc.PC, b: PETSc.Vec, x: PETSc.Vec) -> None:
        given, found = b.getArray(readonly=True), x.getArray()
        size = float(rows.largest(given))
        if not 0 < size < np.inf:
            found[...] = 0 if size == 0 else np.nan
            return
        top = self.levels[0]
        top.shape.put(self.unknowns.spread(given), 1 / size, top.b)
        self.cycle()
        self.unknowns.take(top.x, size * self.scale, top.shape, found)

    def cycle(self) -> tuple[float, float]:
        """x of the finest level from its b; b^T x and x^T x."""
        for level in self.levels[:-1]:
            level.down()
        last = self.levels[-1]
        given = np.empty(len(self.inverse))
        rows.take(last.b, 1.0, given, last.shape.geometry)
        last.shape.put(self.inverse @ given, 1.0, last.x)
        found = 0.0, 0.0
        for level in self.levels[-2::-1]:
            found = level.up()
        return found

    def view(self, pc: PETSc.PC, viewer: PETSc.Viewer) -> None:
        sizes = ", ".join(str(int(np.prod(level.shape.cells))) for level in self.levels)
        viewer.printfASCII(
            f"  V-cycle of Chebyshev smoothing on planes of {sizes} unknowns\n"
        )

    def release(self) -> None:
        """Nothing of PETSc's is kept."""

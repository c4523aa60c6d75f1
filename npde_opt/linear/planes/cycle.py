"""The V-cycle of symmetric matrices on grids, in single precision on planes:

    down   x := q(D^-1 A) D^-1 b,   b_coarse = P^T (b - A x)
    up     x := x + P x_coarse,     x := x + q(D^-1 A) D^-1 (b - A x)

q is Chebyshev's polynomial of degree 2 for eigenvalues of D^-1 A between a quarter of their bound
(in 3-D a sixth) and the bound, the same down and up, so that the cycle is symmetric. The bound is
the smaller one of Gershgorin's for D^-1 A and for D^-1/2 A D^-1/2. The coarsest matrix is inverted.

Under a mask planes are 0 at inactive cells and towards them, and coarse cells are all that a fine
one gives to: those beyond the rim, too.

Values that such levels lose are told by an estimate (estimate.py) or by the iterations that a solve
takes; levels that follow them (adapted.py) take over then.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from petsc4py import PETSc

from npde_opt import reductions
from npde_opt.grids import Grid
from npde_opt.linear.planes import estimate
from npde_opt.linear.planes.adapted import AdaptedStage
from npde_opt.linear.planes.boxes import TOP, Box
from npde_opt.linear.planes.levels import (
    LOOPS,
    SINGLE,
    Planes,
    first_half,
    halvings,
    one_half,
    rows_before,
)
from npde_opt.linear.planes.stages import PlaneLevel, Stage
from npde_opt.linear.planes.whole import Whole
from npde_opt.machine_code import Kept
from npde_opt.operators.patterns import Offset

LARGEST = Kept(LOOPS, "largest", float)

GATHERED = 1 << 22
"""Cells of grids on several ranks whose adapted levels one of them may have."""


class PlaneCycle:
    """Context of a Python PC.

    Args:
        offsets: of the finest stencil.
    """

    def __init__(self, grid: Grid, offsets: Sequence[Offset]):
        self.grid = grid
        self._active = (
            None if grid.mask is None else np.ascontiguousarray(grid.active.T)
        )
        self.periodic = tuple(grid.periodic(d) for d in range(grid.dim))
        self.halved = halvings(grid)
        everyone = range(grid.comm.size)
        self.box = Box(grid.comm, grid.layout, everyone, self.periodic, TOP)
        self.stage = Stage(self.box, offsets, self.halved, self._active)
        self.adapted: AdaptedStage | None = None
        """Levels that follow the values, where the plain ones would lose them."""
        self.reason = ""
        """Why."""
        self.scale = 1.0
        """Levels hold the values times this."""
        self.sums = self.levels[0].shape.zeros(SINGLE)
        """Row sums of the finest level."""
        self.before = rows_before(self.box.cells)
        """The rows before those of the finest level, ghosts among them."""
        self._kept: Planes = {}
        self._most = np.empty(1, np.int64)

    @property
    def levels(self) -> list[PlaneLevel]:
        """The plain ones that all ranks have, finest first."""
        return self.stage.levels

    @property
    def top(self) -> PlaneLevel:
        """The finest level, plain or adapted."""
        return self.levels[0] if self.adapted is None else self.adapted.top

    @property
    def can_adapt(self) -> bool:
        """Whether levels may follow the values: one rank has all of them."""
        return self.grid.comm.size == 1 or self.grid.size <= GATHERED

    def with_ghosts(self, planes: Planes) -> Planes:
        """The planes of a symmetric matrix, owned [k, j, i] by offset, with ghosts: one of o and
        -o; those towards what is outside are set to 0. Collective."""
        half = {o: values for o, values in planes.items() if first_half(o)}
        return one_half(self.box.with_ghosts(half, self._kept), self.box.wraps)

    def update(self, planes: Planes) -> None:
        """Takes the values of a symmetric matrix, owned [k, j, i] by offset. Collective."""
        self.take(self.with_ghosts(planes))

    def take(self, planes: Planes) -> None:
        """Takes the values of planes with ghosts. Collective."""
        # In single precision units of 1e-40 would be 0.
        largest = self.largest(planes[(0,) * self.grid.dim].reshape(-1))
        self.scale = 1 / largest if 0 < largest < np.inf else 1.0
        if self.adapted is None and self.can_adapt and largest < np.inf:
            self.reason = self._hard(planes)
        if self.reason:
            self.adapt(planes, self.reason)
            return
        self.levels[0].take(planes, self.before, self.scale, self.sums)
        self.stage.refine()
        most = reductions.largest(self.grid.comm, self.stage.bounds(len(self.halved)))
        self.stage.take_bounds(most)

    def _hard(self, planes: Planes) -> str:
        """Why the plain levels would lose the values, if they would. Collective."""
        if not self.halved:
            return ""
        own = {o: v[self.box.inner] for o, v in planes.items()}
        found = estimate.losses(own, self.halved[0])
        return estimate.reason(reductions.largest(self.grid.comm, found))

    def adapt(self, planes: Planes, reason: str) -> None:
        """Goes over to levels that follow the values, for good. Collective."""
        self.reason = reason
        if self.adapted is None:
            offsets = list(self.levels[0].shape.offsets)
            self.adapted = AdaptedStage(self.box, offsets, self._active)
            self.sums = self.top.shape.zeros(float)
            self.stage.drop()
        self.top.take(planes, self.before, self.scale, self.sums)
        self.adapted.take(planes, self.scale)

    def largest(self, values: np.ndarray) -> float:
        """max |v| over all ranks; NaN where there is one. Collective."""
        own = float(LARGEST(values, self._most))
        return reductions.largest(self.grid.comm, own)

    def apply(self, pc: PETSc.PC, b: PETSc.Vec, x: PETSc.Vec) -> None:
        given, found = b.getArray(readonly=True), x.getArray()
        size = self.largest(given)
        if not 0 < size < np.inf:
            found[...] = 0 if size == 0 else np.nan
            return
        top = self.top
        top.shape.put(given, 1 / size, top.b)
        self.cycle()
        top.shape.take(top.x, size * self.scale, found)

    def cycle(self) -> tuple[float, float]:
        """x of the finest level from its b; own parts of b^T x and x^T x. Collective."""
        return self.stage.cycle() if self.adapted is None else self.adapted.cycle()

    def free(self) -> None:
        """Drops the work of a cycle."""
        self.top.free()
        self.stage.free()

    @property
    def in_one_call(self) -> Whole | None:
        """The cycle with the present values, where plain levels go in one call."""
        return self.stage.in_one_call if self.adapted is None else None

    def view(self, pc: PETSc.PC, viewer: PETSc.Viewer) -> None:
        if self.adapted is None:
            smoothing, why = "Chebyshev smoothing on planes", ""
            counts = [level.box.layout.size for level in self.levels]
        else:
            smoothing, why = "lines solved at once on planes", f" ({self.reason})"
            counts = [level.size for level in self.adapted.levels]
        sizes = ", ".join(map(str, counts))
        viewer.printfASCII(f"  V-cycle of {smoothing} of {sizes} unknowns{why}\n")

    def release(self) -> None:
        """Nothing of PETSc's is kept."""

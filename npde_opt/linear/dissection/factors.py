"""A = L D L^T of a symmetric positive definite stencil of face neighbours on one rank's box of
cells (plan.py), and solves with it.

Cells that a mask leaves out have the diagonal 1 and no neighbours.
"""

from __future__ import annotations

import numpy as np

from npde_opt.grids import Grid
from npde_opt.linear.dissection.parts import LANES, cut
from npde_opt.linear.dissection.plan import Plan
from npde_opt.machine_code import Kept
from npde_opt.operators.halves import Planes
from npde_opt.operators.stencils import StencilMatrix

LOOPS = "npde_opt.linear.dissection.loops"
FACTOR, SOLVE = Kept(LOOPS, "factor", returns=int), Kept(LOOPS, "solve")
SIDE = 14
"""Argument of `loops.solve`: b."""
FEWEST, MOST = {2: 1 << 11, 3: 1 << 9}, {2: 1 << 16, 3: 1 << 14}
"""Cells of grids where they pay, by dimension: the loops take a twentieth of a second to be loaded,
and on larger grids no cache holds the factors."""
FILL = 0.5
"""Active cells of all from which on they do: the others are eliminated, too."""


def box_plan(grid: Grid, matrix: StencilMatrix) -> Plan | None:
    """The order for a matrix, made once a grid; None where it is none of face neighbours on one
    rank, or of no such size."""
    return None if grid.comm.size > 1 else plan_of(grid, matrix)


def plan_of(grid: Grid, matrix: StencilMatrix) -> Plan | None:
    """The same of a grid on any ranks."""
    if not takes(grid, matrix):
        return None
    shape, wraps = _box(grid, matrix)
    return grid.once(("dissection", wraps), lambda: Plan(shape, wraps))


def takes(grid: Grid, matrix: StencilMatrix) -> bool:
    """Whether there is an order for a matrix, without making it."""
    if grid.dim not in MOST or not matrix.shared:
        return False
    size, known = FEWEST[grid.dim] <= grid.size <= MOST[grid.dim], set(matrix.offsets)
    both = all(tuple(-s for s in o) in known for o in known)
    if not (size and matrix.narrow and both) or grid.active_size < FILL * grid.size:
        return False
    return cut(*_box(grid, matrix)) is not None


def _box(grid: Grid, matrix: StencilMatrix) -> tuple[tuple[int, ...], tuple[bool, ...]]:
    """Cells, and which axes are periodic: arrays have x last."""
    return grid.shape[::-1], tuple(matrix.pattern.periodic)[::-1]


def box_factors(grid: Grid, matrix: StencilMatrix) -> BoxFactors | None:
    """Factors for the values of a matrix, where they apply and pay."""
    plan = box_plan(grid, matrix)
    return None if plan is None else BoxFactors(grid, plan)


class BoxFactors:
    """Of one matrix at a time.

    Args:
        plan: of the grid.
    """

    def __init__(self, grid: Grid, plan: Plan):
        self.plan, parts, size = plan, plan.parts, plan.couplings.size
        self._dim = grid.dim
        active = None if grid.mask is None else grid.active.T.ravel()
        self._left_out = None if active is None else np.flatnonzero(~active)
        self.values = np.zeros(plan.couplings.one + 1)
        self.values[plan.couplings.one] = 1.0
        around = parts.size - parts.count
        starts, rows = parts.pattern
        self._left = np.empty((around, around, LANES))
        self._parts = (
            starts,
            rows,
            np.empty((rows.size, LANES)),
            np.empty((parts.count, LANES)),
        )
        """The pattern, L, and 1 / D."""
        self._fronts = (
            np.empty(LANES * plan.size),
            np.empty(plan.separators.order.size),
        )
        """L and 1 / D."""
        self._work = (
            np.zeros((parts.size + 1, LANES)),
            np.zeros(plan.separators.order.size + 1),
            np.zeros(LANES * (plan.largest + 2)),
        )
        unknowns = np.full(size + 1, grid.active_size)
        if active is None:
            unknowns[:size] = np.arange(size)
        else:
            unknowns[:size][active] = np.arange(grid.active_size)
        # The last one is for cells that are not there: number -1.
        cells = unknowns[parts.cells[: parts.count]]
        self._numbers = cells, unknowns[plan.separators.order], plan.around
        self._factor = FACTOR.bound(*self._factored)
        self._nothing = np.zeros(grid.active_size)
        self._solve = SOLVE.bound(*self.tables, self._nothing, self._nothing)

    @property
    def _factored(self) -> tuple[np.ndarray, ...]:
        """Arguments of `loops.factor`."""
        plan, (w, _, u) = self.plan, self._work
        starts, rows, L, inverse = self._parts
        pattern = starts, rows, *plan.parts.entries
        joined = plan.separators.parents, plan.into
        fronts = plan.fronts, plan.maps, *plan.front_entries
        links = np.empty((3, plan.parts.size), np.int64)
        found = L, inverse, self._left, *joined, *fronts, *self._fronts
        return self.values, *pattern, *found, w, u, links

    @property
    def call(self) -> tuple[np.ndarray, np.ndarray] | None:
        """For compiled loops that solve: the table of machine code, and [its address, where the
        addresses of b and of x stand in the table] (see machine_code.Bound)."""
        found = self._solve.call
        if found is None:
            return None
        address, table = found
        places = [self._solve.place(SIDE), self._solve.place(SIDE + 1)]
        return table, np.array([address, *places], np.int64)

    @property
    def tables(self) -> tuple[np.ndarray, ...]:
        """Arguments of `loops.solve` but for the sides."""
        fronts = self.plan.fronts, self.plan.rows, *self._fronts
        return *self._parts, *fronts, *self._numbers, *self._work

    def update(self, planes: Planes) -> bool:
        """Factorizes a matrix of values [k, j, i] by offset, of which those of o and -o are equal;
        whether it is positive definite."""
        size, dim = self.plan.couplings.size, self._dim
        self.values[:size] = planes[(0,) * dim].ravel()
        for d in range(dim):
            after = planes.get(tuple(int(e == d) for e in range(dim)))
            into = self.values[size * (dim - d) : size * (dim - d + 1)]
            into[:] = 0.0 if after is None else after.ravel()
        if self._left_out is not None:
            self.values[self._left_out] = 1.0
        return self.factor()

    def factor(self) -> bool:
        """Factorizes the matrix in `values`; whether it is positive definite."""
        return bool(self._factor() == 1)

    def solve(self, b: np.ndarray, x: np.ndarray) -> None:
        """x of A x = b, both of active cells and contiguous; they may be one array."""
        self._solve.put(SIDE, b)
        self._solve.put(SIDE + 1, x)
        self._solve()
        # PETSc knows that a Vec has changed once nobody holds its array.
        self._solve.put(SIDE, self._nothing)
        self._solve.put(SIDE + 1, self._nothing)

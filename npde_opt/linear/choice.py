"""The cheaper of two ways, a factorization and CG with a cycle, for a matrix whose values are taken
`updates` times and serve `solves` solves each. A solve with its share of everything costs

    direct   e s + (f + 3 f / updates) / solves,   f = e^2 / n t    (by PETSc; half and three
             quarters of s and t by loops of our own, see dissection/)
    cycle    iterations i + u / solves

of n unknowns, whose factors have e entries (s for both sweeps over one, t for a product in a
factorization), and of which an iteration takes i and new values take u.
Times are those of one core of a server, in nanoseconds (benchmarks/solve_cost.py --recipes direct
geometric planes): only their ratios matter, and they do not depend on the machine's load, so that
the same run chooses the same everywhere. Iterations are first guessed and then counted: where a
matrix needs more than those at which both ways cost the same, the next values are factored.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from npde_opt.grids import Grid
from npde_opt.linear.planes.boxes import fits
from npde_opt.operators.stencils import StencilMatrix

CELLS = 1 << 13
"""Cells from which on compiled loops pay for their loading."""
FILL = 0.25
"""Active cells of all from which on loops over rows take less time: half of it at 45 %, 0.8 of it
at 25 %, more below 20 %."""
SHARE = 100_000
"""Active cells a rank from which on they do so under a mask on several ranks, where an iteration
takes more messages: 1.4 times the time at 24,000, as much at 115,000."""
ADAPTED = {2: 7.0, 3: 12.0}
"""An iteration on levels that follow the values, over all cells on one rank, beside one on plain
ones, by dimension: 5.5 to 8 times the time at 128^2 to 240^2, 9 at 36^3 in single precision and 12
in double."""
ADAPTED_EXPECTED = 10.0
"""Iterations on such levels, before any were counted."""
ENTRIES = 20_000_000
"""Of factors that are made unasked: 240 MB a rank."""
OWN, OWN_CELLS = (0.5, 0.75), 1 << 15
"""A solve and a factorization by loops of our own beside those that s and t stand for, as measured
at 64^2, 128^2, 12^3 and 16^3; and cells up to which they are so much faster."""
LOADING = 4e7
"""Of a process's first compiled loops, which are loaded from disk, in nanoseconds."""
EXPECTED = {True: 6.0, False: 12.0}
"""Iterations of CG, and of GMRES where a matrix is not symmetric, before any were counted."""


class Reuse(NamedTuple):
    """How often a matrix takes values, for how many solves each, and how many are kept at once."""

    updates: int
    solves: int
    matrices: int = 1


class Cost(NamedTuple):
    """Of an iteration and of new values, in nanoseconds: some for each, and some a cell by the
    grid's axes."""

    iteration: float
    update: float
    iteration_cell: dict[int, float]
    update_cell: dict[int, float]


CYCLES = {
    "planes": Cost(1e5, 3e6, {2: 14, 3: 45}, {2: 50, 3: 170}),
    "geometric": Cost(3e4, 3e5, {2: 41, 3: 50}, {2: 240, 3: 650}),
}
MESSAGES = 1e5
"""Of an iteration on several ranks, in nanoseconds: as measured on two, of 64^2 to 256^2 cells,
where the cycle is one compiled call."""
SECOND_HALF = 2.5
"""An iteration of GMRES with damped Jacobi beside one of CG with Gauss-Seidel."""


def fits_planes(matrix: StencilMatrix, grid: Grid, symmetric: bool) -> bool:
    """Whether the loops on planes take a matrix."""
    periodic = [grid.periodic(d) for d in range(grid.dim)]
    plain = grid.dim > 1 and fits(grid.layout, periodic)
    return plain and symmetric and matrix.narrow and matrix.shared


def fills_planes(grid: Grid) -> bool:
    """Whether enough cells are active for compiled loops over rows."""
    masked_parts = grid.active_size < grid.size and grid.comm.size > 1
    least = SHARE * grid.comm.size if masked_parts else CELLS
    return grid.active_size >= max(least, FILL * grid.size)


def factor_entries(grid: Grid) -> float:
    """Of the Cholesky factor of a stencil of neighbours after nested dissection, counted on squares
    of 32 to 512 cells and cubes of 12 to 32 and fitted: separators are as large as a grid's
    cross-section."""
    *across, _ = sorted(grid.shape)
    section = float(np.prod(across))
    if grid.dim == 1 or section == 1:
        return 2.0 * grid.active_size
    a_row = 4.1 * np.log2(section) - 8 if grid.dim == 2 else 5.5 * np.sqrt(section) - 26
    return float(grid.active_size * max(a_row, 4.0))


@dataclass(frozen=True)
class Choice:
    """Between a factorization and a cycle.

    Attributes:
        cycle: recipe of the other way.
        direct: cost of a solve by factors, in nanoseconds.
        limit: iterations from which on the factors are cheaper; infinite where they are too large.
    """

    cycle: str
    direct: float
    iteration: float
    shared: float
    limit: float
    expected: float

    @property
    def recipe(self) -> str:
        """Before iterations were counted."""
        return "direct" if self.is_passed(self.expected) else self.cycle

    def is_passed(self, iterations: float) -> bool:
        """Whether so many a solve make the factors cheaper."""
        return bool(iterations > self.limit)

    def text(self, iterations: float | None = None) -> str:
        """For a report: both estimates, in milliseconds."""
        counted = self.expected if iterations is None else iterations
        other = 1e-6 * (counted * self.iteration + self.shared)
        return (
            f"{1e-6 * self.direct:.2g} ms a solve by factors, {other:.2g} by {self.cycle} "
            f"at {counted:.3g} iterations"
        )


def pays_loading(grid: Grid, solves: int) -> bool:
    """Whether loops of our own save as much time as loading them takes, of one factorization and so
    many solves."""
    entries, n = factor_entries(grid), max(grid.active_size, 1)
    sweeps, products = OWN
    saved = (
        2.0 * (1 - products) * entries**2 / n + 3.0 * (1 - sweeps) * entries * solves
    )
    return bool(saved >= LOADING)


def choice(
    grid: Grid, cycle: str, symmetric: bool, reuse: Reuse, own: bool = False
) -> Choice:
    """For a matrix on a grid.

    Args:
        cycle: 'planes' or 'geometric'.
        own: whether factors would be made by loops of our own.
    """
    entries, n = factor_entries(grid), max(grid.active_size, 1)
    halves = 1 if symmetric else 2
    sweeps, products = OWN if own and n <= OWN_CELLS else (1.0, 1.0)
    factorization = 2.0 * products * halves * entries**2 / n
    shares = (1 + 3 / reuse.updates) / reuse.solves
    direct = 3.0 * sweeps * halves * entries + shares * factorization
    cost, ranks = CYCLES[cycle], grid.comm.size
    iteration = cost.iteration + cost.iteration_cell[grid.dim] * n / ranks
    iteration = iteration * (1 if symmetric else SECOND_HALF) + MESSAGES * (ranks > 1)
    shared = (cost.update + cost.update_cell[grid.dim] * n / ranks) / reuse.solves
    fits = halves * entries * reuse.matrices <= ENTRIES
    limit = (direct - shared) / iteration if fits else np.inf
    return Choice(cycle, direct, iteration, shared, limit, EXPECTED[symmetric])

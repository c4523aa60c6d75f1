"""A solve over plain levels in one compiled call (solve_loops.py)."""

from __future__ import annotations

import numpy as np
from mpi4py import MPI

from npde_opt import traffic
from npde_opt.linear.planes import tables
from npde_opt.linear.planes.cycle import PlaneCycle
from npde_opt.linear.planes.messages import Messages, calls, sums
from npde_opt.machine_code import Kept, Repeated, address_of

SOLVE = Kept("npde_opt.linear.planes.solve_loops", "solve", int)

Matrix = tuple[np.ndarray, tuple[np.ndarray, ...]]
"""The diagonal and couplings, in double precision."""


SQUARED = 1e-140, 1e140
"""Numbers whose squares, and sums of these, are in the range of doubles."""


def square(b: np.ndarray, size: float) -> float:
    """b^T b in units of `size`, the largest |b| of all ranks."""
    if SQUARED[0] < size < SQUARED[1]:
        return float(np.vdot(b, b)) / size**2
    scaled = b / size
    return float(np.vdot(scaled, scaled))


class WholeSolve:
    """Conjugate gradients with a cycle of plain levels.

    Args:
        norm: its number in tables.py.
        x: the field of all solves.

    Attributes:
        state, counts: of the last solve, see tables.py.

    Collective.
    """

    def __init__(self, cycle: PlaneCycle, norm: int, x: np.ndarray):
        self._cycle, self._norm, self._x = cycle, norm, x
        self._messages = Messages(float)
        top = cycle.levels[0]
        if cycle.box.is_cut:
            self._messages.ghosts(cycle.box, top.shape, x)
        addresses = np.array(calls() or (0, 0, 0), np.int64)
        self._ghosts = *self._messages.tables, addresses
        self._both = np.zeros(4)
        """Own sums and those of all ranks, two each."""
        places = address_of(self._both), address_of(self._both[2:])
        self._ranks = sums(cycle.grid.comm), *places, self._both
        self.state = np.zeros(tables.STATE)
        self.counts = np.zeros(tables.COUNTS, np.int64)
        self._solve = Repeated(SOLVE)

    def run(
        self,
        matrix: Matrix,
        b: np.ndarray,
        fields: tuple[np.ndarray, np.ndarray, np.ndarray],
        work: tuple[np.ndarray, np.ndarray],
        size: float,
        guessed: bool,
        tolerances: tuple[float, float],
        most: int,
    ) -> int:
        """x of A x = b, from x; how it ends, see tables.py. Collective.

        Args:
            fields: x, p and q. size: the largest |b| of all ranks.

        Raises:
            MPI.Exception: where a message fails.
        """
        cycle, state, counts = self._cycle, self.state, self.counts
        whole, top = cycle.in_one_call, cycle.levels[0]
        assert whole is not None
        x, p, q = fields
        state[tables.UNIT], state[tables.SCALE] = size, cycle.scale
        state[[tables.RTOL, tables.ATOL]] = tolerances
        counts[:] = 0
        end: int = self._solve(
            whole.arguments,
            *matrix,
            cycle.before,
            b,
            x,
            top.b,
            top.x,
            p,
            q,
            *work,
            top.A,
            cycle.sums,
            top.shape.geometry,
            self._ghosts,
            self._ranks,
            square(b, size),
            self._norm,
            guessed,
            most,
            state,
            counts,
        )
        self._count(whole.messages)
        # However it ends: what follows a message that failed is worth nothing.
        if counts[tables.FAILED]:
            raise MPI.Exception(int(counts[tables.FAILED]))
        return end

    def _count(self, of_a_cycle: Messages) -> None:
        """For PETSc's log."""
        counts = self.counts.tolist()
        of_a_cycle.count(counts[tables.CYCLES])
        self._messages.count(counts[tables.RESIDUALS])
        traffic.summed(counts[tables.SUMS])

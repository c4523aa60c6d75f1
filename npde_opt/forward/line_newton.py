"""All stages of all steps along a line by Newton's method at once, from those of a trajectory
nearby:

    F_i(U) = M (U_i - U_0) + dt sum_{j<=i} a_ij r(U_j) = 0,     F'(U) dU = -F(U)

in every step, where U_0 is the last stage of the step before. The linear system is the tangent of
the steps, one compiled call (see line_loops.py), and r of all states is found together: an
iteration of all costs hardly more than one of a single step does, and there are as few of them.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from npde_opt.errors import SolverError
from npde_opt.forward.line_system import LineSteps, LineSystem
from npde_opt.forward.newton import FAST
from npde_opt.linear.measured import measuring, note

MAX_ITERATIONS = 10
"""More are dearer than steps one by one."""
STALLED = 0.5
"""Share of the residual that an iteration leaves, from which on it is at its rounding, or the
guess is too far away."""
ROUNDED = 1e-8
"""A residual that stalls below this is as small as rounding lets it be, as in newton.py."""


class Line(Protocol):
    """What is solved along a line (see line_trajectory.py)."""

    def rates(self, rows: np.ndarray) -> np.ndarray:
        """r by step and stage [n, j, unknown], of all stages as rows [n s + j, unknown]."""

    def system_at(self, rows: np.ndarray) -> LineSystem:
        """The matrices of the steps' derivatives there."""


def _residuals(
    mass: np.ndarray, steps: LineSteps, rows: np.ndarray, rates: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """F_i as rows [n s + i - 1, unknown], and by row |F_i| over that of the right-hand side of its
    stage."""
    stages, found, sizes = steps.stages, [], []
    dt, starts = steps.steps[:, None], rows[:-1:stages]
    for i in range(1, stages + 1):
        b = mass * starts
        for j in range(i):
            if steps.weights[i, j]:
                b -= dt * steps.weights[i, j] * rates[:, j]
        left = mass * rows[i::stages] - b
        if steps.weights[i, i]:
            left += dt * steps.weights[i, i] * rates[:, i]
        found.append(left)
        sizes.append(np.sqrt(np.vecdot(b, b)))
    F = np.stack(found, axis=1).reshape(-1, mass.size)
    scales = np.maximum(np.stack(sizes, axis=1).ravel(), 1e-300)
    return F, np.sqrt(np.vecdot(F, F)) / scales


def solve(
    line: Line, mass: np.ndarray, steps: LineSteps, rows: np.ndarray, rtol: float
) -> np.ndarray | None:
    """All stages as rows [n s + i, unknown]; None where the method does not converge fast: the
    guess is too far away.

    Args:
        mass: M by unknown.
        rows: the guess, the first of them u_0.
        rtol: of the residual of a stage, in the norm of its right-hand side.
    """
    nowhere, place = np.zeros((1, mass.size)), np.zeros_like(steps.at)
    still = np.zeros(mass.size)
    system: LineSystem | None = None
    last = np.inf
    # What is measured has to be solved, too, where the guess is the answer already.
    least = 1 if measuring() else 0
    for iteration in range(MAX_ITERATIONS + 1):
        F, sizes = _residuals(mass, steps, rows, line.rates(rows))
        size = float(sizes.max())
        if not np.isfinite(size):
            return None
        small = size <= rtol or (size > STALLED * last and size < ROUNDED)
        if small and iteration >= least:
            for residual in sizes.tolist():
                note("state", residual, iteration)
            return rows
        if size > STALLED * last and iteration > 2:
            return None  # too far away
        try:
            if system is None or size > FAST * last:
                system = line.system_at(rows)
            rows = rows + system.forward(still, nowhere, place, -F)
        except SolverError:
            return None
        last = size
    return None

"""Conjugate gradients on plain levels in one compiled call, sums and messages between ranks among
them: the steps of gradients.py, where on small grids calls take longer than what they do.
"""

from __future__ import annotations

import math

import numpy as np

from npde_opt.compiling import compiled
from npde_opt.linear.planes import whole_loops
from npde_opt.linear.planes.geometry import END, FIRST, Geometry
from npde_opt.linear.planes.message_loops import run
from npde_opt.linear.planes.mpi_calls import all_reduce
from npde_opt.linear.planes.rows import put, wrap
from npde_opt.linear.planes.tables import (
    ADD,
    ATOL,
    BAD_CYCLE,
    BAD_MATRIX,
    BEFORE,
    BROKEN,
    COMM,
    CONVERGED,
    CYCLES,
    FAILED,
    FAITHFUL,
    FRESH,
    GOAL,
    IDLE,
    KIND_OF_SUMS,
    LAST,
    MANY,
    NATURAL,
    NORM,
    NOT_FINITE,
    OPERATION,
    PATIENCE,
    RESIDUALS,
    RR,
    RTOL,
    RZ,
    SCALE,
    SMALLEST,
    STEP,
    STUCK,
    SUMS,
    UNIT,
    UNPRECONDITIONED,
)
from npde_opt.linear.planes.vectors import advance, direction, true_residual

Levels = tuple[np.ndarray, ...]
"""What whole_loops.cycle takes; the last is own parts of b^T x and x^T x."""
Ranks = tuple[np.ndarray, int, int, np.ndarray]
"""Of sums: numbers (tables.py); addresses of the own ones and of those of all ranks, and these: two
own ones and two of all."""
Ghosts = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Of x: phases, sides and calls of message_loops.run."""
System = tuple[
    tuple[np.ndarray, tuple[np.ndarray, ...], np.ndarray],
    tuple[np.ndarray, np.ndarray, np.ndarray],
    Geometry,
    np.ndarray,
    Ghosts,
]
"""The diagonal, couplings, and rows before as in vectors.true_residual; b, x and r; rows; work."""


@compiled
def _add(ranks: Ranks, counts: np.ndarray, count: int) -> None:
    """Sums over all ranks of the own ones. Collective."""
    numbers, own, found, sums = ranks
    if numbers[ADD] == 0:
        sums[2], sums[3] = sums[0], sums[1]
        return
    counts[SUMS] += 1
    kind, operation, comm = numbers[KIND_OF_SUMS], numbers[OPERATION], numbers[COMM]
    failed: int = all_reduce(numbers[ADD], own, found, count, kind, operation, comm)
    if failed != 0:
        counts[FAILED] = failed


@compiled
def _precondition(
    levels: Levels, state: np.ndarray, ranks: Ranks, counts: np.ndarray, norm: int
) -> None:
    """z, with r^T z and the norm."""
    counts[CYCLES] += 1
    table, factors, inverse, work, phases, sides, calls, parts = levels
    failed = whole_loops.cycle(
        table, factors, inverse, work, phases, sides, calls, parts
    )
    if failed != 0:
        counts[FAILED] = failed
        return
    sums, scale = ranks[3], state[SCALE]
    sums[0], sums[1] = parts[0], parts[1]
    _add(ranks, counts, 2)
    state[RZ] = sums[2]
    if norm == UNPRECONDITIONED:
        state[NORM] = math.sqrt(state[RR]) * state[UNIT]
    elif norm == NATURAL:
        state[NORM] = math.sqrt(abs(sums[2]) * scale) * state[UNIT]
    else:
        state[NORM] = math.sqrt(sums[3]) * state[UNIT] * scale


@compiled
def _fresh(
    system: System, state: np.ndarray, ranks: Ranks, counts: np.ndarray
) -> float:
    """r = b - A x; r^T r, in units."""
    counts[RESIDUALS] += 1
    (centre, couplings, before), (b, x, r), geometry, row, ghosts = system
    phases, sides, calls = ghosts
    failed = run(phases, sides, calls, 0, len(phases), x)
    if failed != 0:
        counts[FAILED] = failed
        return 0.0
    factor, sums = 1 / state[UNIT], ranks[3]
    sums[0] = true_residual(centre, couplings, before, x, b, factor, r, geometry, row)
    _add(ranks, counts, 1)
    return float(sums[2])


@compiled
def _renewed(fresh: float, state: np.ndarray, counts: np.ndarray, norm: int) -> bool:
    """Takes r^T r of a residual formed anew; whether it is small enough, where this is known
    without z."""
    state[RR] = state[LAST] = fresh
    helped = fresh < state[SMALLEST]
    counts[IDLE] = 0 if helped else counts[IDLE] + 1
    state[SMALLEST] = fresh if helped else state[SMALLEST]
    if norm != UNPRECONDITIONED:
        return False
    state[NORM] = math.sqrt(fresh) * state[UNIT]
    return bool(state[NORM] <= state[GOAL])


@compiled
def _begins(
    system: System,
    levels: Levels,
    square: float,
    norm: int,
    guessed: bool,
    state: np.ndarray,
    ranks: Ranks,
    counts: np.ndarray,
) -> bool:
    """The first residual, and the norm to reach; False where x leaves nothing."""
    (b, _, r), geometry, sums = system[1], system[2], ranks[3]
    put(b, 1 / state[UNIT], r, geometry)
    wrap(r, geometry, geometry[0][FIRST], geometry[0][END])
    sums[0] = square
    _add(ranks, counts, 1)
    state[RR] = state[LAST] = sums[2]
    state[BEFORE] = state[SMALLEST] = math.inf
    state[NORM] = math.sqrt(state[RR]) * state[UNIT]
    if not guessed or norm != UNPRECONDITIONED:
        _precondition(levels, state, ranks, counts, norm)
    # The tolerance is for b, whatever the guess.
    state[GOAL] = max(state[RTOL] * state[NORM], state[ATOL])
    if not guessed:
        return True
    # From x, in units of what it leaves.
    state[UNIT] *= math.sqrt(_fresh(system, state, ranks, counts))
    if state[UNIT] == 0:
        state[NORM] = 0.0
        return False
    state[RR] = state[LAST] = _fresh(system, state, ranks, counts)
    _precondition(levels, state, ranks, counts, norm)
    return True


@compiled
def _holds(
    system: System,
    levels: Levels,
    norm: int,
    state: np.ndarray,
    ranks: Ranks,
    counts: np.ndarray,
) -> bool:
    """Whether the norm is small enough for the true residual, too."""
    known = state[RR]
    if known == state[LAST]:
        return True
    left = _fresh(system, state, ranks, counts)
    if _renewed(left, state, counts, norm):
        return True
    if left <= FAITHFUL * FAITHFUL * known and norm != UNPRECONDITIONED:
        return True
    _precondition(levels, state, ranks, counts, norm)
    return bool(state[NORM] <= state[GOAL])


@compiled
def solve(
    levels: Levels,
    centre: np.ndarray,
    couplings: tuple[np.ndarray, ...],
    before: np.ndarray,
    b: np.ndarray,
    x: np.ndarray,
    r: np.ndarray,
    z: np.ndarray,
    p: np.ndarray,
    q: np.ndarray,
    v: np.ndarray,
    row: np.ndarray,
    A: np.ndarray,
    row_sums: np.ndarray,
    geometry: Geometry,
    ghosts: Ghosts,
    ranks: Ranks,
    square: float,
    norm: int,
    guessed: bool,
    most: int,
    state: np.ndarray,
    counts: np.ndarray,
) -> int:
    """x of A x = b, from x; how it ends. Collective.

    Args:
        x, r, z, p, q: fields, x in double precision. v, row: work.
        A, row_sums: of the finest level. square: own part of b^T b, in units.
        state, counts: see tables.py; with UNIT, SCALE, RTOL and ATOL.
    """
    system = ((centre, couplings, before), (b, x, r), geometry, row, ghosts)
    sums = ranks[3]
    if not _begins(system, levels, square, norm, guessed, state, ranks, counts):
        return BROKEN if counts[FAILED] != 0 else CONVERGED
    p[:] = 0
    for step in range(most + 1):
        counts[STEP] = step
        if counts[FAILED] != 0:
            return BROKEN
        if not math.isfinite(state[NORM]):
            return NOT_FINITE
        small = state[NORM] <= state[GOAL]
        if small and _holds(system, levels, norm, state, ranks, counts):
            return CONVERGED
        if step == most:
            break
        if counts[IDLE] > PATIENCE:
            return STUCK
        if not state[RZ] > 0:
            return BAD_CYCLE
        beta = np.float32(state[RZ] / state[BEFORE])
        state[BEFORE] = state[RZ]
        sums[0] = direction(A, row_sums, z, beta, p, q, v, geometry)
        _add(ranks, counts, 1)
        pq = sums[2]
        if not pq > 0:
            return BAD_MATRIX
        alpha = state[RZ] / pq
        taken = alpha * state[UNIT] * state[SCALE]
        sums[0] = advance(x, r, p, q, taken, np.float32(alpha), geometry)
        _add(ranks, counts, 1)
        state[RR] = sums[2]
        ends = math.sqrt(state[RR]) * state[UNIT] <= state[GOAL]
        due = state[RR] <= FRESH * FRESH * state[LAST]
        if due or (norm == UNPRECONDITIONED and ends):
            left = _fresh(system, state, ranks, counts)
            if _renewed(left, state, counts, norm):
                counts[STEP] = step + 1
                return CONVERGED
        _precondition(levels, state, ranks, counts, norm)
    return MANY

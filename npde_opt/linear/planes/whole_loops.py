"""A V-cycle over all levels in one compiled call, messages to other ranks among them: on coarse
levels calls take longer than what they do.

Levels are rows of a table of addresses and sizes (whole.py), from which the loops' arrays are made
here, as functions with as many arguments as a hierarchy has arrays would be compiled anew for every
number of levels.
"""

from __future__ import annotations

import numpy as np

from npde_opt.compiling import compiled
from npde_opt.linear.planes import message_loops
from npde_opt.linear.planes.geometry import END, FIRST, Geometry
from npde_opt.linear.planes.pointers import carray, single, whole
from npde_opt.linear.planes.rows import put, take, wrap
from npde_opt.linear.planes.sweeps import down, up
from npde_opt.linear.planes.tables import (
    DOWN,
    DOWN_END,
    INVERSE,
    INVERTED,
    KIND,
    PLANES,
    PROLONGATION,
    RESTRICTION,
    ROW,
    ROW_BELOW,
    SWEPT,
    UP,
    UP_END,
    A,
    B,
    V,
    X,
    Y,
)
from npde_opt.linear.planes.transfers import Transfer


@compiled
def _geometry(t: np.ndarray) -> Geometry:
    """From addresses and numbers of rows."""
    return (
        carray(whole(t[0]), (t[1],)),
        carray(whole(t[2]), (t[3],)),
        carray(whole(t[4]), (t[5], 2)),
        t[6] != 0,
        carray(whole(t[7]), (t[8], 5)),
        carray(whole(t[9]), (t[10], 2)),
        carray(whole(t[11]), (t[12],)),
    )


@compiled
def _transfer(t: np.ndarray) -> Transfer:
    """As `_geometry`."""
    return (
        t[0] != 0,
        carray(whole(t[1]), (t[2],)),
        carray(single(t[3]), (t[4],)),
        carray(single(t[5]), (t[6],)),
        carray(whole(t[7]), (t[8],)),
        carray(whole(t[9]), (t[10], t[11])),
        carray(single(t[12]), (t[10], t[11])),
        carray(whole(t[13]), (t[14],)),
        carray(whole(t[15]), (t[16], 2)),
    )


@compiled
def _field(t: np.ndarray, at: int) -> np.ndarray:
    found: np.ndarray = carray(single(t[at]), (t[at + 1],))
    return found


@compiled
def _couplings(t: np.ndarray) -> np.ndarray:
    found: np.ndarray = carray(single(t[A]), (t[PLANES], t[A + 1]))
    return found


@compiled
def _solve(t: np.ndarray, inverse: np.ndarray, work: np.ndarray) -> None:
    """x of the last level from its b, with the inverse of its matrix."""
    geometry, given, found = _geometry(t), work[0], work[1]
    take(_field(t, B), 1.0, given, geometry)
    for i in range(given.size):
        row, total = inverse[i], 0.0
        for j in range(given.size):
            total += row[j] * given[j]
        found[i] = total
    x = _field(t, X)
    put(found, 1.0, x, geometry)
    wrap(x, geometry, geometry[0][FIRST], geometry[0][END])


@compiled
def cycle(
    table: np.ndarray,
    factors: np.ndarray,
    inverse: np.ndarray,
    work: np.ndarray,
    phases: np.ndarray,
    sides: np.ndarray,
    calls: np.ndarray,
    parts: np.ndarray,
) -> int:
    """x of the first level from its b; 0, or what MPI says where it fails.

    Args:
        table [level, WIDTH]: see whole.py; levels that are not swept over have a geometry, b and x
            only.
        factors [level, 3]: of Chebyshev's recursion.
        inverse: of the last level's matrix, where it is INVERTED.
        work [2, unknown of the last level].
        phases, sides, calls: see message_loops.py.
        parts [2]: own parts of b^T x and x^T x, found.
    """
    count = table.shape[0]
    for n in range(count):
        t = table[n]
        if t[DOWN] < t[DOWN_END]:
            failed: int = message_loops.run(
                phases, sides, calls, t[DOWN], t[DOWN_END], factors
            )
            if failed != 0:
                return failed
        if t[KIND] == INVERTED:
            _solve(t, inverse, work)
        if t[KIND] == SWEPT:
            below = table[n + 1]
            f = factors[n, 0], factors[n, 1], factors[n, 2]
            geometry, transfer = _geometry(t), _transfer(t[RESTRICTION:])
            values = _couplings(t), _field(t, INVERSE), _field(t, B), _field(t, X)
            a, d, b, x = values
            if t[DOWN] < t[DOWN_END]:
                wrap(b, geometry, geometry[0][FIRST], geometry[0][END])
            y, v, row = _field(t, Y), _field(t, V), _field(t, ROW)
            down(a, d, b, x, _field(below, B), f, transfer, geometry, y, v, row)
    both, own = 0.0, 0.0
    for n in range(count - 1, -1, -1):
        t = table[n]
        if t[UP] < t[UP_END]:
            failed = message_loops.run(phases, sides, calls, t[UP], t[UP_END], factors)
            if failed != 0:
                return failed
        if t[KIND] != SWEPT:
            continue
        below = table[n + 1]
        f = factors[n, 0], factors[n, 1], factors[n, 2]
        geometry, transfer = _geometry(t), _transfer(t[PROLONGATION:])
        a, d, b, x = _couplings(t), _field(t, INVERSE), _field(t, B), _field(t, X)
        e = _field(below, X)
        if t[UP] < t[UP_END]:
            coarse = _geometry(below)
            wrap(e, coarse, coarse[0][FIRST], coarse[0][END])
        y, v, row = _field(t, Y), _field(t, V), _field(t, ROW_BELOW)
        both, own = up(a, d, b, x, e, f, transfer, geometry, y, v, row)
    parts[0], parts[1] = both, own
    return 0

"""A V-cycle over all levels of one rank in one compiled call: on coarse levels calls take longer
than what they do.

Levels are rows of a table of addresses and sizes (whole.py), from which the loops' arrays are made
here, as functions with as many arguments as a hierarchy has arrays would be compiled anew for every
number of levels.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numba.extending import intrinsic

from npde_opt.compiling import compiled
from npde_opt.linear.planes.rows import END, FIRST, Geometry, put, take, wrap
from npde_opt.linear.planes.sweeps import down, up
from npde_opt.linear.planes.transfers import Transfer

carray: Any = numba.carray  # type: ignore[attr-defined]
types: Any = numba.types

GEOMETRY, RESTRICTION, PROLONGATION, FIELDS = 0, 20, 40, 60
"""Where in a row of the table a level's geometry, its transfers and its fields begin."""
A, INVERSE, B, X, Y, V, ROW, ROW_BELOW = range(FIELDS, FIELDS + 16, 2)
"""Fields in turn: an address and a size."""
PLANES = FIELDS + 16
"""Couplings to neighbours that A has."""
WIDTH = PLANES + 1


def _pointer(number: Any) -> Any:
    """From an address to a pointer to such numbers."""

    def typed(context: Any, address: Any) -> tuple[Any, Any]:
        def generated(target: Any, builder: Any, signature: Any, given: Any) -> Any:
            kind = target.get_value_type(signature.return_type)
            return builder.inttoptr(given[0], kind)

        return types.CPointer(number)(types.int64), generated

    return intrinsic(typed)


_whole, _single, _double = (
    _pointer(t) for t in (types.int64, types.float32, types.float64)
)


@compiled
def _geometry(t: np.ndarray) -> Geometry:
    """From addresses and numbers of rows."""
    return (
        carray(_whole(t[0]), (t[1],)),
        carray(_whole(t[2]), (t[3],)),
        carray(_whole(t[4]), (t[5], 2)),
        t[6] != 0,
        carray(_whole(t[7]), (t[8], 5)),
        carray(_whole(t[9]), (t[10], 2)),
        carray(_whole(t[11]), (t[12],)),
    )


@compiled
def _transfer(t: np.ndarray) -> Transfer:
    """As `_geometry`."""
    return (
        t[0] != 0,
        carray(_whole(t[1]), (t[2],)),
        carray(_single(t[3]), (t[4],)),
        carray(_single(t[5]), (t[6],)),
        carray(_whole(t[7]), (t[8],)),
        carray(_whole(t[9]), (t[10], t[11])),
        carray(_single(t[12]), (t[10], t[11])),
        carray(_whole(t[13]), (t[14],)),
        carray(_whole(t[15]), (t[16], 2)),
    )


@compiled
def _field(t: np.ndarray, at: int) -> np.ndarray:
    found: np.ndarray = carray(_single(t[at]), (t[at + 1],))
    return found


@compiled
def _couplings(t: np.ndarray) -> np.ndarray:
    found: np.ndarray = carray(_single(t[A]), (t[PLANES], t[A + 1]))
    return found


@compiled
def cycle(
    table: np.ndarray, factors: np.ndarray, inverse: np.ndarray, work: np.ndarray
) -> tuple[float, float]:
    """x of the first level from its b; b^T x and x^T x.

    Args:
        table [level, WIDTH]: see whole.py; the last level has a geometry, b and x only.
        factors [level, 3]: of Chebyshev's recursion.
        inverse: of the last level's matrix.
        work [2, unknown of the last level].
    """
    last = table.shape[0] - 1
    for n in range(last):
        t, below = table[n], table[n + 1]
        f = factors[n, 0], factors[n, 1], factors[n, 2]
        geometry, transfer = _geometry(t), _transfer(t[RESTRICTION:])
        values = _couplings(t), _field(t, INVERSE), _field(t, B), _field(t, X)
        a, d, b, x = values
        y, v, row = _field(t, Y), _field(t, V), _field(t, ROW)
        down(a, d, b, x, _field(below, B), f, transfer, geometry, y, v, row)
    t = table[last]
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
    both, own = 0.0, 0.0
    for n in range(last - 1, -1, -1):
        t, below = table[n], table[n + 1]
        f = factors[n, 0], factors[n, 1], factors[n, 2]
        geometry, transfer = _geometry(t), _transfer(t[PROLONGATION:])
        a, d, b, x = _couplings(t), _field(t, INVERSE), _field(t, B), _field(t, X)
        y, v, row = _field(t, Y), _field(t, V), _field(t, ROW_BELOW)
        both, own = up(a, d, b, x, _field(below, X), f, transfer, geometry, y, v, row)
    return both, own

"""Phases of messages (messages.py) in compiled loops, which call MPI by addresses that they are
given: no more is compiled into them than what MPI_Startall and MPI_Waitall take.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numba.extending import intrinsic

from npde_opt.compiling import compiled
from npde_opt.linear.planes.pointers import carray, single, whole
from npde_opt.linear.planes.tables import (
    BUFFER,
    COUNT,
    LENGTH,
    PACK,
    PACK_END,
    PUT,
    PUT_END,
    REQUESTS,
    RUNS,
    SOURCE,
    SOURCE_SIZE,
    STARTS,
    STATUSES,
    TARGET,
    TARGET_SIZE,
)

types: Any = numba.types


def _of_mpi(pointers: int) -> Any:
    """A call of a C function int f(int, void *, ...) by its address."""

    def typed(context: Any, address: Any, count: Any, *given: Any) -> tuple[Any, Any]:
        signature = types.int64(*(types.int64,) * (2 + pointers))

        def generated(target: Any, builder: Any, signature: Any, given: Any) -> Any:
            from llvmlite import ir

            number, place = ir.IntType(32), ir.IntType(8).as_pointer()
            kind = ir.FunctionType(number, [number, *[place] * pointers])
            function = builder.inttoptr(given[0], kind.as_pointer())
            places = [builder.inttoptr(p, place) for p in given[2:]]
            found = builder.call(function, [builder.trunc(given[1], number), *places])
            return builder.sext(found, ir.IntType(64))

        return signature, generated

    if pointers == 1:
        return intrinsic(lambda context, f, count, p: typed(context, f, count, p))
    return intrinsic(lambda context, f, count, p, q: typed(context, f, count, p, q))


start_all, wait_all = _of_mpi(1), _of_mpi(2)


@compiled
def pack(side: np.ndarray, field: np.ndarray) -> None:
    """Cells of a field into a side's buffer."""
    starts, length = carray(whole(side[STARTS]), (side[RUNS],)), side[LENGTH]
    buffer = carray(single(side[BUFFER]), (side[RUNS] * length,))
    for n in range(starts.size):
        given, out = field[starts[n] : starts[n] + length], buffer[n * length :]
        for i in range(length):
            out[i] = given[i]


@compiled
def put(side: np.ndarray, field: np.ndarray) -> None:
    """A side's buffer into cells of a field."""
    starts, length = carray(whole(side[STARTS]), (side[RUNS],)), side[LENGTH]
    buffer = carray(single(side[BUFFER]), (side[RUNS] * length,))
    for n in range(starts.size):
        out, given = field[starts[n] : starts[n] + length], buffer[n * length :]
        for i in range(length):
            out[i] = given[i]


@compiled
def run(
    phases: np.ndarray, sides: np.ndarray, calls: np.ndarray, first: int, end: int
) -> int:
    """Some phases, one after the other; 0, or what MPI says where it fails.

    Args:
        phases [n, PHASE], sides [n, SIDE]: see above.
        calls: addresses of MPI_Startall and MPI_Waitall.
    """
    for n in range(first, end):
        p = phases[n]
        source = carray(single(p[SOURCE]), (p[SOURCE_SIZE],))
        for side in range(p[PACK], p[PACK_END]):
            pack(sides[side], source)
        failed: int = start_all(calls[0], p[COUNT], p[REQUESTS])
        if failed == 0:
            failed = wait_all(calls[1], p[COUNT], p[REQUESTS], p[STATUSES])
        if failed != 0:
            return failed
        target = carray(single(p[TARGET]), (p[TARGET_SIZE],))
        for side in range(p[PUT], p[PUT_END]):
            put(sides[side], target)
    return 0

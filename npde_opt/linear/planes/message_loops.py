"""Phases of messages (messages.py) in compiled loops, which call MPI by addresses that they are
given: no more is compiled into them than what these functions take.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numba
import numpy as np
from numba.extending import intrinsic

from npde_opt.compiling import compiled
from npde_opt.linear.planes.pointers import carray, double, single, whole
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


def _call(builder: Any, given: Any, numbers: Sequence[int]) -> Any:
    """Of a C function by its address, the first of what is given: int f(...) of pointers and, where
    `numbers` says so, of ints."""
    from llvmlite import ir

    number, place = ir.IntType(32), ir.IntType(8).as_pointer()
    address, *values = given
    kinds = [number if k in numbers else place for k in range(len(values))]
    function = builder.inttoptr(address, ir.FunctionType(number, kinds).as_pointer())
    arguments = [
        builder.trunc(value, kind) if kind is number else builder.inttoptr(value, kind)
        for value, kind in zip(values, kinds, strict=True)
    ]
    return builder.sext(builder.call(function, arguments), ir.IntType(64))


def _typed(given: int, numbers: Sequence[int]) -> tuple[Any, Any]:
    """For numba, of a function of so many arguments and its address, all integers of 64 bits."""
    signature = types.int64(*(types.int64,) * (given + 1))

    def generated(target: Any, builder: Any, signature: Any, given: Any) -> Any:
        return _call(builder, given, numbers)

    return signature, generated


def _start_all(context: Any, address: Any, count: Any, requests: Any) -> Any:
    return _typed(2, (0,))


def _wait_all(
    context: Any, address: Any, count: Any, requests: Any, statuses: Any
) -> Any:
    return _typed(3, (0,))


def _all_reduce(
    context: Any,
    address: Any,
    given: Any,
    found: Any,
    count: Any,
    kind: Any,
    operation: Any,
    comm: Any,
) -> Any:
    return _typed(6, (2,))


start_all: Any = intrinsic(_start_all)
wait_all: Any = intrinsic(_wait_all)
all_reduce: Any = intrinsic(_all_reduce)
"""MPI_Startall, MPI_Waitall and MPI_Allreduce. Handles are pointers, or integers in their place."""


@compiled
def _pack(side: np.ndarray, field: np.ndarray, buffer: np.ndarray) -> None:
    """Cells of a field into a side's buffer."""
    starts, length = carray(whole(side[STARTS]), (side[RUNS],)), side[LENGTH]
    for n in range(starts.size):
        given, out = field[starts[n] : starts[n] + length], buffer[n * length :]
        for i in range(length):
            out[i] = given[i]


@compiled
def _put(side: np.ndarray, field: np.ndarray, buffer: np.ndarray) -> None:
    """A side's buffer into cells of a field."""
    starts, length = carray(whole(side[STARTS]), (side[RUNS],)), side[LENGTH]
    for n in range(starts.size):
        out, given = field[starts[n] : starts[n] + length], buffer[n * length :]
        for i in range(length):
            out[i] = given[i]


@compiled
def _exchange(p: np.ndarray, calls: np.ndarray) -> int:
    """Messages of a phase; 0, or what MPI says where it fails."""
    failed: int = start_all(calls[0], p[COUNT], p[REQUESTS])
    if failed == 0:
        failed = wait_all(calls[1], p[COUNT], p[REQUESTS], p[STATUSES])
    return failed


@compiled
def run(
    phases: np.ndarray, sides: np.ndarray, calls: np.ndarray, first: int, end: int
) -> int:
    """Some phases of fields in single precision, one after the other; 0, or what MPI says where it
    fails.

    Args:
        phases [n, PHASE], sides [n, SIDE]: see tables.py.
        calls: addresses of MPI_Startall and MPI_Waitall.
    """
    for n in range(first, end):
        p = phases[n]
        source = carray(single(p[SOURCE]), (p[SOURCE_SIZE],))
        for k in range(p[PACK], p[PACK_END]):
            size = sides[k, RUNS] * sides[k, LENGTH]
            _pack(sides[k], source, carray(single(sides[k, BUFFER]), (size,)))
        failed = _exchange(p, calls)
        if failed != 0:
            return failed
        target = carray(single(p[TARGET]), (p[TARGET_SIZE],))
        for k in range(p[PUT], p[PUT_END]):
            size = sides[k, RUNS] * sides[k, LENGTH]
            _put(sides[k], target, carray(single(sides[k, BUFFER]), (size,)))
    return 0


@compiled
def run_double(phases: np.ndarray, sides: np.ndarray, calls: np.ndarray) -> int:
    """All phases, of fields in double precision; as `run`."""
    for n in range(phases.shape[0]):
        p = phases[n]
        source = carray(double(p[SOURCE]), (p[SOURCE_SIZE],))
        for k in range(p[PACK], p[PACK_END]):
            size = sides[k, RUNS] * sides[k, LENGTH]
            _pack(sides[k], source, carray(double(sides[k, BUFFER]), (size,)))
        failed = _exchange(p, calls)
        if failed != 0:
            return failed
        target = carray(double(p[TARGET]), (p[TARGET_SIZE],))
        for k in range(p[PUT], p[PUT_END]):
            size = sides[k, RUNS] * sides[k, LENGTH]
            _put(sides[k], target, carray(double(sides[k, BUFFER]), (size,)))
    return 0

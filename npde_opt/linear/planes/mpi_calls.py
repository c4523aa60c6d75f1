"""MPI's functions in compiled loops, which call them by addresses that they are given: no more is
compiled into the loops than what these functions take.

Loops that are written for a case import these from here, and are compiled anew where this file is
another one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numba
from numba.extending import intrinsic

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

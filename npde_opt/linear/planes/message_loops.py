"""Phases of messages (messages.py) in compiled loops."""

from __future__ import annotations

import numpy as np

from npde_opt.compiling import compiled
from npde_opt.linear.planes.mpi_calls import start_all, wait_all
from npde_opt.linear.planes.pointers import carray, like, whole
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
def _buffer(side: np.ndarray, field: np.ndarray) -> np.ndarray:
    """A side's, of the field's precision."""
    size = side[RUNS] * side[LENGTH]
    found: np.ndarray = carray(like(field, side[BUFFER]), (size,))
    return found


@compiled
def run(
    phases: np.ndarray,
    sides: np.ndarray,
    calls: np.ndarray,
    first: int,
    end: int,
    of: np.ndarray,
) -> int:
    """Some phases, one after the other; 0, or what MPI says where it fails.

    Args:
        phases [n, PHASE], sides [n, SIDE]: see tables.py.
        calls: addresses of MPI_Startall and MPI_Waitall.
        of: an array of the fields' precision.
    """
    for n in range(first, end):
        p = phases[n]
        source = carray(like(of, p[SOURCE]), (p[SOURCE_SIZE],))
        for k in range(p[PACK], p[PACK_END]):
            _pack(sides[k], source, _buffer(sides[k], source))
        failed = _exchange(p, calls)
        if failed != 0:
            return failed
        target = carray(like(of, p[TARGET]), (p[TARGET_SIZE],))
        for k in range(p[PUT], p[PUT_END]):
            _put(sides[k], target, _buffer(sides[k], target))
    return 0

"""Messages and sums that do not go through PETSc, added to what PETSc counts.

With -log_view PETSc keeps numbers of messages, bytes and reductions of every stage and event, by
differences of global counters that its own calls of MPI raise. What is sent by mpi4py raises them
here, so that the log tells of both.
"""

from __future__ import annotations

import ctypes
import sys
from functools import cache

import numpy as np

SENT, SENT_BYTES = "petsc_isend_ct", "petsc_isend_len"
TAKEN, TAKEN_BYTES = "petsc_irecv_ct", "petsc_irecv_len"
SUMS = "petsc_allreduce_ct"


class Counters:
    """Of PETSc's library, each twice: for all threads and for this one."""

    def __init__(self, library: ctypes.CDLL):
        self._own = {
            name: [ctypes.c_double.in_dll(library, name + of) for of in ("", "_th")]
            for name in (SENT, SENT_BYTES, TAKEN, TAKEN_BYTES, SUMS)
        }

    def add(self, name: str, amount: float) -> None:
        """To one of them."""
        for counter in self._own[name]:
            counter.value += amount


@cache
def _found() -> Counters | None:
    petsc = sys.modules["petsc4py.PETSc"]
    if not petsc.Log.isActive():
        return None
    try:
        return Counters(ctypes.CDLL(petsc.__file__))
    except (OSError, ValueError):  # a PETSc that names them otherwise
        return None


def counters() -> Counters | None:
    """None where PETSc keeps no log, or is not there yet."""
    return _found() if "petsc4py.PETSc" in sys.modules else None


def sent(values: np.ndarray) -> None:
    """Counts a message."""
    if (own := counters()) is not None:
        own.add(SENT, 1)
        own.add(SENT_BYTES, values.nbytes)


def taken(values: np.ndarray) -> None:
    """Counts a message that comes."""
    if (own := counters()) is not None:
        own.add(TAKEN, 1)
        own.add(TAKEN_BYTES, values.nbytes)


def many(sent: tuple[int, int], taken: tuple[int, int]) -> None:
    """Counts messages that are sent and that come, and bytes in them."""
    if (own := counters()) is not None:
        names = SENT, SENT_BYTES, TAKEN, TAKEN_BYTES
        for name, amount in zip(names, (*sent, *taken), strict=True):
            own.add(name, amount)


def summed(times: int = 1) -> None:
    """Counts sums over ranks, or what waits for all like one."""
    if (own := counters()) is not None:
        own.add(SUMS, times)

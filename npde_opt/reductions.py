"""x = op over ranks of x_r: reductions of which no rank gets another answer than the others.

MPI_MAX and MPI_MIN lose a NaN or keep it, by the order of the ranks: here it is NaN on every rank,
as numbers travel as integers of their order (see ordered.py).
Before every reduction the ranks compare what they are about to do: no sum can be one with a maximum
or with a sum of another block, and no rank waits in one for a rank that failed. A few maxima or
minima go with this comparison, in one message, and count where it finds all ranks at the same.
Sums, and what is larger, are a second message. Values that ought to be equal on all ranks are
checked to be so.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from typing import TypeVar, overload

import numpy as np
from mpi4py import MPI

from npde_opt import ordered, traffic
from npde_opt.agreement import SMALL
from npde_opt.errors import NpdeError, check_place

# Sums of the same numbers in another order differ by rounding: `same` takes them for equal.
ROUNDING = 1e-9

T = TypeVar("T")


@overload
def total(comm: MPI.Comm, x: float) -> float: ...


@overload
def total(comm: MPI.Comm, x: np.ndarray) -> np.ndarray: ...


def total(comm: MPI.Comm, x: float | np.ndarray) -> float | np.ndarray:
    """Sum over the ranks, entry by entry; a number for a number, an array for an array."""
    own = np.asarray(x, order="C")
    found = own.copy() if comm.size == 1 else np.empty_like(own)
    if comm.size > 1:
        check_place(comm, ("sum", own.dtype.char, own.size))
        traffic.summed()
        comm.Allreduce(own, found, op=MPI.SUM)
    return found if own.ndim else found.item()


def total_parts(comm: MPI.Comm, x: np.ndarray, counts: Sequence[int]) -> np.ndarray:
    """Own part of the sum (n,) over the ranks, of which every rank gets counts[rank] numbers, one
    rank after the other."""
    own = np.ascontiguousarray(x)
    if comm.size == 1:
        return own.copy()
    check_place(comm, ("parts of a sum", own.dtype.char, own.size))
    found = np.empty(counts[comm.rank], own.dtype)
    traffic.summed()
    comm.Reduce_scatter(own, found, list(counts), op=MPI.SUM)
    return found


@overload
def largest(comm: MPI.Comm, x: float) -> float: ...


@overload
def largest(comm: MPI.Comm, x: np.ndarray) -> np.ndarray: ...


def largest(comm: MPI.Comm, x: float | np.ndarray) -> float | np.ndarray:
    """Maximum over the ranks, entry by entry; NaN where any rank has NaN."""
    return _extreme(comm, x, "maximum")


@overload
def smallest(comm: MPI.Comm, x: float) -> float: ...


@overload
def smallest(comm: MPI.Comm, x: np.ndarray) -> np.ndarray: ...


def smallest(comm: MPI.Comm, x: float | np.ndarray) -> float | np.ndarray:
    """Minimum over the ranks, entry by entry; NaN where any rank has NaN."""
    return _extreme(comm, x, "minimum")


def everywhere(comm: MPI.Comm, true: bool) -> bool:
    """Whether it is true on every rank."""
    if comm.size == 1:
        return bool(true)
    # The least of -1 where it is not true and of 0 where it is.
    return check_place(comm, ("maximum", "everywhere"), [-(not true)])[0] == 0


def anywhere(comm: MPI.Comm, true: bool) -> bool:
    """Whether it is true on any rank."""
    if comm.size == 1:
        return bool(true)
    return check_place(comm, ("maximum", "anywhere"), [-bool(true)])[0] != 0


def same(comm: MPI.Comm, value: T, what: str) -> T:
    """The value, which all ranks must have; floats may differ by rounding, and get one rank's bits.

    `what` names it. Raises NpdeError on every rank, with two of the values, where they differ.
    """
    if comm.size == 1:
        return value
    number = float(value) if isinstance(value, float | np.floating) else None
    # What may differ by rounding, and what has to be equal exactly.
    size, digest = 0.0, _OF_NUMBERS
    finite = number is not None and math.isfinite(number)
    if finite and number is not None:
        size = number
    else:
        exact = value if number is None else str(number)
        digest = _digest((type(value).__name__, exact))
    key = ordered.of_double(size, False)
    # Least and largest of both.
    ends = check_place(comm, ("maximum", "same"), [key, ~key, digest, ~digest])
    low, high = ordered.double(ends[0], False), ordered.double(ends[1], True)
    if ends[2] != ~ends[3] or high - low > ROUNDING * max(abs(high), abs(low)):
        _raise_differing(comm, value, what)
    return type(value)(high) if finite else value  # type: ignore[call-arg]


def _digest(told: tuple[object, ...]) -> int:
    """A number of 63 bits that tells values apart."""
    whole = hashlib.sha256(repr(told).encode()).digest()
    return int.from_bytes(whole[:8], "big") >> 1


_OF_NUMBERS = _digest(("number",))


def _raise_differing(comm: MPI.Comm, value: object, what: str) -> None:
    """Every rank comes here, and says what it has."""
    texts = comm.allgather(str(value))
    other = next((r for r, text in enumerate(texts) if text != texts[0]), comm.size - 1)
    raise NpdeError(
        f"{what} differs between ranks: {texts[0]} on rank 0, {texts[other]} on rank {other}; "
        "it must be summed over the ranks, or be computed alike on each"
    )


def _extreme(comm: MPI.Comm, x: float | np.ndarray, kind: str) -> float | np.ndarray:
    """Maximum or minimum, as a minimum of integers of the numbers' order, of which NaN is the
    least."""
    if comm.size == 1:
        own = np.asarray(x)
        return own.copy() if own.ndim else own.item()
    turned = kind == "maximum"
    if isinstance(x, float):
        # What most ask for, without an array.
        key = ordered.of_double(x, turned)
        return ordered.double(check_place(comm, (kind, "d", 1), [key])[0], turned)
    # One order of the entries on all ranks, however these lie in memory.
    own = np.asarray(x, order="C")
    keys, what = ordered.of_array(own, turned), (kind, own.dtype.char, own.size)
    if keys.size <= SMALL:
        least = check_place(comm, what, keys.ravel().tolist())
        keys = np.array(least[: keys.size], "i8").reshape(own.shape)
    else:
        check_place(comm, what)
        traffic.summed()
        comm.Allreduce(MPI.IN_PLACE, keys, op=MPI.MIN)
    found = ordered.array(keys, turned, own.dtype)
    return found if own.ndim else found.item()

"""x = op over ranks of x_r: reductions of which no rank gets another answer than the others.

MPI_MAX and MPI_MIN lose a NaN or keep it, by the order of the ranks: here it is NaN on every rank.
Before every reduction the ranks compare what they are about to do: no sum can be one with a maximum
or with a sum of another block, and no rank waits in one for a rank that failed. Values that ought
to be equal on all ranks are checked to be so.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from typing import TypeVar, overload

import numpy as np
from mpi4py import MPI

from npde_opt import traffic
from npde_opt.errors import NpdeError, check_place

# Sums of the same numbers in another order differ by rounding: `same` takes them for equal.
ROUNDING = 1e-9

OPERATIONS = {"sum": MPI.SUM, "maximum": MPI.MAX, "minimum": MPI.MIN}

T = TypeVar("T")


@overload
def total(comm: MPI.Comm, x: float) -> float: ...


@overload
def total(comm: MPI.Comm, x: np.ndarray) -> np.ndarray: ...


def total(comm: MPI.Comm, x: float | np.ndarray) -> float | np.ndarray:
    """Sum over the ranks, entry by entry; a number for a number, an array for an array."""
    return _reduced(comm, x, "sum")


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
    return _extreme(comm, x, "maximum", -math.inf)


@overload
def smallest(comm: MPI.Comm, x: float) -> float: ...


@overload
def smallest(comm: MPI.Comm, x: np.ndarray) -> np.ndarray: ...


def smallest(comm: MPI.Comm, x: float | np.ndarray) -> float | np.ndarray:
    """Minimum over the ranks, entry by entry; NaN where any rank has NaN."""
    return _extreme(comm, x, "minimum", math.inf)


def everywhere(comm: MPI.Comm, true: bool) -> bool:
    """Whether it is true on every rank."""
    if comm.size == 1:
        return bool(true)
    return bool(_reduced(comm, int(not true), "maximum") == 0)


def anywhere(comm: MPI.Comm, true: bool) -> bool:
    """Whether it is true on any rank."""
    if comm.size == 1:
        return bool(true)
    return bool(_reduced(comm, int(bool(true)), "maximum") > 0)


def same(comm: MPI.Comm, value: T, what: str) -> T:
    """The value, which all ranks must have; floats may differ by rounding, and get one rank's bits.

    `what` names it. Raises NpdeError on every rank, with two of the values, where they differ.
    """
    if comm.size == 1:
        return value
    number = float(value) if isinstance(value, float | np.floating) else None
    finite = number is not None and math.isfinite(number)
    # What has to be equal exactly, and what may differ by rounding.
    told = (
        ("number",)
        if finite
        else (type(value).__name__, str(number) if number is not None else value)
    )
    size = number if finite and number is not None else 0.0
    ends = largest(comm, np.array([size, -size, _digest(told), -_digest(told)]))
    high, low = float(ends[0]), -float(ends[1])
    if ends[2] != -ends[3] or high - low > ROUNDING * max(abs(high), abs(low)):
        _raise_differing(comm, value, what)
    return type(value)(high) if finite else value  # type: ignore[call-arg]


def _digest(told: tuple[object, ...]) -> float:
    """A number of 52 bits that tells values apart."""
    return float(
        int.from_bytes(hashlib.sha256(repr(told).encode()).digest()[:8], "big") >> 12
    )


def _raise_differing(comm: MPI.Comm, value: object, what: str) -> None:
    """Every rank comes here, and says what it has."""
    texts = comm.allgather(str(value))
    other = next((r for r, text in enumerate(texts) if text != texts[0]), comm.size - 1)
    raise NpdeError(
        f"{what} differs between ranks: {texts[0]} on rank 0, {texts[other]} on rank {other}; "
        "it must be summed over the ranks, or be computed alike on each"
    )


def _extreme(
    comm: MPI.Comm, x: float | np.ndarray, kind: str, never: float
) -> float | np.ndarray:
    """Maximum or minimum; `never` is the number that wins against none."""
    own = np.asarray(x)
    if comm.size == 1:
        return own.copy() if own.ndim else own.item()
    if own.dtype.kind != "f":
        return _reduced(comm, x, kind)
    # Numbers and "is NaN" travel in one message: the latter wins against 0.
    lost = np.isnan(own)
    sent = np.array([np.where(lost, never, own), np.where(lost, -never, 0.0)])
    reached, any_lost = np.asarray(_reduced(comm, sent, kind))
    found = np.where(any_lost != 0, np.nan, reached)
    return float(found) if own.ndim == 0 else found


def _reduced(comm: MPI.Comm, x: float | np.ndarray, kind: str) -> float | np.ndarray:
    """Numbers and arrays of them; one rank's own is what it is."""
    own = np.ascontiguousarray(x)
    found = np.empty_like(own)
    if comm.size == 1:
        found = own.copy()
    else:
        check_place(comm, (kind, own.dtype.char, own.size))
        traffic.summed()
        comm.Allreduce(own, found, op=OPERATIONS[kind])
    if np.ndim(x) > 0:
        return found
    number: float = found[0].item()
    return number

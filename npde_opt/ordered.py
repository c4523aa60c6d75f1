"""Integers k(x) of 64 bits in the order of the numbers: x < y exactly where k(x) < k(y), so that a
minimum of numbers, to the last bit, is one of integers.

The bits of a double, read as an integer, are ordered like the double where it is positive; of a
negative one the lower 63 bits are turned. So -0.0 comes right before 0.0. With all bits turned,
k -> -1 - k, the order is turned too, and no integer runs over: a maximum is a minimum of these. NaN
is the least integer either way, which no other double has: it wins.
"""

from __future__ import annotations

import math
import struct

import numpy as np

LEAST, MOST = -(2**63), 2**63 - 1

_DOUBLE, _INTEGER = struct.Struct("d"), struct.Struct("q")


def of_double(x: float, turned: bool) -> int:
    """k of a number, or -1 - k with `turned`."""
    if math.isnan(x):
        return LEAST
    (bits,) = _INTEGER.unpack(_DOUBLE.pack(x))
    key: int = bits if bits >= 0 else bits ^ MOST
    return ~key if turned else key


def double(key: int, turned: bool) -> float:
    """The number of which this is k, or -1 - k."""
    bits = ~key if turned else key
    found: float
    (found,) = _DOUBLE.unpack(_INTEGER.pack(bits if bits >= 0 else bits ^ MOST))
    return found


def of_array(x: np.ndarray, turned: bool) -> np.ndarray:
    """k of all entries, or -1 - k: of doubles and what is shorter, integers and booleans."""
    if x.dtype.kind == "f" and x.dtype.itemsize <= 8:
        keys = _turned_where_negative(np.asarray(x, "f8").view("i8"))
        return np.where(np.isnan(x), LEAST, ~keys if turned else keys)
    if x.dtype.kind not in "iub":
        raise TypeError(f"numbers of type {x.dtype} have no integers of their order")
    keys = x.astype("i8")
    if x.dtype == np.uint64:
        # From the least integer on.
        keys ^= LEAST
    return ~keys if turned else keys


def array(keys: np.ndarray, turned: bool, dtype: np.dtype) -> np.ndarray:
    """The numbers of which these are k, or -1 - k."""
    own = ~keys if turned else keys
    if dtype.kind == "f":
        return _turned_where_negative(own).view("f8").astype(dtype, copy=False)
    return (own ^ LEAST if dtype == np.uint64 else own).astype(dtype, copy=False)


def _turned_where_negative(bits: np.ndarray) -> np.ndarray:
    """The lower 63 bits of negative integers."""
    found: np.ndarray = bits ^ ((bits >> 63) & MOST)
    return found

"""What stands for a missing value: words of tables, codes that a case declares, and numbers that
obviously do.

A code is a number or a text. A text that is a number stands for that number, however it is written
in the file. A value of single precision is the code that it is nearest to: -9999.9 stands in such a
file as -9999.900390625.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

WORDS = ("", "nan", "na", "n/a", "null")
SPREADSHEET = ("#n/a", "#null!", "#div/0!", "#value!", "#ref!", "#name?", "#num!")
"""Words that are no comments, though they begin like one."""
NO_VALUE = ("n.d.", "nd", "n/d", "bdl", "lod", "<lod")
SENTINELS = (
    *(10.0**n - 1 for n in range(3, 13)),
    *(10.0**n - part for n in (3, 4, 5) for part in (0.1, 0.01, 0.75)),
    *(2.0**15 - 1, 2.0**15, 2.0**31 - 1, 2.0**31),
    1e20,
)
"""9999, 999.9, 999.99, 999.25, ... and the ends of integers."""
SHORT = (99.0, 99.9, 99.99)
LARGEST = 1e30
FAR = 10.0
"""A sentinel is obvious where it is this many times larger than all other values."""
SINGLE, SCALED = 2.0**-24, 2.0**-20
"""Rounding of single precision, and of integers times a factor of single precision, relative to the
power of two below a value."""
DECLARE = (
    "a value: declare it by missing = ... where it stands for none, else missing = []"
)

Code = str | float
Used = Callable[[np.ndarray], np.ndarray]
"""Says of values whether they are used as they are."""


def numbers_of(
    codes: Sequence[Code], number: Callable[[str], float | None]
) -> list[float]:
    """The finite numbers that codes stand for; `number` reads a text, None where it is none."""
    read = [
        number(code.strip()) if isinstance(code, str) else float(code) for code in codes
    ]
    return [x for x in read if x is not None and np.isfinite(x)]


def is_one_of(
    values: np.ndarray, codes: Sequence[float], rounding: float = 0.0
) -> np.ndarray:
    """Where values are one of the codes.

    Args:
        codes: finite numbers.
        rounding: of the values, relative to the power of two below them.
    """
    found = np.zeros(np.shape(values), bool)
    for code in codes:
        power = np.ldexp(1.0, np.frexp(code)[1] - 1)
        found |= (
            np.abs(values - code) <= rounding * power if rounding else values == code
        )
    return found


def rounding_of(kind: np.dtype) -> float:
    """Of values of a number type; 0 for double precision and integers."""
    return (
        float(np.finfo(kind).eps) / 2 if kind.kind == "f" and kind.itemsize < 8 else 0.0
    )


def sentinels(values: np.ndarray, rounding: float = 0.0) -> np.ndarray:
    """Where values obviously stand for missing ones: -9999 and its like among values of which no
    other is negative, or that are far larger than all others (-99 where it is both).

    Args:
        rounding: as in `is_one_of`; that of single precision at least, which values may have had
            before they came into a file.
    """
    size, rounding = np.abs(values), max(rounding, SINGLE)
    short = is_one_of(size, SHORT, rounding)
    codes: np.ndarray = is_one_of(size, SENTINELS, rounding) | (size >= LARGEST)
    rest = values[~codes & ~short & ~np.isnan(size)]
    if not rest.size:
        return codes
    lonely = (values < 0) & (rest.min() >= 0)
    far = size > FAR * np.abs(rest).max()
    found: np.ndarray = (codes & (lonely | far)) | (short & lonely & far)
    return found


def may_be_missing(values: np.ndarray, rounding: float = 0.0) -> np.ndarray:
    """Where values are such that `sentinels` of some array with them may hold."""
    size, rounding = np.abs(values), max(rounding, SINGLE)
    found: np.ndarray = is_one_of(size, (*SENTINELS, *SHORT), rounding)
    found |= size >= LARGEST
    return found


def undeclared(
    values: np.ndarray, used: Used | None = None, rounding: float = 0.0
) -> np.ndarray:
    """Where values that are used obviously stand for missing ones; all are used by default."""
    values = np.asarray(values, float)
    codes = sentinels(values, rounding)
    return codes if used is None else codes & used(values)

"""What stands for a missing value: words of tables, codes that a case declares, and numbers that
obviously do.

A code is a number or a text. A text that is a number stands for that number, however it is written
in the file, and numbers of single precision are those of double precision that they were made from.
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
SINGLE = 1e-6
"""Rounding of single precision, and more."""
DECLARE = "a value: declare it by missing = ... where it stands for none, else missing = []"

Code = str | float


def numbers_of(codes: Sequence[Code], number: Callable[[str], float | None]) -> list[float]:
    """The numbers that codes stand for; `number` reads a text, None where it is none."""
    read = [number(code.strip()) if isinstance(code, str) else float(code) for code in codes]
    return [x for x in read if x is not None]


def is_one_of(values: np.ndarray, codes: Sequence[float]) -> np.ndarray:
    """Where values are one of the codes, to single precision."""
    found = np.zeros(np.shape(values), bool)
    for code in codes:
        found |= np.abs(values - code) <= SINGLE * abs(code)
    return found


def sentinels(values: np.ndarray) -> np.ndarray:
    """Where values obviously stand for missing ones: -9999 and its like among values of which no
    other is negative, or that are far larger than all others (-99 where it is both)."""
    size = np.abs(values)
    short = is_one_of(size, SHORT)
    codes = is_one_of(size, SENTINELS) | (size >= LARGEST)
    rest = values[~codes & ~short & ~np.isnan(size)]
    if not rest.size:
        return codes
    lonely = (values < 0) & (rest.min() >= 0)
    far = size > FAR * np.abs(rest).max()
    return (codes & (lonely | far)) | (short & lonely & far)

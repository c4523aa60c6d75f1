"""What a case may hold at all: finite numbers of 64 bits, texts and lists of sane sizes."""

from __future__ import annotations

import math

from npde_opt.aliases import Plain
from npde_opt.errors import InputError

FILE_BYTES = 20_000_000
DEPTH = 20
TEXT = 100_000
INTEGER = 2**63
NUMBER = 1e100
"""Products and squares of a few are numbers still."""


def check_raw(where: str, value: Plain, depth: int = 0) -> None:
    """Raises InputError for what no key takes: numbers that are not finite or have more than 64
    bits, dates and times, texts and tables without end."""
    if depth > DEPTH:
        allowed = f"at most {DEPTH}"
        raise InputError(
            where[:100], f"tables or lists in each other {depth} deep", allowed
        )
    if isinstance(value, dict):
        for key, inner in value.items():
            check_raw(f"{where}.{key}" if where else str(key), inner, depth + 1)
    elif isinstance(value, list):
        for i, inner in enumerate(value):
            check_raw(f"{where}[{i}]", inner, depth + 1)
    elif isinstance(value, str):
        if len(value) > TEXT:
            raise InputError(
                where, f"a text of {len(value):,} characters", f"at most {TEXT:,}"
            )
    elif isinstance(value, float) and not math.isfinite(value):
        raise InputError(where, value, "a finite number")
    elif isinstance(value, float) and abs(value) > NUMBER:
        raise InputError(where, value, f"a number of at most {NUMBER:g} in size")
    elif isinstance(value, int) and not -INTEGER <= value < INTEGER:
        raise InputError(
            where, f"an integer of {value.bit_length()} bits", "integers of 64 bits"
        )
    elif not isinstance(value, int | float):
        allowed = "a number, a text, true, false, a list or a table"
        raise InputError(where, f"{value} (a date or time)", allowed)

"""The header of a text table: names of its columns, and rows of their units below them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from npde_opt.errors import InputError
from npde_opt.io import missing as gaps
from npde_opt.io.words import number, numeric, split, suspect

ROWS_OF_UNITS = 2

Row = tuple[int, list[str]]
"""The number of a line, and its words."""


class Header(NamedTuple):
    """What stands above the rows of a table.

    Attributes:
        names: of the columns; [] where there are none.
        units: rows of words below the names.
        rows: of the table itself, with the numbers of their lines.
    """

    names: list[str]
    units: list[list[str]]
    rows: list[Row]


def header_of(
    path: Path,
    rows: list[Row],
    comments: list[str],
    decimal: str,
    delimiter: str,
    told: bool | Sequence[str] | None,
) -> Header:
    """Takes the header off the rows of a table.

    Args:
        comments: the lines of comments above the rows.
        told: whether there is one, or the names of the columns; None: it is found.

    Raises:
        InputError: for a first line of which nobody knows whether it is one, and for another number
            of names than of columns.
    """
    if isinstance(told, bool):
        named = bool(_named(comments, rows, delimiter))
        titled = told and not (named and numeric(rows[0][1], decimal))
    else:
        titled = _titled(path, rows, decimal)
    below: list[Row] = rows
    units: list[list[str]] = []
    if titled:
        below, units = _without_units(rows[1:], decimal)
    if isinstance(told, Sequence):
        names = [str(name) for name in told]
        if below and len(names) != len(below[0][1]):
            raise InputError(
                f"header of {path}",
                f"{len(names)} names",
                f"{len(below[0][1])}, one a column",
            )
        return Header(
            names, [], below
        )  # whoever names the columns takes them as they are
    if titled:
        return Header(_without_end(rows[0][1], below), units, below)
    return Header([] if told is False else _named(comments, rows, delimiter), [], below)


def _without_units(rows: list[Row], decimal: str) -> tuple[list[Row], list[list[str]]]:
    """The rows without those of units above them, and these."""
    units: list[list[str]] = []
    while len(units) < ROWS_OF_UNITS and len(rows) > 1 and _units(rows[0][1], decimal):
        units.append(rows[0][1])
        rows = rows[1:]
    return rows, units


def _without_end(names: list[str], rows: list[Row]) -> list[str]:
    """Names without the empty ones at the end of which no row has a word."""
    used = max((i + 1 for _, row in rows for i, w in enumerate(row) if w), default=0)
    last = max((i + 1 for i, name in enumerate(names) if name), default=0)
    return names[: max(used, last)] if used <= len(names) else names[:last]


def _named(comments: list[str], rows: list[Row], delimiter: str) -> list[str]:
    """Names in the last comment line above the rows, where it has as many words as they have
    columns."""
    if not comments:
        return []
    width = len(rows[0][1])
    for way in (delimiter, ",", ";", "\t", " "):
        names = split(comments[-1], way) if comments[-1] else []
        if len(names) == width and not any(number(w) is not None for w in names):
            return names
    return []


def _titled(path: Path, rows: list[Row], decimal: str) -> bool:
    """Whether the first line is a header: no word of it is a number, though words below are.

    Raises:
        InputError: where it holds numbers, or words such as `<0.3` or a date, where numbers are
            expected.
    """
    line, first = rows[0]
    if (
        first[0] == ""
        and len(first) > 1
        and first[1:] == [str(i) for i in range(len(first) - 1)]
    ):
        raise InputError(
            f"{path}, line {line}",
            f"{' '.join(first[1:])[:60]} beside an empty word, the numbers of columns or values",
            "header = true or false",
        )
    if numeric(first, decimal):
        return False
    body = [row for _, row in rows[1:]]
    holds = [
        any(number(row[i], decimal) is not None for row in body if i < len(row))
        for i in range(len(first))
    ]
    words = [
        (i, w)
        for i, w in enumerate(first)
        if number(w, decimal) is None and w.lower() not in gaps.WORDS
    ]
    numbers = [w for w in first if number(w, decimal) is not None]
    if numbers and not any(holds[i] for i, _ in words):
        return False  # columns of text beside columns of numbers
    odd = next((w for i, w in words if suspect(w) or numbers and holds[i]), None)
    if odd is not None:
        raise InputError(
            f"{path}, line {line}",
            repr(odd),
            "names of columns or numbers; header = true or false says which",
        )
    return True


def _units(words: list[str], decimal: str) -> bool:
    """Whether a row below the header holds units: words, none of them a number or what stands for
    one."""
    there = [w for w in words if w and w.lower() not in gaps.WORDS]
    return bool(there) and not any(
        number(w, decimal) is not None or suspect(w) for w in there
    )

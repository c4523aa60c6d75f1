"""Columns of a large text table, as many rows at a time as SLAB says: on their way they lie in a
file of numbers without a name, where they are read by memory map.

What `tables.read_table` decides among all rows (delimiter, decimal sign, header) is decided among
the first ones here, and only where no row behind them could change it. Whatever is not plain, or
wrong, is `Odd`: who asks then reads the table as a whole, which says what is wrong and where.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import TextIO

import numpy as np

from npde_opt.errors import InputError
from npde_opt.io.missing import may_be_missing
from npde_opt.io.tables import (
    Layout,
    Line,
    Table,
    check_layout,
    commas_stay,
    is_comment,
    is_row,
    no_comments,
    table_of_lines,
)
from npde_opt.io.words import NUMBER, number, numeric, split

LARGE = 1 << 24
"""Bytes of a file from which on it is read so."""
HEAD, SLAB = 2_000, 20_000
"""Rows that decide, and rows that are held at a time."""
LONGEST = 1 << 17
"""Characters of a line."""
DIGITS = frozenset("0123456789+-.eE")
"""Of words that float() reads as `words.number` does, if at all."""
MARKS = b"\xff\xfe", b"\xfe\xff", b"\0\0\xfe\xff"
"""At the beginning of files that are not UTF-8."""


class Odd(Exception):
    """The table has to be read as a whole."""


@dataclass(frozen=True)
class Chosen:
    """Columns of a table, of the rows whose numbers in other columns lie in [low, high].

    Attributes:
        ranges: (column, low, high).
    """

    columns: Sequence[int]
    ranges: Sequence[tuple[int, float, float]] = ()


def is_large(path: Path) -> bool:
    """Whether a file should be read so."""
    return path.stat().st_size >= LARGE


def head(path: Path, layout: Layout) -> Table:
    """The first rows of a table all of whose rows are like them. Raises Odd."""
    with _read(path, layout) as (table, slabs):
        for _ in slabs:
            pass
        return table


def columns(
    path: Path, layout: Layout, choose: Callable[[Table], Chosen]
) -> np.ndarray:
    """Numbers [row, column] by memory map, NaN where they are missing.

    Args:
        choose: says which, of a table that has the first rows only.

    Raises:
        Odd: for a table that is not plain, or has no such rows.
    """
    count = 0
    with _read(path, layout) as (table, slabs), tempfile.TemporaryFile() as kept:
        chosen = choose(table)
        for slab in slabs:
            values = slab.numbers(chosen)
            count += len(values)
            kept.write(values.tobytes())
        kept.flush()
        if not count or not chosen.columns:
            raise Odd
        return np.memmap(kept, float, "r+", shape=(count, len(chosen.columns)))


@contextmanager
def _read(path: Path, layout: Layout) -> Iterator[tuple[Table, Iterator[Slab]]]:
    """The first rows of a table, and all of them slab by slab. Inside, whatever is wrong with a
    file, its text or what is chosen of it is `Odd`: a disk that is full, too."""
    try:
        check_layout(path, layout)
        with _opened(path, layout) as file:
            lines = _numbered(file, layout)
            first = list(islice(lines, HEAD))
            table = table_of_lines(path, first, layout)
            rows = Rows(table, layout, first)
            below = (line for line in first if line[0] >= table.lines[0])
            yield table, rows.slabs(chain(below, lines))
    except (InputError, OSError, LookupError, ValueError) as error:
        raise Odd from error


def _opened(path: Path, layout: Layout) -> TextIO:
    """A file of text whose lines end as those of `tables.read_table` do."""
    with path.open("rb") as file:
        start = file.read(400)
    if layout.encoding is None and (start.startswith(MARKS) or b"\0" in start):
        raise Odd
    return path.open(encoding=layout.encoding or "utf-8", newline=None)


def _numbered(file: TextIO, layout: Layout) -> Iterator[Line]:
    """Its lines with their numbers, but for those that are skipped."""
    number = 0
    while text := file.readline(LONGEST):
        number += 1
        if len(text) == LONGEST or "\0" in text:
            raise Odd
        if number == 1:
            text = text.removeprefix("\ufeff")
        if number > layout.skip:
            yield number, text.removesuffix("\n")


class Rows:
    """What the first rows say of all.

    Args:
        table: the first rows. lines: of the file, with those above them.

    Raises:
        Odd: where rows behind these could have another delimiter, decimal sign or header.
    """

    def __init__(self, table: Table, layout: Layout, lines: Sequence[Line]):
        self.table, self.layout = table, layout
        self._words = no_comments(layout)
        first = self._texts(lines)
        if not isinstance(layout.header, bool):
            self._check_title(*first[0])
        self._foreign = self._separating([t for n, t in first if n >= table.lines[0]])
        self._foreign += self._pointing()
        """What rows may not hold."""

    def _texts(self, lines: Sequence[Line]) -> list[Line]:
        """Those that are no comments."""
        plain = ((line, line[1].strip()) for line in lines)
        words = self._words
        return [x for x, text in plain if not is_comment(text, words) and is_row(text)]

    def _check_title(self, line: int, text: str) -> None:
        """Refuses a first line of which rows behind the first ones may say whether it is one, or
        how many words of it are names."""
        table = self.table
        titled = line < table.lines[0]
        if not titled and not numeric(table.rows[0], table.decimal):
            raise Odd
        if titled and any(
            number(word, table.decimal) is not None or not word
            for word in split(text, table.delimiter)
        ):
            raise Odd

    def _separating(self, rows: Sequence[str]) -> str:
        """Characters of rows that would speak for another delimiter. Raises Odd where rows behind
        these may do so with others."""
        layout, delimiter = self.layout, self.table.delimiter
        if layout.delimiter is not None:
            return ""
        if delimiter == "," and (layout.decimal == "," or not commas_stay(rows)):
            raise Odd
        before = ";\t|".partition(delimiter)[0]  # the whole where it is another one
        return '"' + before + ("," if delimiter == " " else "")

    def _pointing(self) -> str:
        """Characters of rows that would speak for another decimal sign."""
        if self.layout.decimal is not None:
            return ""
        if self.table.decimal == ",":
            return "."
        words = (word for row in self.table.rows for word in row)
        if any("." in word and NUMBER.match(word) for word in words):
            return ""
        return '"' if self.table.delimiter == "," else ","

    def slabs(self, lines: Iterator[Line]) -> Iterator[Slab]:
        """Rows in order.

        Raises:
            Odd: for a row that is not like the first ones.
        """
        while some := list(islice(lines, SLAB)):
            yield Slab(self.table, self.layout, self._split(some))

    def _split(self, lines: Sequence[Line]) -> list[list[str]]:
        """The words of rows, as many in each."""
        texts = [text for _, text in self._texts(lines)]
        delimiter, width = self.table.delimiter, self.table.width
        joined = "\n".join(texts)
        if any(mark in joined for mark in self._foreign):
            raise Odd
        if delimiter == " ":
            rows = [text.split() for text in texts]
        elif '"' in joined:
            rows = [split(text, delimiter) for text in texts]
        else:
            rows = [[w.strip() for w in text.split(delimiter)] for text in texts]
        if any(len(row) != width for row in rows):
            raise Odd
        # Where tabs are counted to find the delimiter, those at the ends of a line are not.
        if delimiter == "\t" and not all(row[0] and row[-1] for row in rows):
            raise Odd
        return rows


@dataclass(frozen=True)
class Slab:
    """Some rows of words."""

    table: Table
    layout: Layout
    rows: list[list[str]]

    def numbers(self, chosen: Chosen) -> np.ndarray:
        """What is chosen of them [row, column].

        Raises:
            Odd: for a word that is no number, and numbers that may stand for missing values.
        """
        keep = np.ones(len(self.rows), bool)
        for column, low, high in chosen.ranges:
            values = self._column(column)
            keep &= (values >= low) & (values <= high)
        return np.column_stack([self._column(c)[keep] for c in chosen.columns])

    def _column(self, column: int) -> np.ndarray:
        words = [row[column] for row in self.rows]
        values = self._plain(words)
        if values is None:
            read = [self.table.value(word) for word in words]
            values = np.array([x for x in read if x is not None])
            if values.size < len(words):
                raise Odd
        if self.layout.missing != [] and may_be_missing(values).any():
            raise Odd
        return values

    def _plain(self, words: Sequence[str]) -> np.ndarray | None:
        """Of words that are numbers to any program; None where one may be something else, or a code
        of a missing value."""
        if self.table.decimal != "." or self.layout.missing:
            return None
        if not DIGITS.issuperset("".join(words)):
            return None
        try:
            values = np.array([float(word) for word in words])
        except ValueError:
            return None
        return values if np.isfinite(values).all() else None

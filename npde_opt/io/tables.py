"""Text tables: names and rows of words, whatever program wrote them.

Encoding, delimiter, decimal sign, header and rows of units are found where they are not given. What
could be read in two ways is refused, and a word that is neither a number nor a missing value is an
error that names it.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from npde_opt.errors import InputError
from npde_opt.io import missing as gaps
from npde_opt.io.encodings import decoded
from npde_opt.io.headers import Row, header_of
from npde_opt.io.words import (
    COMMA_NUMBER,
    INNER,
    NUMBER,
    THOUSANDS,
    any_number,
    number,
    short,
    split,
    words_of_any_length,
)

SEPARATOR = re.compile(r"sep=.\Z", re.IGNORECASE)
"""What spreadsheets write above a table."""
COMMENTS = ("#", "%", "//")
POINTED = re.compile(r"\d\.|\.\d|\d[eE][+-]?\d")
"""A decimal point, or an exponent."""
BRACKETS = re.compile(r"[\[(]([^\[\]()]*)[\])]")
DELIMITERS = {
    ",": ",",
    ";": ";",
    "\t": "\t",
    "tab": "\t",
    "|": "|",
    " ": " ",
    "space": " ",
    "whitespace": " ",
}


Line = tuple[int, str]
"""The number of a line, and its text."""


@dataclass(frozen=True)
class Layout:
    """What the reader is told about a table; None is found.

    Attributes:
        delimiter: a key of DELIMITERS. decimal: '.' or ','.
        header: whether the first line holds names, or the names themselves.
        skip: lines to leave out at the top. encoding: a name that Python knows.
        missing: words or numbers that stand for a missing value, beside an empty word, NaN, NA and
            null.
    """

    delimiter: str | None = None
    decimal: str | None = None
    header: bool | Sequence[str] | None = None
    skip: int = 0
    encoding: str | None = None
    missing: Sequence[str | float] | None = None


@dataclass(frozen=True)
class Table:
    """Names of the columns ([] where there are none), rows of words below them that say units, and
    rows of words with the numbers of their lines."""

    path: Path
    names: list[str]
    unit_rows: list[list[str]]
    rows: list[list[str]]
    lines: list[int]
    delimiter: str
    decimal: str
    missing: Sequence[str | float] | None

    @property
    def width(self) -> int:
        """Words of a row."""
        return len(self.rows[0])

    @property
    def columns(self) -> str:
        """What can be asked for."""
        width = self.width
        return (
            ", ".join(self.names)
            if self.names
            else f"0 to {width - 1}"
            if width > 1
            else "0"
        )

    def index(self, field: str, column: str | int) -> int:
        """Where a column is, by its name or its number from 0. Raises InputError naming `field`."""
        if (
            isinstance(column, int)
            and not isinstance(column, bool)
            and 0 <= column < self.width
        ):
            return column
        places = [i for i, name in enumerate(self.names) if name == column]
        if len(places) > 1:
            raise InputError(
                field,
                f"{column!r}, the name of {len(places)} columns of {self.path.name}",
                f"their numbers: {', '.join(map(str, places))}",
            )
        if not places:
            raise InputError(
                field, repr(column), f"{self.columns} (the columns of {self.path.name})"
            )
        return places[0]

    def units(self, column: int) -> list[str]:
        """What the header says to be a column's unit: in brackets behind its name, and below it."""
        name = self.names[column] if self.names else ""
        below = [
            row[column].strip("[]() ") for row in self.unit_rows if column < len(row)
        ]
        return [*(inside.strip() for inside in BRACKETS.findall(name)), *below]

    def numbers(self, column: int, used: gaps.Used | None = None) -> np.ndarray:
        """The values of a column, NaN where they are missing.

        Args:
            used: says of values whether they are used as they are; others may be anything.

        Raises:
            InputError: naming file, line and word for a word that is no number, and for numbers
                that obviously stand for missing values and are not declared as such.
        """
        out = np.empty(len(self.rows))
        for i, row in enumerate(self.rows):
            value = self.value(row[column])
            if value is None:
                raise InputError(
                    f"{self.path}, line {self.lines[i]}",
                    short(row[column]),
                    self._allowed(row[column]),
                )
            out[i] = value
        if self.missing is None or len(self.missing):
            self._refuse_sentinels(column, out, used)
        return out

    @cached_property
    def _codes(self) -> set[str | float]:
        """What is declared as missing, as words and as numbers."""
        given = self.missing or ()
        return {*given, *gaps.numbers_of(given, any_number)}

    def value(self, word: str) -> float | None:
        """The number that a word is, NaN where it stands for a missing one, None for another
        word."""
        if word.lower() in gaps.WORDS or word in self._codes:
            return np.nan
        value = number(word, self.decimal)
        return np.nan if value is not None and value in self._codes else value

    def _allowed(self, word: str) -> str:
        other = (
            f"; decimal = '{'.' if self.decimal == ',' else ','}' reads it"
            if number(word, "." if self.decimal == "," else ",") is not None
            else ""
        )
        first = f"a number (with decimal '{self.decimal}')"
        return f"{first}, an empty word, NaN, NA or a code that `missing` names{other}"

    def _refuse_sentinels(
        self, column: int, values: np.ndarray, used: gaps.Used | None
    ) -> None:
        codes = gaps.undeclared(values, used)
        if codes.any():
            i = int(np.argmax(codes))
            raise InputError(
                f"{self.path}, line {self.lines[i]}",
                repr(self.rows[i][column]),
                gaps.DECLARE,
            )


def read_table(path: Path, layout: Layout = Layout()) -> Table:
    """The table in a text file.

    Raises:
        InputError: naming the file, and the line where it is one, for what cannot be read or is
            ambiguous.
    """
    check_layout(path, layout)
    text = decoded(path, layout.encoding)
    numbered = enumerate(re.split(r"\r\n|\r|\n", text), 1)
    return table_of_lines(path, list(numbered)[layout.skip :], layout)


def table_of_lines(path: Path, numbered: Iterable[Line], layout: Layout) -> Table:
    """The table in lines of a file, with their numbers. Raises InputError as `read_table`."""
    with words_of_any_length():
        return _table(path, numbered, layout)


def _table(path: Path, numbered: Iterable[Line], layout: Layout) -> Table:
    comments, lines = _lines(numbered, layout)
    if not lines:
        raise InputError(
            str(path), "no rows", "a table with at least one row of numbers"
        )
    delimiter = (
        DELIMITERS[layout.delimiter]
        if layout.delimiter
        else _delimiter(path, lines, layout)
    )
    rows = [(n, words) for n, text in lines if any(words := split(text, delimiter))]
    if not rows:
        raise InputError(
            str(path), "no rows", "a table with at least one row of numbers"
        )
    decimal = layout.decimal or _decimal(path, rows, delimiter)
    above = [text for n, text in comments if n < rows[0][0]]
    names, units, rows = header_of(path, rows, above, decimal, delimiter, layout.header)
    if not rows:
        raise InputError(
            str(path),
            "a header without rows",
            "a table with at least one row of numbers",
        )
    width = len(names) or len(rows[0][1])
    even = [even_row(path, n, words, width) for n, words in rows]
    return Table(
        path,
        names,
        units,
        even,
        [n for n, _ in rows],
        delimiter,
        decimal,
        layout.missing,
    )


def check_layout(path: Path, layout: Layout) -> None:
    """Raises InputError for what no layout is."""
    if layout.delimiter is not None and layout.delimiter not in DELIMITERS:
        raise InputError(
            f"delimiter of {path}",
            repr(layout.delimiter),
            ", ".join(map(repr, DELIMITERS)),
        )
    if layout.decimal not in (None, ".", ","):
        raise InputError(f"decimal of {path}", repr(layout.decimal), "'.' or ','")
    if (
        isinstance(layout.skip, bool)
        or not isinstance(layout.skip, int)
        or layout.skip < 0
    ):
        raise InputError(f"skip of {path}", layout.skip, "a number of lines")


def _lines(numbered: Iterable[Line], layout: Layout) -> tuple[list[Line], list[Line]]:
    """Comment lines (without their mark) and the others, with their numbers; lines of blanks and
    delimiters alone go."""
    comments: list[Line] = []
    lines: list[Line] = []
    words = no_comments(layout)
    for n, text in numbered:
        plain = text.strip()
        if is_comment(plain, words):
            comments.append((n, plain.lstrip("#%/").strip()))
        elif is_row(plain):
            lines.append((n, text))
    return comments, lines


def no_comments(layout: Layout) -> set[str]:
    """Words that begin lines which are no comments, though they may begin like one."""
    return {*gaps.SPREADSHEET, *(str(code).lower() for code in layout.missing or ())}


def is_comment(plain: str, words: Container[str]) -> bool:
    """Whether a line without blanks at its ends is one, `words` being `no_comments`."""
    return plain.startswith(COMMENTS) and _first_word(plain) not in words


def is_row(plain: str) -> bool:
    """Whether a line that is no comment holds more than blanks and delimiters."""
    return bool(plain.strip(',;|\t "')) and not SEPARATOR.match(plain)


def _first_word(text: str) -> str:
    """In small letters, whatever separates it from the next one."""
    return re.split(r"[,;|\s]", text, maxsplit=1)[0].lower()


def _delimiter(path: Path, lines: list[tuple[int, str]], layout: Layout) -> str:
    """The delimiter that nine lines of ten have: semicolon, tab, bar, comma (unless it is the
    decimal sign), else blanks."""
    bare = [_bare(text) for _, text in lines]
    few = 0.9 * (len(bare) - 1) if len(bare) > 1 else 1
    for delimiter in (";", "\t", "|"):
        if sum(delimiter in text.strip() for text in bare) >= few:
            return delimiter
    if sum("," in text for text in bare) < few:
        return " "
    if layout.decimal == ",":
        return "," if any('"' in text for _, text in lines) else " "
    return _comma(path, bare, layout)


def _bare(text: str) -> str:
    """A line without quotes, and with one blank behind commas that have some."""
    return re.sub(r",[ \t]+", ", ", re.sub(r'"([^"]*)"', _unquoted, text))


def _unquoted(word: re.Match[str]) -> str:
    """A word without its quotes; one that holds delimiters becomes a number without."""
    return "0.0" if re.search(r"[,;|\t]", word[1]) else word[1]


def _comma(path: Path, bare: list[str], layout: Layout) -> str:
    """Whether the commas of lines separate words, or are the decimal signs of words between
    blanks."""
    body = bare[1:] if len(bare) > 1 and not any(c.isdigit() for c in bare[0]) else bare
    title = bare[0] if body is not bare else ""
    if not any(re.search(r"\S,\S", text) for text in body):
        return ","  # with blanks beside
    if all(_between_blanks(text) for text in body):
        return " "
    pointed = any(POINTED.search(text) for text in body)
    if pointed or layout.decimal == ".":
        return ","
    counts = {text.count(",") for text in body}
    if title and counts == {title.count(",")}:
        return ","
    if (
        title
        and counts == {1}
        and all(COMMA_NUMBER.match(text.strip()) for text in body)
    ):
        return " "
    if any(n % 2 for n in counts) and all(
        re.fullmatch(r"[\s\d,+-]*", text) for text in body
    ):
        raise InputError(
            f"delimiter of {path}",
            f"commas that separate numbers or are their decimal signs ({body[0]!r})",
            "delimiter = ',' or decimal = ',' in the table's keys",
        )
    return ","


def _between_blanks(text: str) -> bool:
    """Whether a line is several numbers between blanks, perhaps with decimal commas."""
    words = text.split()
    return len(words) > 1 and all(INNER.match(w) or NUMBER.match(w) for w in words)


def commas_stay(rows: Iterable[str]) -> bool:
    """Whether commas between the words of some rows without quotes separate them, whatever rows
    come behind: one of these has decimal points, and one is not numbers between blanks."""
    bare = [_bare(text) for text in rows]
    return any(POINTED.search(text) for text in bare) and not all(
        _between_blanks(text) for text in bare
    )


def _decimal(path: Path, rows: list[Row], delimiter: str) -> str:
    """',' where numbers have it and none has a point."""
    words = [w for _, row in rows for w in row]
    commas = [w for w in words if COMMA_NUMBER.match(w)]
    if not commas or any("." in w and NUMBER.match(w) for w in words):
        return "."
    if delimiter != ";" and all(THOUSANDS.match(w) for w in commas):
        raise InputError(
            f"decimal of {path}",
            f"{commas[0]!r}, thousands or a decimal comma",
            "decimal = '.' or ','",
        )
    return ","


def even_row(path: Path, line: int, words: list[str], width: int) -> list[str]:
    """A row of `width` words; empty ones at its end may be more."""
    while len(words) > width and not words[-1]:
        words = words[:-1]
    if len(words) != width:
        raise InputError(
            f"{path}, line {line}",
            f"{len(words)} words ({' '.join(words)[:60]})",
            f"{width}, as in the first line",
        )
    return words

"""Words of a line of a text table, and the numbers that they are."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from npde_opt.io import missing as gaps

NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eEdD][+-]?\d+)?\Z")
COMMA_NUMBER = re.compile(r"[+-]?\d*,\d+([eEdD][+-]?\d+)?\Z")
INNER = re.compile(r"[+-]?\d+,\d+([eEdD][+-]?\d+)?\Z")
THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2},\d{3}\Z")
SUSPECT = re.compile(
    r"[<>≤≥~±]\s*[+-]?[\d.,]|\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}|\d+:\d+|[+-]?\d[\d.,]*\s*[*?A-Za-z]?\Z"
)
"""A number with a mark (`<0.3`, `0.3*`), a date or a time of day."""


def number(word: str, decimal: str = ".") -> float | None:
    """The number that a word is, None for any other word."""
    plain = word.replace("\N{MINUS SIGN}", "-")
    if decimal == "," and ("," in plain or "." in plain):
        plain = plain.replace(",", ".") if COMMA_NUMBER.match(plain) else ""
    if not NUMBER.match(plain):
        return None
    value = float(plain.replace("D", "E").replace("d", "e"))
    return value if np.isfinite(value) else None


def any_number(word: str) -> float | None:
    """The number that a code is, with either decimal sign."""
    value = number(word)
    return number(word, ",") if value is None else value


def numeric(words: list[str], decimal: str) -> bool:
    """Whether all words are numbers or missing."""
    return all(number(w, decimal) is not None or w.lower() in gaps.WORDS for w in words)


def suspect(word: str) -> bool:
    """Whether a word that is no number may have been meant to be one, or to say that it is
    missing."""
    return bool(SUSPECT.match(word)) or word.lower() in gaps.NO_VALUE


def short(word: str) -> str:
    """A word for messages, whatever its length."""
    return (
        repr(word)
        if len(word) <= 80
        else f"{word[:60]!r}... ({len(word):,} characters)"
    )


def split(text: str, delimiter: str) -> list[str]:
    """The words of a line."""
    if delimiter == " ":
        return text.split()
    return [
        word.strip()
        for word in next(csv.reader([text], delimiter=delimiter, skipinitialspace=True))
    ]


@contextmanager
def words_of_any_length() -> Iterator[None]:
    """Inside, words may be as long as they are: the file is in memory already."""
    before = csv.field_size_limit(2**31 - 1)
    try:
        yield
    finally:
        csv.field_size_limit(
            before
        )  # it holds for the whole process, which is not ours alone

"""Lines, words and numbers of GRDECL files: `v v n*v ... /`, comments from `--`.

A block is where its numbers stand in a file: they are read, some at a time, when somebody wants
them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from npde_opt.aliases import FilePath
from npde_opt.capacity import fits
from npde_opt.errors import InputError

WORD = re.compile(r"'[^']*'|\"[^\"]*\"|/|[^\s/'\"]+")
BARE = "values"
"""Name of numbers that no keyword names: they go on to the file's end, `/` or not."""
TOGETHER = 1 << 16
"""Words that are looked at together."""


@dataclass(frozen=True)
class Block:
    """Numbers of a file that end with `/`, or with the file.

    Attributes:
        name: its keyword. line: the first with a number, from 1.
    """

    path: Path
    name: str
    line: int

    def pieces(self) -> Iterator[np.ndarray]:
        """Its values in runs.

        Raises:
            InputError: for words that are no numbers, and defaulted values (`3*`).
        """
        for words in self._runs():
            yield _numbers(self.path, self.name, words)

    def values(self) -> np.ndarray:
        """All of them. Raises InputError as `pieces`, and where they do not fit into memory."""
        found, size = [], 0
        for words in self._runs():
            found.append(_numbers(self.path, self.name, words, size))
            size += found[-1].size
        return np.concatenate(found) if found else np.empty(0)

    def count(self) -> int:
        """How many they are, before any is read. Raises InputError as `pieces`."""
        return sum(
            sum(_counts(self.path, self.name, words)) if _starred(words) else len(words)
            for words in self._runs()
        )

    def _runs(self) -> Iterator[list[str]]:
        gathered: list[str] = []
        for words in self._words():
            gathered += words
            if len(gathered) >= TOGETHER:
                yield gathered
                gathered = []
        if gathered:
            yield gathered

    def _words(self) -> Iterator[list[str]]:
        for _, words in in_force(lines(self.path, self.line)):
            ended = "/" in words
            yield words[: words.index("/")] if ended else words
            if ended and self.name != BARE:
                return


def lines(path: Path, first: int = 1) -> Iterator[tuple[int, list[str]]]:
    """Line numbers and words from a line on; `/` is a word of its own."""
    with open(path, encoding="latin-1") as file:
        for number, line in enumerate(islice(file, first - 1, None), first):
            text = line.split("--", 1)[0]
            plain = "'" not in text and '"' not in text and "/" not in text
            words = text.split() if plain else WORD.findall(text)
            if words:
                yield number, words


def in_force(
    found: Iterable[tuple[int, list[str]]],
) -> Iterator[tuple[int, list[str]]]:
    """The lines of a file without those between SKIP and ENDSKIP."""
    skipping = False
    for line, words in found:
        name = words[0].upper() if len(words) == 1 else ""
        if name == "SKIP":
            skipping = True
        elif skipping:
            skipping = name != "ENDSKIP"
        else:
            yield line, words


def numeric(token: str) -> bool:
    """Whether a word begins like a number."""
    return token[0] in "+-.0123456789"


def _starred(words: list[str]) -> bool:
    return any("*" in w for w in words)


def _counts(path: Path, name: str, words: list[str]) -> list[int]:
    """How often each word stands for its value."""
    pairs = [w.rpartition("*") for w in words]
    if any(star and not value for _, star, value in pairs):
        said = f"defaulted values in block {name}"
        raise InputError(str(path), said, "a value in every cell")
    if not all(count.isdigit() for count, star, _ in pairs if star):
        said = f"a repeat count in block {name} that is no number"
        raise InputError(str(path), said, "COUNT*VALUE")
    return [int(count) if star else 1 for count, star, _ in pairs]


def _numbers(path: Path, name: str, words: list[str], before: int = 0) -> np.ndarray:
    """The values of some words of a block, `before` which it has so many."""
    if not _starred(words):
        return floats(path, name, words)
    counts = _counts(path, name, words)
    fits(f"{path}, block {name}", before + sum(counts), 8)
    values = floats(path, name, [w.rpartition("*")[2] for w in words])
    return np.repeat(values, counts)


def floats(path: FilePath, name: str, words: list[str]) -> np.ndarray:
    """Numbers that may have Fortran's D for an exponent. Raises InputError for other words."""
    try:
        return np.array(words, dtype=float)
    except ValueError:
        pass
    plain = [w.replace("D", "E").replace("d", "e") for w in words]
    try:
        return np.array(plain, dtype=float)
    except ValueError as error:
        raise InputError(str(path), f"in block {name}: {error}", "numbers") from None

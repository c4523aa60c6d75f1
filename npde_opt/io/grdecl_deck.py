"""What GRDECL files do, in their order: keywords with their records, boxes, files that include
others. See grdecl.py for what becomes of it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from npde_opt.capacity import fits
from npde_opt.errors import InputError
from npde_opt.io.grdecl_numbers import BARE, Block, in_force, lines, numeric

KEYWORD = re.compile(r"[A-Za-z][A-Za-z0-9_+-]*\Z")
SIZES = ("SPECGRID", "DIMENS")
DEEPEST = 8
ENDS = ("END", "ENDINC")
CHANGES = ("EQUALS", "ADD", "MULTIPLY", "MINVALUE", "MAXVALUE")
BY_SIMULATOR = ("SKIP100", "SKIP300")
"""What lies between one of them and ENDSKIP one simulator leaves out, and the other reads."""
FOR_ALL = ("BOX", "ENDBOX", *SIZES, *ENDS)
"""Keywords that say what the ones below them mean, or whether they count."""

KEPT = ("INCLUDE", "BOX", *SIZES, *CHANGES, "COPY")
"""Keywords whose words are looked at, also where they are numbers."""

Box = tuple[slice, slice, slice]


@dataclass(frozen=True)
class Step:
    """One thing that a deck does to one array.

    Attributes:
        kind: 'values' (a block of its own), one of CHANGES, 'COPY', or 'refused' (by what, in
            `words`).
        place: file and line, for messages.
        box: the cells that it changes; None: all.
        words: the number, or the array that is copied.
        block: of 'values'.
    """

    name: str
    kind: str
    place: str
    box: Box | None
    words: list[str]
    block: Block | None = None


@dataclass
class Deck:
    """A deck as far as it has been read.

    Attributes:
        size: cells along the axes, once SPECGRID or DIMENS has said it.
        box: the one that is open.
        skip: SKIP100 or SKIP300 while it is open, '' otherwise.
        ended: whether END has been there.
        files: those that it was read from.
    """

    steps: list[Step] = field(default_factory=list)
    size: tuple[int, int, int] | None = None
    box: Box | None = None
    skip: str = ""
    ended: bool = False
    files: list[Path] = field(default_factory=list)

    def add(
        self, block: Block, place: str, records: list[list[str]], ended: bool
    ) -> None:
        """A keyword with its records, without their `/`; of numbers only the first line is
        there."""
        name = block.name
        full = [r for r in records if r]
        if name in BY_SIMULATOR or name == "ENDSKIP":
            self.skip = name if name in BY_SIMULATOR else ""
        elif self.skip:
            self._in_doubt(name, place, full)
        elif name in ENDS:
            self.ended = name == "END"
        elif name in SIZES and full and self.size is None:
            self.size = _size(place, full[0])
        elif name == "BOX":
            self.box = self._box(place, full[0] if full else [], None)
        elif name == "ENDBOX":
            self.box = None
        elif name in CHANGES or name == "COPY":
            if not ended:
                raise InputError(
                    place,
                    f"{name} without an end",
                    "records that end with /, and a / below them",
                )
            self._change(name, place, full)
        elif full and numeric(full[0][0]):
            problem = (
                "without an end"
                if not ended
                else "of several records"
                if len(full) > 1
                else ""
            )
            step = Step(name, "values", place, self.box, [], block)
            if problem:
                step = Step(
                    name, "refused", place, self.box, [f"block {name} {problem}"]
                )
            self.steps.append(step)
        else:
            for word in {_bare(w) for r in full for w in r}:
                self.steps.append(
                    Step(
                        word,
                        "refused",
                        place,
                        None,
                        [f"{name}, which is not applied here"],
                    )
                )

    def _in_doubt(self, name: str, place: str, records: list[list[str]]) -> None:
        """Refuses the arrays that a keyword between SKIP100 or SKIP300 and ENDSKIP touches.

        Raises:
            InputError: for keywords on which depends what stands below ENDSKIP.
        """
        where = f"between {self.skip} and ENDSKIP, which one simulator reads and another does not"
        if name in FOR_ALL:
            raise InputError(place, f"{name} {where}", "a file without it")
        if records and numeric(records[0][0]):
            words, what = {name}, f"block {name}"
        elif name == "COPY":
            words, what = {_bare(r[1]) for r in records if len(r) > 1}, name
        elif name in CHANGES:
            words, what = {_bare(r[0]) for r in records}, name
        else:
            words, what = {_bare(w) for r in records for w in r}, name
        for word in words:
            self.steps.append(Step(word, "refused", place, None, [f"{what} {where}"]))

    def _change(self, name: str, place: str, records: list[list[str]]) -> None:
        """Records `ARRAY number [i1 i2 j1 j2 k1 k2]`, or `FROM TO [...]` of COPY; a box holds for
        the next ones too."""
        box = self.box
        for record in records:
            if len(record) < 2:
                raise InputError(
                    place,
                    f"{name} {' '.join(record)}",
                    "an array and what is done to it",
                )
            box = self._box(place, record[2:8], box)
            target, word = (
                (record[1], record[0]) if name == "COPY" else (record[0], record[1])
            )
            self.steps.append(Step(_bare(target), name, place, box, [_bare(word)]))

    def _box(self, place: str, words: list[str], before: Box | None) -> Box | None:
        """The box of i1 i2 j1 j2 k1 k2, from 1 and with the last; `1*` and what is missing keeps
        what was before."""
        plain = [w for word in words for w in _repeated(word)]
        if all(w == "" for w in plain):
            return before
        if self.size is None:
            raise InputError(
                place, f"a box {' '.join(words)}", "SPECGRID or DIMENS above it"
            )
        old = before or tuple(slice(0, n) for n in self.size)
        ends = [n for s in old for n in (s.start + 1, s.stop)]
        try:
            ends[: len(plain)] = [
                int(w) if w else e for w, e in zip(plain, ends, strict=False)
            ]
        except ValueError as error:
            raise InputError(
                place, f"a box {' '.join(words)}", "i1 i2 j1 j2 k1 k2"
            ) from error
        if not all(
            1 <= a <= b <= n
            for a, b, n in zip(ends[::2], ends[1::2], self.size, strict=True)
        ):
            raise InputError(place, f"a box {ends}", f"a box inside {self.size}")
        i, j, k = (slice(a - 1, b) for a, b in zip(ends[::2], ends[1::2], strict=True))
        return i, j, k


def read(path: Path, deck: Deck, deepest: int) -> Block | None:
    """Adds a file's keywords to the deck; gives the numbers before the first of them."""
    if deepest == 0:
        raise InputError(
            str(path), f"more than {DEEPEST} files that include each other", "fewer"
        )
    deck.files.append(path)
    bare: Block | None = None
    name, place, begun, ended = "", "", 0, False
    records: list[list[str]] = []
    tokens: list[str] = []

    def close() -> None:
        nonlocal records, tokens
        if name == "INCLUDE":
            _include(path, place, [*records, tokens], deck, deepest)
        elif name:
            block = Block(path, name, begun)
            deck.add(block, place, records + ([tokens] if tokens else []), ended)
        records, tokens = [], []

    for line, words in in_force(lines(path)):
        # A file that is included may have a name like a keyword.
        unnamed = name == "INCLUDE" and not records and not tokens
        if len(words) == 1 and KEYWORD.match(words[0]) and not unnamed:
            close()
            if deck.ended:  # by the file that was included
                return bare
            name, place, begun = words[0].upper(), f"{path}, line {line}", 0
            ended = False
            if name in ENDS:
                break
            continue
        slash = words.index("/") if "/" in words else len(words)
        if not name:
            if bare is None and words[0] != "/":
                bare = Block(path, BARE, line)
            continue
        begun = begun or line
        # Of numbers, which may be many, the first ones are enough here.
        if not tokens or name in KEPT or not numeric(tokens[0]):
            tokens.extend(words[:slash])
        ended = slash < len(words)
        if ended:
            records.append(tokens)
            tokens = []
    close()
    return bare


def _include(
    path: Path, place: str, records: list[list[str]], deck: Deck, deepest: int
) -> None:
    """Reads the file that INCLUDE names, beside the one that includes it."""
    name = "".join(w for w in records[0]).strip("'\"") if records else ""
    file = path.parent / name
    if not name or not file.is_file():
        raise InputError(
            place, f"INCLUDE {name}", f"a file in {path.parent}, or a file without it"
        )
    skip = deck.skip
    read(file, deck, deepest - 1)
    deck.skip = skip  # a file that is included may leave its own one open


def _bare(word: str) -> str:
    return word.strip("'\"").upper()


def _repeated(word: str) -> list[str]:
    """The words that `3*v` or `3*` (three defaults, empty) stands for."""
    count, star, value = word.rpartition("*")
    # A box has six numbers: more are never asked for.
    return [value] * min(int(count), 6) if star and count.isdigit() else [word]


def _size(place: str, words: list[str]) -> tuple[int, int, int]:
    try:
        nx, ny, nz = (int(w) for w in words[:3])
    except ValueError as error:
        raise InputError(
            place, f"a size {' '.join(words[:3])}", "three integers"
        ) from error
    if min(nx, ny, nz) < 1:
        raise InputError(place, f"a size {nx} {ny} {nz}", "three positive integers")
    fits(f"{place}, size", nx * ny * nz, 8, "cells")
    return nx, ny, nz

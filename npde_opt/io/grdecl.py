"""Eclipse (GRDECL) property blocks: `KEYWORD  v v n*v ... /`, x fastest, comments from `--`.

What a deck does to its arrays is done in its order: BOX and ENDBOX, EQUALS, COPY, ADD, MULTIPLY,
MINVALUE, MAXVALUE and INCLUDE. What lies between SKIP and ENDSKIP, below END, and in an included
file below ENDINC, is no part of it. Of what lies between SKIP100 or SKIP300 and ENDSKIP nobody
knows, since one simulator reads it and another does not: an array that is touched there is refused.
So is one that any other keyword names, with that keyword and its line.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from npde_opt.aliases import FilePath
from npde_opt.capacity import fits
from npde_opt.errors import InputError

KEYWORD = re.compile(r"[A-Za-z][A-Za-z0-9_+-]*\Z")
WORD = re.compile(r"'[^']*'|\"[^\"]*\"|/|[^\s/'\"]+")
SIZES = ("SPECGRID", "DIMENS")
INTEGERS = (
    "ACTNUM",
    "SATNUM",
    "FIPNUM",
    "EQLNUM",
    "PVTNUM",
    "FLUXNUM",
    "MULTNUM",
    "ENDNUM",
    "IMBNUM",
)
CHANGES: dict[str, Callable[[np.ndarray, float], np.ndarray]] = {
    "EQUALS": lambda values, x: np.full_like(values, x),
    "ADD": lambda values, x: values + x,
    "MULTIPLY": lambda values, x: values * x,
    "MINVALUE": lambda values, x: np.maximum(values, x),
    "MAXVALUE": lambda values, x: np.minimum(values, x),
}
GEOMETRY = ("COORD", "ZCORN", "COORDSYS", "MAPAXES")
"""Blocks that have other numbers of values than one a cell."""
DEEPEST = 8
ENDS = ("END", "ENDINC")
BY_SIMULATOR = ("SKIP100", "SKIP300")
"""What lies between one of them and ENDSKIP one simulator leaves out, and the other reads."""
FOR_ALL = ("BOX", "ENDBOX", *SIZES, *ENDS)
"""Keywords that say what the ones below them mean, or whether they count."""

Box = tuple[slice, slice, slice]


@dataclass(frozen=True)
class Step:
    """One thing that a deck does to one array.

    Attributes:
        kind: 'values' (a block of its own), a key of CHANGES, 'COPY', or 'refused' (by what, in
            `words`).
        place: file and line, for messages.
        box: the cells that it changes; None: all.
        words: the block's values, the number, or the array that is copied.
    """

    name: str
    kind: str
    place: str
    box: Box | None
    words: list[str]


@dataclass
class _Deck:
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

    def add(self, name: str, place: str, records: list[list[str]], ended: bool) -> None:
        """A keyword with its records, without their `/`."""
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
        elif full and _numeric(full[0][0]):
            problem = (
                "without an end"
                if not ended
                else "of several records"
                if len(full) > 1
                else ""
            )
            kind, words = (
                ("refused", [f"block {name} {problem}"])
                if problem
                else ("values", full[0])
            )
            self.steps.append(Step(name, kind, place, self.box, words))
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
        if records and _numeric(records[0][0]):
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


def open_grdecl(path: FilePath) -> dict[str, Callable[[], np.ndarray]]:
    """The numeric blocks of a file by keyword, each as a function that gives its array after all
    that the file does to it.

    An array is [i, j, k] where the file gives its size (SPECGRID or DIMENS), else flat. A file of
    bare numbers gives one block, `values`.

    Raises:
        InputError: for a box outside the grid and an INCLUDE that is not there; from the functions
            for a block without an end, defaulted values (`3*`), another number of values than the
            file has cells, and keywords that change the array and are not known here.
    """
    deck = _Deck()
    bare = _read(Path(path), deck, DEEPEST)
    if bare and not deck.steps:
        deck.steps.append(Step("values", "values", str(path), None, bare))
    made = dict.fromkeys(
        s.name for s in deck.steps if s.kind in ("values", "EQUALS", "COPY")
    )
    made |= dict.fromkeys(
        s.name
        for s in deck.steps
        if s.kind == "refused" and s.words[0].startswith("block ")
    )
    return {name: partial(_array, path, deck, name, len(deck.steps)) for name in made}


def included(path: FilePath) -> list[Path]:
    """The files that a deck includes, and those that these include. Raises InputError as
    `open_grdecl`."""
    deck = _Deck()
    _read(Path(path), deck, DEEPEST)
    return deck.files[1:]


def _read(path: Path, deck: _Deck, deepest: int) -> list[str]:
    """Adds a file's keywords to the deck; gives the words before the first of them."""
    if deepest == 0:
        raise InputError(
            str(path), f"more than {DEEPEST} files that include each other", "fewer"
        )
    deck.files.append(path)
    bare: list[str] = []
    name, place, ended = "", "", False
    records: list[list[str]] = []
    tokens: list[str] = []

    def close() -> None:
        nonlocal records, tokens
        if name == "INCLUDE":
            _include(path, place, [*records, tokens], deck, deepest)
        elif name:
            deck.add(name, place, records + ([tokens] if tokens else []), ended)
        records, tokens = [], []

    for line, words in _in_force(_lines(path)):
        # A file that is included may have a name like a keyword.
        unnamed = name == "INCLUDE" and not records and not tokens
        if len(words) == 1 and KEYWORD.match(words[0]) and not unnamed:
            close()
            if deck.ended:  # by the file that was included
                return bare
            name, place, ended = words[0].upper(), f"{path}, line {line}", False
            if name in ENDS:
                break
            continue
        slash = words.index("/") if "/" in words else len(words)
        (tokens if name else bare).extend(words[:slash])
        ended = slash < len(words)
        if ended and name:
            records.append(tokens)
            tokens = []
    close()
    return bare


def _lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Line numbers and words; `/` is a word of its own."""
    with open(path, encoding="latin-1") as file:
        for number, line in enumerate(file, 1):
            text = line.split("--", 1)[0]
            plain = "'" not in text and '"' not in text and "/" not in text
            words = text.split() if plain else WORD.findall(text)
            if words:
                yield number, words


def _in_force(
    lines: Iterator[tuple[int, list[str]]],
) -> Iterator[tuple[int, list[str]]]:
    """The lines of a file without those between SKIP and ENDSKIP."""
    skipping = False
    for line, words in lines:
        name = words[0].upper() if len(words) == 1 else ""
        if name == "SKIP":
            skipping = True
        elif skipping:
            skipping = name != "ENDSKIP"
        else:
            yield line, words


def _include(
    path: Path, place: str, records: list[list[str]], deck: _Deck, deepest: int
) -> None:
    """Reads the file that INCLUDE names, beside the one that includes it."""
    name = "".join(w for w in records[0]).strip("'\"") if records else ""
    file = path.parent / name
    if not name or not file.is_file():
        raise InputError(
            place, f"INCLUDE {name}", f"a file in {path.parent}, or a file without it"
        )
    skip = deck.skip
    _read(file, deck, deepest - 1)
    deck.skip = skip  # a file that is included may leave its own one open


def _array(path: FilePath, deck: _Deck, name: str, until: int) -> np.ndarray:
    """The array after the first `until` steps of the deck."""
    values: np.ndarray | None = None
    for number, step in enumerate(deck.steps[:until]):
        if step.name != name:
            continue
        if step.kind == "refused":
            raise InputError(
                f"{step.place}, array {name}",
                step.words[0],
                "a file without it, or with what it does done",
            )
        if step.kind == "values":
            given = _numbers(path, name, step.words)
            values = given if step.box is None else _put(deck, step, values, given)
        elif step.kind == "COPY":
            source = _array(path, deck, step.words[0], number)
            values = (
                source.copy()
                if step.box is None
                else _put(deck, step, values, _whole(deck, step, source)[step.box])
            )
        else:
            values = _changed(deck, step, values)
    if values is None:
        raise InputError(
            f"{path}, array {name}", "no values", "a block of values before it is used"
        )
    if values.dtype.kind == "f" and np.isnan(values).any():
        raise InputError(
            f"{path}, array {name}",
            f"{int(np.isnan(values).sum())} cells outside its boxes",
            "a value a cell",
        )
    values = _folded(deck, values)
    if deck.size is not None and values.shape != deck.size and name not in GEOMETRY:
        raise InputError(
            f"{path}, array {name}",
            f"{values.size:,} values",
            f"{_cells(deck.size)}, one a cell",
        )
    return np.rint(values).astype(np.int64) if name in INTEGERS else values


def _folded(deck: _Deck, values: np.ndarray) -> np.ndarray:
    fits = deck.size is not None and values.size == np.prod(deck.size)
    return (
        values.reshape(deck.size, order="F")
        if fits and deck.size is not None
        else values
    )


def _cells(size: tuple[int, int, int]) -> str:
    return f"{np.prod(size):,} values for the {' x '.join(map(str, size))} cells of the file"


def _whole(deck: _Deck, step: Step, values: np.ndarray | None) -> np.ndarray:
    """The array [i, j, k] as floats, NaN where it has no values yet."""
    if deck.size is None:
        raise InputError(
            step.place, f"{step.kind} without a size", "SPECGRID or DIMENS above it"
        )
    if values is None:
        return np.full(deck.size, np.nan, order="F")
    folded = _folded(deck, values)
    if folded.shape != deck.size:
        raise InputError(
            step.place,
            f"{values.size} values of {step.name}",
            f"{int(np.prod(deck.size))}",
        )
    return folded.astype(float)


def _put(
    deck: _Deck, step: Step, values: np.ndarray | None, given: np.ndarray
) -> np.ndarray:
    """`given` in the box of a step."""
    out = _whole(deck, step, values)
    assert step.box is not None
    target = out[step.box]
    if target.size != given.size:
        raise InputError(
            step.place, f"{given.size} values", f"{target.size}, one a cell of its box"
        )
    out[step.box] = given.reshape(target.shape, order="F")
    return out


def _changed(deck: _Deck, step: Step, values: np.ndarray | None) -> np.ndarray:
    number = float(_floats(step.place, step.kind, step.words)[0])
    if values is None and step.kind != "EQUALS":
        raise InputError(
            step.place,
            f"{step.kind} {step.name} before it has values",
            "its values above",
        )
    if step.box is None and values is not None:
        return CHANGES[step.kind](values.astype(float), number)
    out = _whole(deck, step, values)
    box = step.box or (slice(None),) * 3
    out[box] = CHANGES[step.kind](out[box], number)
    return out


def _bare(word: str) -> str:
    return word.strip("'\"").upper()


def _numeric(token: str) -> bool:
    return token[0] in "+-.0123456789"


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


def _numbers(path: FilePath, name: str, tokens: list[str]) -> np.ndarray:
    if not any("*" in t for t in tokens):
        return _floats(path, name, tokens)
    pairs = [t.rpartition("*") for t in tokens]
    if any(star and not value for _, star, value in pairs):
        raise InputError(
            str(path), f"defaulted values in block {name}", "a value in every cell"
        )
    if not all(count.isdigit() for count, star, _ in pairs if star):
        raise InputError(
            str(path),
            f"a repeat count in block {name} that is no number",
            "COUNT*VALUE",
        )
    counts = [int(count) if star else 1 for count, star, _ in pairs]
    fits(f"{path}, block {name}", sum(counts), 8)
    return np.repeat(_floats(path, name, [value for _, _, value in pairs]), counts)


def _floats(path: FilePath, name: str, tokens: list[str]) -> np.ndarray:
    try:
        return np.array(tokens, dtype=float)
    except ValueError:
        pass
    try:
        return np.array(
            [t.replace("D", "E").replace("d", "e") for t in tokens], dtype=float
        )
    except ValueError as error:
        raise InputError(str(path), f"in block {name}: {error}", "numbers") from None

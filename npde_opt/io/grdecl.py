"""Eclipse (GRDECL) property blocks: `KEYWORD  v v n*v ... /`, x fastest, comments from `--`.

What a deck does to its arrays is done in its order: BOX and ENDBOX, EQUALS, COPY, ADD, MULTIPLY,
MINVALUE, MAXVALUE and INCLUDE. What lies between SKIP and ENDSKIP, below END, and in an included
file below ENDINC, is no part of it. Of what lies between SKIP100 or SKIP300 and ENDSKIP nobody
knows, since one simulator reads it and another does not: an array that is touched there is refused.
So is one that any other keyword names, with that keyword and its line.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from npde_opt.aliases import FilePath
from npde_opt.errors import InputError
from npde_opt.io.grdecl_deck import DEEPEST, Deck, Step, read
from npde_opt.io.grdecl_numbers import floats

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
    deck, names = _opened(path)
    return {name: partial(_array, path, deck, name, len(deck.steps)) for name in names}


def stream_grdecl(path: FilePath) -> dict[str, Stream | None]:
    """The arrays of `open_grdecl`, of those that are one block of values, and nothing else is
    done to them, without reading them; None for the others. Raises InputError as there."""
    deck, names = _opened(path)
    return {name: _stream(deck, name) for name in names}


@dataclass(frozen=True)
class Stream:
    """An array that is read piece by piece, x fastest."""

    shape: tuple[int, ...]
    dtype: np.dtype
    pieces: Callable[[], Iterator[np.ndarray]]


def _stream(deck: Deck, name: str) -> Stream | None:
    steps = [s for s in deck.steps if s.name == name]
    block = steps[0].block
    if len(steps) > 1 or block is None or steps[0].box is not None or name in GEOMETRY:
        return None
    shape = deck.size or (block.count(),)
    if name not in INTEGERS:
        return Stream(shape, np.dtype(float), block.pieces)

    def whole() -> Iterator[np.ndarray]:
        return (np.rint(piece).astype(np.int64) for piece in block.pieces())

    return Stream(shape, np.dtype(np.int64), whole)


def _opened(path: FilePath) -> tuple[Deck, list[str]]:
    """A deck, and the arrays that it has."""
    deck = Deck()
    bare = read(Path(path), deck, DEEPEST)
    if bare is not None and not deck.steps:
        deck.steps.append(Step(bare.name, "values", str(path), None, [], bare))
    made = dict.fromkeys(
        s.name for s in deck.steps if s.kind in ("values", "EQUALS", "COPY")
    )
    made |= dict.fromkeys(
        s.name
        for s in deck.steps
        if s.kind == "refused" and s.words[0].startswith("block ")
    )
    return deck, list(made)


def included(path: FilePath) -> list[Path]:
    """The files that a deck includes, and those that these include. Raises InputError as
    `open_grdecl`."""
    deck = Deck()
    read(Path(path), deck, DEEPEST)
    return deck.files[1:]


def _array(path: FilePath, deck: Deck, name: str, until: int) -> np.ndarray:
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
            assert step.block is not None
            given = step.block.values()
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


def _folded(deck: Deck, values: np.ndarray) -> np.ndarray:
    fits = deck.size is not None and values.size == np.prod(deck.size)
    return (
        values.reshape(deck.size, order="F")
        if fits and deck.size is not None
        else values
    )


def _cells(size: tuple[int, int, int]) -> str:
    return f"{np.prod(size):,} values for the {' x '.join(map(str, size))} cells of the file"


def _whole(deck: Deck, step: Step, values: np.ndarray | None) -> np.ndarray:
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
    deck: Deck, step: Step, values: np.ndarray | None, given: np.ndarray
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


def _changed(deck: Deck, step: Step, values: np.ndarray | None) -> np.ndarray:
    number = float(floats(step.place, step.kind, step.words)[0])
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

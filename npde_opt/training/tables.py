"""Rows of a text table as samples: columns are the channels of one cell, another one is the class,
or others are the numbers that are sought."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from npde_opt.errors import InputError
from npde_opt.io.tables import Layout, Table, read_table
from npde_opt.training.samples import Held

Column = str | int
"""A name, or a number from 0."""


def rows(
    path: Path,
    targets: Sequence[Column] = (),
    label: Column | None = None,
    inputs: Sequence[Column] | None = None,
    layout: Layout | None = None,
    known: Sequence[str] | None = None,
) -> Held:
    """The rows of a table.

    Args:
        targets: columns of numbers that are sought.
        label: the column of classes, words or whole numbers, instead; classes are numbered in the
            order of the words, numbers by their size.
        inputs: columns; None: all others.
        layout: of the file, as far as it has to be told.
        known: the classes, where a file that was read before has numbered them.

    Raises:
        InputError: naming the column, for one that is not there, values that are missing or no
            numbers, classes that are not known, and where targets and a label are asked for, or
            none of both.
    """
    table = read_table(path, layout or Layout())
    if bool(targets) == (label is not None):
        said = "targets and a label" if targets else "neither targets nor a label"
        raise InputError("data.targets, data.label", said, "one of them")
    sought = [table.index("data.targets", c) for c in targets]
    if label is not None:
        sought = [table.index("data.label", label)]
    chosen = (
        [table.index("data.inputs", c) for c in inputs] if inputs is not None else None
    )
    if chosen is None:
        chosen = [c for c in range(len(table.rows[0])) if c not in sought]
    if not chosen:
        raise InputError(
            "data.inputs", "no columns", f"columns of {path.name}: {table.columns}"
        )
    both = set(chosen) & set(sought)
    if both:
        said = f"column {named(table, both.pop())}, which is sought"
        raise InputError("data.inputs", said, "columns that are known")
    values = one_cell(numbers(table, chosen))
    if label is None:
        return Held(
            path.name, values, targets=one_cell(numbers(table, sought)), files=[path]
        )
    labels, classes = classes_of([row[sought[0]] for row in table.rows], path, known)
    return Held(path.name, values, labels, classes=classes, files=[path])


def numbers(table: Table, columns: Sequence[int]) -> np.ndarray:
    """[row, column].

    Raises:
        InputError: for values that are missing.
    """
    found = np.column_stack([table.numbers(c) for c in columns])
    gaps = np.argwhere(np.isnan(found))
    if len(gaps):
        row, column = gaps[0]
        where = f"line {table.lines[row]}, column {named(table, columns[column])}"
        said = f"{len(gaps)} missing values, the first in {where}"
        raise InputError(str(table.path), said, "a number everywhere")
    return found


def named(table: Table, column: int) -> str:
    """A column's name, or its number where it has none."""
    return table.names[column] if table.names else str(column)


def one_cell(values: np.ndarray) -> np.ndarray:
    """[sample, channel] on a grid of one cell."""
    return values[:, :, None, None, None]


def classes_of(
    words: Sequence[str], path: Path, known: Sequence[str] | None = None
) -> tuple[np.ndarray, list[str]]:
    """Labels from 0, and the names of the classes.

    Args:
        path: the file that has the words.
        known: the names, where a file that was read before has numbered them.

    Raises:
        InputError: for words that are none of these.
    """
    names = sorted(set(words), key=_order) if known is None else list(known)
    unknown = sorted(set(words) - set(names))
    if unknown:
        raise InputError(f"labels of {path.name}", repr(unknown[0]), ", ".join(names))
    place = {name: number for number, name in enumerate(names)}
    return np.array([place[word] for word in words]), names


def _order(word: str) -> tuple[bool, float, str]:
    """Numbers by their size, before words."""
    try:
        return False, float(word), word
    except ValueError:
        return True, 0.0, word

"""history.csv: one row a completed iteration, as text that gives the same numbers when it is read
again."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from npde_opt.aliases import FilePath, Plain
from npde_opt.errors import InputError
from npde_opt.io.files import content_of

COLUMNS = (
    "level",
    "iteration",
    "objective",
    "misfit",
    "regularization",
    "gradient_norm",
    "step",
    "forward_solves",
    "adjoint_solves",
    "krylov_iterations",
    "inner_iterations",
    "evaluations",
    "passes",
    "seconds",
)
END = "\r\n"
Row = Mapping[str, Plain]


def line_of(row: Row, columns: Sequence[str]) -> str:
    """One line; columns that the row lacks stay empty. Raises InputError for a key that is no
    column."""
    unknown = [k for k in row if k not in columns]
    if unknown:
        raise InputError("history row", ", ".join(unknown), ", ".join(columns))
    return ",".join(_cell(row.get(c)) for c in columns) + END


def head_of(columns: Sequence[str]) -> str:
    return ",".join(columns) + END


def complete_lines(content: bytes) -> list[str]:
    """The lines of a file, its head first, without one that was cut short while it was written."""
    lines = content.decode(errors="replace").splitlines(keepends=True)
    return [line for line in lines if line.endswith("\n")]


def rows_of(lines: Sequence[str]) -> list[dict[str, float]]:
    """The rows of complete lines, the first of which is the head."""
    table = list(csv.reader(lines))
    return [
        {k: _number(v) for k, v in zip(table[0], cells, strict=True) if v}
        for cells in table[1:]
        if len(cells) == len(table[0])
    ]


def read_history(path: FilePath) -> list[dict[str, float]]:
    """Rows of the history.csv in a folder; a line that was cut short while it was written is left
    out."""
    file = Path(path) / "history.csv"
    return rows_of(complete_lines(content_of(file))) if file.exists() else []


def difference(content: bytes | None, kept: Sequence[str]) -> str:
    """What is wrong with a file that should begin with these lines; nothing where it does.

    Args:
        content: of the file, None where it is gone.
    """
    if content is None:
        return "is gone"
    lines = complete_lines(content)
    wrong = next(
        (i for i, (a, b) in enumerate(zip(lines, kept, strict=False)) if a != b), None
    )
    if wrong is not None:
        return f"is damaged in line {wrong + 1}"
    return (
        f"has {max(len(lines) - 1, 0)} of {len(kept) - 1} rows"
        if len(lines) < len(kept)
        else ""
    )


def _cell(value: Plain) -> str:
    if value is None:
        return ""
    if isinstance(value, int | np.integer):
        return str(int(value))
    return repr(float(value))


def _number(text: str) -> float:
    return int(text) if text.lstrip("+-").isdigit() else float(text)

"""Measured values from files: columns of text tables with rows chosen by ranges, or arrays of
binary files."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from npde_opt.cases.sources import Sources
from npde_opt.errors import InputError
from npde_opt.grids import AXES
from npde_opt.io.fields import read_gridded
from npde_opt.io.missing import DECLARE, is_one_of, numbers_of, sentinels
from npde_opt.io.tables import Layout, Table, number, read_table

TEXT_FILES = (".csv", ".txt", ".dat", ".tsv")
LAYOUT = {"delimiter", "decimal", "header", "skip", "encoding", "missing"}
COLUMN_KEYS = {"column", "where", "rows"} | LAYOUT
KEYS = {"file", "key", "part", "scale", "shape"} | COLUMN_KEYS


def is_table(path: Path) -> bool:
    """Whether a file is a text table, by its extension."""
    return path.suffix.lower() in TEXT_FILES


def read_values(
    field: str, spec: dict[str, Any], sources: Sources, *, allow_nan: bool = True
) -> np.ndarray:
    """The array of {file, ...}.

    Text tables: `column` (a name, a number from 0, or a list of them, which gives [row, column];
        all where the file has
    one only), `where` = {column = [from, to]} chooses rows. Other files: `key`, and `part` (real,
    imag, intensity) of complex arrays. `rows` = [first, last, step] of the first axis (last
    included), then `shape` and `scale`.

    Raises:
        InputError: naming the field or the file, and what is there.
    """
    spec = given(spec)
    wrong = set(spec) - KEYS
    if wrong or "file" not in spec:
        raise InputError(field, sorted(wrong) or "no file", ", ".join(sorted(KEYS)))
    path = sources.find(field, spec["file"])
    values = _text(field, path, spec) if is_table(path) else _array(field, path, spec)
    if "rows" in spec:
        if values.ndim == 0:
            raise InputError(f"{field}.rows", "given", f"no rows: {path.name} holds one number")
        values = values[_rows(field, spec["rows"], len(values))]
    if "shape" in spec:
        if values.size != int(np.prod(spec["shape"])):
            raise InputError(field, f"{values.size} values in {path.name}", f"{spec['shape']}")
        values = values.reshape(spec["shape"])
    values = np.asarray(values, float) * spec.get("scale", 1.0)
    if not allow_nan and np.isnan(values).any():
        raise InputError(
            field,
            f"{int(np.isnan(values).sum())} missing values in {path.name}",
            "a value everywhere",
        )
    sources.log.note(field, spec["file"], values)
    return values


def given(spec: dict[str, Any]) -> dict[str, Any]:
    """The keys of a table that say something."""
    return {
        k: v for k, v in spec.items() if v is not None and v != {} and not (k == "skip" and v == 0)
    }


def table_of(field: str, path: Path, spec: dict[str, Any]) -> Table:
    """The text table of {file, ...} at a path."""
    if not is_table(path):
        raise InputError(field, spec["file"], f"a text table ({', '.join(TEXT_FILES)})")
    layout = {k: v for k, v in spec.items() if k in LAYOUT}
    if "missing" in layout and not isinstance(layout["missing"], list):
        layout["missing"] = [layout["missing"]]
    return read_table(path, Layout(**layout))


def named_columns(field: str, spec: dict[str, Any], sources: Sources) -> list[str]:
    """Names of the columns of the text table of {file, ...}."""
    return table_of(field, sources.find(field, spec["file"]), given(spec)).names


def axis_columns(names: list[str], dim: int) -> list[int]:
    """The columns x, y, z, as many as the grid has axes: also 'X', 'x [m]', 'x (m)'; none where one is not there."""
    plain = [re.split(r"[\[(]", name, maxsplit=1)[0].strip().lower() for name in names]
    return [plain.index(a) for a in AXES[:dim]] if set(AXES[:dim]) <= set(plain) else []


def _array(field: str, path: Path, spec: dict[str, Any]) -> np.ndarray:
    for key in sorted({"column", "where"} | LAYOUT - {"missing"}):
        if key in spec:
            raise InputError(
                f"{field}.{key}",
                repr(spec[key]),
                f"a text table ({', '.join(TEXT_FILES)}), not {path.name}",
            )
    values = read_gridded(path, spec.get("key"), part=spec.get("part"), allow_nan=True).values
    codes = spec.get("missing", [])
    codes = codes if isinstance(codes, list) else [codes]
    missing = is_one_of(values, numbers_of(codes, number))
    values = np.where(missing, np.nan, values) if missing.any() else values
    if "missing" in spec and not codes:
        return values
    refuse_sentinels(path, values)
    return values


def refuse_sentinels(path: Path, values: np.ndarray) -> None:
    """Raises InputError for numbers of an array that obviously stand for missing values."""
    odd = np.argwhere(sentinels(np.asarray(values, float)))
    if len(odd):
        first = tuple(int(i) for i in odd[0])
        raise InputError(
            f"{path}",
            f"{values[first]:g} at {list(first)}, {len(odd)} of {values.size} values",
            DECLARE,
        )


def _text(field: str, path: Path, spec: dict[str, Any]) -> np.ndarray:
    for key in ("key", "part"):
        if key in spec:
            raise InputError(
                f"{field}.{key}",
                repr(spec[key]),
                f"an array of a binary file; {path.name} has columns",
            )
    table = table_of(field, path, spec)
    keep = np.ones(len(table.rows), bool)
    for name, ends in spec.get("where", {}).items():
        if (
            not isinstance(ends, list | tuple)
            or len(ends) != 2
            or any(isinstance(x, str | bool) for x in ends)
        ):
            raise InputError(f"{field}.where.{name}", ends, "[from, to]")
        values = table.numbers(table.index(f"{field}.where", name))
        keep &= (values >= ends[0]) & (values <= ends[1])
    if not keep.any():
        raise InputError(
            f"{field}.where",
            spec["where"],
            f"ranges that hold some of the {keep.size} rows of {path.name}",
        )
    column = spec.get("column")
    if column is None and len(table.rows[0]) > 1:
        raise InputError(
            f"{field}.column", "none", f"one of the columns of {path.name}: {table.columns}"
        )
    if isinstance(column, list):
        if not column:
            raise InputError(f"{field}.column", "[]", f"columns of {path.name}: {table.columns}")
        return np.column_stack(
            [table.numbers(table.index(f"{field}.column", c))[keep] for c in column]
        )
    return table.numbers(table.index(f"{field}.column", 0 if column is None else column))[keep]


def _rows(field: str, rows: Any, count: int) -> slice:
    """[first, last, step] as a slice of `count` rows."""
    good = isinstance(rows, Sequence) and len(rows) == 3 and all(type(n) is int for n in rows)
    if not good or not (0 <= rows[0] <= rows[1] < count and rows[2] > 0):
        raise InputError(
            f"{field}.rows",
            rows,
            f"[first, last, step] of the {count} rows, from 0, the last included",
        )
    return slice(rows[0], rows[1] + 1, rows[2])

"""Measured values from files: columns of text tables with rows chosen by ranges, or arrays of
binary files."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from npde_opt.aliases import Plain, Record
from npde_opt.cases.placing import LENGTHS
from npde_opt.cases.sources import Sources
from npde_opt.cases.typed import as_dict
from npde_opt.errors import InputError
from npde_opt.grids import AXES
from npde_opt.io import streamed
from npde_opt.io.fields import read_gridded
from npde_opt.io.gridded import Gridded
from npde_opt.io.missing import DECLARE, Used, is_one_of, numbers_of, undeclared
from npde_opt.io.tables import Layout, Table, read_table
from npde_opt.io.words import number

TEXT_FILES = (".csv", ".txt", ".dat", ".tsv")
LAYOUT = {"delimiter", "decimal", "header", "skip", "encoding", "missing"}
COLUMN_KEYS = {"column", "replicates", "where", "rows"} | LAYOUT


def is_table(path: Path) -> bool:
    """Whether a file is a text table, by its extension."""
    return path.suffix.lower() in TEXT_FILES


def read_values(
    field: str,
    spec: Plain,
    sources: Sources,
    *,
    allow_nan: bool = True,
    used: Used | None = None,
) -> np.ndarray:
    """The array of {file, ...}.

    Text tables: `column` (a name, a number from 0, or a list of them, which gives [row, column];
        all where the file has
    one only), `where` = {column = [from, to]} chooses rows. Other files: `key`, and `part` (real,
    imag, intensity) of complex arrays. `rows` = [first, last, step] of the first axis (last
    included), then `shape` and `scale`. Of `replicates` the mean of those that are fitted.

    Args:
        used: says of a file's values whether they are used as they are; others may be anything.

    Raises:
        InputError: naming the field or the file, and what is there.
    """
    spec = given(as_dict(spec))
    path = sources.find(field, spec["file"])
    repeated = spec.pop("replicates", None)
    if repeated is not None:
        spec["column"] = fitted(repeated, sources.replicate)
    read = _text if is_table(path) else _array
    with of_key(field):
        values = read(field, path, spec, used)
    if repeated is not None:
        values = values.mean(axis=1)
    if "rows" in spec:
        if values.ndim == 0:
            raise InputError(
                f"{field}.rows", "given", f"no rows: {path.name} holds one number"
            )
        values = values[_rows(field, spec["rows"], len(values))]
    if "shape" in spec:
        if values.size != int(np.prod(spec["shape"])):
            raise InputError(
                field, f"{values.size} values in {path.name}", f"{spec['shape']}"
            )
        values = values.reshape(spec["shape"])
    if isinstance(values, np.memmap):  # numbers of a large table, on their way
        values *= spec.get("scale", 1.0)
    else:
        values = np.asarray(values, float) * spec.get("scale", 1.0)
    if not allow_nan:
        refuse_missing(field, path, values)
    sources.log.note(field, spec["file"], values)
    return values


def fitted(repeated: Sequence[str | int], held_out: str) -> list[str | int]:
    """The columns of replicates without the one that is not fitted."""
    return [column for column in repeated if str(column) != held_out]


@contextlib.contextmanager
def of_key(field: str) -> Iterator[None]:
    """Inside, what is wrong with a file is told with the key that names the file."""
    try:
        yield
    except InputError as error:
        if error.field.startswith(field):
            raise
        raise InputError(
            f"{field}: {error.field}", error.value, error.allowed
        ) from error


def given(spec: Record) -> Record:
    """The keys of a table that say something."""
    return {
        k: v
        for k, v in spec.items()
        if v is not None and v != {} and not (k == "skip" and v == 0)
    }


def table_of(field: str, path: Path, spec: Record) -> Table:
    """The text table of {file, ...} at a path; of a large one perhaps the first rows only."""
    if not is_table(path):
        raise InputError(field, spec["file"], f"a text table ({', '.join(TEXT_FILES)})")
    layout = _layout(spec)
    with of_key(field):
        if streamed.is_large(path):
            with contextlib.suppress(streamed.Odd):
                return streamed.head(path, layout)
        return read_table(path, layout)


def _layout(spec: Record) -> Layout:
    layout = {k: v for k, v in spec.items() if k in LAYOUT}
    if "missing" in layout and not isinstance(layout["missing"], list):
        layout["missing"] = [layout["missing"]]
    return Layout(**layout)


def axis_columns(
    field: str, table: Table, sources: Sources, dim: int, scale: float = 1.0
) -> list[int]:
    """The columns x, y, z, as many as the grid has axes: also 'X', 'x [m]', 'x (m)'; none where one
    is not there. Arguments and errors as `length_column`."""
    if not set(AXES[:dim]) <= set(_plain(table)):
        return []
    found = [length_column(field, table, axis, sources, scale) for axis in AXES[:dim]]
    return [place for place in found if place is not None]


def length_column(
    field: str, table: Table, name: str, sources: Sources, scale: float = 1.0
) -> int | None:
    """The column of lengths of this name, in large or small letters and perhaps with a unit behind
    it; None where there is none.

    Args:
        scale: factor that the case gives to the column.

    Raises:
        InputError: for two of them, and as `check_unit`.
    """
    places = [i for i, title in enumerate(_plain(table)) if title == name]
    if len(places) > 1:
        titles = ", ".join(table.names[i] for i in places)
        raise InputError(
            f"{field}: {table.path.name}",
            f"{len(places)} columns {name}: {titles}",
            "one of them; header = [...] gives columns other names",
        )
    if not places:
        return None
    check_unit(field, table, places[0], sources, scale)
    return places[0]


def _plain(table: Table) -> list[str]:
    """Names of columns in small letters, without what stands in brackets behind them."""
    return [
        re.split(r"[\[(]", title, maxsplit=1)[0].strip().lower()
        for title in table.names
    ]


def check_unit(
    field: str, table: Table, column: int, sources: Sources, scale: float = 1.0
) -> None:
    """Raises InputError for a column of lengths whose header names another unit than the case's,
    unless `scale` converts it."""
    for unit in table.units(column):
        if unit not in LENGTHS or not sources.unit.strip():
            continue
        factor = LENGTHS[unit] / LENGTHS.get(sources.unit, np.nan)
        if not np.isclose(factor, scale, rtol=1e-9):
            raise InputError(
                f"{field}: {table.path.name}",
                f"column {table.names[column]} in {unit}",
                f"lengths in the case's unit, {sources.unit} (case.length_unit); "
                "header = [...] takes its numbers as they are",
            )


def _array(field: str, path: Path, spec: Record, used: Used | None) -> np.ndarray:
    for key in sorted(COLUMN_KEYS - {"rows", "missing"}):
        if key in spec:
            allowed = f"a text table ({', '.join(TEXT_FILES)}), not {path.name}"
            raise InputError(f"{field}.{key}", repr(spec[key]), allowed)
    found = read_gridded(path, spec.get("key"), part=spec.get("part"), allow_nan=True)
    return without_codes(path, found, spec.get("missing"), used)


def without_codes(
    path: Path, found: Gridded, declared: Plain, used: Used | None
) -> np.ndarray:
    """The values of an array, NaN where they are codes of missing ones.

    Args:
        declared: a code or a list of them; None: nothing is said.
        used: as in `read_values`.

    Raises:
        InputError: for numbers that obviously stand for missing values, and are not declared.
    """
    codes = (
        declared
        if isinstance(declared, list)
        else []
        if declared is None
        else [declared]
    )
    values, rounding = found.values, found.rounding or 0.0
    missing = is_one_of(values, numbers_of(codes, number), rounding)
    values = np.where(missing, np.nan, values) if missing.any() else values
    if declared == []:  # which says that all are values
        return values
    odd = np.argwhere(undeclared(values, used, rounding))
    if len(odd):
        first = tuple(int(i) for i in odd[0])
        raise InputError(
            f"{path}",
            f"{values[first]:g} at {list(first)}, {len(odd)} of {values.size} values",
            DECLARE,
        )
    return values


def refuse_missing(field: str, path: Path, values: np.ndarray) -> None:
    """Raises InputError unless there is a value everywhere."""
    if not np.isnan(values.min(initial=0.0)):
        return
    missing = np.argwhere(np.isnan(values))
    if len(missing):
        first = [int(i) for i in missing[0]]
        at = f", the first at {first} (from 0)" if first else ""
        many = "value" if len(missing) == 1 else "values"
        said = f"{len(missing)} missing {many} in {path.name}{at}"
        raise InputError(field, said, "a value everywhere")


def _text(field: str, path: Path, spec: Record, used: Used | None) -> np.ndarray:
    for key in ("key", "part"):
        if key in spec:
            allowed = f"an array of a binary file; {path.name} has columns"
            raise InputError(f"{field}.{key}", repr(spec[key]), allowed)
    column = spec.get("column")
    if streamed.is_large(path):
        with contextlib.suppress(streamed.Odd):
            found = streamed.columns(path, _layout(spec), partial(_chosen, field, spec))
            return found if isinstance(column, list) else found[:, 0]
    table = read_table(path, _layout(spec))
    chosen = _chosen(field, spec, table)
    keep = np.ones(len(table.rows), bool)
    for place, low, high in chosen.ranges:
        values = table.numbers(place)
        keep &= (values >= low) & (values <= high)
    if not keep.any():
        allowed = f"ranges that hold some of the {keep.size} rows of {path.name}"
        raise InputError(f"{field}.where", spec["where"], allowed)
    columns = [table.numbers(place, used)[keep] for place in chosen.columns]
    return np.column_stack(columns) if isinstance(column, list) else columns[0]


def _chosen(field: str, spec: Record, table: Table) -> streamed.Chosen:
    """The columns of {file, ...}, and the ranges of others that choose rows."""
    ranges = [
        (table.index(f"{field}.where", name), ends[0], ends[1])
        for name, ends in spec.get("where", {}).items()
    ]
    column, name = spec.get("column"), table.path.name
    if column is None and table.width > 1:
        allowed = f"one of the columns of {name}: {table.columns}"
        raise InputError(f"{field}.column", "none", allowed)
    if column == []:
        allowed = f"columns of {name}: {table.columns}"
        raise InputError(f"{field}.column", "[]", allowed)
    listed = column if isinstance(column, list) else [0 if column is None else column]
    places = [table.index(f"{field}.column", c) for c in listed]
    return streamed.Chosen(places, ranges)


def _rows(field: str, rows: Sequence[int], count: int) -> slice:
    """[first, last, step] as a slice of `count` rows."""
    if not rows[0] <= rows[1] < count:
        allowed = f"[first, last, step] of the {count} rows, from 0, the last included"
        raise InputError(f"{field}.rows", rows, allowed)
    return slice(rows[0], rows[1] + 1, rows[2])

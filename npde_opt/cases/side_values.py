"""Boundary values of a case, on the sides of a grid: lists along the side's cells, and tables of
places along it and times, between which values are linear; beyond the first and the last one they
stay what they are there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from npde_opt.cases.experiment_tables import BoundaryValue, SideValue
from npde_opt.cases.field_tables import File
from npde_opt.cases.histories import check_times
from npde_opt.cases.placing import cells
from npde_opt.cases.resampling import resample
from npde_opt.cases.rules import sides
from npde_opt.cases.sections import CaseFile
from npde_opt.cases.sources import Log, Sources
from npde_opt.cases.tables import given, length_column, read_values, table_of
from npde_opt.cases.typed import as_dict
from npde_opt.errors import InputError
from npde_opt.grids import AXES
from npde_opt.io.tables import Table
from npde_opt.terms import boundary

TIME = boundary.TIME


@dataclass(frozen=True)
class SideTable:
    """A table of values.

    Attributes:
        axes: names of what the axes of `values` are, the time first where it is one of them.
        points: along each of these, increasing.
        file: where it comes from.
    """

    axes: tuple[str, ...]
    points: tuple[np.ndarray, ...]
    values: np.ndarray
    file: str

    @property
    def times(self) -> list[float]:
        return self.points[0].tolist() if TIME in self.axes else []


def read_sides(table: CaseFile, files: Sources, dim: int) -> None:
    """Boundary values that are tables in files are read, and stand for their files from then on."""
    for key, side, value in list(sides(table)):
        if not isinstance(value, File):
            continue
        found = _read(key, side, value, files, dim)
        if TIME in found.axes:
            if table.time is None:
                raise InputError(
                    key, f"a column {TIME} in {value.file}", "a section [time]"
                )
            check_times(key, table, found.times, open_ended=False)
        _put(table, key, side, found)


def _put(table: CaseFile, key: str, side: str, found: SideTable) -> None:
    """Replaces the value with this key."""
    for e, x in enumerate(table.experiment):
        start = f"experiment[{e}].boundary."
        if not key.startswith(start):
            continue
        species = key.removeprefix(start).removesuffix(side).rstrip(".")
        at = x.boundary[species] if species else x.boundary
        at[side] = found  # type: ignore[index, call-overload, assignment]


def _read(key: str, side: str, spec: File, files: Sources, dim: int) -> SideTable:
    """The table of {file, column}: each combination of its places and times once, in any order."""
    plain = given(as_dict(spec))
    for name in ("key", "part", "shape"):
        if name in plain:
            raise InputError(f"{key}.{name}", plain[name], "a text table with columns")
    table = table_of(key, files.find(key, spec.file), plain)
    axes, columns = _columns(key, side, table, files, dim)
    if not axes:
        along = [a for a in AXES[:dim] if a != side[0]]
        places = f"places ({', '.join(along)}) or " if along else ""
        said = f"a column of {places}times ({TIME})" + (", or both" if along else "")
        raise InputError(key, f"{spec.file} with the columns {table.columns}", said)
    value = _value_column(key, spec, table, columns)
    listed = {k: v for k, v in plain.items() if k != "scale"} | {
        "column": [*columns, value]
    }
    unheard = replace(files, log=Log())
    rows = read_values(key, listed, unheard, allow_nan=False)
    files.log.note(key, spec.file, rows[:, -1] * (spec.scale or 1.0))
    return _folded(key, spec, axes, rows)


def _columns(
    key: str, side: str, table: Table, files: Sources, dim: int
) -> tuple[tuple[str, ...], list[int]]:
    """What is given, and the columns that hold it."""
    named = [TIME, *(a for a in AXES[:dim] if a != side[0])]
    if not table.names:
        return (), []
    found = {name: _column(key, table, name, files) for name in named}
    return tuple(n for n in named if found[n] is not None), [
        c for c in found.values() if c is not None
    ]


def _column(key: str, table: Table, name: str, files: Sources) -> int | None:
    if name != TIME:
        return length_column(key, table, name, files)
    plain = [title.split("[")[0].split("(")[0].strip() for title in table.names]
    return plain.index(TIME) if TIME in plain else None


def _value_column(key: str, spec: File, table: Table, taken: Sequence[int]) -> int:
    """The column given, or the only one that is left."""
    if isinstance(spec.column, list):
        raise InputError(f"{key}.column", spec.column, "one column")
    if spec.column is not None:
        return table.index(f"{key}.column", spec.column)
    left = [i for i in range(len(table.names)) if i not in taken]
    if len(left) != 1:
        raise InputError(
            f"{key}.column", "none", f"the column of values: {table.columns}"
        )
    return left[0]


def _folded(key: str, spec: File, axes: tuple[str, ...], rows: np.ndarray) -> SideTable:
    """The values by places and times."""
    found = [np.unique(c, return_inverse=True) for c in rows[:, :-1].T]
    points, places = tuple(p for p, _ in found), tuple(i for _, i in found)
    shape = tuple(p.size for p in points)
    values = np.full(shape, np.nan)
    values[places] = rows[:, -1] * (spec.scale or 1.0)
    if values.size != len(rows) or np.isnan(values).any():
        said = f"{len(rows)} rows of {' x '.join(map(str, shape))} {' and '.join(axes)}"
        raise InputError(f"{key}: {spec.file}", said, "each combination of them once")
    return SideTable(axes, points, values, spec.file)


# ---- on a grid -----------------------------------------------------------------------------------


def on_side(
    key: str,
    side: str,
    value: BoundaryValue | SideTable,
    edges: Sequence[np.ndarray],
    homes: Sequence[Sequence[np.ndarray]],
) -> boundary.Value:
    """A boundary value on the cells of a side of the grid with these edges.

    Args:
        homes: edges of the case's own grids, one of which a list has the cells of.
    """
    if isinstance(value, SideTable):
        return _between(side, value, edges)
    if isinstance(value, SideValue):
        shape = on_side(f"{key}.value", side, value.value, edges, homes)
        assert not isinstance(shape, boundary.SideValue)
        history, times = value.history, value.times
        assert not isinstance(history, File) and not isinstance(times, File)
        return boundary.SideValue(shape, history, times, value.interpolation)
    assert not isinstance(value, File)
    return _listed(key, side, value, edges, homes) if isinstance(value, list) else value


def _others(side: str, edges: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The edges of a side's cells."""
    return [e for d, e in enumerate(edges) if d != AXES.index(side[0])]


def _listed(
    key: str,
    side: str,
    values: Sequence[float],
    edges: Sequence[np.ndarray],
    homes: Sequence[Sequence[np.ndarray]],
) -> np.ndarray:
    """One value a cell of the case's own grid, as means over the cells of this one."""
    own = [_others(side, home) for home in homes]
    for home in own:
        if len(values) == int(np.prod(cells(home))):
            native = np.reshape(values, cells(home), order="F")
            return resample(native, home, _others(side, edges))
    count = int(np.prod(cells(own[0])))
    raise InputError(
        key, f"{len(values)} values", f"{count}, one a cell of the side, x fastest"
    )


def _between(
    side: str, table: SideTable, edges: Sequence[np.ndarray]
) -> boundary.Value:
    """The table at the middles of the side's faces."""
    values = table.values
    others = [a for a in AXES[: len(edges)] if a != side[0]]
    for name, e in zip(others, _others(side, edges), strict=True):
        middles = (e[1:] + e[:-1]) / 2
        if name in table.axes:
            d = table.axes.index(name)
            values = _along(middles, table.points[d], values, d)
    for d, name in enumerate(others, start=int(TIME in table.axes)):
        if name not in table.axes:
            count = _others(side, edges)[d - int(TIME in table.axes)].size - 1
            values = np.repeat(np.expand_dims(values, d), count, axis=d)
    return boundary.SideValue(values, times=table.times)


def _along(
    x: np.ndarray, points: np.ndarray, values: np.ndarray, axis: int
) -> np.ndarray:
    """Linear interpolation along an axis."""
    return np.apply_along_axis(lambda v: np.interp(x, points, v), axis, values)

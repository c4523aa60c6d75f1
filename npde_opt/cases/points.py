"""Coordinates of a case: lists of points, and points and wells of text tables."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from npde_opt.aliases import Plain, Record
from npde_opt.cases.experiment_tables import Well
from npde_opt.cases.sources import Log, Sources
from npde_opt.cases.tables import (
    axis_columns,
    check_unit,
    given,
    is_table,
    length_column,
    read_values,
    table_of,
)
from npde_opt.cases.typed import as_dict
from npde_opt.errors import InputError
from npde_opt.grids import AXES
from npde_opt.io.gridded import box_text


def read_points(field: str, spec: Plain, sources: Sources, dim: int) -> np.ndarray:
    """Coordinates (n, dim) of {file, ...}: an array, or columns of a text table (default: x, y, z,
    or all that it has)."""
    spec = as_dict(spec)
    if is_table(Path(spec["file"])):
        spec = spec | {"column": _coordinate_columns(field, spec, sources, dim)}
    values = read_values(
        field, spec, dataclasses.replace(sources, log=Log()), allow_nan=False
    )
    found = points_of(values, dim, field)
    ends = np.stack([found.min(axis=0), found.max(axis=0)], axis=1)
    sources.log.note(field, spec["file"], found, box=box_text(list(ends)))
    return found


def _coordinate_columns(
    field: str, spec: Record, sources: Sources, dim: int
) -> list[int]:
    """The columns that the case names, else those named x, y, z (as the grid has axes), else all of
    a table of so many.

    Raises:
        InputError: for others, and as `check_unit`.
    """
    table = table_of(field, sources.find(field, spec["file"]), given(spec))
    wanted, scale = spec.get("column"), spec.get("scale") or 1.0
    if wanted is not None:
        listed = wanted if isinstance(wanted, list) else [wanted]
        columns = [table.index(f"{field}.column", column) for column in listed]
    else:
        columns = axis_columns(field, table, sources, dim, scale)
    if wanted is None and not columns:
        width = table.width
        if width != dim:
            allowed = f"{dim} of the columns of {table.path.name}: {table.columns}"
            raise InputError(f"{field}.column", "none", allowed)
        columns = list(range(dim))
    for column in columns:
        check_unit(field, table, column, sources, scale)
    return columns


def read_wells(field: str, spec: Plain, sources: Sources, dim: int) -> list[list[Well]]:
    """Wells by experiment from a text table with the columns x, y, z (as many as the grid has
    axes), rate and, where it has them, radius (0) and experiment (1, 2, ...; without it all wells
    are of one experiment).

    Raises:
        InputError: for a column that is missing or in another unit of length than the case, and
            experiments that are not numbered 1, 2, ...
    """
    spec = as_dict(spec)
    for key in ("column", "shape", "scale"):
        if spec.get(key) is not None:
            allowed = f"no {key}: columns of wells have their names"
            raise InputError(f"{field}.{key}", "given", allowed)
    where, wanted = f"{field}: {spec['file']}", _well_columns(field, spec, sources, dim)
    rows = read_values(
        field, spec | {"column": list(wanted.values())}, sources, allow_nan=False
    )
    columns = dict(zip(wanted, rows.T, strict=True))
    numbers = columns.get("experiment", np.ones(len(rows)))
    count, seen = int(numbers.max()), sorted(set(numbers.tolist()))
    if seen != list(range(1, count + 1)):
        raise InputError(where, f"experiments {seen}", "1, 2, ..., none left out")
    radii = columns.get("radius", np.zeros(len(rows)))
    if radii.min() < 0:
        raise InputError(where, f"a radius of {radii.min():g}", "radii >= 0")
    wells: list[list[Well]] = [[] for _ in range(count)]
    for number, row, rate, radius in zip(
        numbers, rows, columns["rate"], radii, strict=True
    ):
        well = Well(at=row[:dim].tolist(), rate=float(rate), radius=float(radius))
        wells[int(number) - 1].append(well)
    return wells


def _well_columns(
    field: str, spec: Record, sources: Sources, dim: int
) -> dict[str, str | int]:
    """The columns of a table of wells, coordinates first."""
    table = table_of(field, sources.find(field, spec["file"]), given(spec))
    axes = axis_columns(field, table, sources, dim)
    if not axes or "rate" not in table.names:
        names = ", ".join(table.names) or "without names"
        needed = ", ".join([*AXES[:dim], "rate"])
        allowed = f"{needed}; radius, experiment"
        raise InputError(f"{field}: {spec['file']}", f"the columns {names}", allowed)
    wanted: dict[str, str | int] = dict(zip(AXES, axes, strict=False))
    wanted["rate"] = "rate"
    radius = length_column(field, table, "radius", sources)
    if radius is not None:
        wanted["radius"] = radius
    if "experiment" in table.names:
        wanted["experiment"] = "experiment"
    return wanted


def points_of(values: Plain, dim: int, field: str) -> np.ndarray:
    """Coordinates (n, dim); on one axis a list of n numbers is n points."""
    try:
        found = np.asarray(values, float)
    except (TypeError, ValueError) as error:
        raise InputError(
            field, repr(values), f"a list of points of {dim} coordinates"
        ) from error
    if found.ndim == 1:
        found = found[:, None] if dim == 1 else found[None]
    if (
        found.ndim != 2
        or found.shape[1] != dim
        or not len(found)
        or not np.isfinite([found.min(), found.max()]).all()
    ):
        raise InputError(
            field,
            f"shape {found.shape}",
            f"(n, {dim}): n points of {dim} finite coordinates"
            + (
                f"; it looks transposed: ({dim}, n)"
                if found.shape[:1] == (dim,)
                else ""
            ),
        )
    return found


def check_pairs(
    field: str, pairs: Sequence[Sequence[int]], count: int, what: str
) -> list[tuple[int, int]]:
    """Pairs of numbers of `count` places. Raises InputError for one that is not of two of them."""
    for i, (a, b) in enumerate(pairs):
        if a == b or max(a, b) >= count:
            raise InputError(
                f"{field}[{i}]", [a, b], f"two different {what} from 0 to {count - 1}"
            )
    return [(a, b) for a, b in pairs]

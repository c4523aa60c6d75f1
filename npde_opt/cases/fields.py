"""Fields of a case at any resolution: numbers, expressions, files, pictures, anatomy, random
benchmark fields."""

from __future__ import annotations

import dataclasses

import numpy as np

from npde_opt.aliases import Plain, Record
from npde_opt.cases.pictures import picture
from npde_opt.cases.placing import cells, place
from npde_opt.cases.resampling import cell_of, nearest_values, resample
from npde_opt.cases.sources import Log, Sources
from npde_opt.cases.tables import (
    COLUMN_KEYS,
    axis_columns,
    given,
    is_table,
    of_key,
    read_values,
    refuse_missing,
    table_of,
    without_codes,
)
from npde_opt.cases.typed import as_dict
from npde_opt.errors import InputError
from npde_opt.functions.text import evaluate_text
from npde_opt.grids import AXES, along
from npde_opt.io.fields import READERS, read_gridded
from npde_opt.io.gridded import Gridded, box_text
from npde_opt.io.missing import Used

MODES = 16


def tissue(fractions: dict[str, np.ndarray], values: dict[str, float]) -> np.ndarray:
    """Mixture by volume; what is neither grey nor white matter is fluid."""
    total = np.maximum(fractions["grey"] + fractions["white"], 1.0)
    grey, white = fractions["grey"] / total, fractions["white"] / total
    return (
        grey * values["grey"]
        + white * values["white"]
        + (1 - grey - white) * values["csf"]
    )


def lognormal(
    centers: list[np.ndarray], lengths: list[float], contrast: float, seed: int
) -> np.ndarray:
    """exp(g) with g = sum_ij a_ij cos(pi i x) cos(pi j y) / (1 + i^2 + j^2), scaled to max / min =
    contrast."""
    dim = len(centers)
    a = np.random.default_rng(seed).standard_normal((MODES,) * dim)
    modes = np.arange(MODES)
    out = a / (1 + sum(along(modes, d, dim) ** 2 for d in range(dim)))
    for d, (c, length) in enumerate(zip(centers, lengths, strict=True)):
        basis = np.cos(np.pi * np.outer((c - c[0]) / length, modes))
        out = np.moveaxis(np.tensordot(basis, out, axes=(1, d)), 0, d)
    return np.exp(out * np.log(contrast) / (out.max() - out.min()))


def evaluate(
    field: str,
    spec: Plain,
    edges: list[np.ndarray],
    sources: Sources,
    nearest: bool = False,
) -> np.ndarray:
    """Global array [i, j, k] of a field's specification on the cells of `edges`; arrays are
    resampled by volume, or at the middles of the cells (`nearest`, for labels)."""
    if isinstance(spec, list):
        raise InputError(field, spec, "a number or a field; a list is a history's")
    found, number = None, isinstance(spec, int | float)
    spec = {"value": spec} if number else as_dict(spec)
    if "expression" in spec:
        values = expression(field, spec["expression"], edges)
    elif "mni152" in spec:
        if not sources.edges:
            allowed = "another field, or domain.mni152 = 'volume' or 'slice'"
            raise InputError(field, "mni152", allowed)
        values = resample(tissue(sources.voxels, spec["mni152"]), sources.edges, edges)
    elif "lognormal" in spec:
        options = {"contrast": 1000.0, "seed": 0} | spec["lognormal"]
        centers = [(e[1:] + e[:-1]) / 2 for e in edges]
        values = lognormal(
            centers, [e[-1] - e[0] for e in edges], options["contrast"], options["seed"]
        )
    elif "file" in spec:
        found = read_file(field, spec, sources)
        native, box = place(field, spec, found, edges, sources)
        values = (nearest_values if nearest else resample)(native, box, edges)
    elif "picture" in spec:
        values = picture(field, spec, edges, sources)
    else:
        values = np.full(cells(edges), float(spec["value"]), order="F")
    values = values * spec.get("scale", 1.0)
    if "clip" in spec:
        low, high = spec["clip"]
        if low > high:
            raise InputError(f"{field}.clip", spec["clip"], "[lo, hi] with lo <= hi")
        values = np.clip(values, low, high)
    if not np.isfinite(values).all():
        raise InputError(
            field,
            f"{int((~np.isfinite(values)).sum())} values that are not finite",
            "finite values",
        )
    if found is not None:
        sources.log.note(field, spec["file"], values, found.values.shape, found.box)
    else:
        sources.log.note(field, "" if number else next(iter(spec)), values)
    return np.asfortranarray(values)


def read_file(field: str, spec: Record, sources: Sources) -> Gridded:
    """The array of {file, ...} with its place; a column of a text table has x running fastest."""
    path = sources.find(field, spec["file"])
    if (
        not is_table(path)
        or path.suffix.lower() in READERS
        and not COLUMN_KEYS & set(given(spec))
    ):
        with of_key(field):
            found = read_gridded(path, spec.get("key"), part=spec.get("part"))
        if found.edges is not None and spec.get("rows") is not None:
            allowed = f"no rows: {spec['file']} says where its cells lie"
            raise InputError(f"{field}.rows", spec["rows"], allowed)
        if not (COLUMN_KEYS - {"missing"}) & set(given(spec)):
            with of_key(field):
                values = without_codes(path, found, spec.get("missing"), _used(spec))
            refuse_missing(field, path, values)
            return found
    table = {
        k: v for k, v in spec.items() if k not in ("shape", "scale", "resample", "clip")
    }
    unheard = dataclasses.replace(
        sources, log=Log()
    )  # `evaluate` notes what becomes of the values
    values = read_values(field, table, unheard, allow_nan=False, used=_used(spec))
    home = next(
        (h for h in sources.homes if values.shape == (np.prod(cells(h)),)), None
    )
    if home is None:
        return Gridded(values)
    axes = []
    if is_table(path):
        axes = axis_columns(
            field, table_of(field, path, given(table)), sources, len(home)
        )
    if axes:
        places = read_values(field, table | {"column": axes}, unheard, allow_nan=False)
        values = values[_rows_of_cells(field, spec["file"], places, home)]
    return Gridded(values.reshape(cells(home), order="F"))


def _used(spec: Record) -> Used | None:
    """Says which values of a field's file `clip` leaves as they are; None where it does not cut."""
    if spec.get("clip") is None:
        return None
    low, high = spec["clip"]
    scale = spec.get("scale", 1.0)
    return lambda values: (values * scale >= low) & (values * scale <= high)


def _rows_of_cells(
    field: str, file: str, places: np.ndarray, edges: list[np.ndarray]
) -> np.ndarray:
    """The row of each cell, x fastest, of a table whose columns x, y, z say where its rows lie.

    Raises:
        InputError: unless every cell holds the place of one row.
    """
    inside = [(p >= e[0]) & (p <= e[-1]) for p, e in zip(places.T, edges, strict=True)]
    index = [cell_of(p, e) for p, e in zip(places.T, edges, strict=True)]
    flat = np.ravel_multi_index(index, cells(edges), order="F")
    order = np.argsort(flat, kind="stable")
    if not np.all(inside) or not np.array_equal(flat[order], np.arange(flat.size)):
        raise InputError(
            field,
            f"columns {', '.join(AXES[: len(edges)])} of {file} over "
            f"{box_text([np.sort(p) for p in places.T])}",
            f"one row in every cell of the grid's box {box_text(edges)}; or other names of the "
            "columns "
            "(header = [...]), where rows are cells with x fastest",
        )
    return order


def expression(field: str, text: str, edges: list[np.ndarray]) -> np.ndarray:
    """A text in x, y, z at the middles of the cells."""
    dim = len(edges)
    names = {
        a: along((e[1:] + e[:-1]) / 2, d, dim)
        for d, (a, e) in enumerate(zip("xyz", edges, strict=False))
    }
    return np.array(
        np.broadcast_to(evaluate_text(field, text, names), cells(edges)),
        dtype=float,
    )


def labels(
    field: str,
    spec: Plain,
    edges: list[np.ndarray],
    sources: Sources,
    least: int = 0,
    most: int = 0,
) -> np.ndarray:
    """Numbers of regions [i, j, k], from `least`, as integers: what the field holds at the middles
    of the cells.

    Raises:
        InputError: for values that are no integers, or as large as the number of cells and as
            `most`.
    """
    found = evaluate(field, spec, edges, sources, nearest=True)
    low, high, off = found.min(), found.max(), np.abs(found - np.rint(found))
    if off.max() > 1e-6:
        raise InputError(field, f"{found.ravel()[off.argmax()]:g}", "integers")
    limit = max(found.size, most)
    if low < least or high >= limit:
        allowed = f"numbers from {least}, smaller than the number of cells ({limit:,})"
        raise InputError(
            field, f"region {int(low if low < least else high):,}", allowed
        )
    return np.rint(found).astype(int)

"""Fields of a case at any resolution: numbers, expressions, files, pictures, anatomy, random
benchmark fields."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from mpi4py import MPI

from npde_opt import reductions
from npde_opt.aliases import Plain, Record
from npde_opt.cases.parts import Part
from npde_opt.cases.pictures import picture
from npde_opt.cases.placing import cells, place
from npde_opt.cases.resampling import Resampling, cell_of
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
from npde_opt.errors import InputError, collective
from npde_opt.functions.text import evaluate_text
from npde_opt.grids import AXES, along
from npde_opt.io.fields import READERS, opened_by_one, read_gridded, read_window
from npde_opt.io.gridded import Gridded, box_text
from npde_opt.io.missing import Used, may_be_missing
from npde_opt.io.stored import Mapped, Stored, Window

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


def lognormal(part: Part, contrast: float, seed: int) -> np.ndarray:
    """exp(g) with g = sum_ij a_ij cos(pi i x) cos(pi j y) / (1 + i^2 + j^2), scaled to max / min =
    contrast over all cells. Collective."""
    dim = len(part.edges)
    a = np.random.default_rng(seed).standard_normal((MODES,) * dim)
    modes = np.arange(MODES)
    out = a / (1 + sum(along(modes, d, dim) ** 2 for d in range(dim)))
    for d, (e, cells_here) in enumerate(zip(part.edges, part.box, strict=True)):
        centers, length = (e[1:] + e[:-1]) / 2, e[-1] - e[0]
        away = (centers[cells_here] - centers[0]) / length
        basis = np.cos(np.pi * np.outer(away, modes))
        out = np.moveaxis(np.tensordot(basis, out, axes=(1, d)), 0, d)
    ends = np.array([out.max(initial=-np.inf), -out.min(initial=np.inf)])
    high, minus_low = reductions.largest(part.comm, ends)
    return np.exp(out * np.log(contrast) / (high + minus_low))


def evaluate(
    field: str,
    spec: Plain,
    edges: list[np.ndarray],
    sources: Sources,
    nearest: bool = False,
) -> np.ndarray:
    """All values [i, j, k] on the cells of `edges`, by this rank alone: see `evaluate_part`."""
    return evaluate_part(field, spec, Part.whole(edges), sources, nearest)


def evaluate_part(
    field: str, spec: Plain, part: Part, sources: Sources, nearest: bool = False
) -> np.ndarray:
    """The values [i, j, k] of a field's specification on the cells of a part; arrays are resampled
    by volume, or at the middles of the cells (`nearest`, for labels). Collective.

    Of files whose values lie there as they are (see `open_stored`) each rank reads its own window.
    Others are read by the first rank, slab by slab where their format allows that, which sends the
    others theirs. What a file holds outside of all windows, be it NaN, nobody looks at.
    """
    if isinstance(spec, list):
        raise InputError(field, spec, "a number or a field; a list is a history's")
    number = isinstance(spec, int | float)
    spec = {"value": spec} if number else as_dict(spec)
    with collective(part.comm):
        values, head = _values(field, spec, part, sources, nearest)
        values = values * spec.get("scale", 1.0)
        if "clip" in spec:
            low, high = spec["clip"]
            if low > high:
                allowed = "[lo, hi] with lo <= hi"
                raise InputError(f"{field}.clip", spec["clip"], allowed)
            values = np.clip(values, low, high)
    wrong = reductions.total(part.comm, float((~np.isfinite(values)).sum()))
    if wrong:
        said = f"{int(wrong)} values that are not finite"
        raise InputError(field, said, "finite values")
    origin = "" if number else next(iter(spec))
    if head is not None:
        origin = spec["file"]
    shape, box = (part.cells, "") if head is None else (head.shape, head.box)
    if "picture" not in spec:
        sources.log.note(field, origin, values, shape, box, part.comm)
    return np.asfortranarray(values)


def _values(
    field: str, spec: Record, part: Part, sources: Sources, nearest: bool
) -> tuple[np.ndarray, Stored | None]:
    """Before they are scaled and clipped, and the head of the file that they are from."""
    if "expression" in spec:
        return expression(field, spec["expression"], part), None
    if "lognormal" in spec:
        options = {"contrast": 1000.0, "seed": 0} | spec["lognormal"]
        return lognormal(part, options["contrast"], options["seed"]), None
    if "picture" in spec:
        return picture(field, spec, part, sources), None
    if "mni152" in spec:
        if not sources.edges:
            allowed = "another field, or domain.mni152 = 'volume' or 'slice'"
            raise InputError(field, "mni152", allowed)
        way = Resampling(sources.edges, part, nearest=False)
        names = ("grey", "white")
        there = {name: sources.voxels(name, way.window) for name in names}
        return way(tissue(there, spec["mni152"])), None
    if "file" in spec:
        return _of_file(field, spec, part, sources, nearest)
    return np.full(part.shape, float(spec["value"]), order="F"), None


def _of_file(
    field: str, spec: Record, part: Part, sources: Sources, nearest: bool
) -> tuple[np.ndarray, Stored]:
    """Collective."""
    stored, flows = _stored(field, spec, part.comm, sources)
    if stored is not None:
        path = sources.find(field, spec["file"])
        shape, box = place(field, spec, stored, part.edges, sources)
        way = Resampling(box, part, nearest)
        with of_key(field):
            found, rounding = read_window(
                path,
                stored,
                shape,
                way.window,
                spec.get("part"),
                part.comm if flows else None,
            )
        # What is odd is told by who sees all of it.
        plain = np.isfinite(found).all()
        if plain and spec.get("missing") is None:
            plain = not may_be_missing(found, rounding).any()
        if reductions.everywhere(part.comm, bool(plain)):
            return way(found), stored
    comm, whole, head = part.comm, None, None
    with collective(comm):
        if comm.rank == 0:
            whole = read_file(field, spec, sources)
            head = Mapped.of(whole).head
    head = comm.bcast(head, root=0)
    assert head is not None
    shape, box = place(field, spec, head, part.edges, sources)
    way = Resampling(box, part, nearest)
    values = None if whole is None else whole.values.reshape(shape, order="F")
    return way(scattered(comm, values, way.window)), head


def _stored(
    field: str, spec: Record, comm: MPI.Intracomm, sources: Sources
) -> tuple[Stored | None, bool]:
    """The array of a file of which parts can be read, and which is nothing but values, and whether
    it is a stream. Collective."""
    path = sources.find(field, spec["file"])
    if spec.get("missing") not in (None, []):
        return None, False
    if (COLUMN_KEYS - {"missing"}) & set(given(spec)):
        return None, False
    if is_table(path) and path.suffix.lower() not in READERS:
        return None, False
    with of_key(field):
        found, flows = opened_by_one(path, spec.get("key"), comm)
    if found is not None and found.dtype.kind not in "fiub" and not spec.get("part"):
        return None, False
    return found, flows


def scattered(
    comm: MPI.Intracomm, whole: np.ndarray | None, window: Window
) -> np.ndarray:
    """A window of an array that the first rank has. Collective."""
    windows = comm.gather(window, root=0)
    if comm.rank:
        found: np.ndarray = comm.recv(source=0)
        return found
    assert whole is not None and windows is not None
    for rank, other in enumerate(windows[1:], start=1):
        comm.send(np.array(whole[other]), rank)
    return whole[window]


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


def expression(field: str, text: str, part: Part) -> np.ndarray:
    """A text in x, y, z at the middles of the cells of a part."""
    dim = len(part.edges)
    centers = [(e[1:] + e[:-1]) / 2 for e in part.own_edges]
    names = {
        a: along(c, d, dim) for d, (a, c) in enumerate(zip(AXES, centers, strict=False))
    }
    found = evaluate_text(field, text, names)
    return np.array(np.broadcast_to(found, part.shape), dtype=float)


def labels(
    field: str,
    spec: Plain,
    part: Part,
    sources: Sources,
    least: int = 0,
    most: int = 0,
) -> np.ndarray:
    """Numbers of regions [i, j, k] of the cells of a part, from `least`, as integers: what the
    field holds at the middles of the cells. Collective.

    Raises:
        InputError: for values that are no integers, or as large as the number of cells and as
            `most`.
    """
    found = evaluate_part(field, spec, part, sources, nearest=True)
    limit = max(math.prod(part.cells), most)
    with collective(part.comm):
        if found.size:
            _check_numbers(field, found, least, limit)
    return np.rint(found).astype(int)


def _check_numbers(field: str, found: np.ndarray, least: int, limit: int) -> None:
    low, high, off = found.min(), found.max(), np.abs(found - np.rint(found))
    if off.max() > 1e-6:
        raise InputError(field, f"{found.ravel()[off.argmax()]:g}", "integers")
    if low < least or high >= limit:
        allowed = f"numbers from {least}, smaller than the number of cells ({limit:,})"
        raise InputError(
            field, f"region {int(low if low < least else high):,}", allowed
        )

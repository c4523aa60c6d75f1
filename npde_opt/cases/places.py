"""Where a case puts things: electrodes, wells and ground as patches of cells, and what is observed."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from npde_opt.capacity import fits
from npde_opt.cases.domain import Domain
from npde_opt.cases.fields import evaluate
from npde_opt.cases.outline import outline, ring_levels
from npde_opt.cases.random_points import random_points
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
from npde_opt.errors import InputError
from npde_opt.forward import Experiment
from npde_opt.grids import AXES, Boundary, Grid, along
from npde_opt.grids.locate import boxed, located, offsets
from npde_opt.io.gridded import box_text
from npde_opt.observations import (
    Functionals,
    ball_mean,
    box_mean,
    cell_sum,
    integral,
    points_at,
    side_mean,
    together,
)

POINT_BYTES = 500
"""At least, of an observed point: coordinates, its row of the operator, its data."""


@dataclass(frozen=True, eq=False)
class Patch:
    """Weights of sum 1 on some cells, given by one index array an axis."""

    cells: tuple[np.ndarray, ...]
    weights: np.ndarray

    def add(self, grid: Grid, amount: float, out: np.ndarray) -> None:
        """Adds amount * weights to the owned values `out`."""
        own = [c - s for c, s in zip(self.cells, grid.start, strict=True)]
        here = np.all([(i >= 0) & (i < n) for i, n in zip(own, grid.local_shape, strict=True)], axis=0)
        out[tuple(i[here] for i in own)] += amount * self.weights[here]


def patch(grid: Grid, at: Sequence[float], radius: float, field: str,
          nearest: bool = False) -> Patch:
    """A bump (1 - (r / radius)^2)^2 over the active cells with centres within `radius`, by volume,
    or the cell that holds the point where there are none. On periodic axes distances are the
    shortest ways round; `locate.py` says where a point may lie, and what `nearest` is.

    Raises:
        InputError: for a point outside the box, or one far from active cells unless `nearest`.
    """
    x = np.asarray(at, float)
    if x.shape != (grid.dim,) or not np.isfinite(x).all():
        raise InputError(field, list(at), f"{grid.dim} coordinates")
    boxed(grid, x[None], [field], nearest)
    away = [np.abs(offsets(grid, d, c, a)) for d, (c, a) in enumerate(zip(grid.centers, x, strict=True))]
    near = [np.flatnonzero(r < radius) for r in away]
    squares = np.asarray(sum(along((r[i] / radius if i.size else r[i]) ** 2, d, grid.dim)
                             for d, (r, i) in enumerate(zip(away, near, strict=True))))
    inside = squares < 1
    if grid.active_global is not None:
        inside = inside & grid.active_global[np.ix_(*near)]
    if not inside.any():
        _, cells = located(grid, x[None], [field], nearest)
        return Patch(tuple(cells), np.ones(1))
    widths = [w[i] / w.max() for w, i in zip(grid.widths, near, strict=True)]  # in any unit
    weights = ((1 - squares) ** 2 * grid.outer(widths))[inside]
    found = np.nonzero(inside)
    return Patch(tuple(i[f] for i, f in zip(near, found, strict=True)), weights / weights.sum())


class Places:
    """Electrodes, experiments and observations of a validated case.

    On the case's own grid each place must have an active cell; on others (coarser ones of nested
    iteration, the finer one that data are simulated on) what has none goes to the nearest.
    """

    def __init__(self, domain: Domain, seed: int):
        self.domain, self.table, self.seed = domain, domain.table, seed
        self.electrode_table: dict[str, Any] | None = self.table["experiments"]["electrodes"]
        wells = self.table["experiments"]["wells"]
        if isinstance(wells, dict):
            self.table["experiments"]["wells"] = read_wells("experiments.wells", wells, domain.sources, domain.dim)

    def _check_experiments(self) -> None:
        """Raises InputError for boundary values on sides that have none, and where boundary values or wells are of more
        experiments than there are electrodes."""
        e = self.table["experiments"]
        open_sides = [side for side, b in self.domain.boundaries.items() if b.kind != "periodic"]
        for k, sides in enumerate(e["boundary"] or []):
            for side in sides:
                if side not in open_sides:
                    raise InputError(f"experiments.boundary[{k}]", side,
                                     ", ".join(open_sides) or "nothing: all sides are periodic")
        for key in ("boundary", "wells") if self.electrode_table is not None else ():
            count = len(e[key] or [])
            if count > len(self.electrodes):
                raise InputError(f"experiments.{key}", f"{count} experiments",
                                 f"at most {len(self.electrodes)}, one an electrode")

    def _elsewhere(self, grid: Grid) -> bool:
        """Whether a grid is another one than the case's own."""
        return not self.domain.is_own(grid)

    def check(self, grid: Grid) -> None:
        """Raises InputError for places without active cells on the case's own grid."""
        self.experiments(grid, range(self.experiment_count), np.zeros(grid.local_shape))
        if self.table["equation"]["ground"] is not None:
            self.ground(grid)
        self.functionals(grid)

    @cached_property
    def electrodes(self) -> np.ndarray:
        """Centres (n, dim): as given, or in rings around the outline of the active cells in axial planes, found on the
        finest native resolution so that all grids share them."""
        e, dim = self.electrode_table, self.domain.dim
        if e is None:
            return np.empty((0, dim))
        if e["at"] is not None:
            return points_of(e["at"], dim, "experiments.electrodes.at")
        if dim < 2:
            raise InputError("experiments.electrodes.count", e["count"], "electrodes.at in one dimension")
        if any(self.domain.boundaries.get(a + "-", Boundary()).kind == "periodic" for a in "xy"):
            raise InputError("experiments.electrodes.count", e["count"],
                             "electrodes.at where x or y is periodic: there is no outline")
        edges = self.domain.sources.edges or self.domain.edges
        mask = self.domain.mask(edges)
        if mask is None:
            mask = np.ones([x.size - 1 for x in edges], bool)
        if dim == 2:
            return outline(mask, edges, e["count"], e["radius"])
        rings = []
        for level in ring_levels(mask, e["rings"]):
            ring = outline(mask[:, :, level], edges, e["count"], e["radius"])
            height = (edges[2][level] + edges[2][level + 1]) / 2
            rings.append(np.column_stack([ring, np.full(len(ring), height)]))
        return np.concatenate(rings)

    def electrode_patches(self, grid: Grid) -> list[Patch]:
        """The cells of every electrode. Rings are found on the domain's finest cells, so that also
        on the case's own grid a point of them may be beside its active cells."""
        e = self.electrode_table
        if e is None:
            return []
        nearest = self._elsewhere(grid) or e["at"] is None
        return [patch(grid, x, e["radius"], f"experiments.electrodes[{k}]", nearest)
                for k, x in enumerate(self.electrodes)]

    def sink(self, k: int) -> int:
        """The electrode that takes the current which electrode k gives."""
        e, n = self.electrode_table, len(self.electrodes)
        assert e is not None
        return (k + (1 if e["pattern"] == "adjacent" else n // 2)) % n

    @property
    def experiment_count(self) -> int:
        e = self.table["experiments"]
        if self.electrode_table is not None:
            return len(self.electrodes)
        return max(len(e["boundary"] or []), len(e["wells"]), 1)

    def experiments(self, grid: Grid, own: Sequence[int], source: np.ndarray) -> list[Experiment]:
        """The experiments numbered in `own`; `source` is the owned part of f in all of them."""
        self._check_experiments()
        e, base = self.table["experiments"], source * grid.volume
        electrodes, patches, out = self.electrode_table, self.electrode_patches(grid), []
        for k in own:
            load = base.copy(order="F")
            if electrodes is not None:
                patches[k].add(grid, electrodes["current"], load)
                patches[self.sink(k)].add(grid, -electrodes["current"], load)
            for j, well in enumerate(e["wells"][k] if k < len(e["wells"]) else []):
                where = f"experiments.wells[{k}][{j}].at"
                found = patch(grid, well["at"], well["radius"], where, self._elsewhere(grid))
                found.add(grid, well["rate"], load)
            sides = e["boundary"][k] if e["boundary"] and k < len(e["boundary"]) else {}
            out.append(Experiment(load=load, boundary=sides))
        return out

    def ground(self, grid: Grid) -> np.ndarray:
        """Owned reaction coefficients of the ground."""
        g, out = self.table["equation"]["ground"], np.zeros(grid.local_shape, order="F")
        found = patch(grid, g["at"], g["radius"], "equation.ground.at", self._elsewhere(grid))
        found.add(grid, g["conductance"], out)
        return out / grid.volume

    @cached_property
    def points(self) -> np.ndarray:
        """Observation points (n, dim), possibly none."""
        o, dim = self.table["observations"], self.domain.dim
        if isinstance(o["points"], dict):
            return read_points("observations.points", o["points"], self.domain.sources, dim)
        if o["points"] is not None:
            return points_of(o["points"], dim, "observations.points")
        return self._random(o["random"]) if o["random"] is not None else np.empty((0, dim))

    @property
    def markers(self) -> np.ndarray | None:
        """What figures mark: electrodes and observation points."""
        both = np.concatenate([self.electrodes, self.points])
        return both if len(both) else None

    def _random(self, count: int) -> np.ndarray:
        """Points (count, dim) drawn uniformly over where all grids that see them are active: the
        case's own and the one that data are simulated on (coarser ones of nested iteration are
        active wherever the case's own is)."""
        if count < 1:
            raise InputError("observations.random", count, "a positive number of points")
        fits("observations.random", count, POINT_BYTES, "points")
        grids = [self.domain.edges]
        if self.table["observations"]["data"] is None:
            grids.append(self.domain.data_edges())
        masks = [(edges, mask) for edges in grids if (mask := self.domain.mask(edges)) is not None]
        rng = np.random.default_rng([self.seed, 1])
        return random_points(rng, count, self.domain.edges, masks, "observations.random")

    def functionals(self, grid: Grid) -> Functionals:
        """What is observed in every experiment: electrodes, points, sides, boxes, balls, integrals, in this order."""
        o, found = self.table["observations"], list[Functionals]()
        nearest = self._elsewhere(grid)
        if o["at_electrodes"]:
            if self.electrode_table is None:
                raise InputError("observations.at_electrodes", True, "false, or experiments.electrodes")
            found += [cell_sum(grid, p.cells, p.weights) for p in self.electrode_patches(grid)]
        if len(self.points):
            found.append(points_at(grid, self.points, "observations.points", nearest))
        for k, part in enumerate(o["sides"]):
            where = f"observations.sides[{k}]"
            spec: dict[str, Any] = {"side": part} if isinstance(part, str) else part
            corners = spec.get("lower"), spec.get("upper")
            found.append(side_mean(grid, spec["side"], *corners, where, nearest))
        for k, box in enumerate(o["boxes"]):
            where = f"observations.boxes[{k}]"
            found.append(box_mean(grid, box["lower"], box["upper"], where, nearest))
        for k, ball in enumerate(o["balls"]):
            where = f"observations.balls[{k}]"
            found.append(ball_mean(grid, ball["at"], ball["radius"], where, nearest))
        for k, spec in enumerate(o["integrals"]):
            density = evaluate(f"observations.integrals[{k}]", spec, list(grid.edges), self.domain.sources)
            found.append(integral(grid, density))
        if not found:
            raise InputError("observations", "nothing observed", "points, random, at_electrodes, sides, boxes, balls or "
                             "integrals")
        return together(found)

    def drop_driven(self, observed: np.ndarray) -> None:
        """Electrodes that carry current are not read (four-terminal measurement): NaN in (experiments, data)."""
        if self.electrode_table is not None and self.table["observations"]["at_electrodes"]:
            for k in range(len(observed)):
                observed[k, [k, self.sink(k)]] = np.nan


def read_points(field: str, spec: dict[str, Any], sources: Sources, dim: int) -> np.ndarray:
    """Coordinates (n, dim) of {file, ...}: an array, or columns of a text table (default: x, y, z, or all that it has)."""
    if is_table(Path(spec["file"])):
        spec = spec | {"column": _coordinate_columns(field, spec, sources, dim)}
    values = read_values(field, spec, dataclasses.replace(sources, log=Log()), allow_nan=False)
    found = points_of(values, dim, field)
    sources.log.note(field, spec["file"], found, box=box_text([np.sort(x) for x in found.T]))
    return found


def _coordinate_columns(field: str, spec: dict[str, Any], sources: Sources, dim: int) -> list[int]:
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
        width = len(table.rows[0])
        if width != dim:
            raise InputError(
                f"{field}.column",
                "none",
                f"{dim} of the columns of {table.path.name}: {table.columns}",
            )
        columns = list(range(dim))
    for column in columns:
        check_unit(field, table, column, sources, scale)
    return columns


def read_wells(
    field: str, spec: dict[str, Any], sources: Sources, dim: int
) -> list[list[dict[str, Any]]]:
    """Wells by experiment from a text table with the columns x, y, z (as many as the grid has axes), rate and, where it
    has them, radius (0) and experiment (1, 2, ...; without it all wells are of one experiment).

    Raises:
        InputError: for a column that is missing or in another unit of length than the case, and
            experiments that are not numbered 1, 2, ...
    """
    for key in ("column", "shape", "scale"):
        if spec.get(key) is not None:
            raise InputError(f"{field}.{key}", "given", f"no {key}: columns of wells have their names")
    where, wanted = f"{field}: {spec['file']}", _well_columns(field, spec, sources, dim)
    rows = read_values(field, spec | {"column": list(wanted.values())}, sources, allow_nan=False)
    columns = dict(zip(wanted, rows.T, strict=True))
    numbers = columns.get("experiment", np.ones(len(rows)))
    count, seen = int(numbers.max()), sorted(set(numbers.tolist()))
    if seen != list(range(1, count + 1)):
        raise InputError(where, f"experiments {seen}", "1, 2, ..., none left out")
    radii = columns.get("radius", np.zeros(len(rows)))
    if radii.min() < 0:
        raise InputError(where, f"a radius of {radii.min():g}", "radii >= 0")
    wells: list[list[dict[str, Any]]] = [[] for _ in range(count)]
    for number, row, rate, radius in zip(numbers, rows, columns["rate"], radii, strict=True):
        well = {"at": row[:dim].tolist(), "rate": float(rate), "radius": float(radius)}
        wells[int(number) - 1].append(well)
    return wells


def _well_columns(
    field: str, spec: dict[str, Any], sources: Sources, dim: int
) -> dict[str, str | int]:
    """The columns of a table of wells, coordinates first."""
    table = table_of(field, sources.find(field, spec["file"]), given(spec))
    axes = axis_columns(field, table, sources, dim)
    if not axes or "rate" not in table.names:
        names = ", ".join(table.names) or "without names"
        needed = ", ".join([*AXES[:dim], "rate"])
        raise InputError(
            f"{field}: {spec['file']}", f"the columns {names}", f"{needed}; radius, experiment"
        )
    wanted: dict[str, str | int] = dict(zip(AXES, axes, strict=False))
    wanted["rate"] = "rate"
    radius = length_column(field, table, "radius", sources)
    if radius is not None:
        wanted["radius"] = radius
    if "experiment" in table.names:
        wanted["experiment"] = "experiment"
    return wanted


def points_of(values: Any, dim: int, field: str) -> np.ndarray:
    """Coordinates (n, dim); on one axis a list of n numbers is n points."""
    try:
        found = np.asarray(values, float)
    except (TypeError, ValueError) as error:
        raise InputError(field, repr(values), f"a list of points of {dim} coordinates") from error
    if found.ndim == 1:
        found = found[:, None] if dim == 1 else found[None]
    if found.ndim != 2 or found.shape[1] != dim or not len(found) or not np.isfinite(found).all():
        raise InputError(field, f"shape {found.shape}", f"(n, {dim}): n points of {dim} finite coordinates"
                         + (f"; it looks transposed: ({dim}, n)" if found.shape[:1] == (dim,) else ""))
    return found

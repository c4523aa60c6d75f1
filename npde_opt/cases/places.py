"""Where a case puts things: electrodes, wells and ground as patches of cells, and what is observed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from npde_opt.cases.domain import Domain
from npde_opt.cases.fields import evaluate
from npde_opt.cases.sources import Sources
from npde_opt.cases.tables import is_table, read_values
from npde_opt.errors import InputError
from npde_opt.forward import Experiment
from npde_opt.grids import Grid, along
from npde_opt.observations import Functional, ball_mean, box_mean, cell_sum, integral, point_values, side_mean
from npde_opt.operators import cells_of, check_points


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


def patch(grid: Grid, at: Sequence[float], radius: float, field: str) -> Patch:
    """A bump (1 - (r / radius)^2)^2 over the active cells within `radius`, by volume, or the cell that holds the point
    where there are none. Raises InputError for a point outside the box, or far from active cells."""
    x = np.asarray(at, float)
    if x.shape != (grid.dim,) or not np.isfinite(x).all():
        raise InputError(field, list(at), f"{grid.dim} coordinates")
    for a, e, axis in zip(x, grid.edges, "xyz", strict=False):
        if not e[0] <= a <= e[-1]:
            raise InputError(field, x.tolist(), f"a point in the domain: {axis} from {e[0]:g} to {e[-1]:g}")
    near = [np.flatnonzero(np.abs(c - a) < radius) for c, a in zip(grid.centers, x, strict=True)]
    distance = sum(along((c[i] - a) ** 2, d, grid.dim) for d, (c, a, i) in enumerate(zip(grid.centers, x, near, strict=True)))
    inside = np.asarray(distance) < radius**2
    if grid.active_global is not None:
        inside = inside & grid.active_global[np.ix_(*near)]
    if not inside.any():
        check_points(grid, x[None], field)
        return Patch(tuple(cells_of(grid, x[None])), np.ones(1))
    volume = grid.outer([w[i] for w, i in zip(grid.widths, near, strict=True)])
    weights = ((1 - distance / radius**2) ** 2 * volume)[inside]
    found = np.nonzero(inside)
    return Patch(tuple(i[f] for i, f in zip(near, found, strict=True)), weights / weights.sum())


class Places:
    """Electrodes, experiments and observations of a validated case."""

    def __init__(self, domain: Domain, seed: int):
        self.domain, self.table, self.seed = domain, domain.table, seed
        self.electrode_table: dict[str, Any] | None = self.table["experiments"]["electrodes"]

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
        edges = self.domain.sources.edges or self.domain.edges
        mask = self.domain.mask(edges)
        if mask is None:
            mask = np.ones([x.size - 1 for x in edges], bool)
        if dim == 2:
            return outline(mask, edges, e["count"], e["radius"])
        rings = []
        for level in ring_levels(mask, e["rings"]):
            ring = outline(mask[:, :, level], edges, e["count"], e["radius"])
            rings.append(np.column_stack([ring, np.full(len(ring), (edges[2][level] + edges[2][level + 1]) / 2)]))
        return np.concatenate(rings)

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
        e, base = self.table["experiments"], source * grid.volume
        electrodes = self.electrode_table
        patches = [] if electrodes is None else [
            patch(grid, x, electrodes["radius"], f"experiments.electrodes[{k}]") for k, x in enumerate(self.electrodes)]
        out = []
        for k in own:
            load = base.copy(order="F")
            if electrodes is not None:
                patches[k].add(grid, electrodes["current"], load)
                patches[self.sink(k)].add(grid, -electrodes["current"], load)
            for j, well in enumerate(e["wells"][k] if k < len(e["wells"]) else []):
                patch(grid, well["at"], well["radius"], f"experiments.wells[{k}][{j}].at").add(grid, well["rate"], load)
            sides = e["boundary"][k] if e["boundary"] and k < len(e["boundary"]) else {}
            out.append(Experiment(load, sides))
        return out

    def ground(self, grid: Grid) -> np.ndarray:
        """Owned reaction coefficients of the ground."""
        g, out = self.table["equation"]["ground"], np.zeros(grid.local_shape, order="F")
        patch(grid, g["at"], g["radius"], "equation.ground.at").add(grid, g["conductance"], out)
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
        if count < 1:
            raise InputError("observations.random", count, "a positive number of points")
        edges, found = self.domain.edges, list[np.ndarray]()
        rng, mask = np.random.default_rng([self.seed, 1]), self.domain.mask(edges)
        if mask is not None and not mask.any():
            raise InputError("grid.active", "no active cell", "at least one")
        while len(found) < count:
            x = np.array([rng.uniform(e[0], e[-1]) for e in edges])
            cell = tuple(min(int(np.searchsorted(e, v, side="right")) - 1, e.size - 2) for e, v in zip(edges, x, strict=True))
            if mask is None or mask[cell]:
                found.append(x)
        return np.array(found)

    def functionals(self, grid: Grid) -> list[Functional]:
        """What is observed in every experiment: electrodes, points, sides, boxes, balls, integrals, in this order."""
        o, found = self.table["observations"], list[Functional]()
        if o["at_electrodes"]:
            e = self.electrode_table
            if e is None:
                raise InputError("observations.at_electrodes", True, "false, or experiments.electrodes")
            patches = [patch(grid, x, e["radius"], f"experiments.electrodes[{k}]") for k, x in enumerate(self.electrodes)]
            found += [cell_sum(grid, p.cells, p.weights) for p in patches]
        found += point_values(self.points) if len(self.points) else []
        for k, part in enumerate(o["sides"]):
            where = f"observations.sides[{k}]"
            found.append(side_mean(grid, part, field=where) if isinstance(part, str) else
                         side_mean(grid, part["side"], part["lower"], part["upper"], where))
        for k, box in enumerate(o["boxes"]):
            found.append(box_mean(grid, box["lower"], box["upper"], f"observations.boxes[{k}]"))
        for k, ball in enumerate(o["balls"]):
            found.append(ball_mean(grid, ball["at"], ball["radius"], f"observations.balls[{k}]"))
        for k, spec in enumerate(o["integrals"]):
            density = evaluate(f"observations.integrals[{k}]", spec, list(grid.edges), self.domain.sources)
            found.append(integral(grid, density))
        if not found:
            raise InputError("observations", "nothing observed", "points, random, at_electrodes, sides, boxes, balls or "
                             "integrals")
        return found

    def drop_driven(self, observed: np.ndarray) -> None:
        """Electrodes that carry current are not read (four-terminal measurement): NaN in (experiments, data)."""
        if self.electrode_table is not None and self.table["observations"]["at_electrodes"]:
            for k in range(len(observed)):
                observed[k, [k, self.sink(k)]] = np.nan


def read_points(field: str, spec: dict[str, Any], sources: Sources, dim: int) -> np.ndarray:
    """Coordinates (n, dim) of {file, ...}: an array, or columns of a text table (default: all that it has)."""
    if is_table(Path(spec["file"])) and spec.get("column") is None:
        spec = spec | {"column": list(range(dim)) if dim > 1 else 0}
    return points_of(read_values(field, spec, sources, allow_nan=False), dim, field)


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


def ring_levels(mask: np.ndarray, rings: int) -> list[int]:
    """Indices of axial planes."""
    if rings < 1:
        raise InputError("experiments.electrodes.rings", rings, "at least 1")
    if rings == 1:
        return [mask.shape[2] // 2]
    on = np.flatnonzero(mask.any(axis=(0, 1)))
    return [int(on[(k + 1) * on.size // (rings + 1)]) for k in range(rings)]


def outline(plane: np.ndarray, edges: list[np.ndarray], count: int, radius: float) -> np.ndarray:
    """Points (count, 2) at even angles on the outline of a plane's active cells, half a radius inside it."""
    x, y = ((a[1:] + a[:-1]) / 2 for a in edges[:2])
    i, j = np.nonzero(plane)
    if not i.size:
        raise InputError("experiments.electrodes", "no active cell in the middle plane", "electrodes.at")
    cx, cy = x[i].mean(), y[j].mean()
    angle, r = np.arctan2(y[j] - cy, x[i] - cx), np.hypot(x[i] - cx, y[j] - cy)
    found = []
    for target in 2 * np.pi * np.arange(count) / count:
        near = np.abs(np.angle(np.exp(1j * (angle - target)))) < np.pi / max(count, 60)
        k = np.argmax(np.where(near, r, -1))
        pull = max(0.0, 1 - 0.5 * radius / r[k])
        found.append([cx + pull * (x[i[k]] - cx), cy + pull * (y[j[k]] - cy)])
    return np.array(found)

"""What is left in chosen places of unknown fields, and between them, by [posterior] places:
places.csv.

With unit vectors e_i of the cells that hold the places, of every field one,

    deviation_i = sqrt(e_i^T C e_i),   correlation_ij = e_i^T C e_j / (deviation_i deviation_j),

under the prior (C = P^-1) and under the posterior, of the parameter (a logarithm, where it is
one).
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from petsc4py import PETSc

from npde_opt.aliases import Record
from npde_opt.cases import Case
from npde_opt.cases.on_grid import OnGrid
from npde_opt.errors import InputError
from npde_opt.grids import AXES, Grid
from npde_opt.grids.locate import located
from npde_opt.parameters import ParameterSpace
from npde_opt.posterior import Laplace
from npde_opt.runs.told import PLACES

FILE = "places.csv"


@dataclass(frozen=True)
class Between:
    """Rows are pairs of an unknown field and a place, by field and place.

    Attributes:
        unknowns: of every row (n,). numbers: of its place. at: coordinates (n, dim).
        values: of the coefficient. slopes: of it in the parameter.
        before, after: prior and posterior covariance of the parameters (n, n).
    """

    unknowns: tuple[str, ...]
    numbers: tuple[int, ...]
    at: np.ndarray
    values: np.ndarray
    slopes: np.ndarray
    before: np.ndarray
    after: np.ndarray

    def metrics(self) -> Record:
        """For summary.json. Where nothing may move there is no correlation: null."""
        wide = [_deviations(c) for c in (self.before, self.after)]
        rows = [
            {
                "unknown": name,
                "place": number,
                "at": self.at[k].tolist(),
                "value": float(self.values[k]),
                "value_deviation": float(self.slopes[k] * wide[1][k]),
                "prior_deviation": float(wide[0][k]),
                "deviation": float(wide[1][k]),
            }
            for k, (name, number) in enumerate(
                zip(self.unknowns, self.numbers, strict=True)
            )
        ]
        correlations = {
            "prior_correlation": _listed(correlation(self.before)),
            "correlation": _listed(correlation(self.after)),
        }
        return {PLACES: {"rows": rows, **correlations}}

    def csv(self) -> str:
        """A line a row, with its correlations under the posterior."""
        axes = AXES[: self.at.shape[1]]
        head = ["unknown", "place", *axes, "value", "value_deviation"]
        head += ["prior_deviation", "deviation"]
        head += [f"correlation_{k}" for k in range(len(self.unknowns))]
        out = io.StringIO()
        out.write(",".join(head) + "\n")
        before, after = _deviations(self.before), _deviations(self.after)
        together = correlation(self.after)
        for k, name in enumerate(self.unknowns):
            told = [self.values[k], self.slopes[k] * after[k], before[k], after[k]]
            cells = [f"{v:.10g}" for v in (*self.at[k], *told, *together[k])]
            out.write(",".join([name, str(self.numbers[k]), *cells]) + "\n")
        return out.getvalue()


def correlation(covariance: np.ndarray) -> np.ndarray:
    """(n, n); NaN where a variance is 0."""
    wide = _deviations(covariance)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(covariance / np.outer(wide, wide))


def _deviations(covariance: np.ndarray) -> np.ndarray:
    return np.asarray(np.sqrt(np.maximum(np.diag(covariance), 0.0)))


def _listed(matrix: np.ndarray) -> list[list[float | None]]:
    return [[v if np.isfinite(v) else None for v in row] for row in matrix.tolist()]


def fields(space: ParameterSpace) -> list[str]:
    """Unknowns with a value in every cell."""
    dim, blocks = space.grid.dim, space.blocks
    names = [u.name for u in space.unknowns]
    return [n for n in names if blocks[n].large and blocks[n].free.ndim == dim]


def check(case: Case, on: OnGrid) -> None:
    """Raises InputError for places that cannot be, and where no unknown has any. Collective."""
    places = case.table.posterior.places
    if not places:
        return
    if not fields(on.space):
        allowed = "none: no unknown of this case is a field"
        raise InputError("posterior.places", "given", allowed)
    cells_of(on.grid, places)


def cells_of(
    grid: Grid, places: list[list[float]]
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Places (n, dim) and the active cells that hold them, an index array an axis. Collective.

    Raises:
        InputError: naming the place, for one with another number of coordinates, outside the box or
            in no active cell.
    """
    names = [f"posterior.places[{k}]" for k in range(len(places))]
    for name, place in zip(names, places, strict=True):
        if len(place) != grid.dim:
            raise InputError(name, place, f"{grid.dim} coordinates")
    return located(grid, np.array(places, float), names)


def between(case: Case, on: OnGrid, laplace: Laplace) -> Between:
    """Of all fields together. Collective. Raises InputError as `cells_of`."""
    space, m = laplace.space, laplace.at.m
    at, cells = cells_of(on.grid, case.table.posterior.places)
    names = fields(space)
    units = [unit for name in names for unit in _units(space, name, cells)]
    before, after = laplace.covariances(units)
    parameters = np.array([float(unit.dot(m)) for unit in units])
    for unit in units:
        unit.destroy()
    values, slopes = [], []
    for name, own in zip(names, parameters.reshape(len(names), -1), strict=True):
        unknown = space.unknown(name)
        k = np.asarray(unknown.value(own))
        values.append(k)
        slopes.append(np.broadcast_to(unknown.slope(k), k.shape))
    rows = [(name, number) for name in names for number in range(len(at))]
    return Between(
        tuple(name for name, _ in rows),
        tuple(number for _, number in rows),
        np.tile(at, (len(names), 1)),
        np.concatenate(values),
        np.concatenate(slopes),
        before,
        after,
    )


def _units(
    space: ParameterSpace, name: str, cells: list[np.ndarray]
) -> list[PETSc.Vec]:
    """The unit vector of a field's parameter in each cell; the caller's. Collective."""
    grid, found = space.grid, []
    owned = grid.owns(cells)
    for k in range(len(owned)):
        unit = space.create_vec()
        # PETSc takes no notice of what is written while a view from before is alive.
        own = space.own(unit, name)
        if owned[k]:
            local = tuple(
                int(i[k]) - first for i, first in zip(cells, grid.start, strict=True)
            )
            own[local] = 1.0
        found.append(unit)
    return found

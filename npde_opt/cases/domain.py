"""A case's domain: cell edges, active cells and boundaries of the grid inverted and of the one data are simulated on."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from mpi4py import MPI

from npde_opt.capacity import fits
from npde_opt.cases.fields import evaluate
from npde_opt.cases.resampling import resample
from npde_opt.cases.sources import Sources
from npde_opt.errors import InputError, collective
from npde_opt.grids import Boundary, Grid, check_indices
from npde_opt.grids.pockets import largest_pocket

CELL_BYTES = 40
"""At least, of arrays over the whole grid that a rank makes while it reads a case."""


class Domain:
    """Makes grids of a validated case; `cells` replaces the case's own numbers of cells along the axes."""

    def __init__(self, table: dict[str, Any], sources: Sources, cells: Sequence[int] | None = None):
        self.table, self.sources = table, sources
        self.edges = self._edges(cells)
        homes = (self.edges, self._edges(None)) if cells and self._sized() else (self.edges,)
        self.sources = dataclasses.replace(sources, homes=homes)
        self.dim = len(self.edges)
        self.boundaries = {side: Boundary(b) if isinstance(b, str) else Boundary(**b)
                           for side, b in table["boundaries"].items() if side[0] in "xyz"[: self.dim]}
        for side, kind in table["boundaries"].items():
            if side not in self.boundaries and kind != "neumann":
                raise InputError(f"boundaries.{side}", kind,
                                 f"{', '.join(self.boundaries)}: the sides of a grid of {self.dim} axes")

    def _sized(self) -> bool:
        """Whether the case itself says how many cells it has."""
        grid = self.table["grid"]
        return grid["shape"] is not None or grid["edges"] is not None or bool(self.sources.edges)

    def _edges(self, cells: Sequence[int] | None) -> list[np.ndarray]:
        grid, native = self.table["grid"], self.sources.edges
        if native and grid["edges"] is not None:
            raise InputError("grid.edges", "given", "grid.shape or grid.coarsen with domain.mni152, whose voxels are the box")
        if grid["edges"] is not None and cells is None:
            return axes_of(grid["edges"], grid["origin"])
        if native:
            factor = grid["coarsen"]
            if factor < 1:
                raise InputError("grid.coarsen", factor, "an integer >= 1")
            shape = list(cells or grid["shape"] or [-(-(e.size - 1) // factor) for e in native])
            return cut(native, shape, "--grid" if cells else "grid.shape")
        shape = list(cells or grid["shape"] or [])
        if not shape or not all(isinstance(n, int) and n > 0 for n in shape) or len(shape) > 3:
            raise InputError("--grid" if cells else "grid.shape", shape, "1 to 3 positive integers")
        if grid["edges"] is not None:
            return cut(axes_of(grid["edges"], grid["origin"]), shape, "--grid")
        sized("--grid" if cells else "grid.shape", shape)
        extent, origin = grid["extent"] or [1.0] * len(shape), grid["origin"] or [0.0] * len(shape)
        if grid["shape"] and len(grid["shape"]) != len(shape):
            raise InputError("--grid", shape, f"{len(grid['shape'])} numbers, as in grid.shape")
        for name, values in (("extent", extent), ("origin", origin)):
            if len(values) != len(shape) or not all(isinstance(x, int | float) for x in values):
                raise InputError(f"grid.{name}", values, f"{len(shape)} numbers")
        if not all(x > 0 for x in extent):
            raise InputError("grid.extent", extent, "positive lengths")
        return [o + x * np.linspace(0, 1, n + 1) for o, x, n in zip(origin, extent, shape, strict=True)]

    def mask(self, edges: list[np.ndarray]) -> np.ndarray | None:
        """Active cells [i, j, k], None where all are."""
        table = self.table["grid"]
        if table["active"] is not None:
            mask = evaluate("grid.active", table["active"], edges, self.sources) > 0.5
        elif self.sources.edges:
            mask = resample(self.sources.voxels["mask"], self.sources.edges, edges) > 0.5
        else:
            return None
        periodic = [self.boundaries[a + "-"].kind == "periodic" for a in "xyz"[: self.dim]]
        return largest_pocket(mask, periodic) if table["keep"] == "largest" else mask

    def grid(self, comm: MPI.Intracomm, edges: list[np.ndarray] | None = None) -> Grid:
        """The case's grid, or one of other edges over the same box. Collective."""
        edges = edges or self.edges
        shape = [e.size - 1 for e in edges]
        with collective(comm):
            check_indices(shape, 1, comm)
            return Grid(shape, edges=edges, boundaries=self.boundaries, active=self.mask(edges),
                        comm=comm)

    def is_own(self, grid: Grid) -> bool:
        """Whether a grid has the case's own cells."""
        return all(np.array_equal(a, b) for a, b in zip(grid.edges, self.edges, strict=True))

    def data_edges(self) -> list[np.ndarray]:
        """Edges of the grid that data are simulated on: observations.shape, or cells cut into observations.refine,
        but no finer than the voxels of the anatomy."""
        o, native = self.table["observations"], self.sources.edges
        if o["shape"] is not None:
            return cut(self.edges, o["shape"], "observations.shape")
        if o["refine"] < 1:
            raise InputError("observations.refine", o["refine"], "an integer >= 1")
        if native and any((e.size - 1) * o["refine"] > n.size - 1 for e, n in zip(self.edges, native, strict=True)):
            return cut(native, [n.size - 1 for n in native], "observations.refine")
        return cut(self.edges, [(e.size - 1) * o["refine"] for e in self.edges], "observations.refine")


def sized(field: str, shape: Sequence[int]) -> None:
    """Raises InputError for more cells than indices can count, or than this machine's memory can hold at all."""
    check_indices(shape, 1, MPI.COMM_SELF)
    fits(field, math.prod(shape), CELL_BYTES, "cells")


def cut(edges: list[np.ndarray], shape: Sequence[int], field: str) -> list[np.ndarray]:
    """Edges of other numbers of cells over the same box, stretched alike."""
    if len(shape) != len(edges) or not all(isinstance(n, int) and n > 0 for n in shape):
        raise InputError(field, list(shape), f"{len(edges)} positive integers")
    sized(field, shape)
    return [np.interp(np.linspace(0, e.size - 1, n + 1), np.arange(e.size), e) for e, n in zip(edges, shape, strict=True)]


def axes_of(given: Sequence[Any], origin: Sequence[float] | None) -> list[np.ndarray]:
    """Edges from lists, or from `origin` (default 0) and tables {first, equal, growth, count}: `equal` cells of size
    `first`, then each `growth` times the one before."""
    if origin is not None and len(origin) != len(given):
        raise InputError("grid.origin", list(origin), f"{len(given)} numbers")
    sized("grid.edges", [e["count"] if isinstance(e, dict) else len(e) for e in given])
    out = []
    for i, e in enumerate(given):
        if isinstance(e, dict):
            sized(f"grid.edges[{i}].count", [e["count"]])
            powers = np.maximum(np.arange(e["count"]) - e["equal"] + 1, 0)
            with np.errstate(over="ignore"):
                lengths = np.cumsum(e["first"] * float(e["growth"]) ** powers)
            e = (0.0 if origin is None else origin[i]) + np.append(0.0, lengths)
        edges = np.asarray(e, float)
        if edges.size < 2 or not np.isfinite(edges).all() or np.any(np.diff(edges) <= 0):
            raise InputError(f"grid.edges[{i}]", f"{edges.size} values", "2 or more increasing, finite numbers")
        out.append(edges)
    return out

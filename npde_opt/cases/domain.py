"""A case's domain: cell edges, active cells and boundaries of the grid inverted and of the one data
are simulated on."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from functools import cached_property

import numpy as np
from mpi4py import MPI

from npde_opt.aliases import Record
from npde_opt.capacity import fits
from npde_opt.cases.fields import evaluate_part
from npde_opt.cases.grid_tables import BoundaryKind, Growing
from npde_opt.cases.outside import (
    REFUSE,
    OwnCells,
    Settled,
    settled,
    settled_here,
)
from npde_opt.cases.parts import Part
from npde_opt.cases.resampling import Resampling
from npde_opt.cases.sections import CaseFile
from npde_opt.cases.sources import Sources
from npde_opt.errors import InputError, collective
from npde_opt.grids import AXES, Boundary, Grid, check_indices
from npde_opt.grids.cuts import even
from npde_opt.grids.pockets import largest_pocket
from npde_opt.grids.scattered import Mask

CELL_BYTES = 40
"""At least, of arrays over the whole grid that a rank makes while it reads a case."""


class Domain:
    """Makes grids of a validated case.

    Args:
        table: the case.
        cells: replaces the case's own numbers of cells along the axes.
        comm: the ranks that read the case together: each has a part of the masks that places are
            looked up in.

    Attributes:
        notes: lines on places that were moved or dropped, and on what is not seen.
    """

    def __init__(
        self,
        table: CaseFile,
        sources: Sources,
        cells: Sequence[int] | None = None,
        comm: MPI.Intracomm = MPI.COMM_SELF,
    ):
        self.table, self.sources, self.comm = table, sources, comm
        self.edges = self._edges(cells)
        homes = (
            (self.edges, self._edges(None))
            if cells and self._sized()
            else (self.edges,)
        )
        self.sources = dataclasses.replace(sources, homes=homes)
        self.dim = len(self.edges)
        self.notes: dict[str, str] = {}
        sides = [axis + end for axis in AXES[: self.dim] for end in "-+"]
        given: Record = {str(k): v for k, v in table.boundaries.items()}
        self.boundaries = {side: boundary(given.get(side, "neumann")) for side in sides}
        for side, kind in given.items():
            if side not in sides and kind != "neumann":
                said = kind if isinstance(kind, str) else kind.kind
                allowed = f"{', '.join(sides)}: the sides of a grid of {self.dim} axes"
                raise InputError(f"boundaries.{side}", said, allowed)

    def _sized(self) -> bool:
        """Whether the case itself says how many cells it has."""
        grid = self.table.grid
        return (
            grid.shape is not None or grid.edges is not None or bool(self.sources.edges)
        )

    def _edges(self, cells: Sequence[int] | None) -> list[np.ndarray]:
        grid, native = self.table.grid, self.sources.edges
        if native and grid.edges is not None:
            allowed = "grid.shape or grid.coarsen with domain.mni152, whose voxels are the box"
            raise InputError("grid.edges", "given", allowed)
        if grid.edges is not None and cells is None:
            return axes_of(grid.edges, grid.origin)
        field = "--grid" if cells else "grid.shape"
        if native:
            coarse = [-(-(e.size - 1) // grid.coarsen) for e in native]
            return cut(native, list(cells or grid.shape or coarse), field)
        shape = list(cells or grid.shape or [])
        if not 1 <= len(shape) <= 3 or not all(
            isinstance(n, int) and n > 0 for n in shape
        ):
            raise InputError(field, shape or "nothing", "1 to 3 positive integers")
        if grid.edges is not None:
            return cut(axes_of(grid.edges, grid.origin), shape, "--grid")
        sized(field, shape)
        return self._uniform(shape)

    def _uniform(self, shape: Sequence[int]) -> list[np.ndarray]:
        """Edges of a box of equal cells."""
        grid, dim = self.table.grid, len(shape)
        if grid.shape and len(grid.shape) != dim:
            raise InputError(
                "--grid", shape, f"{len(grid.shape)} numbers, as in grid.shape"
            )
        extent, origin = grid.extent or [1.0] * dim, grid.origin or [0.0] * dim
        for name, values in (("extent", extent), ("origin", origin)):
            if len(values) != dim:
                raise InputError(f"grid.{name}", values, f"{dim} numbers")
        return [
            o + x * np.linspace(0, 1, n + 1)
            for o, x, n in zip(origin, extent, shape, strict=True)
        ]

    def mask(self, part: Part) -> np.ndarray | None:
        """Active cells [i, j, k] of a part, but for `grid.keep`; None where all are. Collective."""
        grid = self.table.grid
        if grid.active is not None:
            found = evaluate_part("grid.active", grid.active, part, self.sources)
            return np.asarray(found > 0.5)
        if self.sources.edges:
            way = Resampling(self.sources.edges, part, nearest=False)
            return np.asarray(way(self.sources.voxels("mask", way.window)) > 0.5)
        return None

    def active(self, edges: list[np.ndarray], comm: MPI.Intracomm) -> Mask | None:
        """Active cells between edges, in even boxes; None where all are. Collective."""
        layout = even([e.size - 1 for e in edges], comm)
        own = self.mask(Part(edges, layout.box, comm))
        if own is None:
            return None
        mask = Mask(comm, layout, np.asfortranarray(own)).counted()
        if self.table.grid.keep == "largest":
            return largest_pocket(mask, self.periodic)
        return mask

    @property
    def periodic(self) -> list[bool]:
        """By axis."""
        return [self.boundaries[a + "-"].kind == "periodic" for a in AXES[: self.dim]]

    def settled(
        self, kind: str, at: np.ndarray, names: str | Sequence[str], what: str
    ) -> Settled:
        """Places (n, dim) of a kind ('points', 'electrodes', 'wells') as `grid.outside` wants them.
        Collective.

        What became of them is kept in `notes`.
        """
        choice = self._outside(kind)
        if choice == REFUSE or not len(at):
            return Settled(at, np.zeros(len(at), bool))
        return self._noted(settled(choice, self.cells, at, names, what), what)

    def settled_points(
        self, at: np.ndarray, names: Callable[[int], str], what: str
    ) -> Settled:
        """As `settled`, of points of which each rank of the domain has others."""
        choice = self._outside("points")
        if choice == REFUSE:
            return Settled(at, np.zeros(len(at), bool))
        found = settled_here(choice, self.cells, self.comm, at, names, what)
        return self._noted(found, what)

    def _outside(self, kind: str) -> str:
        given = self.table.grid.outside
        return given if isinstance(given, str) else str(getattr(given, kind))

    def _noted(self, found: Settled, what: str) -> Settled:
        if found.said:
            self.notes[what] = found.said
        return found

    @cached_property
    def cells(self) -> OwnCells:
        """Of the case's own grid. Collective at first."""
        mask = self.active(self.edges, self.comm)
        return OwnCells(tuple(self.edges), mask, tuple(self.periodic))

    def grid(self, comm: MPI.Intracomm, edges: list[np.ndarray] | None = None) -> Grid:
        """The case's grid, or one of other edges over the same box. Collective."""
        edges = edges or self.edges
        shape = [e.size - 1 for e in edges]
        with collective(comm):
            check_indices(shape, 1, comm)
            return Grid(
                shape,
                edges=edges,
                boundaries=self.boundaries,
                active=self.active(edges, comm),
                radial=self.table.grid.geometry == "radial",
                comm=comm,
            )

    def is_own(self, grid: Grid) -> bool:
        """Whether a grid has the case's own cells."""
        return all(
            np.array_equal(a, b) for a, b in zip(grid.edges, self.edges, strict=True)
        )

    def data_edges(self) -> list[np.ndarray]:
        """Edges of the grid that data are simulated on.

        Those of simulation.shape, or cells cut into simulation.refine, for steady states no finer
        than the voxels of the anatomy.
        """
        s, native = self.table.simulation, self.sources.edges
        if s.shape is not None:
            return cut(self.edges, s.shape, "simulation.shape")
        finer = [(e.size - 1) * s.refine for e in self.edges]
        steady = self.table.time is None
        if (
            steady
            and native
            and any(n >= e.size for n, e in zip(finer, native, strict=True))
        ):
            finer = [e.size - 1 for e in native]
            return cut(native, finer, "simulation.refine")
        return cut(self.edges, finer, "simulation.refine")


def boundary(given: str | BoundaryKind) -> Boundary:
    """A side of a grid."""
    if isinstance(given, str):
        return Boundary(given)
    return Boundary(given.kind, given.coefficient)


def sized(field: str, shape: Sequence[int]) -> None:
    """Raises InputError for more cells than indices can count, or than this machine's memory can
    hold at all."""
    check_indices(shape, 1, MPI.COMM_SELF)
    fits(field, math.prod(shape), CELL_BYTES, "cells")


def cut(edges: list[np.ndarray], shape: Sequence[int], field: str) -> list[np.ndarray]:
    """Edges of other numbers of cells over the same box, stretched alike."""
    if len(shape) != len(edges) or not all(isinstance(n, int) and n > 0 for n in shape):
        raise InputError(field, list(shape), f"{len(edges)} positive integers")
    sized(field, shape)
    return [
        np.interp(np.linspace(0, e.size - 1, n + 1), np.arange(e.size), e)
        for e, n in zip(edges, shape, strict=True)
    ]


def axes_of(
    given: Sequence[list[float] | Growing], origin: Sequence[float] | None
) -> list[np.ndarray]:
    """Edges from lists, or growing from `origin` (default 0)."""
    if origin is not None and len(origin) != len(given):
        raise InputError("grid.origin", list(origin), f"{len(given)} numbers")
    sized("grid.edges", [e.count if isinstance(e, Growing) else len(e) for e in given])
    out = []
    for i, e in enumerate(given):
        start = 0.0 if origin is None else origin[i]
        if isinstance(e, Growing):
            sized(f"grid.edges[{i}].count", [e.count])
        edges = start + growing(e) if isinstance(e, Growing) else np.asarray(e, float)
        if (
            edges.size < 2
            or not np.isfinite(edges).all()
            or np.any(np.diff(edges) <= 0)
        ):
            allowed = "2 or more increasing, finite numbers"
            raise InputError(f"grid.edges[{i}]", f"{edges.size} values", allowed)
        out.append(edges)
    return out


def growing(e: Growing) -> np.ndarray:
    """Edges from 0: `equal` cells of size `first`, then each `growth` times the one before."""
    powers = np.maximum(np.arange(e.count) - e.equal + 1, 0)
    with np.errstate(over="ignore"):
        lengths = np.cumsum(e.first * float(e.growth) ** powers)
    return np.append(0.0, lengths)

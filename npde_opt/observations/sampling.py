"""What is observed, and when: d_n = B g(u(t_n)), B linear, g pointwise in the species.

The same for a steady state, which is seen once. What B may be: places.py; what g: quantity.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from petsc4py import PETSc

from npde_opt.errors import InputError
from npde_opt.grids import Grid
from npde_opt.observations.functionals import Functionals, matrix, together
from npde_opt.observations.places import points_at, region_means, voxel_means
from npde_opt.operators import from_rows


@dataclass(frozen=True, eq=False)
class Sampling:
    """Args:
    times: at which it is seen; steps end there. Empty: of a steady state, seen once.
    matrix: B, a Mat (n x cells), the same at all times, with entries for active cells only;
        belongs to the sampling.
    quantity: g as text in the species' names; empty: the first species.
    order: the place, among the n data of a time, of each owned row of B.
    """

    times: tuple[float, ...]
    matrix: PETSc.Mat
    quantity: str
    order: np.ndarray

    @property
    def size(self) -> int:
        """Data a time."""
        return int(self.matrix.getSize()[0])

    @property
    def count(self) -> int:
        """How often it is seen."""
        return len(self.times) or 1

    def empty_rows(self) -> np.ndarray:
        """Whether each owned row of B has no other entries than 0."""
        starts, _, values = self.matrix.getValuesCSR()
        entries = np.diff(starts)
        rows = np.repeat(np.arange(entries.size), entries)
        return np.asarray(np.bincount(rows, values != 0, entries.size) == 0)

    def unseen(self) -> np.ndarray:
        """Numbers of the places that no cell is seen from, on every rank. Collective."""
        own = self.order[self.empty_rows()]
        return np.sort(np.concatenate(self.matrix.getComm().tompi4py().allgather(own)))

    def destroy(self) -> None:
        self.matrix.destroy()


def from_functionals(
    grid: Grid,
    times: Sequence[float],
    functionals: Functionals | Sequence[Functionals],
    quantity: str = "",
    field: str = "observation",
) -> Sampling:
    """Of places of any kind, in the order given, an even share of them on each rank. Collective.

    Raises:
        InputError: naming `field`, where there are none.
    """
    found = (
        functionals if isinstance(functionals, Functionals) else together(functionals)
    )
    if not found.size:
        raise InputError(field, "nothing observed", "at least one place")
    return from_matrix(matrix(grid, found), times, quantity)


def from_matrix(
    B: PETSc.Mat, times: Sequence[float] = (), quantity: str = ""
) -> Sampling:
    """Of what a Mat B (n x cells) of the caller's gives, which from now on is the sampling's; its
    rows are the data of a time in order."""
    return Sampling(tuple(times), B, quantity, np.arange(*B.getOwnershipRange()))


def at_points(
    grid: Grid,
    times: Sequence[float],
    points: np.ndarray,
    quantity: str = "",
    field: str = "points",
    nearest: bool = False,
) -> Sampling:
    """Of values at points (n, dim): see `points_at`. Collective."""
    return from_functionals(
        grid, times, points_at(grid, points, field, nearest), quantity, field
    )


def over_regions(
    grid: Grid,
    times: Sequence[float],
    regions: np.ndarray,
    quantity: str = "",
    least: int = 0,
    field: str = "observation.regions",
    unseen: bool = False,
) -> Sampling:
    """Of means over the regions of an int array [i, j, k]: see `region_means`. Collective."""
    means = region_means(grid, regions, least, field, unseen)
    return from_functionals(grid, times, means, quantity, field)


def voxels(
    grid: Grid, times: Sequence[float], edges: Sequence[np.ndarray], quantity: str = ""
) -> Sampling:
    """Of means over the boxes between other edges of the same domain, x fastest: data of one grid
    seen by finer or coarser ones. See `voxel_means`. Collective."""
    return from_functionals(grid, times, voxel_means(grid, edges), quantity)


def snapshots(grid: Grid, times: Sequence[float], quantity: str = "") -> Sampling:
    """Of every cell, x fastest; 0 in inactive ones. Each rank has the data of its cells, so that
    nothing is sent. Collective."""
    owned, rows = grid.layout.owned_mesh(), grid.layout.local_size
    cells = grid.layout.global_index(owned).reshape(-1, 1)
    active = grid.active.reshape(-1, 1, order="F")
    B = from_rows(
        grid.comm, rows, (rows, grid.layout.size), cells, np.ones(cells.shape), active
    )
    return Sampling(
        tuple(times), B, quantity, np.ravel_multi_index(owned, grid.shape, order="F")
    )

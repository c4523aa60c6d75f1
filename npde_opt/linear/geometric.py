"""Geometric multigrid hierarchies: A_coarse = P^T A P with multilinear P between every other cell
centre.

Coarse unknowns sit at the cell centres 0, 2, 4, ... of each coarsened axis, so P has 1.5 entries a
row and axis and any size coarsens. Axes coarsen together only while their spacings are within a
factor of two (semi-coarsening). Under a mask a coarse unknown exists where one of the cells {2I,
2I+1} is active, axis by axis; the weight of a missing parent goes to the other.

P is the product of one interpolation an axis (`Halving`), so P^T A P is formed axis by axis on
planes of values.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from itertools import product

import numpy as np
from petsc4py import PETSc

from npde_opt.grids import AXES, Grid
from npde_opt.grids.layout import Layout
from npde_opt.grids.numbering import Numbering
from npde_opt.grids.scattered import Mask
from npde_opt.linear.halving import Halving
from npde_opt.operators import from_rows
from npde_opt.operators.patterns import Pattern
from npde_opt.operators.stencils import (
    OffsetMatrix,
    StencilMatrix,
    stencil_offsets,
)

COARSEST = 400
SHORTEST = 5


def axes_to_halve(cells: Sequence[int], spacing: Sequence[float]) -> list[int]:
    """Those that the next level halves, by their cells and spacings."""
    h = [s if n >= SHORTEST else np.inf for s, n in zip(spacing, cells, strict=True)]
    return [d for d, x in enumerate(h) if np.isfinite(x) and x <= 2 * min(h)]


class Level:
    """One level: centre coordinates an axis, ownership, and which unknowns exist (None: all)."""

    def __init__(
        self,
        grid: Grid,
        centers: Sequence[np.ndarray],
        layout: Layout,
        mask: Mask | None,
    ):
        self.grid, self.centers, self.layout, self.mask = (
            grid,
            tuple(centers),
            layout,
            mask,
        )
        self.numbering = Numbering(layout, mask)

    @property
    def size(self) -> int:
        return self.layout.size if self.mask is None else self.mask.size

    def spacing(self) -> list[float]:
        return [
            float(np.median(np.diff(c))) if c.size > 1 else np.inf for c in self.centers
        ]

    def axes_to_coarsen(self) -> list[int]:
        return axes_to_halve([c.size for c in self.centers], self.spacing())

    def halvings(self, axes: list[int]) -> list[Halving]:
        """The interpolations to the next level, one an axis, finest first."""
        layout, mask, found = self.layout, self.mask, list[Halving]()
        ends = [self.grid.boundaries[AXES[d] + "+"].kind for d in range(self.grid.dim)]
        for d in axes:
            found.append(
                Halving(layout, mask, d, self.centers[d], ends, self.grid.comm)
            )
            layout, mask = found[-1].coarse, found[-1].mask
        return found

    def coarsened(self, halvings: list[Halving]) -> Level:
        halved = {h.axis for h in halvings}
        centers = [c[::2] if d in halved else c for d, c in enumerate(self.centers)]
        return Level(self.grid, centers, halvings[-1].coarse, halvings[-1].mask)


def restriction(fine: Level, coarse: Level, halvings: list[Halving]) -> PETSc.Mat:
    """P^T from `fine` to `coarse`, P the product of the halvings' interpolations: its rows are the
    longer ones, so that products with it and its transpose take two thirds of the time of those
    with P."""
    dim, owned = len(fine.centers), fine.layout.owned()
    rows = slice(None) if fine.mask is None else fine.mask.owned.ravel(order="F")
    indices, weights = [], []
    for parents in product((0, 1), repeat=len(halvings)):
        cells, weight = list(owned), np.ones((1,) * dim)
        for halving, parent in zip(halvings, parents, strict=True):
            weight = weight * halving.weight(cells, parent)
            cells[halving.axis] = halving.parent(cells[halving.axis], parent)
        weight = np.broadcast_to(weight, [c.size for c in owned])
        indices.append(coarse.numbering.at(cells).ravel(order="F")[rows])
        weights.append(weight.ravel(order="F")[rows])
    w, columns = np.stack(weights, axis=1), np.stack(indices, axis=1)
    P = from_rows(fine.grid.comm, len(w), coarse.numbering.sizes, columns, w, w != 0)
    R = PETSc.Mat()
    P.transpose(R)
    P.destroy()
    return R


class Coarsening:
    """What the hierarchies of a grid share, finest level first: the restrictions P^T and the
    patterns of the coarse matrices."""

    def __init__(self, grid: Grid):
        self.restrictions: list[PETSc.Mat] = []
        self.halvings: list[list[Halving]] = []
        self.patterns: list[Pattern] = []
        level = Level(grid, grid.centers, grid.layout, grid.mask)
        offsets, periodic = (
            set(stencil_offsets(grid.dim)),
            [grid.periodic(d) for d in range(grid.dim)],
        )
        while level.size > COARSEST:
            axes = level.axes_to_coarsen()
            if not axes:
                break
            halvings = level.halvings(axes)
            coarse = level.coarsened(halvings)
            self.restrictions.append(restriction(level, coarse, halvings))
            self.halvings.append(halvings)
            for axis in axes:
                offsets = {
                    o[:axis] + (step,) + o[axis + 1 :]
                    for o in offsets
                    for step in (-1, 0, 1)
                }
            self.patterns.append(
                Pattern(grid.comm, coarse.numbering, sorted(offsets, key=any), periodic)
            )
            level = coarse

    @classmethod
    def of(cls, grid: Grid) -> Coarsening:
        """The grid's own. Collective."""
        return grid.once(
            ("coarsening", tuple(b.kind for b in grid.boundaries.values())),
            lambda: cls(grid),
        )

    @cached_property
    def sliced(self) -> list[PETSc.Mat]:
        """The restrictions in sliced ELLPACK. Collective."""
        return [R.convert(PETSc.Mat.Type.SELL, PETSc.Mat()) for R in self.restrictions]

    def destroy(self) -> None:
        for R in (*self.restrictions, *self.__dict__.get("sliced", ())):
            R.destroy()


class Hierarchy:
    """Coarse matrices below a stencil matrix, finest first; none where the grid does not
    coarsen."""

    def __init__(self, grid: Grid):
        self.coarsening = Coarsening.of(grid)
        self.matrices = [OffsetMatrix(p) for p in self.coarsening.patterns]

    def update(self, matrix: StencilMatrix) -> None:
        """Galerkin products of the matrix's present values. Collective."""
        planes = matrix.planes()
        for halvings, coarse in zip(
            self.coarsening.halvings, self.matrices, strict=True
        ):
            for halving in halvings:
                planes = halving.galerkin(planes)
            coarse.set_planes(planes)

    def destroy(self) -> None:
        for owned in self.matrices:
            owned.destroy()

"""R(p) = alpha int w sqrt(|grad (p - q)|^2 + eps^2) of a field p with reference q and cell weights
w, no flux through the sides.

Lagged diffusivity is its preconditioner.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
from petsc4py import PETSc

from npde_opt import reductions
from npde_opt.errors import InputError
from npde_opt.grids import Grid
from npde_opt.linear.choice import Reuse
from npde_opt.linear.recipes import LinearSolver
from npde_opt.operators.stencils import StencilMatrix
from npde_opt.regularizers.operator import (
    ENERGY,
    checked_weights,
    closed,
    fill,
    stencil_noise,
)
from npde_opt.terms.diffusion import Diffusion
from npde_opt.terms.faces import faces, jump, sides


class TotalVariation:
    """Smoothed total variation; |grad p|^2 of a cell is the mean over its faces, direction by
    direction."""

    def __init__(
        self,
        grid: Grid,
        alpha: float,
        reference: PETSc.Vec | None = None,
        epsilon: float = 1e-2,
        cell_weights: np.ndarray | float = 1.0,
        prefix: str = "reg_",
    ):
        if not (np.isfinite(alpha) and alpha >= 0):
            raise InputError("regularization.weight", alpha, "a number >= 0")
        if not epsilon > 0:
            raise InputError("regularization.epsilon", epsilon, "a positive slope")
        self.grid, self.alpha, self.epsilon = closed(grid), float(alpha), epsilon
        grid = self.grid
        self.weight = np.where(
            grid.active, checked_weights(grid, cell_weights) * grid.volume, 0.0
        )
        self.reference = reference if reference is not None else grid.create_scalar()
        self.work = grid.create_scalar()
        self._x, self._y = grid.create_active(), grid.create_active()
        self.spacing = self._inverse_distances()
        self.length = max(float(e[-1] - e[0]) for e in grid.edges)
        self.prefix = prefix
        self._point: np.ndarray | None = None

    @cached_property
    def matrix(self) -> StencilMatrix:
        return StencilMatrix(self.grid)

    @cached_property
    def solver(self) -> LinearSolver:
        return LinearSolver(
            self.matrix,
            self.grid,
            self.prefix,
            rtol=1e-4,
            norm=ENERGY,
            checked=8,
            reuse=Reuse(updates=10, solves=10),
        )

    def _inverse_distances(self) -> list[np.ndarray]:
        """1 / centre distance on every face, 0 where the face is closed."""
        one = {"D": np.ones(self.grid.local_shape, order="F")}
        at = Diffusion(self.grid).at(one)
        return [
            np.where(at.term.areas(d) > 0, 1 / s, 0.0) for d, s in enumerate(at.sums)
        ]

    def _slopes(self, x: PETSc.Vec, minus: PETSc.Vec | None) -> list[np.ndarray]:
        x.copy(self.work)
        if minus is not None:
            self.work.axpy(-1, minus)
        ghosts = self.grid.ghosted(self.work)
        return [s * jump(ghosts, d) for d, s in enumerate(self.spacing)]

    def _norm(self, slopes: list[np.ndarray]) -> np.ndarray:
        squares = sum(
            0.5 * (a + b) for d, s in enumerate(slopes) for a, b in [sides(s**2, d)]
        )
        return np.sqrt(squares + self.epsilon**2)

    def value(self, p: PETSc.Vec) -> float:
        norm = self._norm(self._slopes(p, self.reference))
        return self.alpha * reductions.total(
            self.grid.comm, float((self.weight * norm).sum())
        )

    def _transpose(
        self, cell: np.ndarray, slopes: list[np.ndarray], out: PETSc.Vec
    ) -> None:
        """Adds the transpose of the face slopes applied to (mean of `cell` over each face) *
        slopes."""
        ghosts = self.grid.ghosted(cell)
        total: np.ndarray | float = 0.0
        for d, (slope, s) in enumerate(zip(slopes, self.spacing, strict=True)):
            below, above = faces(ghosts, d)
            lower, upper = sides(s * slope * 0.5 * (below + above), d)
            total = total + lower - upper
        self.grid.view(out)[...] += total

    def gradient(self, p: PETSc.Vec, out: PETSc.Vec) -> None:
        slopes = self._slopes(p, self.reference)
        out.set(0)
        self._transpose(self.alpha * self.weight / self._norm(slopes), slopes, out)

    def hessian(self, p: PETSc.Vec, dp: PETSc.Vec, out: PETSc.Vec) -> None:
        slopes, changes = self._slopes(p, self.reference), self._slopes(dp, None)
        norm = self._norm(slopes)
        inner = sum(
            0.5 * (a + b)
            for d, (s, c) in enumerate(zip(slopes, changes, strict=True))
            for a, b in [sides(s * c, d)]
        )
        out.set(0)
        self._transpose(self.alpha * self.weight / norm, changes, out)
        self._transpose(-self.alpha * self.weight * inner / norm**3, slopes, out)

    def precondition(self, p: PETSc.Vec, r: PETSc.Vec, out: PETSc.Vec) -> None:
        self._lag(p)
        self.grid.put(self.grid.view(r), self._x)
        self.solver.solve(self._x, self._y)
        self.grid.take(self._y, self.grid.view(out))

    def _lag(self, p: PETSc.Vec) -> None:
        """Brings the matrix of lagged diffusivity to p."""
        here = np.array(p.getArray(readonly=True))
        same = self._point is not None and np.array_equal(here, self._point)
        if not reductions.everywhere(self.grid.comm, same):
            lagged = (
                self.alpha
                / self._norm(self._slopes(p, self.reference))
                * self.weight
                / self.grid.volume
            )
            lagged = np.maximum(lagged, 1e-300)
            fill(
                self.matrix,
                self.grid,
                [lagged] * self.grid.dim,
                1e-2 / self.length**2 * lagged,
            )
            self.solver.update()
            self._point = here

    @property
    def improper(self) -> str:
        return "" if self.alpha > 0 else "its weight is 0"

    def precision(self, p: PETSc.Vec, dp: PETSc.Vec, out: PETSc.Vec) -> None:
        """Of the lagged diffusivity: a quadratic with the slopes' weights at p."""
        self._lag(p)
        self.grid.put(self.grid.view(dp), self._x)
        self.matrix.product(self._x, self._y)
        out.set(0)
        self.grid.take(self._y, self.grid.view(out))

    def noise(self, p: PETSc.Vec, seed: int, out: PETSc.Vec) -> None:
        self._lag(p)
        self.grid.view(out)[...] = stencil_noise(self.matrix, self.grid, seed)

    def variance(self, p: PETSc.Vec) -> np.ndarray | None:
        return None

    def destroy(self) -> None:
        made = [
            self.__dict__[name]
            for name in ("solver", "matrix")
            if name in self.__dict__
        ]
        for owned in (self.work, self._x, self._y, self.reference, *made):
            owned.destroy()

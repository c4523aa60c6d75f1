"""R(p) of one parameter field p with reference q and cell weights w, all with no flux through the
sides.

gradient       alpha/2 int w (sum_d c_d (d_d (p - q))^2 + e (p - q)^2)
bilaplacian    alpha/2 int (delta (p - q) - gamma lap(p - q))^2, delta and gamma given or from a
               correlation length L
               and a variance s^2: with kappa = 1/L,
               gamma = 1/(s (4 pi)^(dim/4) kappa^(2-dim/2) sqrt(Gamma(2)/Gamma(2-dim/2)))
               and delta = gamma kappa^2 (Lindgren, Rue, Lindstroem 2011), and p - q over its
               pointwise standard deviation
               times s (prior_variance.py): so the variance is s^2 at sides, in corners and on
               outlines too

Each is built of face differences G and volumes: int |grad p|^2 = sum_f t_f (G p)_f^2.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cached_property

import numpy as np
from petsc4py import PETSc

from npde_opt.errors import InputError
from npde_opt.grids import Grid
from npde_opt.linear.choice import Reuse
from npde_opt.linear.recipes import LinearSolver
from npde_opt.operators import mass
from npde_opt.operators.stencils import StencilMatrix
from npde_opt.regularizers.operator import (
    ENERGY,
    checked_factors,
    checked_weights,
    closed,
    operator,
    stencil_noise,
)
from npde_opt.regularizers.prior_variance import pointwise_variance

SOLVES = 200
"""With one matrix, of an identification: two for each inner iteration of Newton's method."""


class Shifted:
    """About (H + c M)^-1 for some c, on vectors of all cells.

    Args:
        matrix: of the solves; belongs to this.
        inverse: from the solver to y = (H + c M)^-1 x in active cells.
    """

    def __init__(
        self,
        of: Quadratic,
        matrix: StencilMatrix,
        inverse: Callable[[LinearSolver, PETSc.Vec, PETSc.Vec], None],
    ):
        self.of, self.matrix, self._inverse = of, matrix, inverse
        matrix.freeze()
        self.solver = of.solver_of(matrix)

    def solve(self, x: PETSc.Vec, y: PETSc.Vec) -> None:
        """0 in inactive cells."""
        self.of.apply(lambda a, b: self._inverse(self.solver, a, b), x, y)

    def destroy(self) -> None:
        self.solver.destroy()
        self.matrix.destroy()


class Quadratic:
    """R = alpha/2 (p - q)^T H (p - q) with a constant H; subclasses give `product`, `inverse` and
    the `matrix` that the inverse solves with (its hierarchy is made when it is first asked for)."""

    matrix: StencilMatrix
    prefix: str

    def __init__(self, grid: Grid, alpha: float, reference: PETSc.Vec | None):
        if not (np.isfinite(alpha) and alpha >= 0):
            raise InputError("regularization.weight", alpha, "a number >= 0")
        self.grid, self.alpha = grid, float(alpha)
        self.work, self.reference = grid.create_scalar(), reference

    def _products(self, rows: np.ndarray, found: np.ndarray) -> None:
        """alpha H x of every row x (n, own active cells), into a row of `found`; both in C
        order."""
        raise TypeError("a subclass gives the products")

    def _product(self, x: PETSc.Vec, y: PETSc.Vec) -> None:
        """y = alpha H x, in active cells."""
        raise TypeError("a subclass gives the product")

    def _inverse(self, x: PETSc.Vec, y: PETSc.Vec) -> None:
        raise TypeError("a subclass gives the inverse")

    def inverse(self, r: PETSc.Vec, out: PETSc.Vec) -> None:
        """H^-1 r; 0 in inactive cells."""
        self.apply(self._inverse, r, out)

    def apply(
        self,
        action: Callable[[PETSc.Vec, PETSc.Vec], None],
        x: PETSc.Vec,
        out: PETSc.Vec,
    ) -> None:
        """An action on active cells, on vectors of all."""
        if self.grid.mask is None:
            action(x, out)
            return
        inside, image = self._active
        self.grid.put(self.grid.view(x), inside)
        action(inside, image)
        self.grid.take(image, self.grid.view(out))

    @cached_property
    def _active(self) -> tuple[PETSc.Vec, PETSc.Vec]:
        return self.grid.create_active(), self.grid.create_active()

    def _subtract_reference(self, p: PETSc.Vec) -> None:
        """work = p - q, 0 in inactive cells."""
        p.copy(self.work)
        if self.reference is not None:
            self.work.axpy(-1, self.reference)
        if self.grid.mask is not None:
            self.grid.view(self.work)[~self.grid.active] = 0

    def value(self, p: PETSc.Vec) -> float:
        self._subtract_reference(p)
        product = p.duplicate()
        self.apply(self._product, self.work, product)
        value = 0.5 * self.work.dot(product)
        product.destroy()
        return value

    def gradient(self, p: PETSc.Vec, out: PETSc.Vec) -> None:
        self._subtract_reference(p)
        self.apply(self._product, self.work, out)

    def hessian(self, p: PETSc.Vec, dp: PETSc.Vec, out: PETSc.Vec) -> None:
        self.apply(self._product, dp, out)

    def products(self, rows: np.ndarray, found: np.ndarray) -> None:
        """alpha H x of every row x (n, own cells), 0 in inactive cells. Collective."""
        if self.grid.mask is None:
            self._products(rows, found)
        else:
            inside = self.grid.active.ravel(order="F")
            given = np.ascontiguousarray(rows[:, inside])
            image = np.empty(given.shape)
            self._products(given, image)
            found[...] = 0.0
            found[:, inside] = image

    def precondition(self, p: PETSc.Vec, r: PETSc.Vec, out: PETSc.Vec) -> None:
        self.inverse(r, out)
        out.scale(1 / self.alpha if self.alpha else 1.0)

    @property
    def improper(self) -> str:
        return "" if self.alpha > 0 else "its weight is 0"

    def precision(self, p: PETSc.Vec, dp: PETSc.Vec, out: PETSc.Vec) -> None:
        self.hessian(p, dp, out)

    def _noise(self, seed: int) -> np.ndarray:
        """Own cells [i, j, k] of N(0, H)."""
        raise TypeError("a subclass gives the noise")

    def noise(self, p: PETSc.Vec, seed: int, out: PETSc.Vec) -> None:
        self.grid.view(out)[...] = math.sqrt(self.alpha) * self._noise(seed)

    def variance(self, p: PETSc.Vec) -> np.ndarray | None:
        return None

    @cached_property
    def solver(self) -> LinearSolver:
        return self.solver_of(self.matrix)

    def solver_of(self, matrix: StencilMatrix) -> LinearSolver:
        """As this regularizer solves."""
        found = LinearSolver(
            matrix,
            self.grid,
            self.prefix,
            rtol=1e-6,
            norm=ENERGY,
            checked=8,
            reuse=Reuse(updates=1, solves=SOLVES),
        )
        found.update()
        return found

    def shifted(self, multiple: float) -> Shifted:
        """About (H + multiple M)^-1, exact to a factor of 2; M has the volumes."""
        raise TypeError("a subclass gives it")

    def destroy(self) -> None:
        made = [self.solver] if "solver" in self.__dict__ else []
        for owned in (
            self.work,
            *self.__dict__.get("_active", ()),
            self.matrix,
            *made,
            *([self.reference] if self.reference is not None else []),
        ):
            owned.destroy()


class Gradient(Quadratic):
    """H1 seminorm with one factor a direction, plus a small multiple of the L2 norm so that it can
    be inverted."""

    def __init__(
        self,
        grid: Grid,
        alpha: float,
        reference: PETSc.Vec | None = None,
        directions: Sequence[float] | None = None,
        cell_weights: np.ndarray | float = 1.0,
        mass_weight: float | None = None,
        prefix: str = "reg_",
    ):
        grid = closed(grid)
        super().__init__(grid, alpha, reference)
        factors = checked_factors(grid, directions)
        length = max(float(e[-1] - e[0]) for e in grid.edges)
        shift = 1e-2 / length**2 if mass_weight is None else mass_weight
        weight = checked_weights(grid, cell_weights)
        self._factors, self._weight, self._shift = factors, weight, shift
        self.matrix = self._operator(0.0)
        self.matrix.freeze()
        self.prefix = prefix

    def shifted(self, multiple: float) -> Shifted:
        matrix = self._operator(multiple)
        return Shifted(self, matrix, lambda solver, x, y: solver.solve(x, y))

    @property
    def improper(self) -> str:
        if not self._shift > 0:
            return "constants cost nothing: its mass_weight is 0"
        return super().improper

    def _noise(self, seed: int) -> np.ndarray:
        return stencil_noise(self.matrix, self.grid, seed)

    def _operator(self, multiple: float) -> StencilMatrix:
        """H + multiple M."""
        slopes = [c * self._weight for c in self._factors]
        return operator(self.grid, slopes, self._shift * self._weight + multiple)

    def _product(self, x: PETSc.Vec, y: PETSc.Vec) -> None:
        self.matrix.product(x, y, factor=self.alpha)

    def _products(self, rows: np.ndarray, found: np.ndarray) -> None:
        self.matrix.products(rows, found, self.alpha)

    def _inverse(self, x: PETSc.Vec, y: PETSc.Vec) -> None:
        self.solver.solve(x, y)


class BiLaplacian(Quadratic):
    """H = S^-1 K M^-1 K S^-1 with K = gamma L + delta M.

    S is 1 where gamma and delta are given. From a correlation length and a variance it is diagonal,
    such that H^-1 has this variance in every cell. `directions` are factors of L by axis: the
    correlation length of an axis is that given times the root of its factor.
    """

    def __init__(
        self,
        grid: Grid,
        alpha: float,
        reference: PETSc.Vec | None = None,
        gamma: float | None = None,
        delta: float | None = None,
        correlation_length: float | None = None,
        variance: float | None = None,
        directions: Sequence[float] | None = None,
        prefix: str = "reg_",
    ):
        grid = closed(grid)
        super().__init__(grid, alpha, reference)
        wanted = variance if gamma is None and delta is None else None
        if wanted is None and not (variance is None and correlation_length is None):
            raise InputError(
                "regularization",
                f"gamma {gamma}, delta {delta}, correlation_length {correlation_length}, "
                f"variance {variance}",
                "gamma and delta, or correlation_length and variance",
            )
        if gamma is None or delta is None:
            gamma, delta = bilaplacian_scales(grid.dim, correlation_length, variance)
        if not (gamma > 0 and delta > 0):
            raise InputError(
                "regularization.gamma, delta", (gamma, delta), "positive numbers"
            )
        factors = checked_factors(grid, directions)
        self._factors, self._delta = [gamma * c for c in factors], delta
        self.matrix = self._operator(0.0)
        self.matrix.freeze()
        self.prefix = prefix
        self.mass = mass(grid)
        self._per_mass = self.mass.copy()
        self._per_mass.reciprocal()
        self.inner = grid.create_active()
        self.scales: PETSc.Vec | None = None
        self._variance = wanted
        if wanted is not None:
            self.scales, self._scaled = grid.create_active(), grid.create_active()
            found = pointwise_variance(grid, self._factors, delta)
            grid.put(np.sqrt(wanted / found), self.scales)

    def _product(self, x: PETSc.Vec, y: PETSc.Vec) -> None:
        given = x
        if self.scales is not None:
            given = self._scaled
            given.pointwiseDivide(x, self.scales)
        self.matrix.product(given, self.inner, weights=self._per_mass)
        self.matrix.product(self.inner, y, factor=self.alpha)
        if self.scales is not None:
            y.pointwiseDivide(y, self.scales)

    def _products(self, rows: np.ndarray, found: np.ndarray) -> None:
        given, inner = rows, np.empty(rows.shape)
        if self.scales is not None:
            given = rows / self.scales.getArray(readonly=True)
        self.matrix.products(given, inner, weights=self._per_mass)
        self.matrix.products(inner, found, self.alpha)
        if self.scales is not None:
            found /= self.scales.getArray(readonly=True)

    def shifted(self, multiple: float) -> Shifted:
        """K + sqrt(c) S M in place of K: the square of a sum is at most twice that of squares."""
        root: np.ndarray | float = math.sqrt(multiple)
        if self.scales is not None:
            root = root * self.grid.take(self.scales)
        return Shifted(self, self._operator(root), self._solve)

    def _operator(self, added: np.ndarray | float) -> StencilMatrix:
        """K + added M."""
        one = np.ones(self.grid.local_shape, order="F")
        return operator(
            self.grid, [c * one for c in self._factors], self._delta + added
        )

    def _noise(self, seed: int) -> np.ndarray:
        """S^-1 K M^-1/2 z."""
        drawn, image = self.grid.standard_normal(seed), self.grid.create_active()
        self.grid.put(self.grid.view(drawn) / np.sqrt(self.grid.volume), self.inner)
        self.matrix.product(self.inner, image)
        if self.scales is not None:
            image.pointwiseDivide(image, self.scales)
        found = np.zeros(self.grid.local_shape, order="F")
        self.grid.take(image, found)
        drawn.destroy()
        image.destroy()
        return found

    def sample(self, p: PETSc.Vec, seed: int, out: PETSc.Vec) -> None:
        """S K^-1 M^1/2 z with the z of `_noise`: one solve instead of two."""
        drawn = self.grid.standard_normal(seed)
        self.grid.view(drawn)[...] *= np.sqrt(self.grid.volume / self.alpha)
        self.apply(self._root, drawn, out)
        drawn.destroy()

    def _root(self, x: PETSc.Vec, y: PETSc.Vec) -> None:
        """y = S K^-1 x."""
        self.solver.solve(x, y)
        if self.scales is not None:
            y.pointwiseMult(y, self.scales)

    def variance(self, p: PETSc.Vec) -> np.ndarray:
        found = (
            pointwise_variance(self.grid, self._factors, self._delta)
            if self._variance is None
            else np.full(self.grid.local_shape, self._variance)
        )
        inside = np.where(self.grid.active, found / self.alpha, 0.0)
        return inside.ravel(order="F")

    def _inverse(self, x: PETSc.Vec, y: PETSc.Vec) -> None:
        self._solve(self.solver, x, y)

    def _solve(self, solver: LinearSolver, x: PETSc.Vec, y: PETSc.Vec) -> None:
        """y = S K^-1 M K^-1 S x with the K of a solver."""
        if self.scales is not None:
            self._scaled.pointwiseMult(x, self.scales)
        solver.solve(x if self.scales is None else self._scaled, self.inner)
        self.inner.pointwiseMult(self.inner, self.mass)
        solver.solve(self.inner, y)
        if self.scales is not None:
            y.pointwiseMult(y, self.scales)

    def destroy(self) -> None:
        super().destroy()
        scaled = [] if self.scales is None else [self.scales, self._scaled]
        for vec in (self.mass, self._per_mass, self.inner, *scaled):
            vec.destroy()


def bilaplacian_scales(
    dim: int, length: float | None, variance: float | None
) -> tuple[float, float]:
    """(gamma, delta) of a field with this correlation length and variance away from the sides."""
    if length is None or variance is None or not (length > 0 and variance > 0):
        raise InputError(
            "regularization.correlation_length, variance",
            (length, variance),
            "two positive numbers, or gamma and delta",
        )
    nu, kappa = 2 - dim / 2, 1 / length
    gamma = math.sqrt(
        math.gamma(nu)
        / (math.gamma(2) * (4 * math.pi) ** (dim / 2) * kappa ** (2 * nu) * variance)
    )
    return gamma, gamma * kappa**2

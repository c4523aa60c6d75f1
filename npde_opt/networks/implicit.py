"""Implicit diffusion: (I - dt div D_c grad) u'_c = u_c with a trained D_c of each channel.

One step sees the whole grid and is stable for every dt. A = -div grad is assembled once a grid, and
a channel's system is M + dt D_c A with the volumes M; the house's solvers keep one hierarchy a
dt D_c, by multigrid in CG or, for few cells and several samples, one factorization for all of
these.

    S = I + dt D M^-1 A:   (M + dt D A) u' = M u,   (M + dt D A) M^-1 lambda = lambda'.
"""

from __future__ import annotations

import numpy as np
from petsc4py import PETSc

from npde_opt.errors import InputError, SolverError
from npde_opt.forward.equation import Equation
from npde_opt.forward.linear_part import LinearPart
from npde_opt.forward.step_solvers import StepSolvers
from npde_opt.grids import Grid
from npde_opt.networks.interface import Values, Weight
from npde_opt.networks.matrices import on_channels
from npde_opt.networks.place import Place, fields
from npde_opt.networks.solved import Solved
from npde_opt.networks.template import Sums
from npde_opt.terms import Diffusion

PREFIX = "state_"
DIGITS = 17
"""Of dt D, by which solvers are told apart: all, as objectives are differentiated in D."""


class Diffusing(Solved):
    """A layer (I - dt div D grad)^-1.

    Args:
        grid: of the states; its sides say what happens there: no flux, or periodic, or 0 beyond
            Dirichlet and Robin sides.
        channels: of the states.
        diffusivity: the weight D, of shape (channels,); a `transform` of 'log' keeps it positive.
        dt: the step.

    Raises:
        InputError: for a weight of another shape, and a step that is none.
    """

    def __init__(self, grid: Grid, channels: int, diffusivity: Weight, dt: float = 1.0):
        if diffusivity.shape != (channels,):
            told = f"{diffusivity.name} of shape {diffusivity.shape}"
            raise InputError("weight", told, f"shape {(channels,)}, one a channel")
        if not 0 < dt < np.inf:
            raise InputError("dt", dt, "a number > 0")
        if any(side.kind == "robin" for side in grid.boundaries.values()):
            raise InputError("boundaries", "robin", "neumann, periodic, dirichlet")
        super().__init__(Place.on(grid, channels), [diffusivity])
        self.grid, self.dt = grid, dt

    def _operator(self, k: Values) -> DiffusingAt:
        return DiffusingAt(self, self.weights[0].of(k))

    def matrix(self, k: Values) -> PETSc.Mat:
        """I - dt div D grad, whose inverse the layer is, in the order of operators' matrices. The
        caller destroys it."""
        system = System.of(self.grid)
        A = system.part.matrices[0].mat.copy()
        inverse = system.part.mass_vec.copy()
        inverse.reciprocal()
        A.diagonalScale(inverse, None)
        found = on_channels(A, np.diag(self.dt * self.weights[0].of(k)))
        for item in (A, inverse):
            item.destroy()
        found.shift(1.0)
        return found


class System:
    """-div grad on a grid, and the solvers of M + alpha A; one for all layers of a grid."""

    def __init__(self, grid: Grid):
        self.grid = grid
        self.part = LinearPart(Equation(grid, [Diffusion(grid, "one")]))
        self.part.assemble(self.part.points_at({"one": 1.0}))
        self.solvers = StepSolvers(self.part, PREFIX, digits=DIGITS)

    @classmethod
    def of(cls, grid: Grid) -> System:
        """The grid's own. Collective when first asked for."""
        sides = tuple(b.kind for b in grid.boundaries.values())
        return grid.once(("implicit diffusion", sides), lambda: cls(grid))

    def product(self, u: np.ndarray) -> np.ndarray:
        """A u of columns [s, i, j, k]."""
        return self.part.mult(0, u)

    def solve(
        self, alpha: float, b: np.ndarray, guess: np.ndarray, adjoint: bool, moves: bool
    ) -> np.ndarray:
        """(M + alpha A)^-1 b of columns [s, i, j, k]."""
        columns = len(b)
        solver = self.solvers.at(alpha, columns)
        if columns > 1:
            return solver.solve(b[None], guess[None], adjoint, moves)[0]
        return solver.solve(b, guess, adjoint, moves)

    def destroy(self) -> None:
        self.solvers.destroy()
        self.part.destroy()


class DiffusingAt:
    """I - dt div D grad at one D."""

    def __init__(self, layer: Diffusing, D: np.ndarray):
        self.layer, self.D, self.system = layer, D, System.of(layer.grid)
        if not (np.isfinite(D).all() and (D >= 0).all()):
            weight = layer.weights[0].name
            reason = f"{weight} is {D.min():g}, where nothing diffuses backward"
            raise SolverError(PREFIX, reason, f"Give {weight} the transform 'log'.")

    def solve(
        self, b: np.ndarray, guess: np.ndarray, adjoint: bool = False
    ) -> np.ndarray:
        mass, found = self.system.part.mass, np.empty_like(b)
        rhs, start, out = fields(b), fields(guess), fields(found)
        for c, D in enumerate(self.D):
            alpha = self.layer.dt * float(D)
            if adjoint:
                near = start[c] / mass
                out[c] = mass * self.system.solve(alpha, rhs[c], near, True, False)
            else:
                out[c] = self.system.solve(alpha, mass * rhs[c], start[c], False, True)
        return found

    def _product(
        self, u: np.ndarray, factors: np.ndarray, adjoint: bool = False
    ) -> np.ndarray:
        """dt factor_c M^-1 A u_c, or dt factor_c A M^-1 u_c"""
        found, mass = np.empty_like(u), self.system.part.mass
        given, out = fields(u), fields(found)
        for c, factor in enumerate(self.layer.dt * factors):
            if adjoint:
                out[c] = factor * self.system.product(given[c] / mass)
            else:
                out[c] = factor * self.system.product(given[c]) / mass
        return found

    def derivative(
        self, u: np.ndarray, dk: Values, adjoint: bool = False
    ) -> np.ndarray:
        return self._product(u, self.layer.weights[0].of(dk), adjoint)

    def add(self, out: Sums, y: np.ndarray, u: np.ndarray) -> None:
        image = self._product(u, np.ones(len(u)))
        axes = tuple(range(1, u.ndim))
        out.add(self.layer.weights[0], -(y * image).sum(axis=axes))

    def add_second(self, out: Sums, y: np.ndarray, u: np.ndarray, dk: Values) -> None:
        """0: S is linear in D."""

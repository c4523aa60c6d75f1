"""Implicit layers of a stencil: (I + dt T^T T) u' = u with trained weights in T.

T^T T is symmetric and has no negative eigenvalue, whatever the weights: with differences in T it
diffuses along what these see, between channels too, and every dt is stable. The system is assembled
once a point and solved by CG with algebraic multigrid,

    S_w dw = dt (dT^T T + T^T dT),   -y^T S_w u: -dt (Ty (x) u + Tu (x) y).
"""

from __future__ import annotations

import numpy as np
from petsc4py import PETSc

from npde_opt.errors import InputError, SolverError, collective
from npde_opt.linear.accuracy import Tolerance
from npde_opt.linear.recipes import options_below
from npde_opt.linear.residual import ResidualCheck
from npde_opt.linear.table import PIVOTS, RECIPES
from npde_opt.networks.interface import Values
from npde_opt.networks.matrices import as_vec, from_vec
from npde_opt.networks.parts import Part
from npde_opt.networks.solved import Solved
from npde_opt.networks.template import Change, Sums
from npde_opt.petsc_options import from_options

PREFIX = "state_"


class Smoothing(Solved):
    """A layer (I + dt T^T T)^-1.

    Args:
        part: T with its weights.
        dt: the step.

    Raises:
        InputError: for a step that is none.
    """

    def __init__(self, part: Part, dt: float = 1.0):
        if not 0 < dt < np.inf:
            raise InputError("dt", dt, "a number > 0")
        super().__init__(part.operator.source, [part.weight])
        self.part, self.dt = part, dt
        self._made: tuple[np.ndarray, SymmetricSystem] | None = None

    def _operator(self, k: Values) -> SmoothingAt:
        return SmoothingAt(self, k)

    def with_operators(self, change: Change) -> Smoothing:
        """The same layer of a changed T."""
        return Smoothing(self.part.changed(change), self.dt)

    def matrix(self, k: Values) -> PETSc.Mat:
        """I + dt T^T T, whose inverse the layer is. The caller destroys it."""
        T = self.part.operator.matrix(self.part.weight.of(k))
        found = T.transposeMatMult(T)
        T.destroy()
        found.scale(self.dt)
        found.shift(1.0)
        return found

    def system(self, k: Values) -> SymmetricSystem:
        """The solver at weights k; that of the last ones is kept. Collective."""
        weights = self.part.weight.of(k)
        if self._made is None or not np.array_equal(self._made[0], weights):
            self.destroy()
            system = SymmetricSystem(self.matrix(k), self.source.channels)
            self._made = weights.copy(), system
        return self._made[1]

    def destroy(self) -> None:
        if self._made is not None:
            self._made[1].destroy()
        self._made = None


class SmoothingAt:
    """I + dt T^T T at one point."""

    def __init__(self, layer: Smoothing, k: Values):
        self.layer, self.k = layer, k

    def solve(
        self, b: np.ndarray, guess: np.ndarray, adjoint: bool = False
    ) -> np.ndarray:
        found, place = np.empty_like(b), self.layer.source
        system = self.layer.system(self.k)
        for s in range(b.shape[1]):
            rhs, x = as_vec(place, b[:, s]), as_vec(place, guess[:, s])
            with collective(place.comm):
                system.solve(rhs, x)
            found[:, s] = from_vec(place, x)
            for vec in (rhs, x):
                vec.destroy()
        return found

    def derivative(
        self, u: np.ndarray, dk: Values, adjoint: bool = False
    ) -> np.ndarray:
        T, k = self.layer.part, self.k
        found = T.transpose(dk, T.apply(k, u)) + T.transpose(k, T.apply(dk, u))
        return self.layer.dt * found

    def add(self, out: Sums, y: np.ndarray, u: np.ndarray) -> None:
        self._add(out, y, u, self.k)

    def add_second(self, out: Sums, y: np.ndarray, u: np.ndarray, dk: Values) -> None:
        self._add(out, y, u, dk)

    def _add(self, out: Sums, y: np.ndarray, u: np.ndarray, k: Values) -> None:
        T, dt = self.layer.part, self.layer.dt
        T.add(out, T.apply(k, y), -dt * u)
        T.add(out, T.apply(k, u), -dt * y)


class SymmetricSystem:
    """CG with algebraic multigrid for an assembled matrix of some channels a cell.

    Args:
        matrix: symmetric positive definite; it is destroyed with this.
    """

    def __init__(self, matrix: PETSc.Mat, channels: int):
        self.matrix = matrix
        matrix.setBlockSize(channels)
        self.ksp = PETSc.KSP().create(matrix.comm)
        self.ksp.setOptionsPrefix(PREFIX)
        self.ksp.setOperators(matrix)
        self.ksp.setTolerances(rtol=1e-8, atol=1e-300, max_it=500)
        self.ksp.setInitialGuessNonzero(True)
        own = {"ksp_type": "cg", "ksp_norm_type": "unpreconditioned"}
        with (
            options_below(PREFIX, {**PIVOTS, **RECIPES["gamg"], **own}),
            from_options(PREFIX),
        ):
            self.ksp.setFromOptions()
            self.ksp.setUp()
        self.tolerance = Tolerance(self.ksp)
        self._residual = ResidualCheck(self.ksp, PREFIX)

    def solve(self, b: PETSc.Vec, x: PETSc.Vec) -> None:
        """From the guess in x. Raises SolverError where it does not converge."""
        self.tolerance.use()
        self.ksp.solve(b, x)
        if self.ksp.getConvergedReason() < 0:
            raise SolverError(
                PREFIX,
                f"CG on an implicit layer stopped after {self.ksp.getIterationNumber()} "
                f"iterations (reason {self.ksp.getConvergedReason()})",
                f"Raise -{PREFIX}ksp_max_it, loosen -{PREFIX}ksp_rtol, or take a smaller dt.",
            )
        self._residual.check(b, x)

    def destroy(self) -> None:
        self.ksp.destroy()
        self._residual.destroy()
        self.matrix.destroy()

"""Implicit stages with nonlinear terms: F(U) = M U + alpha r(U) - b = 0 by Newton's method.

One species: the Jacobian M + alpha r' is one assembled matrix. Several: GMRES on the coupled system with a multigrid
cycle a species as preconditioner (species couple within cells only).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from petsc4py import PETSc

from npde_opt import reductions
from npde_opt.errors import InputError, SolverError, collective
from npde_opt.forward.equation import LinearPart
from npde_opt.forward.positivity import rates_not_finite
from npde_opt.forward.step_solvers import solve_step, step_solver
from npde_opt.linear.accuracy import TIGHT, Tolerance, given, is_tight
from npde_opt.linear.guess import Corrector
from npde_opt.linear.measured import note, take
from npde_opt.linear.recipes import LinearSolver
from npde_opt.operators.stencils import StencilMatrix
from npde_opt.petsc_options import from_options
from npde_opt.terms.state import State, channels

MAX_ITERATIONS = 25


class Newton:
    """Solves stages and systems with their Jacobians; the matrices are shared by all stages.

    The option -<prefix>newton_rtol (1e-10) is relative to the norm of b, or of the residual before the step if that is larger.
    """

    def __init__(self, part: LinearPart, mass: PETSc.Vec, prefix: str, symmetric: bool, recipe: str = "auto"):
        equation = part.equation
        if equation.complex:
            raise InputError("scheme", "implicit nonlinear terms with an imaginary gamma", "ars222 or imex-euler")
        self.part, self.grid, self.prefix = part, part.grid, prefix
        self.count = len(equation.species)
        self.mass = part.mass
        self.symmetric = symmetric
        self._rtol = PETSc.Options().getReal(prefix + "newton_rtol", 1e-10)
        self.matrices = [StencilMatrix(self.grid) for _ in range(self.count)]
        self.solvers: list[LinearSolver] = [step_solver(m, part, prefix, symmetric, recipe) for m in self.matrices]
        self.iterations = 0
        self.coupling = np.zeros((self.count, self.count, *self.grid.local_shape))
        self._b, self._x = self.grid.create_active(), self.grid.create_active()
        self._corrector = Corrector(mass)
        self._held: tuple[Any, float] | None = None
        self._coupled = Coupled(self) if self.count > 1 else None

    @property
    def rtol(self) -> float:
        tightened = is_tight() and not given(self.prefix + "newton_rtol")
        return min(TIGHT, self._rtol) if tightened else self._rtol

    def _assemble(self, alpha: float, group: Any, state: State) -> None:
        """The Jacobian at a state, where it is not there already."""
        if self._held is not None and self._held[0] is state.u and self._held[1] == alpha:
            return
        values = np.zeros((self.count, self.count, 1 + 2 * self.grid.dim, *self.grid.local_shape))
        if group.linear is not None:
            for operator, points in zip(group.linear.operators, group.linear.points, strict=True):
                for row, column, factor in operator.pattern:
                    part = np.zeros(values.shape[2:])
                    for point in points:
                        point.add_stencil(part)
                    values[row, column] += factor * part
        for point in group.others:
            point.add_jacobian(state, values)
        with collective(self.grid.comm):
            if not np.isfinite(values).all():
                raise SolverError(self.prefix, "the Jacobian of a step is not finite", "Take shorter steps.")
        for c, matrix in enumerate(self.matrices):
            entries = matrix.entries()
            entries[...] = alpha * values[c, c]
            entries[0] += self.mass
            matrix.set_values(entries)
            self.solvers[c].update()
        self.coupling = alpha * values[:, :, 0]
        self._held = (state.u, alpha)

    def _residual(self, alpha: float, b: np.ndarray, group: Any, state: State,
                  load: np.ndarray | None) -> tuple[np.ndarray, float]:
        residual = self.mass * state.u + alpha * group.residual(state, load) - b
        return residual, self._norm(residual)

    def _guess(self, alpha: float, b: np.ndarray, group: Any, before: State,
               load: np.ndarray | None) -> tuple[State, np.ndarray, float, float]:
        """The state before, changed at its present rate where that leaves a smaller residual; its residual, the norm of that
        and the norm for the state before."""
        residual, norm = self._residual(alpha, b, group, before, load)
        moved = before.moved(-residual / self.mass)
        other, size = self._residual(alpha, b, group, moved, load)
        return (moved, other, size, norm) if size < norm else (before, residual, norm, norm)

    def solve(self, alpha: float, b: np.ndarray, group: Any, before: State, load: np.ndarray | None) -> np.ndarray:
        """U from b and the state before. Raises SolverError where Newton's method does not converge."""
        state, residual, norm, first = self._guess(alpha, b, group, before, load)
        scale, last = max(self._norm(b), first, 1e-300), np.inf
        for iteration in range(MAX_ITERATIONS):
            if not np.isfinite(norm):
                break
            if norm <= self.rtol * scale or (norm < 1e-8 * scale and norm > 0.5 * last):
                note("state", norm / scale, iteration)
                return state.u
            last = norm
            self._assemble(alpha, group, state)
            state = state.moved(self._linear(-residual, channels(self.grid, self.count), False))
            residual, norm = self._residual(alpha, b, group, state, load)
        if not np.isfinite(norm):
            found = rates_not_finite(self.part.equation.species, state, group.others)
            raise SolverError(self.prefix, found or "Newton's method met a residual that is not finite", "Take shorter steps.")
        raise SolverError(self.prefix, f"Newton's method stopped at a residual of {norm / scale:.3g} after "
                          f"{MAX_ITERATIONS} iterations", "Take shorter steps.")

    def linear(self, alpha: float, group: Any, state: State, b: np.ndarray, guess: np.ndarray, adjoint: bool) -> np.ndarray:
        """The solution of the system with the Jacobian at `state`, or its transpose."""
        self._assemble(alpha, group, state)
        return self._linear(b, guess, adjoint)

    def _linear(self, b: np.ndarray, guess: np.ndarray, transposed: bool) -> np.ndarray:
        if self._coupled is not None:
            return self._coupled.solve(b, guess, transposed)
        self.grid.put(b[0], self._b)
        self.grid.put(guess[0], self._x)
        solver = self.solvers[0]
        with collective(self.grid.comm):
            self.iterations += solve_step(solver, self._corrector, self._b, self._x, transposed, kind="newton")
        out = np.empty_like(b)
        self.grid.take(self._x, out[0])
        return out

    def _norm(self, values: np.ndarray) -> float:
        return float(np.sqrt(reductions.total(self.grid.comm, float(np.vdot(values, values)))))

    @property
    def asked(self) -> dict[str, str]:
        """The tolerances of stages and of the linear systems in them, with their norms."""
        linear = (self._coupled or self.solvers[0]).tolerance
        return {"state": f"{self.rtol:g} on the true residual", "newton": linear.text}

    def destroy(self) -> None:
        if self._coupled is not None:
            self._coupled.release()
        for solver, matrix in zip(self.solvers, self.matrices, strict=True):
            solver.destroy()
            matrix.destroy()
        self._b.destroy()
        self._x.destroy()
        self._corrector.destroy()


class Coupled:
    """Context of the coupled Jacobian and its preconditioner."""

    def __init__(self, newton: Newton):
        self.grid, self.matrices, self.solvers, self.count = newton.grid, newton.matrices, newton.solvers, newton.count
        self._couplings = lambda: newton.coupling
        self._count_iterations = newton
        self.transposed = False
        n, total = self.grid.active_local_size, self.grid.active_size
        sizes = ((self.count * n, self.count * total),) * 2
        self.operator = PETSc.Mat().createPython(sizes, self, comm=self.grid.comm)
        self.operator.setUp()
        self._b, self._x = self.operator.createVecRight(), self.operator.createVecRight()
        self._u, self._v = self.grid.create_active(), self.grid.create_active()
        self.ksp = PETSc.KSP().create(self.grid.comm)
        self.ksp.setOptionsPrefix(newton.prefix)
        self.ksp.setType(PETSc.KSP.Type.GMRES)
        self.ksp.setOperators(self.operator)
        self.ksp.setPCSide(PETSc.PC.Side.RIGHT)
        self.ksp.setTolerances(rtol=1e-8, atol=1e-300, max_it=300)
        self.tolerance = Tolerance(self.ksp)
        self.ksp.setInitialGuessNonzero(True)
        self.ksp.getPC().setType(PETSc.PC.Type.PYTHON)
        self.ksp.getPC().setPythonContext(self)
        with from_options(newton.prefix):
            self.ksp.setFromOptions()

    def mult(self, mat: PETSc.Mat, x: PETSc.Vec, y: PETSc.Vec) -> None:
        n, values, out = self.grid.active_local_size, x.getArray(readonly=True), y.getArray()
        coupling = self._couplings()
        for c, matrix in enumerate(self.matrices):
            self._u.setArray(values[c * n: (c + 1) * n])
            (matrix.mat.multTranspose if self.transposed else matrix.mat.mult)(self._u, self._v)
            total = np.array(self._v.getArray(readonly=True))
            for d in range(self.count):
                if d != c:
                    block = coupling[d, c] if self.transposed else coupling[c, d]
                    total += self.grid.pack(block) * values[d * n: (d + 1) * n]
            out[c * n: (c + 1) * n] = total

    def apply(self, pc: PETSc.PC, x: PETSc.Vec, y: PETSc.Vec) -> None:
        n, values, out = self.grid.active_local_size, x.getArray(readonly=True), y.getArray()
        for c, solver in enumerate(self.solvers):
            self._u.setArray(values[c * n: (c + 1) * n])
            inner = solver.ksp.getPC()
            (inner.applyTranspose if self.transposed and not solver.symmetric else inner.apply)(self._u, self._v)
            out[c * n: (c + 1) * n] = self._v.getArray(readonly=True)

    def solve(self, b: np.ndarray, guess: np.ndarray, transposed: bool) -> np.ndarray:
        self.transposed = transposed
        self.grid.put(b, self._b)
        self.grid.put(guess, self._x)
        self.tolerance.use()
        self.ksp.solve(self._b, self._x)
        iterations = self.ksp.getIterationNumber()
        self._count_iterations.iterations += iterations
        if self.ksp.getConvergedReason() < 0:
            raise SolverError(self.ksp.getOptionsPrefix(), f"GMRES on the coupled species stopped after "
                              f"{iterations} iterations", "Take shorter steps.")
        take("newton", self.operator, self._b, self._x, iterations)
        return self.grid.take(self._x, np.empty_like(b))

    def release(self) -> None:
        self.ksp.destroy()
        for item in (self.operator, self._b, self._x, self._u, self._v):
            item.destroy()

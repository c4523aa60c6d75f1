"""(M + alpha A) u = b for the stages of a time step, alpha = dt a_ii: one matrix and one multigrid hierarchy an operator and
step size, for all steps, increments and adjoints."""

from __future__ import annotations

from typing import Any

import numpy as np
from petsc4py import PETSc

from npde_opt.errors import collective
from npde_opt.forward.equation import LinearPart
from npde_opt.linear.guess import Corrector
from npde_opt.linear.measured import take
from npde_opt.linear.presb import Presb
from npde_opt.linear.recipes import LinearSolver, chosen_recipe
from npde_opt.operators.stencils import StencilMatrix, combine

KEPT, MOST, SMALL = 24, 200, 500_000
"""Solvers that are kept: so many, or as have SMALL cells a rank together, at most MOST."""

STEPS_CHECKED = 32
"""Of so many solves of steps one is checked for its true residual."""


class Decoupled:
    """One system a species: M + alpha A_c by multigrid, or M alone where no linear term acts on the species."""

    def __init__(self, part: LinearPart, mass_vec: PETSc.Vec, alpha: float, prefix: str, recipe: str):
        self.part, self.grid, self.alpha = part, part.grid, alpha
        self.iterations = 0
        self._b, self._x = self.grid.create_active(), self.grid.create_active()
        self._corrector = Corrector(mass_vec)
        self.matrices: dict[int, tuple[int, float, StencilMatrix]] = {}
        self.solvers: dict[int, LinearSolver] = {}
        for k, operator in enumerate(part.equation.operators):
            ((c, _, factor),) = operator.pattern
            matrix = StencilMatrix(self.grid)
            self.matrices[c] = (k, factor, matrix)
            self.solvers[c] = step_solver(matrix, part, prefix, operator.symmetric, recipe)

    def resize(self, alpha: float) -> None:
        """For another step size, from the next update on."""
        self.alpha = alpha

    def update(self) -> None:
        """Takes the present values of the linear part's matrices."""
        for c, (k, factor, matrix) in self.matrices.items():
            combine(matrix, [(self.alpha * factor, self.part.matrices[k])], self.part.mass)
            self.solvers[c].update()

    def solve(self, b: np.ndarray, guess: np.ndarray, transposed: bool = False, moves: bool = False) -> np.ndarray:
        """All species' solutions [c, i, j, k]; with `moves` the guess is a state that is moved first (see
        linear/guess.py)."""
        out = np.empty_like(b)
        for c in range(len(b)):
            if c not in self.solvers:
                out[c] = b[c] / self.part.mass
                continue
            self.grid.put(b[c], self._b)
            self.grid.put(guess[c], self._x)
            kind = "adjoint" if transposed else "state"
            with collective(self.grid.comm):
                self.iterations += solve_step(self.solvers[c], self._corrector, self._b, self._x,
                                              transposed, moves, kind)
            self.grid.take(self._x, out[c])
        return out

    @property
    def asked(self) -> str:
        """The tolerance of a solve; "" where none is made."""
        return next((s.tolerance.text for s in self.solvers.values()), "")

    def destroy(self) -> None:
        for solver in self.solvers.values():
            solver.destroy()
        for _, _, matrix in self.matrices.values():
            matrix.destroy()
        self._b.destroy()
        self._x.destroy()
        self._corrector.destroy()


def step_solver(matrix: StencilMatrix, part: LinearPart, prefix: str, symmetric: bool, recipe: str = "auto") -> LinearSolver:
    """A solver that stops at the true residual."""
    solver = LinearSolver(matrix, part.grid, prefix, recipe, symmetric, norm="unpreconditioned", checked=STEPS_CHECKED)
    if solver.recipe != "direct" and not symmetric:
        solver.ksp.setPCSide(PETSc.PC.Side.RIGHT)
    return solver


def solve_step(solver: LinearSolver, corrector: Corrector, b: PETSc.Vec, x: PETSc.Vec, transposed: bool,
               moves: bool = False, kind: str = "state") -> int:
    """From the guess in x, where the recipe makes use of one. Returns the Krylov iterations.

    Args:
        kind: of the system, as linear/measured.py counts it.
    """
    before = solver.iterations
    run = solver.solve_transpose if transposed else solver.solve
    if solver.recipe == "direct":
        run(b, x)
    else:
        solver.tolerance.use()
        corrector.solve(solver.ksp, b, x, run, moves, transposed and not solver.symmetric)
    iterations = solver.iterations - before
    take(kind, solver.matrix.mat, b, x, iterations, transposed and not solver.symmetric)
    return iterations


class PresbStep:
    """The two species of a complex equation together."""

    def __init__(self, part: LinearPart, mass_vec: PETSc.Vec, alpha: float, prefix: str, recipe: str):
        operators = part.equation.operators
        mats: dict[bool, tuple[StencilMatrix, float]] = {}
        for matrix, operator in zip(part.matrices, operators, strict=True):
            row, column, factor = operator.pattern[-1]
            mats[row != column] = (matrix, alpha * factor)
        A, a = mats[True]
        B, b = mats.get(False, (None, 0.0))
        self.factors = a / alpha, b / alpha
        self.presb = Presb(part.grid, mass_vec, A, B, (a, b), prefix, recipe)

    def resize(self, alpha: float) -> None:
        """For another step size, from the next update on."""
        self.presb.alpha, self.presb.beta = (alpha * f for f in self.factors)

    @property
    def iterations(self) -> int:
        return self.presb.iterations

    @property
    def asked(self) -> str:
        return self.presb.tolerance.text

    def update(self) -> None:
        self.presb.update()

    def solve(self, b: np.ndarray, guess: np.ndarray, transposed: bool = False, moves: bool = False) -> np.ndarray:
        return self.presb.solve(b, guess, transposed, moves)

    def destroy(self) -> None:
        self.presb.release()


class StepSolvers:
    """The solvers of the step sizes in use, made when first asked for. The most recent are kept: KEPT, and more on small grids;
    beyond, the one that was not used for longest is given the new size, which is cheaper than a new one."""

    def __init__(self, part: LinearPart, prefix: str, recipe: str = "auto"):
        self.part, self.prefix, self.recipe = part, prefix, chosen_recipe(prefix, recipe)
        self.mass = part.grid.create_active()
        part.grid.put(part.mass, self.mass)
        self._found: dict[float, tuple[Any, object]] = {}
        grid = part.grid
        self.kept = int(np.clip(SMALL * grid.comm.size // grid.size, KEPT, MOST))

    def at(self, alpha: float) -> Any:
        """The solver for M + alpha A with the linear part's present values."""
        key = float(f"{alpha:.12g}")
        solver, version = self._found.pop(key, (None, None))
        if solver is None:
            solver, version = self._made(key), None
        if version is not self.part.version:
            solver.update()
        self._found[key] = (solver, self.part.version)
        return solver

    def _made(self, alpha: float) -> Any:
        """A solver for alpha, which has to be updated."""
        if len(self._found) < self.kept:
            kind = PresbStep if self.part.equation.complex else Decoupled
            return kind(self.part, self.mass, alpha, self.prefix, self.recipe)
        solver, _ = self._found.pop(next(iter(self._found)))
        solver.resize(alpha)
        return solver

    @property
    def iterations(self) -> int:
        """Krylov iterations so far."""
        return sum(s.iterations for s, _ in self._found.values())

    @property
    def asked(self) -> str:
        """The tolerance of a solve, with its norm; "" before the first."""
        return next((s.asked for s, _ in self._found.values()), "")

    def destroy(self) -> None:
        for solver, _ in self._found.values():
            solver.destroy()
        self.mass.destroy()

"""(M + alpha A) u = b for the stages of a time step, alpha = dt a_ii: one matrix and one multigrid
hierarchy an operator and step size, for all steps, increments and adjoints.

Columns of a small system are solved for together, by one factorization (linear/factored.py); those
of a larger one by multigrid, one after the other.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from petsc4py import PETSc

from npde_opt.errors import collective
from npde_opt.forward.jacobian import Jacobian
from npde_opt.forward.linear_part import LinearPart
from npde_opt.linear.choice import Reuse
from npde_opt.linear.factored import Factored, factors
from npde_opt.linear.guess import STEPS_CHECKED, Corrector, solve_step, step_solver
from npde_opt.linear.presb import Presb
from npde_opt.linear.recipes import LinearSolver, chosen_recipe
from npde_opt.operators.blocks import pack, unpack
from npde_opt.operators.patterns import Csr
from npde_opt.operators.stencils import StencilMatrix, combine
from npde_opt.packages import scipy

KEPT, MOST, SMALL = 24, 200, 500_000
"""Solvers that are kept: so many, or as have SMALL cells a rank together, at most MOST."""


class StepSolver(Protocol):
    """Of M + alpha A for one alpha."""

    @property
    def iterations(self) -> int: ...

    @property
    def asked(self) -> str: ...

    def resize(self, alpha: float) -> None:
        """For another step size, from the next update on."""

    def update(self) -> None:
        """Takes the present values of the linear part's matrices."""

    def solve(
        self,
        b: np.ndarray,
        guess: np.ndarray,
        transposed: bool = False,
        moves: bool = False,
    ) -> np.ndarray:
        """The solution, shaped as b [c, i, j, k]; with `moves` the guess is a state that is moved
        first (see linear/guess.py)."""

    def destroy(self) -> None: ...


class Decoupled:
    """One system a species: M + alpha A_c by multigrid, or M alone where no linear term acts on the
    species."""

    def __init__(
        self,
        part: LinearPart,
        mass_vec: PETSc.Vec,
        alpha: float,
        prefix: str,
        recipe: str,
        reuse: Reuse | None = None,
    ):
        self.part, self.grid, self.alpha = part, part.grid, alpha
        self.iterations = 0
        self._b, self._x = self.grid.create_active(), self.grid.create_active()
        self._corrector = Corrector(mass_vec)
        self.matrices: dict[int, tuple[int, float, StencilMatrix]] = {}
        self.solvers: dict[int, LinearSolver] = {}
        for k, operator in enumerate(part.equation.operators):
            ((c, _, factor),) = operator.pattern
            matrix = StencilMatrix(self.grid, offsets=part.matrices[k].offsets)
            self.matrices[c] = (k, factor, matrix)
            self.solvers[c] = step_solver(
                matrix, prefix, operator.symmetric, recipe, reuse
            )

    def resize(self, alpha: float) -> None:
        """For another step size, from the next update on."""
        self.alpha = alpha

    def update(self) -> None:
        """Takes the present values of the linear part's matrices."""
        for c, (k, factor, matrix) in self.matrices.items():
            combine(
                matrix, [(self.alpha * factor, self.part.matrices[k])], self.part.mass
            )
            self.solvers[c].update()

    def solve(
        self,
        b: np.ndarray,
        guess: np.ndarray,
        transposed: bool = False,
        moves: bool = False,
    ) -> np.ndarray:
        """All species' solutions [c, i, j, k]; with `moves` the guess is a state that is moved
        first (see linear/guess.py)."""
        out = np.empty_like(b)
        for c in range(len(b)):
            if c not in self.solvers:
                out[c] = b[c] / self.part.mass
                continue
            self.grid.put(b[c], self._b)
            if not self.solvers[c].direct:
                self.grid.put(guess[c], self._x)
            kind = "adjoint" if transposed else "state"
            with collective(self.grid.comm):
                self.iterations += solve_step(
                    self.solvers[c],
                    self._corrector,
                    self._b,
                    self._x,
                    transposed,
                    moves,
                    kind,
                )
            self.grid.take(self._x, out[c])
        return out

    @property
    def asked(self) -> str:
        """The tolerance of a solve; "" where none is made."""
        return next((s.asked for s in self.solvers.values()), "")

    def destroy(self) -> None:
        for solver in self.solvers.values():
            solver.destroy()
        for _, _, matrix in self.matrices.values():
            matrix.destroy()
        self._b.destroy()
        self._x.destroy()
        self._corrector.destroy()


class CoupledStep:
    """Several species together that linear terms couple."""

    def __init__(
        self,
        part: LinearPart,
        mass_vec: PETSc.Vec,
        alpha: float,
        prefix: str,
        recipe: str,
    ):
        self.part, self.alpha = part, alpha
        self.jacobian = Jacobian(part, mass_vec, prefix, recipe)

    def resize(self, alpha: float) -> None:
        """For another step size, from the next update on."""
        self.alpha = alpha

    @property
    def iterations(self) -> int:
        return self.jacobian.iterations

    @property
    def asked(self) -> str:
        return self.jacobian.asked

    def update(self) -> None:
        assert self.part.points is not None
        self.jacobian.assemble(self.alpha, self.part.points)

    def solve(
        self,
        b: np.ndarray,
        guess: np.ndarray,
        transposed: bool = False,
        moves: bool = False,
    ) -> np.ndarray:
        return self.jacobian.solve(
            b, guess, transposed, "adjoint" if transposed else "state"
        )

    def destroy(self) -> None:
        self.jacobian.destroy()


class PresbStep:
    """The two species of a complex equation together."""

    def __init__(
        self,
        part: LinearPart,
        mass_vec: PETSc.Vec,
        alpha: float,
        prefix: str,
        recipe: str,
    ):
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

    def solve(
        self,
        b: np.ndarray,
        guess: np.ndarray,
        transposed: bool = False,
        moves: bool = False,
    ) -> np.ndarray:
        return self.presb.solve(b, guess, transposed, moves)

    def destroy(self) -> None:
        self.presb.release()


class FactoredStep:
    """All species of a small system, for columns [c, s, i, j, k]."""

    def __init__(self, part: LinearPart, alpha: float, prefix: str):
        self.part, self.grid, self.alpha = part, part.grid, alpha
        self.factored = Factored(self.grid.comm, prefix, STEPS_CHECKED)
        self.asked = self.factored.asked

    @property
    def iterations(self) -> int:
        return self.factored.iterations

    def resize(self, alpha: float) -> None:
        """For another step size, from the next update on."""
        self.alpha = alpha

    def update(self) -> None:
        self.factored.update(self._rows())

    def _rows(self) -> Csr:
        """Owned rows of M + alpha A; a rank's unknowns are those of its species one after the
        other."""
        count, comm = len(self.part.equation.species), self.grid.comm
        own = self.grid.active_local_size
        sizes = np.array(comm.allgather(own))
        firsts, shape = (
            np.cumsum(sizes) - sizes,
            (count * own, count * int(sizes.sum())),
        )
        mass = np.tile(self.grid.pack(self.part.mass), count)
        rows = np.arange(count * own)
        system = scipy.sparse.csr_matrix(
            (mass, (rows, count * firsts[comm.rank] + rows)), shape
        )
        for matrix, operator in zip(
            self.part.matrices, self.part.equation.operators, strict=True
        ):
            starts, cells, values = matrix.mat.getValuesCSR()
            owner = np.searchsorted(np.cumsum(sizes), cells, side="right")
            base = count * firsts[owner] + cells - firsts[owner]
            at = np.repeat(np.arange(own), np.diff(starts))
            for row, column, factor in operator.pattern:
                place = row * own + at, base + column * sizes[owner]
                entries = self.alpha * factor * values
                system = system + scipy.sparse.csr_matrix((entries, place), shape)
        return system.indptr, system.indices, system.data

    def solve(
        self,
        b: np.ndarray,
        guess: np.ndarray,
        transposed: bool = False,
        moves: bool = False,
    ) -> np.ndarray:
        rows = np.concatenate([pack(self.grid, channel) for channel in b])
        found = self.factored.solve(
            rows, transposed, "adjoint" if transposed else "state"
        )
        out = np.empty_like(b)
        for channel, part in zip(out, np.split(found, len(b)), strict=True):
            channel[...] = unpack(self.grid, part)
        return out

    def destroy(self) -> None:
        """Nothing of PETSc's."""


class OneByOne:
    """Columns, by the solver of single states; which stays its owner's."""

    def __init__(self, solver: StepSolver):
        self.solver = solver

    def solve(
        self,
        b: np.ndarray,
        guess: np.ndarray,
        transposed: bool = False,
        moves: bool = False,
    ) -> np.ndarray:
        out = np.empty_like(b)
        for s in range(b.shape[1]):
            out[:, s] = self.solver.solve(b[:, s], guess[:, s], transposed, moves)
        return out


def reuse_in(times: np.ndarray, experiments: int) -> Reuse:
    """Of the matrix of a step size: forward and back over the steps that have it."""
    steps = np.diff(times)
    sizes = len({f"{dt:.12g}" for dt in steps})
    solves = max(2 * steps.size * experiments // sizes, 1)
    return Reuse(updates=10, solves=solves, matrices=min(sizes, KEPT))


class StepSolvers:
    """The solvers of the step sizes in use, made when first asked for. The most recent are kept:
    KEPT, and more on small grids; beyond, the one that was not used for longest is given the new
    size, which is cheaper than a new one.

    Args:
        digits: of a step size, by which they are told apart.
        reuse: of the values of one of the matrices.
    """

    def __init__(
        self,
        part: LinearPart,
        prefix: str,
        recipe: str = "auto",
        digits: int = 12,
        reuse: Reuse | None = None,
    ):
        self.part, self.prefix, self.recipe = (
            part,
            prefix,
            chosen_recipe(prefix, recipe),
        )
        self.digits, self.reuse = digits, reuse
        self._found: dict[tuple[float, bool], tuple[StepSolver, object]] = {}
        self._small: dict[int, bool] = {}
        grid = part.grid
        self.kept = int(np.clip(SMALL * grid.comm.size // grid.size, KEPT, MOST))

    def at(self, alpha: float, columns: int = 1) -> StepSolver | OneByOne:
        """The solver for M + alpha A with the linear part's present values, of states [c, i, j, k]
        or of so many columns."""
        factored = self._factors(columns)
        key = float(f"{alpha:.{self.digits}g}"), factored
        found = self._found.pop(key, None)
        solver, points = found if found is not None else (self._made(*key), None)
        if points is not self.part.points:
            solver.update()
        self._found[key] = (solver, self.part.points)
        return OneByOne(solver) if columns > 1 and not factored else solver

    def _factors(self, columns: int) -> bool:
        """Whether the system is small for so many columns."""
        if columns not in self._small:
            self._small[columns] = self._is_small(columns)
        return self._small[columns]

    def _is_small(self, columns: int) -> bool:
        grid, count = self.part.grid, len(self.part.equation.species)
        unknowns = grid.active_size * count
        return factors(self.prefix, self.recipe, grid.dim, unknowns, columns)

    def _made(self, alpha: float, factored: bool) -> StepSolver:
        """A solver for alpha, which has to be updated."""
        alike = [key for key in self._found if key[1] == factored]
        if len(alike) >= self.kept:
            solver, _ = self._found.pop(alike[0])
            solver.resize(alpha)
            return solver
        if factored:
            return FactoredStep(self.part, alpha, self.prefix)
        equation = self.part.equation
        of = self.part, self.part.mass_vec, alpha, self.prefix, self.recipe
        if equation.complex:
            return PresbStep(*of)
        if all(o.diagonal for o in equation.operators):
            return Decoupled(*of, self.reuse)
        return CoupledStep(*of)

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

"""S = M + alpha r_u of all terms together, assembled at a state, and its solves.

On a line: a direct solver for all species together (linear/banded.py). Else one species: one
matrix, by the recipes of linear/; several: GMRES on the coupled system, with the recipe of each
species' own block as preconditioner. Blocks between species are kept as cell values where they
couple within cells only, else as matrices.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
from petsc4py import PETSc

from npde_opt import reductions
from npde_opt.errors import SolverError, collective
from npde_opt.forward.equation import joined
from npde_opt.forward.kept import Factors, One, OnLine, Small
from npde_opt.forward.linear_part import LinearPart, Points
from npde_opt.grids import Grid
from npde_opt.linear.accuracy import Tolerance
from npde_opt.linear.banded import Banded, is_line
from npde_opt.linear.choice import Reuse
from npde_opt.linear.factored import MOST, SHARE, factors
from npde_opt.linear.guess import Corrector, solve_step, step_solver
from npde_opt.linear.lu import Ordering
from npde_opt.linear.measured import take
from npde_opt.linear.recipes import LinearSolver, chosen_recipe
from npde_opt.linear.residual import ROUNDING
from npde_opt.operators.patterns import Offset
from npde_opt.operators.stencils import StencilMatrix
from npde_opt.packages import scipy
from npde_opt.petsc_options import from_options
from npde_opt.terms.interface import Term, TermAt
from npde_opt.terms.state import State

Block = tuple[int, int]
Coupling = np.ndarray | StencilMatrix
REUSE = Reuse(updates=10, solves=2)
"""Of a Newton's method, whose matrices serve an iteration or a few."""
MANY = max(MOST.values()) // SHARE
"""Columns for which any small system is factored."""


def terms_by_block(part: LinearPart) -> dict[Block, list[Term]]:
    """The terms that have entries at each (row, column) of species."""
    found: dict[Block, list[Term]] = {}
    for operator in part.equation.operators:
        for row, column, _ in operator.pattern:
            found.setdefault((row, column), []).extend(operator.terms)
    for term in part.equation.nonlinear:
        for block in term.blocks:
            found.setdefault(block, []).append(term)
    return found


class Jacobian:
    """S and its solvers; all values belong to the state that was assembled last.

    Args:
        part: the linear terms.
        mass: M as a Vec of active cells, or None for S = alpha r_u: a symmetric one that is not
            positive definite is then solved with as if it were not symmetric.
        remedy: in messages.
    """

    def __init__(
        self,
        part: LinearPart,
        mass: PETSc.Vec | None,
        prefix: str,
        recipe: str = "auto",
        remedy: str = "Take shorter steps.",
    ):
        self.part, self.grid, self.prefix, self.recipe, self.remedy = (
            part,
            part.grid,
            prefix,
            recipe,
            remedy,
        )
        self.count = len(part.equation.species)
        self.symmetric = part.equation.symmetric
        self.mass = part.mass if mass is not None else None
        self.iterations, self._largest = 0, 0.0
        blocks = terms_by_block(part)
        self.matrices = [
            self._matrix(blocks.get((c, c), [])) for c in range(self.count)
        ]
        self.couplings: dict[Block, Coupling] = {
            block: np.zeros(self.grid.local_shape, order="F")
            if _within_cells(terms)
            else self._matrix(terms)
            for block, terms in blocks.items()
            if block[0] != block[1]
        }
        self.line = is_line(self.grid, prefix, chosen_recipe(prefix, recipe))
        """Whether systems are solved as bands."""
        self._factors: OnLine | None = None
        self._ordering = Ordering()
        matrices = [] if self.line else self.matrices
        self.solvers = [
            step_solver(m, prefix, self.symmetric, recipe, REUSE) for m in matrices
        ]
        self._are_new = False
        self._b, self._x = self.grid.create_active(), self.grid.create_active()
        self._corrector = Corrector(mass if mass is not None else self._b)
        self._coupled = Coupled(self) if self.count > 1 and not self.line else None
        self._general: LinearSolver | None = None
        self._general_is_new = False

    def _matrix(self, terms: Sequence[Term]) -> StencilMatrix:
        return StencilMatrix(self.grid, offsets=joined(self.grid, terms))

    def assemble(
        self,
        alpha: float,
        points: Points,
        others: Sequence[TermAt] = (),
        state: State | None = None,
    ) -> None:
        """Takes the values at a state, which linear terms do not need. Raises SolverError where one
        is not finite."""
        planes = self._planes()
        for operator, at in zip(self.part.equation.operators, points, strict=True):
            for row, column, _ in operator.pattern:
                for point in at:
                    point.add_planes(
                        {o: planes[row, column, o] for o in point.term.offsets}
                    )
        for other in others:
            assert state is not None
            other.add_jacobian(state, planes)
        for plane in planes.values():
            plane *= alpha
        with collective(self.grid.comm):
            if not all(
                np.isfinite(plane[self.grid.active]).all() for plane in planes.values()
            ):
                raise SolverError(
                    self.prefix, "the Jacobian is not finite", self.remedy
                )
        if self.mass is not None:
            for c, matrix in enumerate(self.matrices):
                planes[c, c, matrix.offsets[0]] += self.mass
        if self.line:
            self._factors = OnLine(Banded(planes, self.count, self.prefix, self.remedy))
        else:
            self._refresh()

    def _refresh(self) -> None:
        """Puts the planes into the matrices; solvers take them when they are used."""
        for matrix in self.matrices:
            matrix.refresh()
        for coupling in self.couplings.values():
            if isinstance(coupling, StencilMatrix):
                coupling.refresh()
        self._are_new, self._general_is_new = True, False

    @property
    def keeps(self) -> bool:
        """Whether `kept` gives factors: on a line, and of small systems of one rank whose recipe
        and options ask for nothing else."""
        return self.line or self._is_small

    @cached_property
    def _is_small(self) -> bool:
        grid = self.grid
        unknowns = grid.active_size * self.count
        recipe = chosen_recipe(self.prefix, self.recipe)
        # As many columns as make any small system worth a factorization.
        free = factors(self.prefix, recipe, grid.dim, unknowns, MANY)
        return grid.comm.size == 1 and free

    def kept(self) -> Factors:
        """The factors of what is assembled."""
        if self._factors is not None:
            return self._factors
        if self.count == 1:
            matrix = self.matrices[0].mat
            return One(self.grid, matrix, self._ordering, self.prefix)
        return Small(self.grid, self._rows(), self.prefix)

    def _rows(self) -> scipy.sparse.csr_matrix:
        """The whole matrix, species after species, on one rank."""
        blocks: list[list[scipy.sparse.csr_matrix | None]] = [
            [None] * self.count for _ in range(self.count)
        ]
        for c, matrix in enumerate(self.matrices):
            blocks[c][c] = _csr(matrix)
        for (row, column), coupling in self.couplings.items():
            if isinstance(coupling, np.ndarray):
                blocks[row][column] = scipy.sparse.diags(self.grid.pack(coupling))
            else:
                blocks[row][column] = _csr(coupling)
        return scipy.sparse.bmat(blocks, format="csr")

    @property
    def stays(self) -> bool:
        """Whether further solves with what is assembled are cheap beside the first one."""
        return self.line or all(solver.direct for solver in self.solvers)

    def _update(self) -> None:
        """Solvers take the values that were assembled, where they have others."""
        if self._are_new:
            for solver in self.solvers:
                solver.update()
        self._are_new = False

    def _planes(self) -> dict[tuple[int, int, Offset], np.ndarray]:
        """The entries of all blocks, set to 0."""
        centre = self.matrices[0].offsets[0]
        found = {
            (c, c, o): v
            for c, m in enumerate(self.matrices)
            for o, v in m.zeroed().items()
        }
        for (row, column), coupling in self.couplings.items():
            if isinstance(coupling, np.ndarray):
                coupling[...] = 0
                found[row, column, centre] = coupling
            else:
                found |= {(row, column, o): v for o, v in coupling.zeroed().items()}
        return found

    def solve(
        self,
        b: np.ndarray,
        guess: np.ndarray,
        transposed: bool = False,
        kind: str = "newton",
    ) -> np.ndarray:
        """S u = b, or S^T u = b, for all species [c, i, j, k]. Raises SolverError where it does not
        converge.

        Args:
            kind: of the system, as linear/measured.py counts it.
        """
        if self._factors is not None:
            self.iterations += 1
            found = self._factors.solve(b, transposed, kind)
            self._largest = max(self._largest, self._factors.factors.residual)
            return found
        self._update()
        if self._coupled is not None:
            return self._coupled.solve(b, guess, transposed, kind)
        self.grid.put(b[0], self._b)
        self.grid.put(guess[0], self._x)
        with collective(self.grid.comm):
            self.iterations += self._solve_one(transposed, kind)
        out = np.empty_like(b)
        self.grid.take(self._x, out[0])
        return out

    def _solve_one(self, transposed: bool, kind: str) -> int:
        """One species. Returns the Krylov iterations."""
        try:
            return solve_step(
                self.solvers[0],
                self._corrector,
                self._b,
                self._x,
                transposed,
                kind=kind,
            )
        except SolverError:
            if self.mass is not None or not self.symmetric:
                raise
        self._x.set(0.0)
        return solve_step(
            self._not_definite(),
            self._corrector,
            self._b,
            self._x,
            transposed,
            kind=kind,
        )

    def _not_definite(self) -> LinearSolver:
        """The solver of symmetric matrices on which CG breaks down."""
        if self._general is None:
            self._general = step_solver(
                self.matrices[0], self.prefix, False, self.recipe
            )
        if not self._general_is_new:
            self._general.update()
        self._general_is_new = True
        return self._general

    def rounding(self, u: np.ndarray) -> float:
        """What rounding may leave of a residual at u: of the terms of S u, which cancel there.
        Collective."""
        if self._factors is not None:
            largest = self._factors.factors.largest
        else:
            largest = max(m.largest_row() for m in self.matrices)
        squares = reductions.total(self.grid.comm, float(np.vdot(u, u)))
        return float(ROUNDING * largest * np.sqrt(squares))

    @property
    def asked(self) -> str:
        """The tolerance of a solve, with its norm."""
        return (
            "direct" if self.line else (self._coupled or self.solvers[0]).tolerance.text
        )

    @property
    def true_residual(self) -> float:
        """The largest |b - A x| / |b| of the solves that were checked."""
        return max((self._largest, *(s.true_residual for s in self.solvers)))

    def destroy(self) -> None:
        if self._coupled is not None:
            self._coupled.release()
        made = [m for m in self.couplings.values() if isinstance(m, StencilMatrix)]
        general = [self._general] if self._general is not None else []
        for item in (
            *self.solvers,
            *general,
            *self.matrices,
            *made,
            self._b,
            self._x,
            self._corrector,
        ):
            item.destroy()


def _csr(matrix: StencilMatrix) -> scipy.sparse.csr_matrix:
    starts, columns, values = matrix.mat.getValuesCSR()
    return scipy.sparse.csr_matrix((values, columns, starts), matrix.mat.getSize())


def _within_cells(terms: Sequence[Term]) -> bool:
    return all(term.pointwise for term in terms)


class Coupled:
    """Context of the coupled matrix and its preconditioner."""

    def __init__(self, jacobian: Jacobian):
        self.grid: Grid = jacobian.grid
        self.count = jacobian.count
        self.matrices: list[StencilMatrix] = jacobian.matrices
        self.solvers: list[LinearSolver] = jacobian.solvers
        self.couplings = jacobian.couplings
        self._counted = jacobian
        self.transposed = False
        n, total = self.grid.active_local_size, self.grid.active_size
        sizes = ((self.count * n, self.count * total),) * 2
        self.operator = PETSc.Mat().createPython(sizes, self, comm=self.grid.comm)
        self.operator.setUp()
        self._b, self._x = (
            self.operator.createVecRight(),
            self.operator.createVecRight(),
        )
        self._u, self._v = self.grid.create_active(), self.grid.create_active()
        self.ksp = PETSc.KSP().create(self.grid.comm)
        self.ksp.setOptionsPrefix(jacobian.prefix)
        self.ksp.setType(PETSc.KSP.Type.GMRES)
        self.ksp.setOperators(self.operator)
        self.ksp.setPCSide(PETSc.PC.Side.RIGHT)
        self.ksp.setTolerances(rtol=1e-8, atol=1e-300, max_it=300)
        self.tolerance = Tolerance(self.ksp)
        self.ksp.setInitialGuessNonzero(True)
        self.ksp.getPC().setType(PETSc.PC.Type.PYTHON)
        self.ksp.getPC().setPythonContext(self)
        with from_options(jacobian.prefix):
            self.ksp.setFromOptions()

    def mult(self, mat: PETSc.Mat, x: PETSc.Vec, y: PETSc.Vec) -> None:
        n, values, out = (
            self.grid.active_local_size,
            x.getArray(readonly=True),
            y.getArray(),
        )
        parts = [values[c * n : (c + 1) * n] for c in range(self.count)]
        totals = [
            self._product(matrix, part)
            for matrix, part in zip(self.matrices, parts, strict=True)
        ]
        for (row, column), coupling in self.couplings.items():
            to, source = (column, row) if self.transposed else (row, column)
            totals[to] += self._product(coupling, parts[source])
        for c, total in enumerate(totals):
            out[c * n : (c + 1) * n] = total

    def _product(self, block: Coupling, x: np.ndarray) -> np.ndarray:
        if isinstance(block, np.ndarray):
            return self.grid.pack(block) * x
        self._u.setArray(x)
        block.product(self._u, self._v, self.transposed)
        return np.array(self._v.getArray(readonly=True))

    def apply(self, pc: PETSc.PC, x: PETSc.Vec, y: PETSc.Vec) -> None:
        n, values, out = (
            self.grid.active_local_size,
            x.getArray(readonly=True),
            y.getArray(),
        )
        for c, solver in enumerate(self.solvers):
            self._u.setArray(values[c * n : (c + 1) * n])
            inner = solver.ksp.getPC()
            (
                inner.applyTranspose
                if self.transposed and not solver.symmetric
                else inner.apply
            )(self._u, self._v)
            out[c * n : (c + 1) * n] = self._v.getArray(readonly=True)

    def solve(
        self, b: np.ndarray, guess: np.ndarray, transposed: bool, kind: str
    ) -> np.ndarray:
        self.transposed = transposed
        self.grid.put(b, self._b)
        self.grid.put(guess, self._x)
        self.tolerance.use()
        self.ksp.solve(self._b, self._x)
        iterations = self.ksp.getIterationNumber()
        self._counted.iterations += iterations
        if self.ksp.getConvergedReason() < 0:
            raise SolverError(
                self.ksp.getOptionsPrefix(),
                f"GMRES on the coupled species stopped after {iterations} iterations",
                self._counted.remedy,
            )
        take(kind, self.operator, self._b, self._x, iterations)
        return self.grid.take(self._x, np.empty_like(b))

    def release(self) -> None:
        self.ksp.destroy()
        for item in (self.operator, self._b, self._x, self._u, self._v):
            item.destroy()

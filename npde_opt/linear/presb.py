"""(W + i T)(x + i y) = f + i g in real form, [[W, -T], [T, W]] [x; y] = [f; g], by GMRES with PRESB
preconditioning.

With W symmetric positive definite and T symmetric positive semi-definite, P = [[W, -T], [T, W +
2T]] leaves eigenvalues in [1/2, 1] whatever the grid and the step (Axelsson, Neytcheva and Ahmad,
Numer. Algorithms 66 (2014)); it costs two solves with W + T, here V-cycles:
    (W + T) h = f + g,   (W + T) y = g - T h,   x = h - y.
Where T has negative row sums (a negative potential) P is made with their absolute values. The
transposed system is the conjugate one: solved with the signs of g and y changed. With the recipe
`direct` the real form itself is factorized.
"""

from __future__ import annotations

import numpy as np
from petsc4py import PETSc

from npde_opt.errors import SolverError
from npde_opt.grids import Grid
from npde_opt.linear.accuracy import Tolerance
from npde_opt.linear.direct import direct_options
from npde_opt.linear.guess import Corrector
from npde_opt.linear.measured import take
from npde_opt.linear.recipes import LinearSolver, options_below
from npde_opt.operators.stencils import StencilMatrix, combine
from npde_opt.petsc_options import from_options

CYCLES = 3
REDUCTION = 0.2
"""V-cycles leave 0 to this fraction of an error: symmetric ones have eigenvalues in [1 - REDUCTION,
1]."""


class Presb:
    """Solves with W = M + alpha B, T = alpha A for matrices of one pattern a grid.

    Args:
        grid: the grid; mass: M, a Vec of cell volumes.
        A, B: symmetric matrices; B may be None.
        alphas: (of A, of B).
        prefix: options prefix of the outer solver; the V-cycles have `prefix` + 'presb_'.
    """

    def __init__(
        self,
        grid: Grid,
        mass: PETSc.Vec,
        A: StencilMatrix,
        B: StencilMatrix | None,
        alphas: tuple[float, float],
        prefix: str,
        recipe: str = "auto",
        rtol: float = 1e-8,
    ):
        self.grid, self.mass, self._parts, self.prefix = grid, mass, (A, B), prefix
        self.A, self.B = A, B
        self.alpha, self.beta = alphas
        self.solves = self.iterations = 0
        offsets = dict.fromkeys((*A.offsets, *(B.offsets if B is not None else ())))
        self._sum = StencilMatrix(grid, offsets=tuple(offsets))
        self._work = [grid.create_active() for _ in range(7)]
        self.inner = LinearSolver(self._sum, grid, prefix + "presb_", recipe, True)
        n, total = self._work[0].getLocalSize(), self._work[0].getSize()
        self._operator = PETSc.Mat().createPython(
            ((2 * n, 2 * total),) * 2, self, comm=grid.comm
        )
        self._operator.setUp()
        self._real: PETSc.Mat | None = None
        self._b, self._x = (
            self._operator.createVecRight(),
            self._operator.createVecRight(),
        )
        self.ksp = PETSc.KSP().create(grid.comm)
        self.ksp.setOptionsPrefix(prefix)
        self.ksp.setTolerances(rtol=rtol, atol=1e-300, max_it=300)
        self.tolerance = Tolerance(self.ksp)
        pc = self.ksp.getPC()
        if self.direct:
            self.ksp.setType(PETSc.KSP.Type.PREONLY)
        else:
            self.ksp.setType(PETSc.KSP.Type.GMRES)
            self.ksp.setGMRESRestart(60)
            self.ksp.setOperators(self._operator)
            self.ksp.setPCSide(PETSc.PC.Side.RIGHT)
            pc.setType(PETSc.PC.Type.PYTHON)
            pc.setPythonContext(_Preconditioner(self))
            with from_options(prefix):
                self.ksp.setFromOptions()
        self._masses = self._operator.createVecRight()
        self._corrector = Corrector(self._masses)

    @property
    def direct(self) -> bool:
        return self.inner.recipe == "direct"

    def update(self) -> None:
        """Takes the present values of A, B and the mass."""
        for half in self._halves(self._masses):
            half[...] = self.mass.getArray(readonly=True)
        if self.direct:
            self._factorize()
            return
        row, ones, shift = self._work[:3]
        ones.set(1.0)
        self.A.product(ones, row)
        shift.setArray(2 * self.alpha * np.maximum(0.0, -row.getArray(readonly=True)))
        self._shift = np.array(shift.getArray(readonly=True))
        shift.axpy(1.0, self.mass)
        A, B = self._parts
        combine(
            self._sum,
            [(self.alpha, A), *([(self.beta, B)] if B is not None else [])],
            self.grid.take(shift),
        )
        self.inner.update()

    def _factorize(self) -> None:
        A, B = self._parts
        mass = self.grid.take(self.mass)
        combine(self._sum, [(self.beta, B)] if B is not None else [], mass)
        up, down = self.A.mat.copy(), self.A.mat.copy()
        up.scale(-self.alpha)
        down.scale(self.alpha)
        nest = PETSc.Mat().createNest(
            [[self._sum.mat, up], [down, self._sum.mat]], comm=self.grid.comm
        )
        if self._real is not None:
            self._real.destroy()
        self._real = nest.convert(PETSc.Mat.Type.AIJ, PETSc.Mat())
        for item in (nest, up, down):
            item.destroy()
        self.ksp.setOperators(self._real)
        how = direct_options("direct", self.prefix, self.grid.comm.size, False)
        with options_below(self.prefix, how), from_options(self.prefix):
            self.ksp.setFromOptions()
            self.ksp.setUp()

    def _cycles(self, b: PETSc.Vec, x: PETSc.Vec) -> None:
        """x ~ (W + T)^-1 b by Chebyshev's iteration over V-cycles."""
        pc, residual, cycle, change = (
            self.inner.ksp.getPC(),
            self._work[5],
            self._work[2],
            self._work[6],
        )
        pc.apply(b, x)
        middle, half = 1 - REDUCTION / 2, REDUCTION / 2
        x.scale(1 / middle)
        x.copy(change)
        rho = half / middle
        for _ in range(CYCLES - 1):
            self._sum.product(x, residual)
            residual.aypx(-1.0, b)
            pc.apply(residual, cycle)
            after = 1 / (2 * middle / half - rho)
            change.scale(after * rho)
            change.axpy(2 * after / half, cycle)
            x.axpy(1.0, change)
            rho = after

    def _halves(self, vec: PETSc.Vec) -> tuple[np.ndarray, np.ndarray]:
        array = vec.getArray()
        half = array.size // 2
        return array[:half], array[half:]

    def mult(self, mat: PETSc.Mat, x: PETSc.Vec, y: PETSc.Vec) -> None:
        """The real form."""
        parts, half = self._halves_readonly(x), self._work[0]
        real, imaginary = self._halves(y)
        for values, own, other, sign in zip(
            parts, (real, imaginary), (imaginary, real), (1, -1), strict=True
        ):
            half.setArray(values)
            product = self._W(half)
            own[...] = product if sign > 0 else own + product
            self.A.product(half, self._work[1])
            product = sign * self.alpha * self._work[1].getArray(readonly=True)
            other[...] = product if sign > 0 else other + product

    def _halves_readonly(self, vec: PETSc.Vec) -> tuple[np.ndarray, np.ndarray]:
        array = vec.getArray(readonly=True)
        half = array.size // 2
        return array[:half], array[half:]

    def _W(self, x: PETSc.Vec) -> np.ndarray:
        out: np.ndarray = self.mass.getArray(readonly=True) * x.getArray(readonly=True)
        if self.B is not None:
            self.B.product(x, self._work[2])
            out += self.beta * self._work[2].getArray(readonly=True)
        return out

    def precondition(self, r: PETSc.Vec, out: PETSc.Vec) -> None:
        """P^-1 r."""
        f, g = self._halves_readonly(r)
        rhs, h, product, y = self._work[0], self._work[3], self._work[1], self._work[4]
        rhs.setArray(f + g)
        self._cycles(rhs, h)
        self.A.product(h, product)
        rhs.setArray(
            g
            - self.alpha * product.getArray(readonly=True)
            - self._shift * h.getArray(readonly=True)
        )
        self._cycles(rhs, y)
        real, imaginary = self._halves(out)
        imaginary[...] = y.getArray(readonly=True)
        real[...] = h.getArray(readonly=True) - imaginary

    def solve(
        self,
        f: np.ndarray,
        guess: np.ndarray,
        transposed: bool = False,
        moves: bool = False,
    ) -> np.ndarray:
        """Solution [2, i, j, k] for a right-hand side of that shape; with `moves` the guess is a
        state that is moved first (see guess.py). Raises SolverError where it does not converge."""
        for vec, values in ((self._b, f), (self._x, guess)):
            self.grid.put(values, vec)
            self._conjugate(vec, transposed)
        self.solves += 1
        before = self.iterations
        self.tolerance.use()
        if self.direct:
            self._run(self._b, self._x)
        else:
            self._corrector.solve(self.ksp, self._b, self._x, self._run, moves)
        kind = "adjoint" if transposed else "state"
        take(
            kind, self.ksp.getOperators()[0], self._b, self._x, self.iterations - before
        )
        self._conjugate(self._x, transposed)
        return self.grid.take(self._x, np.empty_like(f))

    def _conjugate(self, vec: PETSc.Vec, transposed: bool) -> None:
        if transposed:
            np.negative(self._halves(vec)[1], out=self._halves(vec)[1])

    def _run(self, b: PETSc.Vec, x: PETSc.Vec) -> None:
        self.ksp.solve(b, x)
        self.iterations += self.ksp.getIterationNumber()
        if self.ksp.getConvergedReason() < 0:
            raise SolverError(
                self.prefix,
                f"GMRES with PRESB stopped after {self.ksp.getIterationNumber()} iterations "
                f"(reason {self.ksp.getConvergedReason()})",
                f"Raise -{self.prefix}ksp_max_it, loosen -{self.prefix}ksp_rtol, take shorter "
                "steps, "
                "or shift a negative potential up by a constant (the state changes by a phase "
                "only).",
            )

    def release(self) -> None:
        """Destroys all; PETSc keeps the name `destroy` of a matrix's context for itself."""
        self.ksp.destroy()
        if self._real is not None:
            self._real.destroy()
        self.inner.destroy()
        self._corrector.destroy()
        for item in (
            self._operator,
            self._sum,
            self._b,
            self._x,
            self._masses,
            *self._work,
        ):
            item.destroy()


class _Preconditioner:
    """Context of the outer PC."""

    def __init__(self, presb: Presb):
        self._precondition = presb.precondition

    def apply(self, pc: PETSc.PC, r: PETSc.Vec, out: PETSc.Vec) -> None:
        self._precondition(r, out)

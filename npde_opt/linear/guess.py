"""S u = b, S = M + alpha A, from a guess u: the solver makes a correction e, S e = r = b - S u, to
a residual of rtol |b|.

Where the guess is the state before a step, or an increment or multiplier on the line through those
of the last two, it is moved on first: u += a d, r -= a S d with d = M^-1 r, and S^T in place of S
for adjoints. For a = 1 that is the state moved on at its present rate. Where the state is rough,
and its rate far too large, a leaves the smallest residual.
"""

from __future__ import annotations

from collections.abc import Callable

from petsc4py import PETSc

from npde_opt.linear.choice import Reuse
from npde_opt.linear.measured import take
from npde_opt.linear.recipes import LinearSolver
from npde_opt.operators.stencils import StencilMatrix

STEPS_CHECKED = 32
"""Of so many solves of steps one is checked for its true residual."""

SMOOTH = 0.5
"""A move at the full rate leaves less than this share of a residual."""


class Corrector:
    """Work vectors, and M.

    Args:
        mass: M as a Vec of the system's size, with its present values whenever a guess is moved.
    """

    def __init__(self, mass: PETSc.Vec):
        self._mass = mass
        self._residual, self._change, self._image = (mass.duplicate() for _ in range(3))

    def solve(
        self,
        ksp: PETSc.KSP,
        b: PETSc.Vec,
        u: PETSc.Vec,
        run: Callable[[PETSc.Vec, PETSc.Vec], None],
        moves: bool = False,
        transposed: bool = False,
    ) -> None:
        """Improves u. `run(r, e)` solves S e = r, or S^T e = r, with `ksp`, which stops at the true
        residual."""
        S, residual, size = ksp.getOperators()[0], self._residual, b.norm()
        mult = S.multTranspose if transposed else S.mult
        mult(u, residual)
        residual.aypx(-1.0, b)
        left, goal = residual.norm(), ksp.getTolerances()[0] * size
        if left > size:
            u.set(0.0)
            b.copy(residual)
            left = size
        if moves and left > goal:
            left = self._moved(mult, u, left)
        if left <= goal:
            return
        ksp.setTolerances(atol=goal)
        run(self._residual, self._change)
        u.axpy(1.0, self._change)

    def _moved(
        self, mult: Callable[[PETSc.Vec, PETSc.Vec], None], u: PETSc.Vec, left: float
    ) -> float:
        residual, change, after = self._residual, self._change, self._image
        change.pointwiseDivide(residual, self._mass)
        mult(change, after)
        after.aypx(-1.0, residual)
        a, size = 1.0, after.norm()
        if size > SMOOTH * left:
            common = after.dot(residual)
            a = (left**2 - common) / (left**2 - 2 * common + size**2)
            after.axpby(1 - a, a, residual)
            size = after.norm()
        u.axpy(a, change)
        self._residual, self._image = after, residual
        return float(size)

    def destroy(self) -> None:
        for vec in (self._residual, self._change, self._image):
            vec.destroy()


def step_solver(
    matrix: StencilMatrix,
    prefix: str,
    symmetric: bool,
    recipe: str = "auto",
    reuse: Reuse | None = None,
) -> LinearSolver:
    """A solver that stops at the true residual."""
    solver = LinearSolver(
        matrix,
        matrix.grid,
        prefix,
        recipe,
        symmetric,
        norm="unpreconditioned",
        checked=STEPS_CHECKED,
        reuse=reuse,
    )
    if not solver.direct and not symmetric:
        solver.ksp.setPCSide(PETSc.PC.Side.RIGHT)
    return solver


def solve_step(
    solver: LinearSolver,
    corrector: Corrector,
    b: PETSc.Vec,
    x: PETSc.Vec,
    transposed: bool,
    moves: bool = False,
    kind: str = "state",
) -> int:
    """From the guess in x, where the recipe makes use of one. Returns the Krylov iterations.

    Args:
        kind: of the system, as linear/measured.py counts it.
    """
    before = solver.iterations
    run = solver.solve_transpose if transposed else solver.solve
    if solver.direct:
        run(b, x)
    else:
        solver.tolerance.use()
        corrector.solve(
            solver.ksp, b, x, run, moves, transposed and not solver.symmetric
        )
    iterations = solver.iterations - before
    backwards = transposed and not solver.symmetric
    take(kind, solver.matrix.operator, b, x, iterations, backwards)
    return iterations

"""What the solution of a time step S u = b, S = M + alpha A, is guessed to be: u := u_n + a d with d = M^-1 (b - S u_n).

For a = 1 that is the state moved on at its present rate. A state that no damping step has smoothed may have a rate far too
large; there a leaves the smallest residual.
"""

from __future__ import annotations

from petsc4py import PETSc


class Mover:
    """Work vectors, and the inverse of M.

    Args:
        mass: M as a Vec of the system's size.
    """

    def __init__(self, mass: PETSc.Vec):
        self._inverse, self._residual, self._change, self._image = (mass.duplicate() for _ in range(4))
        mass.copy(self._inverse)
        self._inverse.reciprocal()

    def __call__(self, S: PETSc.Mat, b: PETSc.Vec, u: PETSc.Vec, smooth: bool) -> None:
        """Moves u."""
        residual, change = self._residual, self._change
        S.mult(u, residual)
        residual.aypx(-1.0, b)
        change.pointwiseMult(residual, self._inverse)
        a = 1.0
        if not smooth:
            S.mult(change, self._image)
            size = self._image.norm()
            a = self._image.dot(residual) / size**2 if size > 0 else 0.0
        u.axpy(a, change)

    def destroy(self) -> None:
        for vec in (self._inverse, self._residual, self._change, self._image):
            vec.destroy()

"""The initial Hessian of the quasi-Newton methods: H_0 = R + d M, the regularization and the data's
curvature d.

R alone is far too weak where the data curve the objective, and every step would be cut many times
(exp overflows in the first); M, the mass of the parameters, alone makes the number of iterations
grow with the mesh. d is that of the latest step s with gradient change y, d = y_d^T M^-1 y_d / s^T
y_d for y_d = y - R s (Barzilai and Borwein 1988).
"""

from __future__ import annotations

from petsc4py import PETSc

from npde_opt.optimizers.conjugate_gradients import steihaug
from npde_opt.optimizers.point import Agreed, Point

RTOL = 1e-6
MASS_STEPS = 40
STEPS = 200


class InitialHessian:
    """H_0 = R + shift M at the accepted point, with M diagonal (objective.space.mass())."""

    def __init__(self, point: Point):
        self.point = point
        self.shift = 0.0
        self._mass = point.objective.space.mass()
        self._work = point.iterate.duplicate()

    def data_curvature(self, at: Agreed, step: PETSc.Vec, change: PETSc.Vec) -> float:
        """The shift that fits a step; 0 where the data did not curve the objective along it."""
        data, weighted = self._work, step.duplicate()
        at.regularization_hessian(step, data)
        data.aypx(-1.0, change)
        weighted.pointwiseDivide(data, self._mass)
        curvature, square = step.dot(data), data.dot(weighted)
        weighted.destroy()
        return square / curvature if curvature > 1e-12 * step.dot(change) > 0 else 0.0

    def multiply(self, at: Agreed, x: PETSc.Vec, out: PETSc.Vec) -> None:
        """out = (R + shift M) x; x and out are not the work vector."""
        at.regularization_hessian(x, out)
        self._work.pointwiseMult(x, self._mass)
        out.axpy(self.shift, self._work)

    def solve(self, at: Agreed, r: PETSc.Vec, out: PETSc.Vec) -> None:
        """out = (R + shift M)^-1 r by CG, preconditioned by M, or by R where that takes too many
        steps.

        Without a shift, R^-1 r shortened to the length at which a non-negative quadratic would
        vanish, 2 J / (r^T R^-1 r), where that is less than one.
        """
        if not self.shift > 0:
            at.precondition(r, out)
            slope = r.dot(out)
            if at.value > 0 and slope > 0:
                out.scale(min(1.0, 2.0 * at.value / slope))
            return

        def matrix(x: PETSc.Vec, y: PETSc.Vec) -> None:
            self.multiply(at, x, y)

        def inverse_mass(x: PETSc.Vec, y: PETSc.Vec) -> None:
            y.pointwiseDivide(x, self._mass)

        if (
            steihaug(matrix, inverse_mass, r, out, lambda norm: RTOL, MASS_STEPS)
            == MASS_STEPS
        ):
            steihaug(matrix, at.precondition, r, out, lambda norm: RTOL, STEPS)

    def release(self) -> None:
        self._mass.destroy()
        self._work.destroy()

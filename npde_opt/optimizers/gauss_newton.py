"""The Gauss-Newton model at a point over the entries that may move, and its decrement:

    J(m + d) ~ J + g^T d + 1/2 d^T H d,   lambda^2 / 2 = 1/2 g^T H^-1 g,

what the model would still lower J by. A misfit is in units of its noise, so that the decrement is
an absolute measure, and it does not depend on the units of the parameters, nor on their transforms:
far from the data, where a parameter's logarithm has a gradient of nearly 0, it is as large as the
residual along what the parameter changes.
"""

from __future__ import annotations

import math

import numpy as np
from petsc4py import PETSc

from npde_opt.optimizers.conjugate_gradients import Direction, dots, steihaug
from npde_opt.optimizers.information import Information
from npde_opt.optimizers.interface import Objective
from npde_opt.optimizers.point import Agreed


class GaussNewton:
    """H and its preconditioner M = diag(R, S^+): R of the regularization, S the small unknowns' own
    block of H.

    Args:
        at: the point, at the parameters m.
        fixed: own entries that may not move (at a bound), bool.

    Each small value costs a product with H, which the point keeps; where there is nothing else,
    further products cost none. Owns `units`; `destroy` it. `names` are those of the
    small values that may move, `held` those of the others.
    """

    def __init__(
        self, objective: Objective, at: Agreed, m: PETSc.Vec, fixed: np.ndarray | None
    ):
        self.at, self.fixed = at, fixed
        self.products = 0
        self.names: list[str] = []
        self.held: list[str] = []
        self.units: list[PETSc.Vec] = []
        sizes = []
        for name, unit, size in objective.units(m):
            self.mask(unit)
            if unit.norm() == 0:
                unit.destroy()
                self.held.append(name)
                continue
            self.names.append(name)
            self.units.append(unit)
            sizes.append(size)
        self.small = Information(self._block(), np.array(sizes))

    def mask(self, vec: PETSc.Vec) -> None:
        """Zero where entries are fixed."""
        if self.fixed is not None:
            vec.getArray()[self.fixed] = 0.0

    def _block(self) -> np.ndarray:
        block = np.zeros((len(self.units),) * 2)
        for j, (name, unit) in enumerate(zip(self.names, self.units, strict=True)):
            image, products = self.at.image(name, unit)
            self.products += products
            # The units are 0 where entries are fixed.
            block[:, j] = dots(image, self.units)
        return block

    def hessian(self, dm: PETSc.Vec, out: PETSc.Vec) -> None:
        """out = H dm, of a dm that is zero where entries are fixed."""
        self.products += not self.at.known
        self.at.hessian(dm, out, True)
        self.mask(out)

    def precondition(self, r: PETSc.Vec, z: PETSc.Vec) -> None:
        """z = M^-1 r."""
        self.at.precondition(r, z)
        self.mask(z)
        if not self.units:
            return
        wanted = self.small.inverse @ np.array(dots(r, self.units))
        # First 0, then what is wanted: added in one step it would be lost in the rounding of an
        # entry that is far larger.
        z.maxpy([-float(c) for c in dots(z, self.units)], self.units)
        z.maxpy([float(c) for c in wanted], self.units)

    def step(self, g: PETSc.Vec, s: PETSc.Vec, rtol: float, max_steps: int) -> None:
        """s = H^-1 g by CG, to rtol in the norm sqrt(r^T M^-1 r)."""
        self._solve(g, s, rtol, max_steps, math.inf)

    def decrement(self, g: PETSc.Vec, tolerance: float, max_steps: int) -> float:
        """1/2 g^T H^-1 g from below, as far as it decides: CG stops where it is above the
        tolerance, or cannot get there.

        What CG has not found yet is at most 1/2 r^T M^-1 r where H >= M, as with a regularization
        of every field.
        """
        s = g.duplicate()
        found = self._solve(g, s, 0.0, max_steps, tolerance)
        s.destroy()
        return found

    def _solve(
        self, g: PETSc.Vec, s: PETSc.Vec, rtol: float, max_steps: int, tolerance: float
    ) -> float:
        b, z = g.copy(), g.duplicate()
        self.mask(b)
        s.set(0.0)
        self.precondition(b, z)
        rest = [b.dot(z)]
        z.destroy()
        found = 0.0
        if not 0.5 * rest[0] <= (tolerance if tolerance < math.inf else 0.0):
            kept: list[Direction] = []

            def norm(r: PETSc.Vec, rz: float) -> float:
                rest[0] = rz
                return math.sqrt(max(rz, 0.0))

            def enough(r: PETSc.Vec) -> bool:
                lowered = 0.5 * b.dot(s)
                return tolerance < math.inf and (
                    lowered > tolerance or lowered + 0.5 * rest[0] <= tolerance
                )

            steihaug(
                self.hessian,
                self.precondition,
                b,
                s,
                lambda first: rtol,
                max_steps,
                kept,
                norm,
                enough=enough,
            )
            found = 0.5 * b.dot(s)
            for direction in kept:
                direction.destroy()
        elif tolerance < math.inf:
            found = 0.5 * rest[0]
        b.destroy()
        return found

    def destroy(self) -> None:
        for unit in self.units:
            unit.destroy()

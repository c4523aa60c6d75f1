"""Conjugate gradients on planes: A x = b in double precision, with the V-cycle of plane_cycle.py in
single precision as the preconditioner, in as few passes over memory as there are dependences.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from petsc4py import PETSc

from npde_opt.lazily import loaded_lazily
from npde_opt.linear.plane_cycle import BAND, PlaneCycle
from npde_opt.linear.plane_levels import Planes, one_half, without_outside

if TYPE_CHECKING:
    from npde_opt.linear import loops
else:
    loops = loaded_lazily("npde_opt.linear.loops")

Reason = PETSc.KSP.ConvergedReason
NATURAL, PRECONDITIONED, UNPRECONDITIONED = "natural", "preconditioned", "unpreconditioned"
NORMS = (NATURAL, PRECONDITIONED, UNPRECONDITIONED)


class PlaneCG:
    """Context of a Python KSP.

    Args:
        norm: of the residual that the tolerance is for.
    """

    def __init__(self, cycle: PlaneCycle, norm: str):
        self.cycle, self.norm = cycle, norm
        self.shape = cycle.levels[0].shape
        self.A = np.zeros((len(self.shape.offsets), *self.shape.field))
        self._x, self._r, self._p, self._q = (self.shape.zeros(float) for _ in range(4))
        self._bands, self._periodic = self.shape.bands(BAND // 2), self.shape.periodic[0]

    def update(self, planes: Planes) -> None:
        """Takes the values of the matrix, owned [k, j, i] by offset."""
        own = one_half(planes, self.cycle.periodic)
        without_outside(own, self.cycle.periodic)
        for o, target in zip(self.shape.offsets, self.A, strict=True):
            loops.put(own[o].reshape(-1), 1.0, target, self._periodic)
        self.cycle.update(own)

    def solve(self, ksp: PETSc.KSP, b: PETSc.Vec, x: PETSc.Vec) -> None:
        given, found = b.getArray(readonly=True), x.getArray()
        rtol, _, _, most = ksp.getTolerances()
        if ksp.getInitialGuessNonzero():
            loops.put(found, 1.0, self._x, self._periodic)
        else:
            self._x[...] = 0
        reason, iterations, norm = self._iterate(given, ksp.getInitialGuessNonzero(), rtol, most)
        loops.take(self._x, 1.0, found)
        ksp.setIterationNumber(iterations)
        ksp.setResidualNorm(norm)
        ksp.setConvergedReason(reason)

    def _iterate(
        self, b: np.ndarray, guessed: bool, rtol: float, most: int
    ) -> tuple[int, int, float]:
        """Reason, iterations, and the last residual's norm."""
        r, size = self._r, float(loops.largest(b))
        loops.put(b, 1.0, r, self._periodic)
        if size == 0:
            self._x[...] = 0
            return Reason.CONVERGED_ATOL, 0, 0.0
        if not size < math.inf:
            return Reason.DIVERGED_NANORINF, 0, size
        reference = None
        if guessed:
            reference = self._measured(size)[0]
            loops.product(self.A, self.shape.tables, self._x, self._q)
            np.subtract(r, self._q, out=r)
            size = float(loops.largest(r.reshape(-1)))
            if size == 0:
                return Reason.CONVERGED_RTOL, 0, 0.0
        norm, rz = self._measured(size)
        target = rtol * (norm if reference is None else reference)
        return self._steps(norm, rz, size, target, most)

    def _measured(self, size: float) -> tuple[float, float]:
        """The norm of r, and r^T z, after a cycle for z; `size` is max |r|, or near it."""
        top = self.cycle.levels[0]
        loops.put(np.ascontiguousarray(self._r[1:, 1:-1]).reshape(-1), 1 / size, top.b, False)
        if self._periodic:
            top.b[:, 0], top.b[:, -1] = top.b[:, -2], top.b[:, 1]
        return self._after_cycle(size, float(np.vdot(self._r[1:, 1:-1], self._r[1:, 1:-1])))

    def _after_cycle(self, size: float, rr: float) -> tuple[float, float]:
        top, scale = self.cycle.levels[0], self.cycle.scale
        self.cycle.cycle()
        rz, zz = loops.dots(top.b, top.x)
        rz *= size * size * scale
        if self.norm == UNPRECONDITIONED:
            return math.sqrt(rr), rz
        if self.norm == NATURAL:
            return math.sqrt(abs(rz)), rz
        return math.sqrt(zz) * size * scale, rz

    def _steps(
        self, norm: float, rz: float, size: float, target: float, most: int
    ) -> tuple[int, int, float]:
        top, beta = self.cycle.levels[0], 0.0
        self._p[...] = 0
        for step in range(most + 1):
            if not math.isfinite(norm):
                return Reason.DIVERGED_NANORINF, step, norm
            if norm <= target:
                return Reason.CONVERGED_RTOL, step, norm
            if step == most:
                break
            if not rz > 0:
                return Reason.DIVERGED_INDEFINITE_PC, step, norm
            factor = size * self.cycle.scale
            found = self.A, self.shape.tables, top.x, factor, self._p, beta, self._q
            pq = loops.direction(*found, *self._bands, self._periodic)
            if not pq > 0:
                return Reason.DIVERGED_INDEFINITE_MAT, step, norm
            moved = self._x, self._r, self._p, self._q, rz / pq
            rr = loops.advance(*moved, 1 / size, top.b, self._periodic)
            if self.norm == UNPRECONDITIONED and math.sqrt(rr) <= target:
                return Reason.CONVERGED_RTOL, step + 1, math.sqrt(rr)
            before = rz
            norm, rz = self._after_cycle(size, rr)
            beta = rz / before
        return Reason.DIVERGED_MAX_IT, most, norm

    def view(self, ksp: PETSc.KSP, viewer: PETSc.Viewer) -> None:
        viewer.printfASCII(f"  conjugate gradients on planes, {self.norm} norm\n")
        self.cycle.view(ksp.getPC(), viewer)

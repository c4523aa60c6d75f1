"""Preconditioned conjugate gradients for H x = b, stopped at negative curvature (Steihaug 1983)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from petsc4py import PETSc

from npde_opt.errors import SolverError

Action = Callable[[PETSc.Vec, PETSc.Vec], None]


class Direction(NamedTuple):
    """One of CG's directions p, with H p, M^-1 H p (where it was asked for) and p^T H p."""

    p: PETSc.Vec
    hp: PETSc.Vec
    solved: PETSc.Vec | None
    curvature: float

    def destroy(self) -> None:
        for vec in (self.p, self.hp, self.solved):
            if vec is not None:
                vec.destroy()


def steihaug(
    hessian: Action,
    precondition: Action,
    b: PETSc.Vec,
    x: PETSc.Vec,
    rtol: Callable[[float], float],
    max_steps: int,
    kept: list[Direction] | None = None,
    norm: Callable[[PETSc.Vec, float], float] | None = None,
    solved: bool = False,
    enough: Callable[[PETSc.Vec], bool] = lambda r: False,
    least: int = 0,
) -> int:
    """Solves H x = b from x = 0 and returns the number of products with H.

    With n(r) = norm(r, r^T M^-1 r), by default sqrt(r^T M^-1 r), stops where n(r) <= rtol(n(b))
    n(b) after `least` products, where enough(r), after max_steps, or at a direction with p^T H p
    <= 0: then x is the iterate so far, or M^-1 b in the first step, a descent direction for -b.
    Given a list `kept`, keeps its directions there (with M^-1 H p where `solved`), for the caller
    to destroy, and makes each new one conjugate to all before. Raises SolverError where M is not
    positive definite.
    """
    norm = norm or preconditioned_norm
    r, z, p, hp = (b.duplicate() for _ in range(4))
    b.copy(r)
    x.set(0.0)
    precondition(r, z)
    z.copy(p)
    rz = r.dot(z)
    products = 0
    if not (math.isfinite(rz) and rz >= 0):
        raise SolverError(
            "tao_",
            f"CG's preconditioner is not positive definite: r^T M^-1 r = {rz:g}",
            "Solve more exactly for the regularization: -reg_ksp_rtol 1e-10.",
        )
    first = norm(r, rz)
    target = rtol(first) * first
    while rz > 0 and products < max_steps:
        hessian(p, hp)
        products += 1
        curvature = p.dot(hp)
        if not math.isfinite(curvature):
            raise SolverError(
                "tao_",
                f"a product with the Hessian gives p^T H p = {curvature:g}",
                "Look for weights of the misfit or regularizers that are not finite.",
            )
        if not curvature > 0:
            if products == 1:
                z.copy(x)
            break
        length = rz / curvature
        x.axpy(length, p)
        r.axpy(-length, hp)
        if kept is not None:
            kept.append(
                Direction(p.copy(), hp.copy(), z.copy() if solved else None, curvature)
            )
        precondition(r, z)
        previous, rz = rz, r.dot(z)
        image = kept[-1].solved if kept else None
        if image is not None:
            image.axpy(-1.0, z)
            image.scale(1 / length)
        small = norm(r, rz) <= target and products >= least
        if small or enough(r):
            break
        if kept is not None:
            z.copy(p)
            overlaps = zip(kept, dots(z, [d.hp for d in kept]), strict=True)
            shares = [-overlap / old.curvature for old, overlap in overlaps]
            p.maxpy(shares, [old.p for old in kept])
            rz = r.dot(p)
        else:
            p.aypx(rz / previous, z)
    for vector in (r, z, p, hp):
        vector.destroy()
    return products


def preconditioned_norm(r: PETSc.Vec, rz: float) -> float:
    """sqrt(r^T M^-1 r)."""
    return math.sqrt(max(rz, 0.0))


def dots(z: PETSc.Vec, vectors: Sequence[PETSc.Vec]) -> list[float]:
    """z^T v for all v with one reduction; VecMDot's result depends on where in memory the vectors
    lie."""
    if z.getComm().getSize() == 1:
        return [z.dot(v) for v in vectors]
    for v in vectors:
        z.dotBegin(v)
    return [z.dotEnd(v) for v in vectors]

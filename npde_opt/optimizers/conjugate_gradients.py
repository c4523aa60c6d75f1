"""Preconditioned conjugate gradients for H x = b, stopped at negative curvature (Steihaug 1983)."""

from __future__ import annotations

import math
from collections.abc import Callable

from petsc4py import PETSc

from npde_opt.errors import SolverError

Action = Callable[[PETSc.Vec, PETSc.Vec], None]


def steihaug(
    hessian: Action,
    precondition: Action,
    b: PETSc.Vec,
    x: PETSc.Vec,
    rtol: Callable[[float], float],
    max_steps: int,
    reorthogonalize: bool = False,
) -> int:
    """Solves H x = b from x = 0 and returns the number of products with H.

    Stops where n(r) = sqrt(r^T M^-1 r) <= rtol(n(b)) n(b), after max_steps, or at a direction with
    p^T H p <= 0: then x is the iterate so far, or M^-1 b in the first step, a descent direction for -b.
    `reorthogonalize` makes each direction conjugate to all before, at two vectors a step.
    Raises SolverError where M is not positive definite.
    """
    r, z, p, hp = (b.duplicate() for _ in range(4))
    kept: list[tuple[PETSc.Vec, PETSc.Vec, float]] = []
    b.copy(r)
    x.set(0.0)
    precondition(r, z)
    z.copy(p)
    rz = first = r.dot(z)
    products = 0
    if not (math.isfinite(rz) and rz >= 0):
        raise SolverError("tao_", f"CG's preconditioner is not positive definite: r^T M^-1 r = {rz:g}", "Check it.")
    target = rtol(math.sqrt(first)) ** 2 * first
    while rz > 0 and products < max_steps:
        hessian(p, hp)
        products += 1
        curvature = p.dot(hp)
        if not curvature > 0:
            if products == 1:
                z.copy(x)
            break
        length = rz / curvature
        x.axpy(length, p)
        r.axpy(-length, hp)
        precondition(r, z)
        previous, rz = rz, r.dot(z)
        if rz <= target:
            break
        if reorthogonalize:
            kept.append((p.copy(), hp.copy(), curvature))
            z.copy(p)
            for (kept_p, _, kept_curvature), overlap in zip(kept, dots(z, [pair[1] for pair in kept]), strict=True):
                p.axpy(-overlap / kept_curvature, kept_p)
            rz = r.dot(p)
        else:
            p.aypx(rz / previous, z)
    for vector in (r, z, p, hp, *(v for pair in kept for v in pair[:2])):
        vector.destroy()
    return products


def dots(z: PETSc.Vec, vectors: list[PETSc.Vec]) -> list[float]:
    """z^T v for all v with one reduction; VecMDot's result depends on where in memory the vectors lie."""
    for v in vectors:
        z.dotBegin(v)
    return [z.dotEnd(v) for v in vectors]

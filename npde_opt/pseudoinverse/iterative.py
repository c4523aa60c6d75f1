"""min |H w - t|^2 + ridge |w|^2 for a sparse or implicit H, by PETSc's least-squares KSPs.

H is any Mat that multiplies with vectors, and with its transpose. With a ridge the iteration sees

    [ H            ]       [ t ]
    [ sqrt(ridge) I ] w  =  [ 0 ]

and with R, the triangle of a part of the rows (see subset.py), it is preconditioned by
(R^T R)^-1. PETSc has LSQR (the default) and CGLS; it has no LSMR, whose residuals H^T r fall
without going up between: with R both need a few tens of products, and stop by the same test.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from petsc4py import PETSc
from scipy.linalg import cho_solve

from npde_opt import reductions
from npde_opt.errors import InputError, SolverError, collective
from npde_opt.pseudoinverse import triangle
from npde_opt.pseudoinverse.settings import matrix
from npde_opt.pseudoinverse.subset import subset_triangle

PREFIX = "lsq_"
FACTORED = 4096
"""Unknowns of a rank up to which its part of a normal matrix is factored, and not about so."""


@dataclass(frozen=True)
class Iterated:
    """What an iteration found.

    Attributes:
        W: (own columns of H, k).
        iterations: of each target.
    """

    W: np.ndarray
    iterations: list[int]


class _Stacked:
    """H above root L, as a Mat of PETSc's python type; L is 1 where it is None."""

    def __init__(self, H: PETSc.Mat, root: float, L: PETSc.Mat | None):
        self.H, self.root, self.L = H, root, L
        self.w, self.t = H.createVecs()
        self.below = self.w.duplicate() if L is None else L.createVecLeft()

    def mult(self, _: PETSc.Mat, x: PETSc.Vec, y: PETSc.Vec) -> None:
        x.copy(self.w)
        self.H.mult(self.w, self.t)
        if self.L is None:
            x.copy(self.below)
        else:
            self.L.mult(self.w, self.below)
        own = self.t.getLocalSize()
        y.array[:own] = self.t.array_r
        y.array[own:] = self.root * self.below.array_r

    def multTranspose(self, _: PETSc.Mat, y: PETSc.Vec, x: PETSc.Vec) -> None:  # noqa: N802
        own = self.t.getLocalSize()
        self.t.array[:] = y.array_r[:own]
        self.below.array[:] = self.root * y.array_r[own:]
        self.H.multTranspose(self.t, x)
        if self.L is None:
            x.axpy(1.0, self.below)
        else:
            self.L.multTranspose(self.below, self.w)
            x.axpy(1.0, self.w)

    def destroy(self, _: PETSc.Mat) -> None:
        for vec in (self.w, self.t, self.below):
            vec.destroy()


class _Triangle:
    """(R^T R)^-1 as a PC of PETSc's python type; every rank has R."""

    def __init__(self, R: np.ndarray):
        self.R = R

    def apply(self, _: PETSc.PC, x: PETSc.Vec, y: PETSc.Vec) -> None:
        counts = x.getOwnershipRanges()
        whole = np.empty(counts[-1])
        x.getComm().tompi4py().Allgatherv(x.array_r, (whole, np.diff(counts)))
        start, end = x.getOwnershipRange()
        y.array[:] = cho_solve((self.R, False), whole)[start:end]


def iterate(
    H: PETSc.Mat,
    T: np.ndarray,
    ridge: float = 0.0,
    R: np.ndarray | None = None,
    rtol: float = 1e-10,
    prefix: str = PREFIX,
    precondition_rows: int = 0,
    normal: PETSc.Mat | None = None,
) -> Iterated:
    """W of one iteration a target; of least norm where H has no full rank and there is no R.
    Collective.

    Args:
        T: (own rows of H, k).
        R: on rank 0, the triangle (n, n) of a part of the rows, of full rank (see
            `Solution.problem`); on the other ranks anything. Every rank then keeps a copy.
        rtol: of |H^T r| / (|H| |r|), or of |r| / |t|.
        prefix: of PETSc's options: `-lsq_ksp_type cgls`, ...
        precondition_rows: makes R here of so many rows, drawn at random (the same on any ranks): a
            few times as many as H has columns. Of an H that is implicit each takes a product.
        normal: about H^T H + ridge, assembled and positive definite, for sparse H of many columns:
            preconditions in place of R by what each rank has of it and its neighbours' next
            unknowns (`-lsq_pc_type`, ... choose others).

    Raises:
        InputError: for other shapes, numbers that are not finite, a ridge below 0, and another
            number of rows than from H's columns to its rows; on all ranks.
        SolverError: where an iteration does not converge.
    """
    rows, comm = H.getLocalSize()[0], H.getComm().tompi4py()
    with collective(comm):
        T = matrix("T", T, np.float64)
        _check(T, rows, ridge)
        if comm.rank == 0 and R is not None:
            _check_triangle(R, H.getSize()[1])
    reductions.same(comm, (T.shape[1], ridge), "pseudoinverse: targets and ridge")
    if precondition_rows:
        if comm.bcast(R is not None):
            told = f"{precondition_rows} beside an R"
            raise InputError("pseudoinverse: precondition_rows", told, "one of both")
        R = subset_triangle(H, precondition_rows)
    A = stacked(H, float(np.sqrt(ridge))) if ridge > 0 else H
    ksp = _solver(A, _shared(H, R, ridge), normal, rtol, prefix)
    w, t = A.createVecs()
    found, iterations = [], []
    try:
        for target in T.T:
            t.array[:rows], t.array[rows:] = target, 0.0
            w.set(0)
            ksp.solve(t, w)
            if ksp.getConvergedReason() < 0:
                raise SolverError(
                    prefix, _reason(ksp), f"Raise -{prefix}ksp_max_it, or give R."
                )
            found.append(w.array_r.copy())
            iterations.append(ksp.getIterationNumber())
    finally:
        for owned in (ksp, w, t, *([A] if A is not H else [])):
            owned.destroy()
    return Iterated(np.stack(found, axis=1), iterations)


def _check(T: np.ndarray, rows: int, ridge: float) -> None:
    if T.ndim != 2 or len(T) != rows or not T.shape[1] or not np.isfinite(T).all():
        wanted = f"{rows} rows (own rows of H) of finite numbers, one a target"
        raise InputError("pseudoinverse: T", f"shape {T.shape}", wanted)
    weight = matrix("ridge", ridge, np.float64)
    if weight.shape or not 0 <= weight < np.inf:
        raise InputError("pseudoinverse: ridge", ridge, "a number >= 0")


def _check_triangle(R: np.ndarray, n: int) -> None:
    if R.shape != (n, n) or not np.isfinite(R).all() or not np.diag(R).all():
        told = f"shape {R.shape}, smallest on the diagonal {abs(np.diag(R)).min(initial=np.inf)}"
        allowed = f"({n}, {n}), finite, of full rank"
        raise InputError("pseudoinverse: R", told, allowed)


def _reason(ksp: PETSc.KSP) -> str:
    reasons = vars(PETSc.KSP.ConvergedReason).items()
    return next(
        (name for name, value in reasons if value == ksp.getConvergedReason()), "?"
    )


def stacked(H: PETSc.Mat, root: float, L: PETSc.Mat | None = None) -> PETSc.Mat:
    """A Mat of the own rows of H, then those of root L (L with the columns of H; None: 1)."""
    rows, own = H.getLocalSize()
    below = own if L is None else L.getLocalSize()[0]
    sizes = ((rows + below, None), (own, None))
    return PETSc.Mat().createPython(sizes, _Stacked(H, root, L), H.getComm())


def _shared(H: PETSc.Mat, R: np.ndarray | None, ridge: float) -> np.ndarray | None:
    """The triangle with its ridge, on all ranks."""
    comm = H.getComm().tompi4py()
    if not comm.bcast(R is not None):
        return None
    found = np.asfortranarray(R) if comm.rank == 0 else np.empty(0)
    if comm.rank == 0 and ridge > 0:
        found = triangle.fold_triangle(
            found.copy(), np.sqrt(ridge) * np.eye(len(found))
        )
    shared: np.ndarray = comm.bcast(found)
    return shared


def _solver(
    A: PETSc.Mat,
    R: np.ndarray | None,
    normal: PETSc.Mat | None,
    rtol: float,
    prefix: str,
) -> PETSc.KSP:
    ksp = PETSc.KSP().create(A.getComm())
    ksp.setOptionsPrefix(prefix)
    ksp.setType("lsqr")
    ksp.setTolerances(rtol=rtol, atol=0.0, max_it=10 * A.getSize()[1])
    pc = ksp.getPC()
    if normal is not None:
        ksp.setOperators(A, normal)
        pc.setType("asm")
        # Of both kinds the symmetric one, as LSQR wants it.
        pc.setASMType(PETSc.PC.ASMType.BASIC)
    elif R is None:
        ksp.setOperators(A)
        pc.setType("none")
    else:
        ksp.setOperators(A, PETSc.Mat().createNormal(A))
        pc.setType("python")
        pc.setPythonContext(_Triangle(R))
    ksp.setFromOptions()
    if normal is not None and pc.getType() == "asm":
        ksp.setUp()
        exact = normal.getLocalSize()[0] <= FACTORED
        for own in pc.getASMSubKSP():
            own.setType("preonly")
            own.getPC().setType("cholesky" if exact else "icc")
            own.setFromOptions()
    return ksp

"""The true residual |b - A x| of a solve beside what was asked of it.

Krylov methods measure what they can: CG the preconditioned residual |M^-1 (b - A x)| (an estimate
of the error, which is why it is the default norm), or one that its recurrence carries along. Where
the preconditioner is wrong, as an algebraic one may be for the transpose, both become small and x
is wrong all the same. One product with A tells.

A residual of the size of eps |A| |x| is rounding. Beside conductors, where |A| is large, x is right
all the same, and the rounding next to nothing in the energy. Of a matrix that is singular to
rounding x is huge along the null space, and the energy is all rounding,

    x^T (b - A x) ~ x^T b,

which tells the two apart. What passes solves the matrix as it is stored, whose eigenvalue that
should be 0 is the one of its factors by chance: another right-hand side would say the same.
"""

from __future__ import annotations

import math

import numpy as np
from petsc4py import PETSc

from npde_opt.errors import SolverError

Norm = PETSc.KSP.NormType
ROOM = {Norm.UNPRECONDITIONED: 1e3, Norm.NATURAL: 1e5, Norm.PRECONDITIONED: 1e6}
"""What the true relative residual may be over the tolerance, by the norm that the tolerance is for:
contrasts of 1e3 on 1024^2 cells leave a factor of 2e4 where it is the preconditioned one."""

LARGE = 1 << 22
"""Cells from which on memory is freed between solves, which make it anew."""
DIRECT = 1e-6
MOST = 0.5
ROUNDING = 1e3 * np.finfo(float).eps
SINGULAR, LOST = 1e-2, 5e-2
"""A residual's part of b, and of the energy, from which on the matrix is singular. Of 720 solves
with random singular matrices 174 left less than MOST of b, and six of these less of either. Beside
conductors the energy's part is less than x's error, which is up to 3e-3 at a contrast of 1e12, and
0.2 at 1e14."""


def is_singular(found: float, left: float, energy: float) -> bool:
    """Whether a residual that rounding explains says that the matrix is singular to rounding.

    Args:
        found: |b - A x| / |b|. left, energy: x^T (b - A x) and x^T b.
    """
    return found > SINGULAR and not abs(left) <= LOST * abs(energy)


def singular(prefix: str, found: float) -> SolverError:
    """What is raised then."""
    return SolverError(
        prefix,
        f"the matrix is singular to rounding: of a right-hand side, {found:.2g} is left by a "
        "solution that is all rounding",
        "Look for a part of the domain that nothing holds (no Dirichlet or Robin side and no "
        "reaction), or for coefficients of too large a contrast.",
    )


def relative(
    A: PETSc.Mat, b: PETSc.Vec, x: PETSc.Vec, work: PETSc.Vec, transposed: bool = False
) -> tuple[float, float]:
    """(|b - A x| / |b|, |b|) in the 2-norm; with b = 0 the ratio is 0 for x = 0, else infinite.

    `work` is overwritten. Collective.
    """
    (A.multTranspose if transposed else A.mult)(x, work)
    work.aypx(-1.0, b)
    size = b.norm()
    if size == 0:
        return (0.0 if x.norm() == 0 else math.inf), size
    return work.norm() / size, size


class ResidualCheck:
    """Largest true relative residual of the solves so far; raises where one is far above what was
    asked.

    Args:
        every: of so many solves one is checked, the first after `restart` always.
    """

    def __init__(self, ksp: PETSc.KSP, prefix: str, every: int = 1):
        self._ksp, self._prefix, self.every = ksp, prefix, every
        self.largest = 0.0
        self._count = 0
        self._work: PETSc.Vec | None = None

    def restart(self) -> None:
        """The matrix has changed."""
        self._count = 0

    def check(
        self,
        b: PETSc.Vec,
        x: PETSc.Vec,
        transposed: bool = False,
        known: float | None = None,
    ) -> None:
        """Raises SolverError naming prefix, the residual and what was asked. `known`: |b - A x|
        as the solver has formed it: believed after the first solve with a matrix. Collective."""
        self._count += 1
        if (self._count - 1) % self.every:
            return
        A = self._ksp.getOperators()[0]
        energies = 0.0, 0.0
        if known is None or self._count == 1:
            if self._work is None:
                self._work = b.duplicate()
            found, size = relative(A, b, x, self._work, transposed)
            if SINGULAR < found <= MOST:
                energies = x.dot(self._work), x.dot(b)
        else:
            size = b.norm()
            found = known / size if size else 0.0
        self._free_large()
        asked, limit = self._limits(size)
        if not found <= limit and not (
            # Of an x that is huge, as that of a singular matrix, everything would be rounding.
            found <= MOST
            and found * size
            <= ROUNDING * A.norm(PETSc.NormType.NORM_INFINITY) * x.norm()
        ):
            raise SolverError(
                self._prefix,
                f"the true residual |b - A x| / |b| is {found:.2g} where {asked:.2g} was asked for",
                f"Try another -{self._prefix}recipe or -{self._prefix}pc_type, or a tolerance on "
                "the true "
                f"residual: -{self._prefix}ksp_norm_type unpreconditioned.",
            )
        if found > limit and is_singular(found, *energies):
            raise singular(self._prefix, found)
        self.largest = max(self.largest, found)

    def _limits(self, size: float) -> tuple[float, float]:
        """What was asked for, and what is let pass."""
        norm = self._ksp.getNormType()
        if norm not in ROOM:
            return (
                DIRECT,
                DIRECT if self._ksp.getType() == PETSc.KSP.Type.PREONLY else MOST,
            )
        rtol, atol = self._ksp.getTolerances()[:2]
        asked = max(rtol, atol / size if size else 0.0)
        return asked, min(ROOM[norm] * asked, MOST)

    def _free_large(self) -> None:
        """Of many cells nothing is kept from solve to solve."""
        if self._work is not None and self._work.getSize() >= LARGE:
            self._work.destroy()
            self._work = None

    def destroy(self) -> None:
        if self._work is not None:
            self._work.destroy()

"""How exactly a solve is made: to its own tolerance, or to that of a block that it is in.

Derivatives are compared with differences of values that come from iterative solves; these have to
be more exact there than an optimizer needs them. A tolerance that the user gave as an option is
kept.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from petsc4py import PETSc

from npde_opt.errors import InputError

TIGHT = 1e-13
"""Relative tolerance inside `tight()`."""
PIPELINED = ("pipecg", "pipecgrr", "pipecg2", "pipeprcg", "pipelcg", "groppcg")
"""Conjugate gradients of PETSc that never form the preconditioned residual anew."""

_wanted: list[float] = []
_kept: list[bool] = []
"""Of blocks whose solves are used beyond what is around them."""

NORMS = {
    PETSc.KSP.NormType.UNPRECONDITIONED: "true residual",
    PETSc.KSP.NormType.PRECONDITIONED: "preconditioned residual",
    PETSc.KSP.NormType.NATURAL: "natural norm of the residual",
}


@contextlib.contextmanager
def solved_to(rtol: float) -> Iterator[None]:
    """Solves inside the block are made to `rtol` in place of their own tolerance, or to that of a
    block around it that is tighter."""
    _wanted.append(rtol)
    try:
        yield
    finally:
        _wanted.pop()


@contextlib.contextmanager
def kept_solves() -> Iterator[None]:
    """Solves inside the block are made to their own tolerance at least, however loose a block
    around is: their solutions are kept for others."""
    _kept.append(True)
    try:
        yield
    finally:
        _kept.pop()


def tight() -> contextlib.AbstractContextManager[None]:
    """Solves inside the block are tight."""
    return solved_to(TIGHT)


def is_tight() -> bool:
    return bool(_wanted) and min(_wanted) <= TIGHT


def tolerance(own: float) -> float:
    """The relative tolerance, here and now, of a solve with one of its own."""
    wanted = min(_wanted, default=own)
    return min(wanted, own) if _kept else wanted


def given(name: str) -> bool:
    """Whether the option is in the database, from the command line or a case."""
    return bool(PETSc.Options().hasName(name))


class Tolerance:
    """The relative tolerance of a KSP.

    Args:
        ksp: its own tolerance is what it has when a solve begins outside such blocks.
    """

    def __init__(self, ksp: PETSc.KSP):
        self._ksp = ksp
        self._own: float | None = None
        self.loosened = False
        """Whether the last solve was to less than its own tolerance."""

    @property
    def own(self) -> float:
        """The tolerance outside such blocks."""
        return float(self._ksp.getTolerances()[0]) if self._own is None else self._own

    @property
    def text(self) -> str:
        """What a solve stops at, with its norm; known once the KSP is set up."""
        if self._ksp.getType() == PETSc.KSP.Type.PREONLY:
            return "direct"
        norm = NORMS.get(self._ksp.getNormType())
        return (
            f"{self.own:g} on the {norm}"
            if norm
            else "none, a fixed number of iterations"
        )

    def use(self) -> None:
        """Sets the tolerance that is right at this moment; called before every solve."""
        self.loosened = False
        if not _wanted and self._own is None:
            return
        own = self.own
        wanted = tolerance(own)
        if self._ksp.getType() == PETSc.KSP.Type.PREONLY:
            # Factors are as exact as they are: there is nothing to set.
            self.loosened = wanted > own
            return
        changed = bool(_wanted) and not given(
            (self._ksp.getOptionsPrefix() or "") + "ksp_rtol"
        )
        if changed:
            self._own, self.loosened = own, wanted > own
            self._ksp.setTolerances(rtol=wanted)
        elif self._own is not None:
            self._ksp.setTolerances(rtol=self._own)
            self._own = None


def check_pipelined(prefix: str, method: str) -> None:
    """Raises InputError for methods whose residuals are recurrences only, beside a preconditioner
    in single precision: its rounding is another operator in every step, to which they add up."""
    if method in PIPELINED:
        allowed = (
            "pipefcg beside the recipe planes, whose cycle in single precision is not the same "
            f"operator in every step, or -{prefix}recipe geometric"
        )
        raise InputError(f"-{prefix}ksp_type", method, allowed)

"""R(p): what objectives and checks ask of a regularizer of one unknown."""

from __future__ import annotations

from typing import Protocol

from petsc4py import PETSc


class Regularizer(Protocol):
    """R of the parameters p of one unknown, Vecs of its block that belong to the caller. All
    methods are collective."""

    def value(self, p: PETSc.Vec) -> float:
        """R, the same on every rank."""

    def gradient(self, p: PETSc.Vec, out: PETSc.Vec) -> None:
        """out = R'."""

    def hessian(self, p: PETSc.Vec, dp: PETSc.Vec, out: PETSc.Vec) -> None:
        """out = R'' dp."""

    def precondition(self, p: PETSc.Vec, r: PETSc.Vec, out: PETSc.Vec) -> None:
        """out ~ R''^-1 r, symmetric and positive."""

    def destroy(self) -> None: ...

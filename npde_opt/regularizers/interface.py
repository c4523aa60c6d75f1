"""R(p): what objectives and checks ask of a regularizer of one unknown."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np
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


@runtime_checkable
class Constant(Regularizer, Protocol):
    """One whose R'' is the same at all p: optional."""

    def products(self, rows: np.ndarray, found: np.ndarray) -> None:
        """R'' x of every row x (n, own values as they lie in a Vec), into a row of `found`; both
        in C order."""


@runtime_checkable
class Normal(Regularizer, Protocol):
    """A regularizer that is, at a point p, the precision P of a normal prior; its `precondition` is
    P^-1 to the tolerance of its solver. Posterior uncertainty asks for it."""

    @property
    def improper(self) -> str:
        """Why P has no inverse, '' where it has one."""

    def precision(self, p: PETSc.Vec, dp: PETSc.Vec, out: PETSc.Vec) -> None:
        """out = P dp; P is R'', or what stands for it where that is no precision."""

    def noise(self, p: PETSc.Vec, seed: int, out: PETSc.Vec) -> None:
        """out ~ N(0, P), as a gradient: the same on any number of ranks."""

    def variance(self, p: PETSc.Vec) -> np.ndarray | None:
        """diag P^-1, own values as they lie in the Vec; None where it is not known without
        solves."""


@runtime_checkable
class Rooted(Normal, Protocol):
    """One whose prior has a root that is cheaper than P^-1: optional."""

    def sample(self, p: PETSc.Vec, seed: int, out: PETSc.Vec) -> None:
        """out = P^-1 n of the n that `noise` gives for this seed."""

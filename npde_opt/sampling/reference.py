"""Normal distributions N(c, Q^-1) that steps leave as they are: the prior, or the posterior near
its minimizer."""

from __future__ import annotations

from typing import Protocol

from petsc4py import PETSc

from npde_opt.posterior import Laplace, Prior


class Reference(Protocol):
    """What steps ask of N(c, Q^-1). All are collective; Vecs that are returned are the caller's."""

    def center(self) -> PETSc.Vec:
        """c."""

    def change(self, seed: int) -> PETSc.Vec:
        """A sample of N(0, Q^-1)."""

    def precision(self, x: PETSc.Vec, out: PETSc.Vec) -> None:
        """out = Q x."""

    def apply(self, r: PETSc.Vec, out: PETSc.Vec) -> None:
        """out = Q^-1 r."""


class AroundPrior:
    """N(q, P^-1) of the regularization."""

    def __init__(self, prior: Prior):
        self.prior = prior

    def center(self) -> PETSc.Vec:
        return self.prior.mean()

    def change(self, seed: int) -> PETSc.Vec:
        return self.prior.sample(seed)

    def precision(self, x: PETSc.Vec, out: PETSc.Vec) -> None:
        self.prior.precision(x, out)

    def apply(self, r: PETSc.Vec, out: PETSc.Vec) -> None:
        self.prior.solve(r, out)


class AroundPosterior:
    """N(m, C) of the Laplace approximation."""

    def __init__(self, laplace: Laplace):
        self.laplace = laplace

    def center(self) -> PETSc.Vec:
        return self.laplace.at.m.copy()

    def change(self, seed: int) -> PETSc.Vec:
        return self.laplace.change(seed)

    def precision(self, x: PETSc.Vec, out: PETSc.Vec) -> None:
        self.laplace.precision(x, out)

    def apply(self, r: PETSc.Vec, out: PETSc.Vec) -> None:
        self.laplace.apply(r, out)

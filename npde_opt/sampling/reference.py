"""Normal distributions N(c, Q^-1) that steps leave as they are: the prior, or the posterior near
its minimizer."""

from __future__ import annotations

from dataclasses import replace
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
    """N(m, C) of the Laplace approximation; of that with the misfit over a temperature T

    N(m - (1 - 1/T) C_T R'(m), C_T),   C_T = (P + D / T)^-1,

    as dR/dm + 1/T d(misfit)/dm = (1 - 1/T) R'(m) at the minimizer m: at 1 this is the posterior,
    and the prior where T is large.

    Args:
        temperature: T, at least 1.
    """

    def __init__(self, laplace: Laplace, temperature: float = 1.0):
        self.laplace, self.temperature = laplace, temperature
        if temperature != 1:
            values = laplace.pairs.values / temperature
            pairs = replace(laplace.pairs, values=values, duals=laplace.dual, seen=None)
            fixed = laplace.fixed
            self.laplace = Laplace(
                laplace.at, laplace.settings, fixed=fixed, pairs=pairs
            )

    def center(self) -> PETSc.Vec:
        m = self.laplace.at.m.copy()
        if self.temperature != 1:
            pull, moved = m.duplicate(), m.duplicate()
            self.laplace.at.regularization_gradient(pull)
            self.laplace.apply(pull, moved)
            m.axpy(1 / self.temperature - 1, moved)
            pull.destroy()
            moved.destroy()
        return m

    def change(self, seed: int) -> PETSc.Vec:
        return self.laplace.change(seed)

    def precision(self, x: PETSc.Vec, out: PETSc.Vec) -> None:
        self.laplace.precision(x, out)

    def apply(self, r: PETSc.Vec, out: PETSc.Vec) -> None:
        self.laplace.apply(r, out)

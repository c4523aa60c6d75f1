"""R(p) of the numbers of a function:

    alpha/2 sum_i ((p_i - q_i) / s)^2  +  beta/2 |B p|^2

a normal prior around q with standard deviation s, and a weight of what is small for smooth
functions (see functions/). There are few numbers, all on rank 0.
"""

from __future__ import annotations

import numpy as np
from mpi4py import MPI
from petsc4py import PETSc

from npde_opt import reductions
from npde_opt.errors import InputError
from npde_opt.parameters import Line
from npde_opt.parameters.draws import child, normal

SINGULAR = 1e-13
"""Eigenvalues, relative to the largest one, that are as good as 0."""


class Roughness:
    """The prior of numbers that lie as those of `Shared` do; a Regularizer for `Objective`.

    Args:
        differences: B (any, count).
        reference: q, a number or (count,).
        deviation: s; None: alpha = 0.
        smoothness: beta.

    Raises:
        InputError: for weights that ask for nothing.
    """

    def __init__(
        self,
        comm: MPI.Intracomm,
        differences: np.ndarray,
        reference: np.ndarray | float = 0.0,
        deviation: float | None = None,
        smoothness: float = 0.0,
    ):
        count = differences.shape[1]
        if not (smoothness >= 0 and (deviation is None or deviation > 0)):
            raise InputError("prior", (deviation, smoothness), "positive numbers")
        pull = 0.0 if deviation is None else deviation**-2
        rough = np.sqrt(smoothness) * differences
        whole = pull * np.eye(count) + rough.T @ rough
        if not np.any(whole):
            raise InputError("prior", (deviation, smoothness), "a weight that is not 0")
        self.comm, line = comm, Line(comm, count, False)
        own = slice(line.first, line.last)
        values = np.broadcast_to(np.asarray(reference, float), count)
        self.reference, self.pull = values[own], pull
        self.matrix, self._rough = whole[own, own], rough[:, own]
        self.proper = float(np.linalg.eigvalsh(whole)[0]) > SINGULAR * whole.max()
        self.inverse = _inverse(whole)[own, own]

    def _gradient(self, values: np.ndarray) -> np.ndarray:
        return np.asarray(self.matrix @ values - self.pull * self.reference)

    def value(self, p: PETSc.Vec) -> float:
        values = p.getArray(readonly=True)
        pulled = self.pull * self.reference
        own = 0.5 * values @ (self.matrix @ values) - pulled @ values
        return reductions.total(self.comm, float(own + 0.5 * pulled @ self.reference))

    def gradient(self, p: PETSc.Vec, out: PETSc.Vec) -> None:
        out.setArray(self._gradient(p.getArray(readonly=True)))

    def hessian(self, p: PETSc.Vec, dp: PETSc.Vec, out: PETSc.Vec) -> None:
        out.setArray(self.matrix @ dp.getArray(readonly=True))

    def precondition(self, p: PETSc.Vec, r: PETSc.Vec, out: PETSc.Vec) -> None:
        out.setArray(self.inverse @ r.getArray(readonly=True))

    @property
    def improper(self) -> str:
        return "" if self.proper else "some functions cost nothing: it has no deviation"

    def precision(self, p: PETSc.Vec, dp: PETSc.Vec, out: PETSc.Vec) -> None:
        self.hessian(p, dp, out)

    def noise(self, p: PETSc.Vec, seed: int, out: PETSc.Vec) -> None:
        rows, own = self._rough.shape
        values = normal(child(seed, 0), own, 0, own)
        rough = self._rough.T @ normal(child(seed, 1), rows, 0, rows)
        out.setArray(np.sqrt(self.pull) * values + rough)

    def variance(self, p: PETSc.Vec) -> np.ndarray:
        return np.diag(self.inverse).copy()

    def destroy(self) -> None:
        """Nothing to destroy."""


def _inverse(matrix: np.ndarray) -> np.ndarray:
    """What costs nothing counts as what costs least: the inverse is positive definite."""
    found, vectors = np.linalg.eigh(matrix)
    least = found[found > SINGULAR * found[-1]].min()
    return np.asarray((vectors / np.maximum(found, least)) @ vectors.T)

"""R(p) of small arrays of parameters (scalars, histories, region constants), p on rank 0:

    alpha/2 sum_i ((p_i - q_i) / s)^2  +  beta/2 sum_i (p_{i+1} - p_i)^2 / (t_{i+1} - t_i)

a normal prior around q with standard deviation s, and the smoothness of a history between its times, which a case gives
in units of their mean distance (see cases/histories.py): without times t_{i+1} - t_i = 1.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from mpi4py import MPI
from petsc4py import PETSc

from npde_opt.errors import InputError


class SmallPrior:
    """The prior of `count` parameters; a Regularizer for `Objective`."""

    def __init__(self, comm: MPI.Intracomm, count: int, weight: float = 1.0, reference: np.ndarray | float = 0.0,
                 deviation: float = 1.0, smoothness: float = 0.0, times: Sequence[float] | np.ndarray | None = None):
        if not (weight >= 0 and smoothness >= 0 and deviation > 0 and weight + smoothness > 0):
            raise InputError("prior", (weight, smoothness, deviation), "weights >= 0 of which one is positive, a positive "
                             "standard deviation")
        t = np.arange(count, dtype=float) if times is None else np.asarray(times, float)
        if t.size != count or np.any(np.diff(t) <= 0):
            raise InputError("prior.times", f"{t.size} values", f"{count} increasing times")
        self.comm, self.reference = comm, np.broadcast_to(np.asarray(reference, float), count)
        G = np.diff(np.eye(count), axis=0) / np.sqrt(np.diff(t))[:, None]
        self.pull, self.stiffness = weight / deviation**2, smoothness * G.T @ G
        self.matrix = np.eye(count) * self.pull + self.stiffness
        self.inverse = np.linalg.pinv(self.matrix)

    def _apply(self, matrix: np.ndarray, values: np.ndarray, out: PETSc.Vec) -> None:
        out.setArray(matrix @ values if values.size else values)

    def _offset(self, p: PETSc.Vec) -> np.ndarray:
        values = p.getArray(readonly=True)
        return values - self.reference[: values.size]

    def value(self, p: PETSc.Vec) -> float:
        e, values = self._offset(p), p.getArray(readonly=True)
        own = 0.5 * self.pull * e @ e + 0.5 * values @ self.stiffness @ values if e.size else 0.0
        return float(self.comm.bcast(own, root=0))

    def gradient(self, p: PETSc.Vec, out: PETSc.Vec) -> None:
        e, values = self._offset(p), p.getArray(readonly=True)
        out.setArray(self.pull * e + self.stiffness @ values if e.size else e)

    def hessian(self, p: PETSc.Vec, dp: PETSc.Vec, out: PETSc.Vec) -> None:
        self._apply(self.matrix, dp.getArray(readonly=True), out)

    def precondition(self, p: PETSc.Vec, r: PETSc.Vec, out: PETSc.Vec) -> None:
        self._apply(self.inverse, r.getArray(readonly=True), out)

    def destroy(self) -> None:
        """Nothing to destroy."""

"""pyamg as a PETSc preconditioner: one smoothed-aggregation V-cycle on the block of unknowns that a
rank owns.

On one rank that is the whole matrix. On several, the recipe wraps it in PETSc's additive Schwarz
(`asm`, overlap 1) as the subdomain solver.
"""

from __future__ import annotations

import numpy as np
import pyamg
import scipy.sparse
import scipy.sparse.linalg
from petsc4py import PETSc


class PyAMG:
    """Python context of a PC on a sequential AIJ matrix; symmetric where the matrix is."""

    def setUp(self, pc: PETSc.PC) -> None:
        matrix = pc.getOperators()[1]
        indptr, indices, values = matrix.getValuesCSR()
        local = scipy.sparse.csr_matrix(
            (values, indices, indptr), shape=matrix.getSize()
        )
        symmetric = (
            bool(abs(local - local.T).max() <= 1e-12 * abs(local).max())
            if local.nnz
            else True
        )
        solver = pyamg.smoothed_aggregation_solver(
            local,
            symmetry="symmetric" if symmetric else "nonsymmetric",
            max_coarse=200,
            presmoother=("gauss_seidel", {"sweep": "forward"}),
            postsmoother=("gauss_seidel", {"sweep": "backward"}),
        )
        self.cycle = solver.aspreconditioner(cycle="V")
        self._matrix = local
        self._transposed: scipy.sparse.linalg.LinearOperator | None = None

    def apply(self, pc: PETSc.PC, b: PETSc.Vec, x: PETSc.Vec) -> None:
        x.setArray(self.cycle.matvec(np.array(b.getArray(readonly=True))))

    def applyTranspose(self, pc: PETSc.PC, b: PETSc.Vec, x: PETSc.Vec) -> None:
        if self._transposed is None:
            solver = pyamg.smoothed_aggregation_solver(
                self._matrix.T.tocsr(), symmetry="nonsymmetric", max_coarse=200
            )
            self._transposed = solver.aspreconditioner(cycle="V")
        x.setArray(self._transposed.matvec(np.array(b.getArray(readonly=True))))

"""Factorizations of sparse symmetric matrices: CHOLMOD's (scikit-sparse) or SuperLU's (scipy)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.sparse as sp
from clock import needs

Solve = Callable[[np.ndarray], np.ndarray]


class Factors:
    """Of matrices with one pattern, which is analyzed once."""

    def __init__(self, package: str):
        needs(*(["sksparse.cholmod"] if package == "cholmod" else ["scipy.sparse"]))
        self.package = package
        self._analyzed: Any = None

    def __call__(self, A: sp.csc_matrix) -> Solve:
        if self.package == "superlu":
            from scipy.sparse.linalg import splu

            symmetric = {"SymmetricMode": True}
            lu: Solve = splu(A, permc_spec="MMD_AT_PLUS_A", options=symmetric).solve
            return lu
        from sksparse.cholmod import analyze

        if self._analyzed is None:
            self._analyzed = analyze(A)
        solve: Solve = self._analyzed.cholesky(A)
        return solve


def faces(n: int) -> tuple[sp.csr_matrix, np.ndarray, np.ndarray]:
    """Differences across the inner faces of n x n cells, and the cells on both sides; cell (i, j)
    has the number n i + j."""
    line, one = sp.diags_array([-1.0, 1.0], offsets=[0, 1], shape=(n - 1, n)), sp.eye(n)
    number = np.arange(n * n).reshape(n, n)
    below = np.concatenate([number[:-1].ravel(), number[:, :-1].ravel()])
    above = np.concatenate([number[1:].ravel(), number[:, 1:].ravel()])
    return (
        sp.csr_matrix(sp.vstack([sp.kron(line, one), sp.kron(one, line)])),
        below,
        above,
    )

"""A x = b of an exported matrix, to a true residual |b - A x| / |b| of 1e-8: factorization and
solve, or set-up of a multigrid hierarchy and CG with it.

    python solve_scipy.py matrix.npz cholmod|superlu|pyamg
"""

from __future__ import annotations

import sys

import numpy as np
import scipy.sparse as sp
from clock import answer, needs
from factors import Factors

TOLERANCE = 1e-8


def main() -> None:
    with np.load(sys.argv[1]) as file:
        A = sp.csr_matrix((file["values"], file["columns"], file["rows"]))
        b = file["b"]
    package = sys.argv[2]
    if package == "pyamg":
        needs("pyamg")
        import pyamg
    else:
        factors, columns = Factors(package), A.tocsc()

    def solve() -> dict[str, float]:
        if package == "pyamg":
            levels = pyamg.ruge_stuben_solver(A)
            x = levels.solve(b, tol=TOLERANCE, accel="cg", maxiter=100)
        else:
            x = factors(columns)(b)
        residual = np.linalg.norm(b - A @ x) / np.linalg.norm(b)
        return {"residual": float(residual), "value": float(b @ x)}

    answer(solve)


main()

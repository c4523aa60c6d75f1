"""du/dt = div(D grad u) + r u (1 - u), 50 steps of implicit diffusion and explicit reaction on n^2
cells: value and gradient in D(x) of the sum of squares of the last state, by scipy and one
factorization.

    python implicit_scipy.py n cholmod|superlu
"""

from __future__ import annotations

import sys

import numpy as np
import scipy.sparse as sp
from clock import answer
from factors import Factors, faces

STEPS, RATE = 50, 3.0


def main() -> None:
    n, factors = int(sys.argv[1]), Factors(sys.argv[2])
    x, y = np.meshgrid(*[(np.arange(n) + 0.5) / n] * 2, indexing="ij")
    D = 0.01 * np.exp(np.sin(6 * x) * np.cos(5 * y)).ravel()
    first = (0.8 * np.exp(-60 * ((x - 0.4) ** 2 + (y - 0.5) ** 2))).ravel()
    G, below, above = faces(n)
    dt = 1 / STEPS

    def gradient() -> dict[str, float]:
        t = 2 * D[below] * D[above] / (D[below] + D[above]) * dt * n**2
        A = sp.csc_matrix(sp.eye(n * n) + G.T @ sp.diags_array(t) @ G)
        solve, states = factors(A), [first]
        for _ in range(STEPS):
            u = states[-1]
            states.append(solve(u + dt * RATE * u * (1 - u)))
        value, adjoint = 0.5 * float(states[-1] @ states[-1]), states[-1]
        flux = np.zeros(below.size)
        for k in range(STEPS, 0, -1):
            multiplier = solve(adjoint)
            flux -= (G @ multiplier) * (G @ states[k])
            adjoint = multiplier * (1 + dt * RATE * (1 - 2 * states[k - 1]))
        # of log D: dt/dlog D = t^2 / (2 D dt n^2)
        flux *= t * t / (2 * dt * n**2)
        found = np.bincount(below, flux / D[below], n * n)
        found += np.bincount(above, flux / D[above], n * n)
        return {"value": value, "norm": float(np.linalg.norm(found))}

    answer(gradient)


main()

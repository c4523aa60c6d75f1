"""The forward run of explicit_numba.py by py-pde: its compiled explicit steps.

python forward_pde.py n
"""

from __future__ import annotations

import sys

import numpy as np
from clock import answer, needs

needs("pde")
import pde  # noqa: E402

STEPS = 100
RATES = {
    "u": "0.16 * laplace(u) - u * v**2 + 0.035 * (1 - u)",
    "v": "0.08 * laplace(v) + u * v**2 - (0.035 + 0.06) * v",
}


def main() -> None:
    n = int(sys.argv[1])
    rng = np.random.default_rng(0)
    u0 = 1 - 0.5 * (rng.random((n, n)) < 0.3)
    v0 = 0.25 * (rng.random((n, n)) < 0.3)
    grid = pde.CartesianGrid([[0, n], [0, n]], n, periodic=True)
    first = pde.FieldCollection([pde.ScalarField(grid, w) for w in (u0, v0)])
    kind = getattr(pde, "EulerSolver", None) or pde.ExplicitSolver
    solver = kind(pde.PDE(RATES), backend="numba")
    step = solver.make_stepper(first, dt=1.0)

    def forward() -> dict[str, float]:
        state = first.copy()
        step(state, 0.0, float(STEPS))
        return {"value": 0.5 * float(np.sum(state[1].data ** 2))}

    answer(forward)


main()

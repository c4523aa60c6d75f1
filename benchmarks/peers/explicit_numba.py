"""Gray-Scott on n^2 periodic cells, 100 explicit Euler steps: value and gradient in Du, Dv, F(x),
k(x) of the sum of squares of the last v, forward and adjoint loops by hand for numba.

    python explicit_numba.py n
"""

from __future__ import annotations

import sys

import numpy as np
from clock import answer, needs

needs("numba")
import numba  # noqa: E402

STEPS = 100
compiled = numba.njit(fastmath=True)


@compiled
def lap(w: np.ndarray, i: int, j: int, up: int, down: int, n: int) -> float:
    left, right = (j - 1 if j else n - 1), (j + 1 if j < n - 1 else 0)
    around: float = w[up, j] + w[down, j] + w[i, left] + w[i, right]
    return around - 4.0 * float(w[i, j])


@compiled
def step(u, v, Du, Dv, F, k, un, vn):  # type: ignore[no-untyped-def]
    n = u.shape[0]
    for i in range(n):
        up, down = (i - 1 if i else n - 1), (i + 1 if i < n - 1 else 0)
        for j in range(n):
            a, b = u[i, j], v[i, j]
            r = a * b * b
            un[i, j] = a + Du * lap(u, i, j, up, down, n) - r + F[i, j] * (1 - a)
            vn[i, j] = b + Dv * lap(v, i, j, up, down, n) + r - (F[i, j] + k[i, j]) * b


@compiled
def back(u, v, p, q, Du, Dv, F, k, pn, qn, gF, gk):  # type: ignore[no-untyped-def]
    n, gu, gv = u.shape[0], 0.0, 0.0
    for i in range(n):
        up, down = (i - 1 if i else n - 1), (i + 1 if i < n - 1 else 0)
        for j in range(n):
            a, b, x, y = u[i, j], v[i, j], p[i, j], q[i, j]
            lp, lq = lap(p, i, j, up, down, n), lap(q, i, j, up, down, n)
            d = y - x
            pn[i, j] = x + Du * lp + b * b * d - F[i, j] * x
            qn[i, j] = y + Dv * lq + 2 * a * b * d - (F[i, j] + k[i, j]) * y
            gu += lp * a
            gv += lq * b
            gF[i, j] += (1 - a) * x - b * y
            gk[i, j] -= b * y
    return gu, gv


def main() -> None:
    n = int(sys.argv[1])
    rng = np.random.default_rng(0)
    u0 = 1 - 0.5 * (rng.random((n, n)) < 0.3)
    v0 = 0.25 * (rng.random((n, n)) < 0.3)
    Du, Dv, F, k = 0.16, 0.08, np.full((n, n), 0.035), np.full((n, n), 0.06)
    us, vs = (np.empty((STEPS + 1, n, n)) for _ in range(2))

    def gradient() -> dict[str, float]:
        us[0], vs[0] = u0, v0
        for s in range(STEPS):
            step(us[s], vs[s], Du, Dv, F, k, us[s + 1], vs[s + 1])
        p, q = np.zeros((n, n)), vs[-1].copy()
        pn, qn, gF, gk = (np.zeros((n, n)) for _ in range(4))
        gu = gv = 0.0
        for s in range(STEPS - 1, -1, -1):
            a, b = back(us[s], vs[s], p, q, Du, Dv, F, k, pn, qn, gF, gk)
            gu, gv, p, pn, q, qn = gu + a, gv + b, pn, p, qn, q
        norm = np.sqrt(gu**2 + gv**2 + np.sum(gF**2) + np.sum(gk**2))
        return {"value": 0.5 * float(np.sum(vs[-1] ** 2)), "norm": float(norm)}

    answer(gradient)


main()

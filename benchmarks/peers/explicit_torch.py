"""The problem of explicit_numba.py by PyTorch's reverse mode, one compiled step.

python explicit_torch.py n
"""

from __future__ import annotations

import sys

import numpy as np
from clock import answer, needs

needs("torch")
import torch  # noqa: E402

STEPS = 100
torch.set_num_threads(1)


def lap(w: torch.Tensor) -> torch.Tensor:
    x = torch.roll(w, 1, 0) + torch.roll(w, -1, 0)
    y = torch.roll(w, 1, 1) + torch.roll(w, -1, 1)
    return x + y - 4 * w


def step(u, v, Du, Dv, F, k):  # type: ignore[no-untyped-def]
    r = u * v * v
    return u + Du * lap(u) - r + F * (1 - u), v + Dv * lap(v) + r - (F + k) * v


def main() -> None:
    n = int(sys.argv[1])
    rng = np.random.default_rng(0)
    u0 = torch.tensor(1 - 0.5 * (rng.random((n, n)) < 0.3))
    v0 = torch.tensor(0.25 * (rng.random((n, n)) < 0.3))
    compiled = torch.compile(step)

    def gradient() -> dict[str, float]:
        given = [torch.tensor(x, dtype=torch.float64) for x in (0.16, 0.08)]
        given += [torch.full((n, n), x, dtype=torch.float64) for x in (0.035, 0.06)]
        for w in given:
            w.requires_grad_(True)
        u, v = u0, v0
        for _ in range(STEPS):
            u, v = compiled(u, v, *given)
        value = 0.5 * (v * v).sum()
        value.backward()
        norm = float(sum(float((w.grad**2).sum()) for w in given)) ** 0.5
        return {"value": float(value), "norm": norm}

    answer(gradient)


main()

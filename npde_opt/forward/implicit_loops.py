"""What many implicit steps in one call need beside the solves, compiled (see implicit_text.py)."""

from __future__ import annotations

import math

import numpy as np

from npde_opt.compiling import compiled
from npde_opt.linear.dissection.loops import solve

__all__ = ["add_products", "left_over", "solve", "squares"]


@compiled
def squares(x: np.ndarray) -> float:
    """x^T x."""
    total = 0.0
    for i in range(x.size):
        total += x[i] * x[i]
    return total


@compiled
def left_over(
    values: np.ndarray, axes: np.ndarray, b: np.ndarray, x: np.ndarray, r: np.ndarray
) -> float:
    """|b - A x| / |b|, 0 where that is 0 / 0.

    Args:
        values: of A: its diagonal, and by axis the couplings to the cells after.
        axes: (cells, whether it is periodic) of each, the last one fastest.
        r: work.
    """
    size = x.size
    for i in range(size):
        r[i] = b[i] - values[i] * x[i]
    stride = size
    for d in range(axes.shape[0]):
        n, begin = axes[d, 0], size * (d + 1)
        stride //= n
        for block in range(0, size, n * stride):
            for a in range(n):
                if a == n - 1 and axes[d, 1] == 0:
                    continue
                own, after = block + a * stride, block + (a + 1) % n * stride
                for i in range(stride):
                    c = values[begin + own + i]
                    r[own + i] -= c * x[after + i]
                    r[after + i] -= c * x[own + i]
    left = squares(r)
    return math.sqrt(left / squares(b)) if left != 0 else 0.0


@compiled
def add_products(
    x: np.ndarray, y: np.ndarray, factor: float, axes: np.ndarray, sums: np.ndarray
) -> None:
    """sums += factor times the jumps of x and y at all faces, those normal to the slowest axis
    first; beyond the sides that are not periodic both are 0."""
    size = x.size
    stride, begin = size, 0
    for d in range(axes.shape[0]):
        n, wraps = axes[d, 0], axes[d, 1] != 0
        stride //= n
        for block in range(size // (n * stride)):
            cells, faces = block * n * stride, begin + block * (n + 1) * stride
            if stride == 1:
                for a in range(1, n):
                    here = cells + a
                    jump = (x[here] - x[here - 1]) * (y[here] - y[here - 1])
                    sums[faces + a] += factor * jump
            else:
                for a in range(1, n):
                    here, face = cells + a * stride, faces + a * stride
                    for i in range(stride):
                        at = here + i
                        jump = (x[at] - x[at - stride]) * (y[at] - y[at - stride])
                        sums[face + i] += factor * jump
            first, last = cells, cells + (n - 1) * stride
            for i in range(stride):
                p, q, r, s = x[first + i], y[first + i], x[last + i], y[last + i]
                lower, upper = p * q, r * s
                if wraps:
                    lower = upper = (p - r) * (q - s)
                sums[faces + i] += factor * lower
                sums[faces + n * stride + i] += factor * upper
        begin += size // n * (n + 1)

"""y = A x of symmetric stencils of face neighbours, from planes, in a compiled loop."""

from __future__ import annotations

import numpy as np

from npde_opt.compiling import compiled


@compiled
def _add_pair(
    coupling: np.ndarray, x: np.ndarray, y: np.ndarray, here: int, after: int, n: int
) -> None:
    """Of two lines of cells: each takes the other one's values times their couplings."""
    c, p, q = coupling[here : here + n], x[here : here + n], x[after : after + n]
    a, b = y[here : here + n], y[after : after + n]
    for i in range(n):
        a[i] += c[i] * q[i]
        b[i] += c[i] * p[i]


@compiled
def multiply(
    centre: np.ndarray,
    after: tuple[np.ndarray, ...],
    shape: tuple[int, int, int],
    x: np.ndarray,
    y: np.ndarray,
) -> None:
    """Over pairs of cells inside a box; all arrays are flat, x fastest.

    Args:
        after: couplings to the cells after, by axis.
        shape: cells along z, y, x.
    """
    nz, ny, nx = shape
    for k in range(nz):
        for j in range(ny):
            at = (k * ny + j) * nx
            c, p, out = centre[at : at + nx], x[at : at + nx], y[at : at + nx]
            e = after[0][at : at + nx]
            for i in range(nx):
                out[i] = c[i] * p[i]
            for i in range(nx - 1):
                out[i] += e[i] * p[i + 1]
            for i in range(1, nx):
                out[i] += e[i - 1] * p[i - 1]
            if j > 0:
                _add_pair(after[1], x, y, at - nx, at, nx)
            if k > 0:
                step = ny * nx
                _add_pair(after[len(after) - 1], x, y, at - step, at, nx)

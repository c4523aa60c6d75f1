"""Sweeps that solve for a line of cells at once, for all lines along an axis in turn:

    x_L := T_L^-1 (b - (A - T) x)_L,   T the tridiagonal parts of A along the axis,

those with even numbers across first, then those with odd ones, or the other way round: the second
order is the transpose of the first. Fields and stencils are those of adapted_loops.py. T = L D L^T
is factored once; where the axis is periodic, what joins its ends is not in T.
"""

from __future__ import annotations

import numpy as np

from npde_opt.compiling import compiled

BEFORE, BEHIND = 0, 1
"""Of the two neighbours in a line, the numbers of whose planes `ends` has."""


@compiled
def factor(
    A: np.ndarray,
    centre: int,
    before: int,
    starts: np.ndarray,
    count: int,
    step: int,
    low: np.ndarray,
    inverse: np.ndarray,
) -> None:
    """L, below its diagonal of 1, and D^-1 of lines of `count` cells that begin at `starts`."""
    for n in range(starts.size):
        c = starts[n]
        inverse[c] = 1 / A[centre, c] if A[centre, c] != 0 else 1.0
        for _ in range(1, count):
            c += step
            a = A[before, c]
            low[c] = a * inverse[c - step]
            d = A[centre, c] - low[c] * a
            inverse[c] = 1 / d if d != 0 else 1.0


@compiled
def _less_neighbours(
    A: np.ndarray, steps: np.ndarray, x: np.ndarray, c: int, v: np.ndarray
) -> None:
    """v -= A x, of the row of cells that begins at c and of the neighbours of `steps`."""
    nx = v.size
    for o in range(steps.shape[0]):
        to = c + steps[o, 1]
        a, y = A[steps[o, 0], c : c + nx], x[to : to + nx]
        for i in range(nx):
            v[i] -= a[i] * y[i]


@compiled
def along_rows(
    A: np.ndarray,
    steps: np.ndarray,
    ends: np.ndarray,
    low: np.ndarray,
    inverse: np.ndarray,
    b: np.ndarray,
    x: np.ndarray,
    rows: np.ndarray,
    nx: int,
) -> None:
    """A sweep of lines along x.

    Args:
        steps [o, 2]: planes of neighbours that are not in a line, and how far they are.
        rows: first cells, in the order of the sweep.
    """
    v = np.empty(nx)
    for n in range(rows.size):
        c = rows[n]
        v[:] = b[c : c + nx]
        _less_neighbours(A, steps, x, c, v)
        last = c + nx - 1
        v[0] -= A[ends[BEFORE], c] * x[c - 1]
        v[nx - 1] -= A[ends[BEHIND], last] * x[last + 1]
        l, d, out = low[c : c + nx], inverse[c : c + nx], x[c : c + nx]
        for i in range(1, nx):
            v[i] -= l[i] * v[i - 1]
        out[nx - 1] = d[nx - 1] * v[nx - 1]
        for i in range(nx - 2, -1, -1):
            out[i] = d[i] * v[i] - l[i + 1] * out[i + 1]


@compiled
def across_rows(
    A: np.ndarray,
    steps: np.ndarray,
    ends: np.ndarray,
    low: np.ndarray,
    inverse: np.ndarray,
    b: np.ndarray,
    x: np.ndarray,
    starts: np.ndarray,
    nx: int,
    count: int,
    step: int,
    odd_first: int,
) -> None:
    """A sweep of lines of `count` cells along y or z; every other line along x at a time.

    Args:
        starts: first cells of the lines' first rows, in the order of the sweep.
    """
    v = np.empty(nx)
    for n in range(starts.size):
        for colour in range(2):
            first = (colour + odd_first) % 2
            for t in range(count):
                c = starts[n] + t * step
                f, y = b[c : c + nx], x[c : c + nx]
                # Every other value is not needed, but loops over all of them are faster.
                for i in range(nx):
                    v[i] = f[i]
                _less_neighbours(A, steps, x, c, v)
                back = x[c - step : c - step + nx]
                l = A[ends[BEFORE], c : c + nx] if t == 0 else low[c : c + nx]
                if t == count - 1:
                    a, z = A[ends[BEHIND], c : c + nx], x[c + step : c + step + nx]
                    for i in range(first, nx, 2):
                        v[i] -= a[i] * z[i]
                for i in range(first, nx, 2):
                    y[i] = v[i] - l[i] * back[i]
            c = starts[n] + (count - 1) * step
            d, y = inverse[c : c + nx], x[c : c + nx]
            for i in range(first, nx, 2):
                y[i] *= d[i]
            for _ in range(1, count):
                l, z = low[c : c + nx], x[c : c + nx]
                c -= step
                d, y = inverse[c : c + nx], x[c : c + nx]
                for i in range(first, nx, 2):
                    y[i] = d[i] * y[i] - l[i] * z[i]


@compiled
def residual(
    A: np.ndarray,
    steps: np.ndarray,
    b: np.ndarray,
    x: np.ndarray,
    rows: np.ndarray,
    nx: int,
    r: np.ndarray,
) -> None:
    """r = b - A x, in the rows that begin at `rows`."""
    for n in range(rows.size):
        c = rows[n]
        found = r[c : c + nx]
        found[:] = b[c : c + nx]
        _less_neighbours(A, steps, x, c, found)

"""The two loops of a convolution on padded planes,

    correlate    y_c(I) = sum_{d, t} W[c, d, t] P_d(s I + e t)
    products     G[c, d, t] = sum_I y_c(I) P_d(s I + e t),

as products of small matrices with BLAS. The taps of x are copied beside each other; those of other
axes are views of rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product

import numpy as np

from npde_opt.grids import of_cells


def correlate(
    w: np.ndarray,
    padded: np.ndarray,
    strides: Sequence[int],
    dilations: Sequence[int],
    cells: Sequence[int],
) -> np.ndarray:
    """y [c, s, k, j, i] of `cells` (k, j, i), from padded planes [d, s, k, j, i]."""
    count, samples = w.shape[0], padded.shape[1]
    taps = w.shape[2:]
    out = np.zeros((count, samples * int(np.prod(cells))), padded.dtype)
    for at, column in columns(padded, taps, strides, dilations, cells):
        out += w[of_cells(at)].astype(padded.dtype, copy=False) @ column
    return out.reshape(count, samples, *cells)


def products(
    y: np.ndarray,
    padded: np.ndarray,
    strides: Sequence[int],
    dilations: Sequence[int],
    taps: Sequence[int],
) -> np.ndarray:
    """G [c, d, tz, ty, tx] in double precision."""
    count = y.shape[0]
    rows, cells = y.reshape(count, -1), y.shape[2:]
    out = np.zeros((count, padded.shape[0], *taps))
    for at, column in columns(padded, taps, strides, dilations, cells):
        out[of_cells(at)] = rows @ column.T
    return out


def columns(
    padded: np.ndarray,
    taps: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
    cells: Sequence[int],
) -> Iterator[tuple[tuple[int, ...], np.ndarray]]:
    """(tap, what all outputs read there [d, (s, k, j, i)])."""
    for at in product(*(range(t) for t in taps)):
        box = [
            slice(e * t, e * t + s * (n - 1) + 1 if n else e * t, s)
            for t, e, s, n in zip(at, dilations, strides, cells, strict=True)
        ]
        yield at, padded[of_cells(box)].reshape(padded.shape[0], -1)

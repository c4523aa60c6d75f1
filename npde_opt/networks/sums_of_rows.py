"""Sums of a few rows of cells, times weights, in compiled loops:

    combine   y_c(I) = sum_t W[c, t] P(I + o_t)
    gather    G[c, t] = sum_I y_c(I) P(I + o_t),

o_t the place in memory of what term t reads. Two results and four terms at a time are in registers:
each value that is read from the cache serves two products. Up to a dozen results this is
faster than a product of matrices, which brings its blocks into another order first.
"""

from __future__ import annotations

import numpy as np

from npde_opt.compiling import compiled

FOUR = 4
"""Terms at a time."""
TILE = 1024
"""Bytes of a row that are worked on at a time, so that the rows of some dozens of terms stay in a
core's first cache."""

Three = tuple[int, int, int]
Four = tuple[int, int, int, int]


def padded(w: np.ndarray, offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weights [c, t] and offsets [t] with terms of weight 0, so that they are fours."""
    more = -w.shape[1] % FOUR
    repeated = np.concatenate([offsets, np.repeat(offsets[-1:], more)])
    return np.pad(w, ((0, 0), (0, more))), repeated.astype(np.int64)


@compiled
def _rows(
    u: np.ndarray, at: int, offsets: np.ndarray, t: int, n: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """What terms t to t + 3 read."""
    a, b = at + offsets[t], at + offsets[t + 1]
    c, d = at + offsets[t + 2], at + offsets[t + 3]
    return u[a : a + n], u[b : b + n], u[c : c + n], u[d : d + n]


@compiled
def _add_to_two(
    w: np.ndarray,
    rows: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray],
    one: np.ndarray,
    two: np.ndarray,
    add: bool,
    n: int,
) -> None:
    a, b, c, d = rows
    w0, w1, w2, w3 = w[0, 0], w[0, 1], w[0, 2], w[0, 3]
    v0, v1, v2, v3 = w[1, 0], w[1, 1], w[1, 2], w[1, 3]
    if add:
        for x in range(n):
            one[x] += w0 * a[x] + w1 * b[x] + w2 * c[x] + w3 * d[x]
            two[x] += v0 * a[x] + v1 * b[x] + v2 * c[x] + v3 * d[x]
    else:
        for x in range(n):
            one[x] = w0 * a[x] + w1 * b[x] + w2 * c[x] + w3 * d[x]
            two[x] = v0 * a[x] + v1 * b[x] + v2 * c[x] + v3 * d[x]


@compiled
def _add_to_one(
    w: np.ndarray,
    rows: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray],
    one: np.ndarray,
    add: bool,
    n: int,
) -> None:
    a, b, c, d = rows
    w0, w1, w2, w3 = w[0], w[1], w[2], w[3]
    if add:
        for x in range(n):
            one[x] += w0 * a[x] + w1 * b[x] + w2 * c[x] + w3 * d[x]
    else:
        for x in range(n):
            one[x] = w0 * a[x] + w1 * b[x] + w2 * c[x] + w3 * d[x]


@compiled
def combine(
    w: np.ndarray,
    offsets: np.ndarray,
    u: np.ndarray,
    u_steps: Three,
    add: bool,
    out: np.ndarray,
    counts: Four,
    steps: Four,
    length: int,
) -> None:
    """out = or += y in rows of this length.

    Args:
        w, offsets: W [c, t] and o [t], t a multiple of four.
        u: all that is read, in which the row of results (s, k, j) begins to read at the product
            of these with `u_steps`.
        out, counts, steps: the box of results; see strips.Flat.
    """
    channels, terms = w.shape
    tile = TILE // u.itemsize
    for s in range(counts[1]):
        for z in range(counts[2]):
            for y in range(counts[3]):
                row = s * u_steps[0] + z * u_steps[1] + y * u_steps[2]
                place = s * steps[1] + z * steps[2] + y * steps[3]
                for first in range(0, length, tile):
                    n = min(tile, length - first)
                    for c in range(0, channels, 2):
                        to = place + first + c * steps[0]
                        one = out[to : to + n]
                        pair = c + 1 < channels
                        two = out[to + steps[0] :][:n] if pair else one
                        for t in range(0, terms, 4):
                            rows = _rows(u, row + first, offsets, t, n)
                            more = add or t > 0
                            if pair:
                                k = w[c : c + 2, t : t + 4]
                                _add_to_two(k, rows, one, two, more, n)
                            else:
                                _add_to_one(w[c, t : t + 4], rows, one, more, n)


@compiled
def _gather_two(
    one: np.ndarray,
    two: np.ndarray,
    rows: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray],
    total: np.ndarray,
    n: int,
) -> None:
    a, b, c, d = rows
    none = one.dtype.type(0)
    w0 = w1 = w2 = w3 = v0 = v1 = v2 = v3 = none
    for x in range(n):
        w0 += one[x] * a[x]
        w1 += one[x] * b[x]
        w2 += one[x] * c[x]
        w3 += one[x] * d[x]
        v0 += two[x] * a[x]
        v1 += two[x] * b[x]
        v2 += two[x] * c[x]
        v3 += two[x] * d[x]
    total[0, 0] += w0
    total[0, 1] += w1
    total[0, 2] += w2
    total[0, 3] += w3
    total[1, 0] += v0
    total[1, 1] += v1
    total[1, 2] += v2
    total[1, 3] += v3


@compiled
def _gather_one(
    one: np.ndarray,
    rows: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray],
    total: np.ndarray,
    n: int,
) -> None:
    a, b, c, d = rows
    none = one.dtype.type(0)
    w0 = w1 = w2 = w3 = none
    for x in range(n):
        w0 += one[x] * a[x]
        w1 += one[x] * b[x]
        w2 += one[x] * c[x]
        w3 += one[x] * d[x]
    total[0] += w0
    total[1] += w1
    total[2] += w2
    total[3] += w3


@compiled
def gather(
    total: np.ndarray,
    offsets: np.ndarray,
    u: np.ndarray,
    u_steps: Three,
    y: np.ndarray,
    counts: Four,
    steps: Four,
    length: int,
) -> None:
    """total [c, t] += G, in double precision; sums in that of u are of `TILE` at most. For
    arguments see `combine`; `y` is a box of results."""
    channels, terms = total.shape
    tile = TILE // u.itemsize
    for s in range(counts[1]):
        for z in range(counts[2]):
            for j in range(counts[3]):
                row = s * u_steps[0] + z * u_steps[1] + j * u_steps[2]
                place = s * steps[1] + z * steps[2] + j * steps[3]
                for first in range(0, length, tile):
                    n = min(tile, length - first)
                    for c in range(0, channels, 2):
                        at = place + first + c * steps[0]
                        one = y[at : at + n]
                        pair = c + 1 < channels
                        two = y[at + steps[0] :][:n] if pair else one
                        for t in range(0, terms, 4):
                            rows = _rows(u, row + first, offsets, t, n)
                            if pair:
                                found = total[c : c + 2, t : t + 4]
                                _gather_two(one, two, rows, found, n)
                            else:
                                _gather_one(one, rows, total[c, t : t + 4], n)

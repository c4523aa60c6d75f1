"""Sums of rows of cells, times weights, of a box of results [c, s, k, j, i]:

    combine   y_c(I) = sum_t W[c, t] P(I + o_t)
    gather    G[c, t] = sum_I y_c(I) P(I + o_t),

o_t the place in memory of what term t reads, from where the row of results begins to read. It is
faster than products of matrices, which bring blocks into another order first and want what shifts
read beside each other.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from npde_opt.compiling import compiled
from npde_opt.networks.vectors import (
    BYTES,
    TERMS,
    combine_eight,
    combine_four,
    combine_one,
    combine_two,
    gather_one,
    gather_two,
)

TILE = 1024
"""Bytes of a row that are worked on at a time, so that the rows of some dozens of terms stay in a
core's first cache."""
TOGETHER = 1024
"""Values of a result that `gather` sums in registers, in the precision of what is read."""

Three = tuple[int, int, int]
Four = tuple[int, int, int, int]
Rows = tuple[np.ndarray, np.ndarray, Three, np.ndarray, Four, Four, int]
"""Offsets, what is read, and the box of results: arguments of both loops."""


def whole(w: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Weights [c, t] with terms of weight 0, so that terms are whole blocks."""
    count = w.shape[1]
    found = np.zeros((len(w), count + -count % TERMS), dtype)
    found[:, :count] = w
    return found


def longer(offsets: np.ndarray) -> np.ndarray:
    """As many as terms of such weights: those without weight read what the last one does."""
    found = np.empty(len(offsets) + -len(offsets) % TERMS, np.int64)
    found[: len(offsets)] = offsets
    found[len(offsets) :] = offsets[-1:]
    return found


@lru_cache(maxsize=256)
def evenly(step: int, count: int) -> np.ndarray:
    """Offsets 0, step, 2 step, ..."""
    return longer(step * np.arange(count))


@compiled
def combine(
    w: np.ndarray,
    offsets: np.ndarray,
    u: np.ndarray,
    u_steps: Three,
    out: np.ndarray,
    counts: Four,
    steps: Four,
    length: int,
    add: bool,
) -> None:
    """out = or += y in rows of this length.

    Args:
        w, offsets: W [c, t] and o [t].
        u: all that is read, in which the row of results (s, k, j) begins to read at the product
            of these with `u_steps`.
        out, counts, steps: the box of results; see strips.Flat.
    """
    channels, terms = w.shape
    tile, step, lanes = TILE // u.itemsize, steps[0], BYTES // u.itemsize
    for s in range(counts[1]):
        for z in range(counts[2]):
            for y in range(counts[3]):
                row = s * u_steps[0] + z * u_steps[1] + y * u_steps[2]
                place = s * steps[1] + z * steps[2] + y * steps[3]
                for first in range(0, length, tile):
                    n = min(tile, length - first)
                    at, to, c = row + first, place + first, 0
                    while n < 2 * lanes and c + 8 <= channels:
                        k = to + c * step
                        combine_eight(w, terms, c, offsets, u, at, add, out, k, step, n)
                        c += 8
                    while c + 4 <= channels:
                        k = to + c * step
                        combine_four(w, terms, c, offsets, u, at, add, out, k, step, n)
                        c += 4
                    if c + 2 <= channels:
                        k = to + c * step
                        combine_two(w, terms, c, offsets, u, at, add, out, k, step, n)
                        c += 2
                    if c < channels:
                        k = to + c * step
                        combine_one(w, terms, c, offsets, u, at, add, out, k, step, n)


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
    """total [c, t] += G, in double precision; sums of a few rows are in that of u. For arguments
    see `combine` and `whole`; `y` is a box of results."""
    channels, terms = total.shape
    tile, step = TILE // u.itemsize, steps[0]
    wide = min(max(length, 1), tile)
    rows = max(min(TOGETHER // wide, counts[3]), 1)
    # Of short pictures several, of long rows a part.
    samples = max(TOGETHER // (wide * max(counts[3], 1)), 1) if rows == counts[3] else 1
    for s in range(0, counts[1], samples):
        m = min(samples, counts[1] - s)
        for z in range(counts[2]):
            for j in range(0, counts[3], rows):
                k = min(rows, counts[3] - j)
                row = s * u_steps[0] + z * u_steps[1] + j * u_steps[2]
                place = s * steps[1] + z * steps[2] + j * steps[3]
                for first in range(0, length, tile):
                    n = min(tile, length - first)
                    at, to, c = row + first, place + first, 0
                    while c + 2 <= channels:
                        for t in range(0, terms, TERMS):
                            gather_two(
                                total, terms, c, offsets, t, u, at, y, to + c * step, step,
                                m, u_steps[0], steps[1], k, u_steps[2], steps[3], n,
                            )  # fmt: skip
                        c += 2
                    if c < channels:
                        for t in range(0, terms, TERMS):
                            gather_one(
                                total, terms, c, offsets, t, u, at, y, to + c * step, step,
                                m, u_steps[0], steps[1], k, u_steps[2], steps[3], n,
                            )  # fmt: skip

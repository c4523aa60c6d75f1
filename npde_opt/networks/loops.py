"""Loops over the values of a box for which numpy needs many passes, compiled by numba.

Boxes of activations are matrices [s, k, c, n] (see strips.matrices).
"""

from __future__ import annotations

import numpy as np

from npde_opt.compiling import compiled


@compiled
def interpolate(
    v: np.ndarray,
    place: np.ndarray,
    values: np.ndarray,
    rises: np.ndarray,
    out: np.ndarray,
) -> None:
    """out = values[c, b] + rises[c, b] (x - b), x = place[0] + place[1] v, b the interval."""
    real, length = values.dtype.type, v.shape[3]
    none, last = real(0), real(values.shape[1] - 1)
    # Intervals have no sign, as there is no index from the end to be looked for.
    interval, part = np.empty(length, np.uint32), np.empty(length, v.dtype)
    for s in range(v.shape[0]):
        for k in range(v.shape[1]):
            for c in range(v.shape[2]):
                line, to, low, rise = v[s, k, c], out[s, k, c], values[c], rises[c]
                for n in range(length):
                    x = place[0] + place[1] * line[n]
                    inside = x if x > none else none
                    b = np.int32(inside if inside < last else last)
                    interval[n], part[n] = b, x - real(b)
                for n in range(length):
                    to[n] = low[interval[n]] + rise[interval[n]] * part[n]


@compiled
def pull(
    v: np.ndarray,
    place: np.ndarray,
    rises: np.ndarray,
    eta: np.ndarray,
    below: np.ndarray,
    above: np.ndarray,
) -> None:
    """Adds what eta gives to the knots below and above each value; eta becomes its product with
    the slope there."""
    real, length, count = rises.dtype.type, v.shape[3], np.uint32(rises.shape[1])
    none, last = real(0), real(rises.shape[1] - 1)
    interval, part = np.empty(length, np.uint32), np.empty(length, v.dtype)
    # Neighbours are mostly of one interval: in four sums none waits for the one before.
    sums = np.zeros((4 * count, 2))
    for s in range(v.shape[0]):
        for k in range(v.shape[1]):
            for c in range(v.shape[2]):
                line, to, rise = v[s, k, c], eta[s, k, c], rises[c]
                for n in range(length):
                    x = place[0] + place[1] * line[n]
                    inside = x if x > none else none
                    b = np.int32(inside if inside < last else last)
                    interval[n], part[n] = b, x - real(b)
                for n in range(length):
                    b, y = interval[n], to[n]
                    own = np.uint32(4) * b + np.uint32(n & 3)
                    sums[own, 0] += y
                    sums[own, 1] += y * part[n]
                    to[n] = y * place[1] * rise[b]
                for number in range(4 * rises.shape[1]):
                    below[c, number // 4] += sums[number, 0] - sums[number, 1]
                    above[c, number // 4] += sums[number, 1]
                sums[:] = 0


@compiled
def laplacian(p: np.ndarray, steps: np.ndarray, out: np.ndarray) -> None:
    """out = lap p of boxes [c, s, k, j, i] whose ghosts p has, one cell on either side of the axes
    whose step is 1."""
    a, b = steps[0], steps[1]
    six = p.dtype.type(6)
    for c in range(out.shape[0]):
        for s in range(out.shape[1]):
            for z in range(out.shape[2]):
                for y in range(out.shape[3]):
                    here = p[c, s, z + a, y + b]
                    below, above = p[c, s, z, y + b], p[c, s, z + 2 * a, y + b]
                    before, behind = p[c, s, z + a, y], p[c, s, z + a, y + 2 * b]
                    line = out[c, s, z, y]
                    for x in range(len(line)):
                        beside = here[x] + here[x + 2] + before[x + 1] + behind[x + 1]
                        all_round = beside + below[x + 1] + above[x + 1]
                        line[x] = all_round - six * here[x + 1]

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
def pull_tanh(
    kept: np.ndarray,
    kept_steps: tuple[int, int, int, int],
    eta: np.ndarray,
    counts: tuple[int, int, int, int],
    steps: tuple[int, int, int, int],
    n: int,
) -> None:
    """eta *= 1 - kept^2 for boxes of rows of n; for arguments see strips.Flat."""
    for c in range(counts[0]):
        for s in range(counts[1]):
            for z in range(counts[2]):
                for y in range(counts[3]):
                    at = c * kept_steps[0] + s * kept_steps[1]
                    at += z * kept_steps[2] + y * kept_steps[3]
                    to = c * steps[0] + s * steps[1] + z * steps[2] + y * steps[3]
                    h, out = kept[at : at + n], eta[to : to + n]
                    for x in range(n):
                        out[x] -= out[x] * h[x] * h[x]


@compiled
def laplacian(
    u: np.ndarray,
    beside: np.ndarray,
    before: np.ndarray,
    below: np.ndarray,
    at: tuple[int, int, int, int],
    line: np.ndarray,
) -> None:
    """line [i] = lap u at (c, s, k, j), in axes that u does not have too: there what lies around
    is the cell itself.

    Args:
        u: [c, s, k, j, i].
        beside, before, below: what lies around it, at the lower side and the upper one of x, y and
            z: [2, c, s, k, j], [2, c, s, k, i], [2, c, s, j, i]; nothing of axes that are missing.
    """
    c, s, z, y = at
    here, last = u[c, s, z, y], u.shape[4] - 1
    y_low = y_high = z_low = z_high = here
    if len(before):
        y_low = u[c, s, z, y - 1] if y > 0 else before[0, c, s, z]
        y_high = u[c, s, z, y + 1] if y + 1 < u.shape[3] else before[1, c, s, z]
    if len(below):
        z_low = u[c, s, z - 1, y] if z > 0 else below[0, c, s, y]
        z_high = u[c, s, z + 1, y] if z + 1 < u.shape[2] else below[1, c, s, y]
    six = u.dtype.type(6)
    for x in range(last + 1):
        around = y_low[x] + y_high[x] + z_low[x] + z_high[x]
        line[x] = around - six * here[x]
    for x in range(1, last):
        line[x] += here[x - 1] + here[x + 1]
    line[0] += beside[0, c, s, z, y]
    line[last] += beside[1, c, s, z, y]
    if last > 0:
        line[0] += here[1]
        line[last] += here[last - 1]


@compiled
def diffuse(
    u: np.ndarray,
    beside: np.ndarray,
    before: np.ndarray,
    below: np.ndarray,
    k: np.ndarray,
    first: tuple[int, int, int],
    add: bool,
    out: np.ndarray,
    counts: tuple[int, int, int, int],
    steps: tuple[int, int, int, int],
) -> None:
    """out = or += k_c lap u of a box.

    Args:
        u, beside, before, below: see `laplacian`.
        first: sample and row (k, j) where the box begins.
        out, counts, steps: the box; see strips.Flat.
    """
    line, n = np.empty(u.shape[4], u.dtype), u.shape[4]
    for c in range(counts[0]):
        for s in range(counts[1]):
            for z in range(counts[2]):
                for y in range(counts[3]):
                    at = (c, first[0] + s, first[1] + z, first[2] + y)
                    laplacian(u, beside, before, below, at, line)
                    place = c * steps[0] + s * steps[1] + z * steps[2] + y * steps[3]
                    to = out[place : place + n]
                    if add:
                        for x in range(n):
                            to[x] += k[c] * line[x]
                    else:
                        for x in range(n):
                            to[x] = k[c] * line[x]


@compiled
def diffused(
    u: np.ndarray,
    beside: np.ndarray,
    before: np.ndarray,
    below: np.ndarray,
    first: tuple[int, int, int],
    other: np.ndarray,
    counts: tuple[int, int, int, int],
    steps: tuple[int, int, int, int],
    total: np.ndarray,
) -> None:
    """Adds <other, lap u> of a box to the total of its channel, in double precision. For arguments
    see `diffuse`."""
    line, n = np.empty(u.shape[4], u.dtype), u.shape[4]
    for c in range(counts[0]):
        for s in range(counts[1]):
            for z in range(counts[2]):
                for y in range(counts[3]):
                    at = (c, first[0] + s, first[1] + z, first[2] + y)
                    laplacian(u, beside, before, below, at, line)
                    place = c * steps[0] + s * steps[1] + z * steps[2] + y * steps[3]
                    with_line = other[place : place + n]
                    found = u.dtype.type(0)
                    for x in range(n):
                        found += with_line[x] * line[x]
                    total[c] += found

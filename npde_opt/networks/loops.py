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


Rows = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]
Four = tuple[int, int, int, int]


@compiled
def rows_around(u: np.ndarray, before: np.ndarray, below: np.ndarray, at: Four) -> Rows:
    """The row (c, s, k, j) of u [c, s, k, j, i], and the ones beside it along y and z; at the sides
    of axes around which nothing is given, the row itself.

    Args:
        before, below: the planes around at the lower side and the upper one of y and z:
            [2, c, s, k, i], [2, c, s, j, i], or nothing.
    """
    c, s, z, y = at
    here = u[c, s, z, y]
    y_low = y_high = z_low = z_high = here
    if y > 0:
        y_low = u[c, s, z, y - 1]
    elif len(before):
        y_low = before[0, c, s, z]
    if y + 1 < u.shape[3]:
        y_high = u[c, s, z, y + 1]
    elif len(before):
        y_high = before[1, c, s, z]
    if z > 0:
        z_low = u[c, s, z - 1, y]
    elif len(below):
        z_low = below[0, c, s, y]
    if z + 1 < u.shape[2]:
        z_high = u[c, s, z + 1, y]
    elif len(below):
        z_high = below[1, c, s, y]
    return here, y_low, y_high, z_low, z_high


@compiled
def at_ends(
    rows: Rows, beside: np.ndarray, at: Four
) -> tuple[np.floating, np.floating]:
    """lap u in the first and the last cell of a row; of one cell both are the same.

    Args:
        beside: what lies around at the lower side and the upper one of x, [2, c, s, k, j], or
            nothing, where that is the cell itself.
    """
    c, s, z, y = at
    here, y_low, y_high, z_low, z_high = rows
    six, last = here.dtype.type(6), len(here) - 1
    low, high = here[0], here[last]
    if len(beside):
        low, high = beside[0, c, s, z, y], beside[1, c, s, z, y]
    after = here[1] if last > 0 else high
    before = here[last - 1] if last > 0 else low
    first = low + after + y_low[0] + y_high[0] + z_low[0] + z_high[0] - six * here[0]
    around = y_low[last] + y_high[last] + z_low[last] + z_high[last]
    return first, before + high + around - six * here[last]


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
    counts: Four,
    steps: Four,
) -> None:
    """out = or += k_c lap u of a box.

    Args:
        u, beside, before, below: see `rows_around` and `at_ends`.
        first: sample and row (k, j) where the box begins.
        out, counts, steps: the box; see strips.Flat.
    """
    n, six = u.shape[4], u.dtype.type(6)
    for c in range(counts[0]):
        for s in range(counts[1]):
            for z in range(counts[2]):
                for y in range(counts[3]):
                    at = (c, first[0] + s, first[1] + z, first[2] + y)
                    rows = rows_around(u, before, below, at)
                    here, y_low, y_high, z_low, z_high = rows
                    place = c * steps[0] + s * steps[1] + z * steps[2] + y * steps[3]
                    to = out[place : place + n]
                    one, other = at_ends(rows, beside, at)
                    if add:
                        for x in range(1, n - 1):
                            lap = here[x - 1] + here[x + 1] - six * here[x]
                            lap += y_low[x] + y_high[x] + z_low[x] + z_high[x]
                            to[x] += k[c] * lap
                        one, other = to[0] + k[c] * one, to[n - 1] + k[c] * other
                    else:
                        for x in range(1, n - 1):
                            lap = here[x - 1] + here[x + 1] - six * here[x]
                            lap += y_low[x] + y_high[x] + z_low[x] + z_high[x]
                            to[x] = k[c] * lap
                        one, other = k[c] * one, k[c] * other
                    to[0], to[n - 1] = one, other


@compiled
def diffused(
    u: np.ndarray,
    beside: np.ndarray,
    before: np.ndarray,
    below: np.ndarray,
    k: np.ndarray,
    first: tuple[int, int, int],
    out: np.ndarray,
    steps: Four,
    other: np.ndarray,
    counts: Four,
    other_steps: Four,
    total: np.ndarray,
) -> None:
    """out += k_c lap u of a box, and <other, lap u> is added to the total of its channel, in double
    precision. For arguments see `diffuse`."""
    n, six = u.shape[4], u.dtype.type(6)
    for c in range(counts[0]):
        for s in range(counts[1]):
            for z in range(counts[2]):
                for y in range(counts[3]):
                    at = (c, first[0] + s, first[1] + z, first[2] + y)
                    rows = rows_around(u, before, below, at)
                    here, y_low, y_high, z_low, z_high = rows
                    place = c * steps[0] + s * steps[1] + z * steps[2] + y * steps[3]
                    to = out[place : place + n]
                    place = c * other_steps[0] + s * other_steps[1]
                    place += z * other_steps[2] + y * other_steps[3]
                    beside_it = other[place : place + n]
                    low, high = at_ends(rows, beside, at)
                    found = beside_it[0] * low
                    to[0] += k[c] * low
                    if n > 1:
                        found += beside_it[n - 1] * high
                        to[n - 1] += k[c] * high
                    for x in range(1, n - 1):
                        lap = here[x - 1] + here[x + 1] - six * here[x]
                        lap += y_low[x] + y_high[x] + z_low[x] + z_high[x]
                        found += beside_it[x] * lap
                        to[x] += k[c] * lap
                    total[c] += found

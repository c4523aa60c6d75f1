"""P^T A P of symmetric stencils on rows (rows.py), in compiled loops.

For two coarse rows J and K that are the same or neighbours, w the weights of P across rows and X
its part along x,

    (P^T A P)_JK = X^T (sum over fine rows i of J and j of K of w_iJ w_jK A_ij) X,

A_ij being tridiagonal: l, c and u are couplings to the cell before, at and after. Rows after J are
enough, the same coupling being seen from both ends.
"""

from __future__ import annotations

import numpy as np

from npde_opt.compiling import compiled
from npde_opt.linear.planes.geometry import (
    FRONT,
    LEFT,
    MOST,
    NX,
    OWN,
    PITCH,
    PLANE,
    WIDE,
    Along,
    Couples,
    Geometry,
)

ALONG_Y, ALONG_Z = (0, 1, -1, 0, 1), (0, 0, 1, 1, 1)
"""Steps along y and z from J to K; in 2-D the first two."""


@compiled
def coarsen(
    A: np.ndarray,
    d: np.ndarray,
    fine: Geometry,
    along: Along,
    y: Couples,
    z: Couples,
    B: np.ndarray,
    e: np.ndarray,
    below: Geometry,
    parts: np.ndarray,
) -> None:
    """B and e, couplings and diagonal of P^T A P at owned cells, from A and d.

    Args:
        parts [3, cells of a fine row and two]: work.
    """
    numbers, coarse, rows = fine[0], below[0], below[1]
    lines = y[0].shape[0]
    for k in range(z[0].shape[0]):
        for j in range(lines):
            row = FRONT + rows[k * lines + j] * coarse[PITCH]
            start = row + 1 + coarse[LEFT]
            stop = start + coarse[OWN]
            for n in range(5 if coarse[PLANE] else 2):
                dy, dz = ALONG_Y[n], ALONG_Z[n]
                _sum_pairs(A, d, numbers, y, z, j, k, dy, dz, parts)
                _wrap(parts, fine[3])
                if n == 0:
                    _halve_own(parts, along, e[start:stop], B[0, start:stop])
                else:
                    to = 1 + 3 * (n - 1) if n == 1 else 4 + 3 * (n - 2)
                    out = B[to : to + 3, start:stop]
                    _halve(parts, along, out[0], out[1], out[2])


@compiled
def _sum_pairs(
    A: np.ndarray,
    d: np.ndarray,
    numbers: np.ndarray,
    y: Couples,
    z: Couples,
    j: int,
    k: int,
    dy: int,
    dz: int,
    parts: np.ndarray,
) -> None:
    """l, c, u of the sum over all pairs of fine rows."""
    i_y, j_y, step_y, w_y = y
    i_z, j_z, step_z, w_z = z
    pitch, plane = numbers[PITCH], numbers[PLANE]
    parts[:] = 0
    for a in range(MOST):
        if w_z[k, dz, a] == 0:
            continue
        for b in range(MOST):
            w = w_z[k, dz, a] * w_y[j, dy, b]
            sy, sz = step_y[j, dy, b], step_z[k, dz, a]
            if w == 0 or (numbers[WIDE] == 0 and sy != 0 and sz != 0):
                continue
            i = FRONT + i_z[k, dz, a] * plane + i_y[j, dy, b] * pitch + 1
            other = FRONT + j_z[k, dz, a] * plane + j_y[j, dy, b] * pitch + 1
            if sy == 0 and sz == 0:
                _add_own(A, d, i, w, parts)
            elif sz > 0 or (sz == 0 and sy > 0):
                _add_after(A, numbers, i, sy, sz, w, parts)
            else:
                _add_before(A, numbers, other, -sy, -sz, w, parts)


@compiled
def _add_own(
    A: np.ndarray, d: np.ndarray, start: int, w: float, parts: np.ndarray
) -> None:
    """Of a row with itself."""
    count = parts.shape[1] - 2
    l, c, u = parts[0, 1:], parts[1, 1:], parts[2, 1:]
    own, after, before = d[start:], A[0, start:], A[0, start - 1 :]
    for i in range(count):
        l[i] += w * before[i]
        c[i] += w * own[i]
        u[i] += w * after[i]


@compiled
def _first_plane(numbers: np.ndarray, sy: int, sz: int) -> int:
    """Of couplings to rows after; of narrow stencils the only one."""
    if numbers[WIDE] == 0:
        return 1 if sz == 0 else 2
    return 1 if sz == 0 else 4 + 3 * (sy + 1)


@compiled
def _add_after(
    A: np.ndarray,
    numbers: np.ndarray,
    start: int,
    sy: int,
    sz: int,
    w: float,
    parts: np.ndarray,
) -> None:
    """Of a row with one after it."""
    count, o = numbers[NX], _first_plane(numbers, sy, sz)
    l, c, u = parts[0, 1:], parts[1, 1:], parts[2, 1:]
    p = A[o, start:]
    if numbers[WIDE] == 0:
        for i in range(count):
            c[i] += w * p[i]
        return
    q, r = A[o + 1, start:], A[o + 2, start:]
    for i in range(count):
        l[i] += w * p[i]
        c[i] += w * q[i]
        u[i] += w * r[i]


@compiled
def _add_before(
    A: np.ndarray,
    numbers: np.ndarray,
    start: int,
    sy: int,
    sz: int,
    w: float,
    parts: np.ndarray,
) -> None:
    """Of a row with one before it: the couplings from there, of cells to the one after for those
    to the one before."""
    count, o = numbers[NX], _first_plane(numbers, sy, sz)
    l, c, u = parts[0, 1:], parts[1, 1:], parts[2, 1:]
    if numbers[WIDE] == 0:
        p = A[o, start:]
        for i in range(count):
            c[i] += w * p[i]
        return
    p, q, r = A[o, start + 1 :], A[o + 1, start:], A[o + 2, start - 1 :]
    for i in range(count):
        l[i] += w * r[i]
        c[i] += w * q[i]
        u[i] += w * p[i]


@compiled
def _wrap(parts: np.ndarray, periodic: bool) -> None:
    """The cells before and behind a row."""
    last = parts.shape[1] - 1
    for k in range(3):
        row = parts[k]
        if periodic:
            row[0], row[last] = row[last - 1], row[1]


@compiled
def _halve_own(
    parts: np.ndarray, along: Along, here: np.ndarray, right: np.ndarray
) -> None:
    """X^T of a symmetric row X."""
    halved, first, lower, upper = along
    b, d = parts[1], parts[2]
    if not halved:
        for c in range(here.size):
            here[c], right[c] = b[c + first], d[c + first]
        return
    for c in range(here.size):
        i = 2 * c + first
        q, r, s = upper[c], lower[c + 1], upper[c + 1]
        after = r * b[i + 1]
        middle = q * (d[i - 1] + d[i - 1] + q * b[i - 1])
        here[c] = b[i] + middle + r * (d[i] + d[i] + after)
        right[c] = s * (d[i] + after) + r * d[i + 1]


@compiled
def _halve(
    parts: np.ndarray,
    along: Along,
    left: np.ndarray,
    here: np.ndarray,
    right: np.ndarray,
) -> None:
    """X^T of any row X."""
    halved, first, lower, upper = along
    a, b, d = parts[0], parts[1], parts[2]
    if not halved:
        for c in range(here.size):
            left[c], here[c], right[c] = a[c + first], b[c + first], d[c + first]
        return
    for c in range(here.size):
        i = 2 * c + first
        p, q, r, s = lower[c], upper[c], lower[c + 1], upper[c + 1]
        before, after = q * b[i - 1], r * b[i + 1]
        left[c] = p * (a[i] + before) + q * a[i - 1]
        middle = q * (a[i] + before + d[i - 1])
        here[c] = b[i] + middle + r * (d[i] + a[i + 1] + after)
        right[c] = s * (d[i] + after) + r * d[i + 1]


@compiled
def _largest(x: np.ndarray) -> float:
    """Of numbers, of which there is one at least."""
    found = x[0]
    for i in range(1, x.size):
        found = x[i] if x[i] > found else found
    return float(found)


@compiled
def finish(
    A: np.ndarray,
    d: np.ndarray,
    steps: np.ndarray,
    inverse: np.ndarray,
    geometry: Geometry,
    root: np.ndarray,
    work: np.ndarray,
    bounds: np.ndarray,
) -> None:
    """inverse = 1 / d, 1 where d is 0: nothing is coupled there; bounds = Gershgorin's of the
    eigenvalues of D^-1 A and of D^-1/2 A D^-1/2, which are the same eigenvalues. Coarse cells that
    reach few fine ones make the first large, but not the second.

    Args:
        d: with what lies outside.
        steps [o]: cells to a neighbour.
        root, work [4, cells of a row]: work, root as long as d.
    """
    numbers, rows = geometry[0], geometry[1]
    nx = numbers[NX]
    v, u, most, even = work[0], work[1], work[2], work[3]
    most[:], even[:] = 0, 0
    zero, one = A.dtype.type(0), A.dtype.type(1)
    for i in range(d.size):
        root[i] = one / np.sqrt(d[i]) if d[i] > 0 else zero
    for n in range(rows.size):
        start = FRONT + rows[n] * numbers[PITCH] + 1
        v[:], u[:] = 0, 0
        for o in range(A.shape[0]):
            a, b = A[o, start : start + nx], A[o, start - steps[o] :]
            p, q = root[start + steps[o] :], root[start - steps[o] :]
            for i in range(nx):
                after, before = abs(a[i]), abs(b[i])
                v[i] += after + before
                u[i] += after * p[i] + before * q[i]
        own, found = d[start : start + nx], inverse[start : start + nx]
        w = root[start : start + nx]
        for i in range(nx):
            found[i] = one / own[i] if own[i] != 0 else one
            size = found[i] * v[i]
            most[i] = size if size > most[i] else most[i]
            size = w[i] * u[i]
            even[i] = size if size > even[i] else even[i]
    bounds[0], bounds[1] = 1 + _largest(most), 1 + _largest(even)


@compiled
def take(
    centre: np.ndarray,
    couplings: tuple[np.ndarray, ...],
    before: np.ndarray,
    scale: float,
    A: np.ndarray,
    d: np.ndarray,
    inverse: np.ndarray,
    sums: np.ndarray,
    geometry: Geometry,
    work: np.ndarray,
) -> float:
    """The finest level from values in double precision, x fastest, times `scale`: A, d and
    1 / d as in `finish`, sums = A 1 formed in double; the bound of `finish`.

    Args:
        couplings: to the cells after along x, y, ..., 0 towards what lies outside.
        before [axis - 1, row]: the row before along y, z.
        work [3, cells of a row]: in double precision.
    """
    numbers, rows = geometry[0], geometry[1]
    nx = numbers[NX]
    total, size, most = work[0], work[1], work[2]
    most[:] = 0
    one = A.dtype.type(1)
    for n in range(rows.size):
        start = FRONT + rows[n] * numbers[PITCH] + 1
        given = centre[n * nx : (n + 1) * nx]
        e, out = couplings[0][n * nx : (n + 1) * nx], A[0, start : start + nx]
        total[0] = given[0] + e[0] + e[nx - 1]
        size[0] = abs(e[0]) + abs(e[nx - 1])
        for i in range(1, nx):
            total[i] = given[i] + e[i] + e[i - 1]
            size[i] = abs(e[i]) + abs(e[i - 1])
        for i in range(nx):
            out[i] = scale * e[i]
        for axis in range(1, len(couplings)):
            last = before[axis - 1, n]
            p = couplings[axis][n * nx : (n + 1) * nx]
            q = couplings[axis][last * nx : (last + 1) * nx]
            out = A[axis, start : start + nx]
            for i in range(nx):
                total[i] += p[i] + q[i]
                size[i] += abs(p[i]) + abs(q[i])
                out[i] = scale * p[i]
        own, found = d[start : start + nx], inverse[start : start + nx]
        left = sums[start : start + nx]
        for i in range(nx):
            own[i] = scale * given[i]
            found[i] = one / own[i] if own[i] != 0 else one
            left[i] = scale * total[i]
            bound = scale * size[i] * found[i]
            most[i] = bound if bound > most[i] else most[i]
    return float(1 + _largest(most))

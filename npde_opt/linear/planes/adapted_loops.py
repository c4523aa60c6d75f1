"""P, P^T A P, P^T r and P e on levels that keep some cells of every axis, with black-box weights,
in compiled loops.

A field is one array of cells [k, j, i], x fastest, with a layer of ghosts along every axis (in 2-D
none along z); a stencil [o, cell] has all neighbours. A cell that an axis takes out lies between
two that it keeps. P takes a cell that is kept along every axis from the coarse cell itself. One
that is taken out along some axes, D, is taken from its neighbours along these, each known before: A
is summed along the other axes, where e is taken to be constant, so that

    e_p = -(sum over q other than p of a_q e_q) / a_p,
    a_q = sum of A[p, r] over r next to p with r_D = q_D.

Weights [s, cell] are those of the coarse cells before (bit 0) and behind (bit 1) by axis. A
reference: J. E. Dendy, Black box multigrid, J. Comput. Phys. 48 (1982).
"""

from __future__ import annotations

import numpy as np

from npde_opt.compiling import compiled

AROUND = 27
"""Neighbours of a cell, with itself; of offset (x, y, z) the number x + 3 y + 9 z + HERE."""
HERE = 13
ALONE = 1e-12
"""Of a diagonal: couplings along an axis below are none."""

NX, NY, NZ, PAD_Z, PITCH, PLANE = range(6)
"""Cells by axis; layers of ghosts along z; cells from a row to the next, and from a plane to the
next."""


@compiled
def _collapsed(
    A: np.ndarray, offsets: np.ndarray, c: int, goes: np.ndarray, a: np.ndarray
) -> None:
    """-a_q by neighbour, and a_p at HERE."""
    a[:] = 0
    for o in range(offsets.shape[0]):
        q = HERE
        unit = 1
        for d in range(3):
            q += unit * offsets[o, d] * goes[d]
            unit *= 3
        a[q] += A[o, c] if q == HERE else -A[o, c]


@compiled
def _interpolate(
    a: np.ndarray, c: int, goes: np.ndarray, steps: np.ndarray, weights: np.ndarray
) -> None:
    """Weights of a cell from those of its neighbours."""
    total, axes = 0.0, goes.sum()
    for q in range(AROUND):
        if q != HERE:
            if axes == 1:
                a[q] = max(a[q], 0.0)
            total += a[q]
    whole = max(a[HERE], total)
    for q in range(AROUND):
        if q == HERE or a[q] == 0:
            continue
        share, to, fixed, behind, rest = a[q] / whole, c, 0, 0, q
        for d in range(3):
            step = rest % 3 - 1
            rest //= 3
            to += step * steps[d]
            if step != 0:
                fixed |= 1 << d
            if step > 0:
                behind |= 1 << d
        for s in range(weights.shape[0]):
            if s & fixed == 0 and weights[s, to] != 0:
                weights[s | behind, c] += share * weights[s, to]


@compiled
def interpolation(
    A: np.ndarray,
    offsets: np.ndarray,
    out: np.ndarray,
    numbers: np.ndarray,
    taken: int,
    weights: np.ndarray,
) -> None:
    """Weights of the cells that as many axes as `taken` take out; those of fewer are there.

    Args:
        offsets [o, 3]: of the stencil.
        out [3, cell + 1]: whether an axis takes a cell out.
    """
    steps = np.array([1, numbers[PITCH], numbers[PLANE]])
    goes, a = np.zeros(3, np.int64), np.zeros(AROUND)
    centre = 0
    for o in range(offsets.shape[0]):
        if not offsets[o].any():
            centre = o
    for k in range(numbers[NZ]):
        goes[2] = out[2, k + 1]
        for j in range(numbers[NY]):
            goes[1] = out[1, j + 1]
            first = (k + numbers[PAD_Z]) * steps[2] + (j + 1) * steps[1] + 1
            for i in range(numbers[NX]):
                goes[0] = out[0, i + 1]
                if goes.sum() != taken:
                    continue
                c = first + i
                if taken == 0:
                    weights[0, c] = 1
                    continue
                if A[centre, c] == 0:
                    continue
                _collapsed(A, offsets, c, goes, a)
                if (
                    taken == 1
                    and max(a[HERE], a.sum() - a[HERE]) <= ALONE * A[centre, c]
                ):
                    weights[0, c] = 0.5
                    weights[goes[0] + 2 * goes[1] + 4 * goes[2], c] = 0.5
                    continue
                _interpolate(a, c, goes, steps, weights)


@compiled
def coarsen(
    A: np.ndarray,
    offsets: np.ndarray,
    weights: np.ndarray,
    parent: np.ndarray,
    numbers: np.ndarray,
    own: np.ndarray,
    coarse: np.ndarray,
    B: np.ndarray,
) -> None:
    """B = P^T A P.

    Args:
        parent [3, cell + 1]: by axis the coarse cell at or before a cell, + 1, for ghosts, too; it
            goes on past the ends of periodic axes.
        own [3, coarse cell + 1]: the coarse cell that one past the ends is.
        coarse: numbers of the coarse level.
        B: [27, coarse cell].
    """
    parents = weights.shape[0]
    for k in range(numbers[NZ]):
        for j in range(numbers[NY]):
            row = (k + numbers[PAD_Z]) * numbers[PLANE] + (j + 1) * numbers[PITCH] + 1
            for i in range(numbers[NX]):
                q = row + i
                for s in range(parents):
                    w = weights[s, q]
                    if w == 0:
                        continue
                    x = parent[0, i + 1] + (s & 1)
                    y = parent[1, j + 1] + (s >> 1 & 1)
                    z = parent[2, k + 1] + (s >> 2)
                    to = own[0, x] + own[1, y] * coarse[PITCH]
                    to += (own[2, z] - 1 + coarse[PAD_Z]) * coarse[PLANE]
                    for o in range(offsets.shape[0]):
                        a = w * A[o, q]
                        if a == 0:
                            continue
                        dx, dy, dz = offsets[o, 0], offsets[o, 1], offsets[o, 2]
                        f = q + dx + dy * numbers[PITCH] + dz * numbers[PLANE]
                        place = HERE + parent[0, i + 1 + dx] - x
                        place += 3 * (parent[1, j + 1 + dy] - y)
                        place += 9 * (parent[2, k + 1 + dz] - z)
                        for t in range(parents):
                            u = weights[t, f]
                            if u != 0:
                                at = place + (t & 1) + 3 * (t >> 1 & 1) + 9 * (t >> 2)
                                B[at, to] += a * u


@compiled
def _coarse_row(s: int, j: int, k: int, parent: np.ndarray, coarse: np.ndarray) -> int:
    """The ghost before the row of coarse cells that weights s and s + 1 of a row go to."""
    y, z = parent[1, j + 1] + (s >> 1 & 1), parent[2, k + 1] + (s >> 2)
    first: int = (z + coarse[PAD_Z] - 1) * coarse[PLANE] + y * coarse[PITCH]
    return first


@compiled
def restrict(
    r: np.ndarray,
    weights: np.ndarray,
    parent: np.ndarray,
    numbers: np.ndarray,
    coarse: np.ndarray,
    out: np.ndarray,
) -> None:
    """out += P^T r; ghosts of `out` get what is theirs."""
    nx = numbers[NX]
    for k in range(numbers[NZ]):
        for j in range(numbers[NY]):
            row = (k + numbers[PAD_Z]) * numbers[PLANE] + (j + 1) * numbers[PITCH] + 1
            given = r[row : row + nx]
            for s in range(0, weights.shape[0], 2):
                first = _coarse_row(s, j, k, parent, coarse)
                w, v = weights[s, row : row + nx], weights[s + 1, row : row + nx]
                for i in range(nx):
                    at = first + parent[0, i + 1]
                    out[at] += w[i] * given[i]
                    out[at + 1] += v[i] * given[i]


@compiled
def prolong(
    e: np.ndarray,
    weights: np.ndarray,
    parent: np.ndarray,
    numbers: np.ndarray,
    coarse: np.ndarray,
    x: np.ndarray,
) -> None:
    """x += P e; ghosts of e are there."""
    nx = numbers[NX]
    for k in range(numbers[NZ]):
        for j in range(numbers[NY]):
            row = (k + numbers[PAD_Z]) * numbers[PLANE] + (j + 1) * numbers[PITCH] + 1
            found = x[row : row + nx]
            for s in range(0, weights.shape[0], 2):
                first = _coarse_row(s, j, k, parent, coarse)
                w, v = weights[s, row : row + nx], weights[s + 1, row : row + nx]
                for i in range(nx):
                    at = first + parent[0, i + 1]
                    found[i] += w[i] * e[at] + v[i] * e[at + 1]

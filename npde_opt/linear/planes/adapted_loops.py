"""P^T A P, P^T r and P e where P takes out some cells of one axis, with weights that differ from
cell to cell, in compiled loops.

Fields are [outer, along, inner], the axis in the middle; planes of a matrix are
[step along, others, along, across], where `across` numbers the cells across the axis. A cell p that
is taken out lies between two that are kept, and takes l_p of the one before and u_p of the one
after; l and u of kept cells are not read.
"""

from __future__ import annotations

import numpy as np

from npde_opt.compiling import compiled


@compiled
def _add(
    out: np.ndarray,
    row: np.ndarray,
    a: np.ndarray,
    column: np.ndarray,
    beside: np.ndarray,
) -> None:
    """out += row weights times couplings times weights of the columns."""
    for m in range(out.size):
        out[m] += row[m] * a[m] * column[beside[m]]


@compiled
def coarsen(
    A: np.ndarray,
    there: np.ndarray,
    lower: np.ndarray,
    upper: np.ndarray,
    kept: np.ndarray,
    beside: np.ndarray,
    periodic: bool,
    B: np.ndarray,
) -> None:
    """B = P^T A P.

    Args:
        A, B: [step -1, 0, 1, others, along, across].
        there [step, others]: which planes of A are not zero.
        kept: numbers of the cells that are kept, in order, the first among them.
        beside [others, across]: cells across to which the others lead; any where nothing does.
    """
    n = A.shape[2]
    ones, out = np.ones(A.shape[3]), np.zeros(n, np.bool_)
    out[:] = True
    for c in range(kept.size):
        out[kept[c]] = False
    for c in range(kept.size):
        p = kept[c]
        for side in range(-1, 2):
            q = p + side
            if not periodic and (q < 0 or q >= n):
                continue
            if side != 0 and not out[q % n]:
                continue
            row = ones if side == 0 else (upper[q % n] if side < 0 else lower[q % n])
            for s in range(-1, 2):
                f = q + s
                if not periodic and (f < 0 or f >= n):
                    continue
                for k in range(A.shape[1]):
                    if not there[s + 1, k]:
                        continue
                    a = A[s + 1, k, q % n]
                    if not out[f % n]:
                        to = (f > p) - (f < p)
                        _add(B[to + 1, k, c], row, a, ones, beside[k])
                        continue
                    to = (f - 1 > p) - (f - 1 < p)
                    _add(B[to + 1, k, c], row, a, lower[f % n], beside[k])
                    if periodic or f + 1 < n:
                        to = (f + 1 > p) - (f + 1 < p)
                        _add(B[to + 1, k, c], row, a, upper[f % n], beside[k])


@compiled
def restrict(
    r: np.ndarray,
    lower: np.ndarray,
    upper: np.ndarray,
    kept: np.ndarray,
    periodic: bool,
    out: np.ndarray,
) -> None:
    """out = P^T r."""
    n, last = r.shape[1], kept.size - 1
    for o in range(r.shape[0]):
        for c in range(kept.size):
            p = kept[c]
            y = out[o, c]
            x = r[o, p]
            for i in range(y.size):
                y[i] = x[i]
            end = kept[c + 1] if c < last else (kept[0] + n if periodic else n)
            if end > p + 1:
                x, w = r[o, p + 1], lower[o, p + 1]
                for i in range(y.size):
                    y[i] += w[i] * x[i]
            begin = kept[c - 1] if c else (kept[last] - n if periodic else p - 1)
            if begin < p - 1:
                x, w = r[o, (p - 1) % n], upper[o, (p - 1) % n]
                for i in range(y.size):
                    y[i] += w[i] * x[i]


@compiled
def prolong(
    e: np.ndarray,
    lower: np.ndarray,
    upper: np.ndarray,
    kept: np.ndarray,
    periodic: bool,
    out: np.ndarray,
) -> None:
    """out = P e."""
    n, last = out.shape[1], kept.size - 1
    for o in range(out.shape[0]):
        for c in range(kept.size):
            p = kept[c]
            x, y = e[o, c], out[o, p]
            for i in range(y.size):
                y[i] = x[i]
            end = kept[c + 1] if c < last else (kept[0] + n if periodic else n)
            if end <= p + 1:
                continue
            q = p + 1
            z, l, u = out[o, q], lower[o, q], upper[o, q]
            if c < last or periodic:
                x_after = e[o, c + 1 if c < last else 0]
                for i in range(z.size):
                    z[i] = l[i] * x[i] + u[i] * x_after[i]
            else:
                for i in range(z.size):
                    z[i] = l[i] * x[i]

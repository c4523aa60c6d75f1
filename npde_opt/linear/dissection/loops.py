"""A = L D L^T of a box's stencil, and A x = b by it, in compiled loops (see plan.py).

The eight parts are eliminated at once, a lane each: entries are [.., lane], and a loop over L is
one over the pattern that all parts have. What they leave on the separators,

    S = A_SS - sum over parts of A_SP A_PP^-1 A_PS,

goes into dense fronts, one a separator, after nested dissection: the columns of its own p cells,
with rows for these and for the cells around that come later, m in all; once its own cells are
eliminated, the rest is added to the front that comes after it. Columns of fronts begin where
vectors of eight do, and are 0 above the diagonal and on it.

Arguments of `factor` and `solve`:

    values                of A, and 0 and 1 behind them
    starts, rows          the pattern of L in the parts, by column
    begins, row, source   that of A there, with places in `values` [., lane]
    L, inverse, rest      of the parts: L, 1 / D, and what is left [column, row, lane]
    parents, into         the front of each lane, and places there [., lane], -1 for none
    fronts                [front, column]: see below
    numbers, maps         separators' cells by front and row, and the places of those around in the
                          next front
    places, sources       of A in the fronts, and in `values`
    F, pivots             of the fronts: L, and 1 / D
    cells, order, around  unknowns of the parts' cells [., lane] and of the separators, and which of
                          these are around the parts [., lane]; the first beyond for none
    w, t, u               work: for the parts, what is around and one more, the separators and one
                          more, and the largest front behind a vector for factors
    links                 work: [3, column of the parts]
"""

from __future__ import annotations

import numpy as np

from npde_opt.compiling import compiled
from npde_opt.linear.dissection.lanes import LANES, less, minus, minus_columns, sums

P, M, AT, ROWS, PARENT, MAP = range(6)
"""Columns of `fronts`: own cells; with those around; the vector where it begins; where its numbers
begin, which front comes next, and where the places there begin."""
LEAST = 1e-300
"""Of a pivot (see linear/direct.py)."""


@compiled
def pattern(
    starts: np.ndarray,
    after: np.ndarray,
    seen: np.ndarray,
    links: np.ndarray,
    begins: np.ndarray,
    rows: np.ndarray,
) -> int:
    """Rows of L below the diagonal by column, each in ascending order: their number, or -1 where
    there is no room for them.

    Args:
        starts, after: the unknowns behind each that A couples it to, by column.
        seen, links: work, one an unknown, two a column.
        begins, rows: get what is found.
    """
    first, following = links[0], links[1]
    count, n = begins.size - 1, 0
    begins[0] = 0
    seen[:] = -1
    links[:] = -1
    for j in range(count):
        if n + seen.size > rows.size:
            return -1
        for e in range(starts[j], starts[j + 1]):
            n = _add(after[e], j, seen, rows, n)
        # The columns whose first row is this one.
        child = first[j]
        while child >= 0:
            for e in range(begins[child], begins[child + 1]):
                if rows[e] != j:
                    n = _add(rows[e], j, seen, rows, n)
            child = following[child]
        begins[j + 1] = n
        _sort(rows, begins[j], n)
        if begins[j] < n and rows[begins[j]] < count:
            parent = rows[begins[j]]
            following[j] = first[parent]
            first[parent] = j
    return n


@compiled
def _add(i: int, j: int, seen: np.ndarray, rows: np.ndarray, n: int) -> int:
    """A row of column j, once."""
    if seen[i] == j:
        return n
    seen[i] = j
    rows[n] = i
    return n + 1


@compiled
def _sort(rows: np.ndarray, begin: int, end: int) -> None:
    """By insertion: they are few, and in long stretches in order."""
    for e in range(begin + 1, end):
        own, at = rows[e], e
        while at > begin and rows[at - 1] > own:
            rows[at] = rows[at - 1]
            at -= 1
        rows[at] = own


@compiled
def factor(
    values: np.ndarray,
    starts: np.ndarray,
    rows: np.ndarray,
    begins: np.ndarray,
    row: np.ndarray,
    source: np.ndarray,
    L: np.ndarray,
    inverse: np.ndarray,
    rest: np.ndarray,
    parents: np.ndarray,
    into: np.ndarray,
    fronts: np.ndarray,
    maps: np.ndarray,
    places: np.ndarray,
    sources: np.ndarray,
    F: np.ndarray,
    pivots: np.ndarray,
    w: np.ndarray,
    u: np.ndarray,
    links: np.ndarray,
) -> int:
    """1 where all pivots are positive, else 0."""
    given = begins, row, source
    if not _factor_parts(values, starts, rows, given, L, inverse, rest, w, links):
        return 0
    F[:] = 0.0
    for e in range(places.size):
        F[places[e]] += values[sources[e]]
    for lane in range(LANES):
        _add_part(rest, into, lane, F, fronts[parents[lane]])
    done = 0
    for f in range(fronts.shape[0]):
        p, m, at = fronts[f, P], fronts[f, M], LANES * fronts[f, AT]
        if not _eliminate(F, at, p, m, pivots, done, u):
            return 0
        done += p
        if fronts[f, PARENT] >= 0:
            _add_front(F, fronts[f], maps, fronts[fronts[f, PARENT]])
    for k in range(done):
        pivots[k] = 1 / pivots[k]
    return 1


@compiled
def _factor_parts(
    values: np.ndarray,
    starts: np.ndarray,
    rows: np.ndarray,
    entries: tuple[np.ndarray, np.ndarray, np.ndarray],
    L: np.ndarray,
    inverse: np.ndarray,
    rest: np.ndarray,
    work: np.ndarray,
    links: np.ndarray,
) -> bool:
    """Column by column: each takes what those before it give, which are linked by the next row
    that they have. The last row of `work` is for factors."""
    begins, row, source = entries
    head, following, at = links[0], links[1], links[2]
    count, size, f = starts.size - 1, begins.size - 1, work.shape[0] - 1
    work[:] = 0.0
    head[:] = -1
    good = True
    for k in range(size):
        for e in range(begins[k], begins[k + 1]):
            for lane in range(LANES):
                work[row[e], lane] += values[source[e, lane]]
        j = head[k]
        while j >= 0:
            e, end, onward = at[j], starts[j + 1], following[j]
            for lane in range(LANES):
                work[f, lane] = L[e, lane] * inverse[j, lane]
            minus(work, rows, L, e, end, work, f)
            if e + 1 < end:
                _link(j, e + 1, rows, head, following, at)
            j = onward
        if k < count:
            for lane in range(LANES):
                pivot = work[k, lane]
                good = good and LEAST < pivot < np.inf
                inverse[k, lane] = pivot
                work[k, lane] = 0.0
                work[f, lane] = 1 / pivot
            for e in range(starts[k], starts[k + 1]):
                for lane in range(LANES):
                    L[e, lane] = work[rows[e], lane] * work[f, lane]
                    work[rows[e], lane] = 0.0
            if starts[k] < starts[k + 1]:
                _link(k, starts[k], rows, head, following, at)
        else:
            for i in range(k, size):
                for lane in range(LANES):
                    rest[k - count, i - count, lane] = work[i, lane]
                    work[i, lane] = 0.0
    for k in range(count):
        for lane in range(LANES):
            inverse[k, lane] = 1 / inverse[k, lane]
    return good


@compiled
def _link(
    j: int,
    e: int,
    rows: np.ndarray,
    head: np.ndarray,
    following: np.ndarray,
    at: np.ndarray,
) -> None:
    """Column j waits for that of its entry e."""
    at[j] = e
    following[j] = head[rows[e]]
    head[rows[e]] = j


@compiled
def width(m: int) -> int:
    """Vectors that hold the rows of a front."""
    return (m + LANES - 1) // LANES


@compiled
def _add_part(
    rest: np.ndarray, into: np.ndarray, lane: int, F: np.ndarray, front: np.ndarray
) -> None:
    """What a part leaves."""
    begin, wide = LANES * front[AT], LANES * width(front[M])
    for a in range(rest.shape[0]):
        i = into[a, lane]
        if i < 0:
            continue
        F[begin + i * wide + i] += rest[a, a, lane]
        for b in range(a + 1, rest.shape[0]):
            j = into[b, lane]
            if j < 0:
                continue
            # Across a seam one cell may be at both ends.
            found = 2.0 * rest[a, b, lane] if i == j else rest[a, b, lane]
            F[begin + min(i, j) * wide + max(i, j)] += found


@compiled
def _add_front(
    F: np.ndarray, front: np.ndarray, maps: np.ndarray, upper: np.ndarray
) -> None:
    """What a front leaves to the next."""
    p, m = front[P], front[M]
    begin, step, first = LANES * front[AT], LANES * width(m), front[MAP] - p
    to, wide = LANES * upper[AT], LANES * width(upper[M])
    for a in range(p, m):
        i = maps[first + a]
        for b in range(a, m):
            j = maps[first + b]
            F[to + min(i, j) * wide + max(i, j)] += F[begin + a * step + b]


@compiled
def _eliminate(
    F: np.ndarray,
    at: int,
    p: int,
    m: int,
    pivots: np.ndarray,
    done: int,
    f: np.ndarray,
) -> bool:
    """The first p columns of L, and the others less what those take from them, by four columns at a
    time; whether all pivots are positive."""
    step, good = width(m), True
    wide, begin = LANES * step, at // LANES
    for k in range(m):
        first, last, own = k // LANES, min(k, p), at + k * wide
        for j in range(0, last, 4):
            for c in range(4):
                f[c] = 0.0
            for c in range(min(4, last - j)):
                f[c] = F[at + (j + c) * wide + k] * pivots[done + j + c]
            columns = begin + k * step, begin + j * step
            minus_columns(F, columns[0], F, columns[1], step, first, step, f)
        if k < p:
            pivot = F[own + k]
            good = good and LEAST < pivot < np.inf
            pivots[done + k] = pivot
            for i in range(LANES * first, k + 1):
                F[own + i] = 0.0
            for i in range(k + 1, wide):
                F[own + i] *= 1 / pivot
    return good


@compiled
def solve(
    starts: np.ndarray,
    rows: np.ndarray,
    L: np.ndarray,
    inverse: np.ndarray,
    fronts: np.ndarray,
    numbers: np.ndarray,
    F: np.ndarray,
    pivots: np.ndarray,
    cells: np.ndarray,
    order: np.ndarray,
    around: np.ndarray,
    w: np.ndarray,
    t: np.ndarray,
    u: np.ndarray,
    b: np.ndarray,
    x: np.ndarray,
) -> None:
    """x of A x = b; both may be one array."""
    count, size = cells.shape[0], b.size
    for i in range(count):
        for lane in range(LANES):
            n = cells[i, lane]
            w[i, lane] = b[n] if n < size else 0.0
    for i in range(count, count + around.shape[0]):
        for lane in range(LANES):
            w[i, lane] = 0.0
    for i in range(order.size):
        n = order[i]
        t[i] = b[n] if n < size else 0.0
    for j in range(count):
        minus(w, rows, L, starts[j], starts[j + 1], w, j)
    for i in range(around.shape[0]):
        for lane in range(LANES):
            t[around[i, lane]] += w[count + i, lane]
    _solve_fronts(fronts, numbers, F, pivots, t, u)
    t[order.size] = 0.0
    for i in range(around.shape[0]):
        for lane in range(LANES):
            w[count + i, lane] = t[around[i, lane]]
    for j in range(count - 1, -1, -1):
        less(w, rows, L, starts[j], starts[j + 1], inverse, j)
    for i in range(count):
        for lane in range(LANES):
            n = cells[i, lane]
            if n < size:
                x[n] = w[i, lane]
    for i in range(order.size):
        n = order[i]
        if n < size:
            x[n] = t[i]


@compiled
def _solve_fronts(
    fronts: np.ndarray,
    numbers: np.ndarray,
    F: np.ndarray,
    inverse: np.ndarray,
    t: np.ndarray,
    work: np.ndarray,
) -> None:
    """t := (L D L^T)^-1 t of the separators."""
    f, u = work[:LANES], work[LANES:]
    done = 0
    for n in range(fronts.shape[0]):
        p, m, at, first = fronts[n, P], fronts[n, M], fronts[n, AT], fronts[n, ROWS]
        _gather(t, numbers, first, m, u)
        _forward(F, LANES * at, p, m, u, f)
        for j in range(p):
            t[numbers[first + j]] = u[j] * inverse[done + j]
        for i in range(p, m):
            t[numbers[first + i]] = u[i]
        done += p
    for n in range(fronts.shape[0] - 1, -1, -1):
        p, m, at, first = fronts[n, P], fronts[n, M], fronts[n, AT], fronts[n, ROWS]
        _gather(t, numbers, first, m, u)
        _backward(F, LANES * at, p, m, u, f)
        for j in range(p):
            t[numbers[first + j]] = u[j]


@compiled
def _gather(
    t: np.ndarray, numbers: np.ndarray, first: int, m: int, u: np.ndarray
) -> None:
    """The rows of a front, and 0 up to the end of a vector."""
    for i in range(m):
        u[i] = t[numbers[first + i]]
    for i in range(m, LANES * width(m)):
        u[i] = 0.0


@compiled
def _forward(
    F: np.ndarray, at: int, p: int, m: int, u: np.ndarray, f: np.ndarray
) -> None:
    """u := L^-1 u, four columns at a time."""
    step, wide = width(m), LANES * width(m)
    for j in range(0, p, 4):
        count, column = min(4, p - j), at + j * wide
        for c in range(count):
            f[c] = u[j + c]
            for e in range(c):
                f[c] -= f[e] * F[column + e * wide + j + c]
        for c in range(count, 4):
            f[c] = 0.0
        minus_columns(u, 0, F, column // LANES, step, j // LANES, step, f)


@compiled
def _backward(
    F: np.ndarray, at: int, p: int, m: int, u: np.ndarray, f: np.ndarray
) -> None:
    """u := L^-T u."""
    step, wide = width(m), LANES * width(m)
    for j in range((p - 1) // 4 * 4, -1, -4):
        count, column = min(4, p - j), at + j * wide
        for i in range(count):
            f[4 + i] = u[j + i]
            u[j + i] = 0.0
        sums(u, F, column // LANES, step, j // LANES, step, f)
        for i in range(count - 1, -1, -1):
            found = f[4 + i] - f[i]
            for e in range(i + 1, count):
                found -= u[j + e] * F[column + i * wide + j + e]
            u[j + i] = found

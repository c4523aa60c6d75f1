"""Loops over symmetric stencils on rows of cells, compiled by numba and kept on disk.

A field is an array [row, x]: row 0 is always zero, the others are the grid's rows along x, each
with a cell before its first and one behind its last, which are zero or, where x is periodic, those
at the other end. A stencil is one array [o, row, x] of couplings A[i, i + o] for the centre o = 0
and the half of its other offsets; the other half are the same values seen from the other side.

`ahead` and `behind` [row, o] are the rows that a row is coupled to by o and -o, 0 for none, and
`shift` [o] is the step along x.
"""

from __future__ import annotations

import numpy as np

from npde_opt.compiling import compiled

Tables = tuple[np.ndarray, np.ndarray, np.ndarray]
"""ahead, behind and shift."""
Related = tuple[np.ndarray, np.ndarray]
"""Rows [row, ...] that a row is a sum of, and their weights."""
Along = tuple[bool, np.ndarray, np.ndarray]
"""Whether x is halved, with l_r and u_r for r = -1, 0, ... (see halving.py)."""

Number = float | np.floating
Factors = tuple[Number, Number, Number]
"""Of the residual in the first step of Chebyshev's recursion; of the step before and of the
residual in the second."""


@compiled
def _beside(
    A: np.ndarray,
    ahead: np.ndarray,
    behind: np.ndarray,
    shift: np.ndarray,
    x: np.ndarray,
    row: int,
    v: np.ndarray,
) -> None:
    """v = sum over o other than 0 of A[i, i + o] x[i + o] + A[i, i - o] x[i - o] in a row."""
    m = v.size
    v[:] = 0
    for o in range(1, shift.size):
        up, down, s = ahead[row, o], behind[row, o], shift[o]
        a = A[o, row, 1 : m + 1]
        xa = x[up, 1 + s : m + 1 + s]
        b = A[o, down, 1 - s : m + 1 - s]
        xb = x[down, 1 - s : m + 1 - s]
        for i in range(m):
            v[i] += a[i] * xa[i] + b[i] * xb[i]


@compiled
def wrap(x: np.ndarray, row: int) -> None:
    """The cells before and behind a row are those at its other end."""
    last = x.shape[1] - 2
    x[row, 0] = x[row, last]
    x[row, last + 1] = x[row, 1]


@compiled
def _scaled(
    inverse: np.ndarray,
    b: np.ndarray,
    factor: Number,
    x: np.ndarray,
    first: int,
    last: int,
    periodic: bool,
) -> None:
    """x = factor D^-1 b in rows from `first` to before `last`."""
    m = b.shape[1] - 2
    for row in range(first, last):
        d = inverse[row, 1 : m + 1]
        f = b[row, 1 : m + 1]
        y = x[row, 1 : m + 1]
        for i in range(m):
            y[i] = factor * d[i] * f[i]
        if periodic:
            wrap(x, row)


@compiled
def _relax(
    A: np.ndarray,
    inverse: np.ndarray,
    tables: Tables,
    b: np.ndarray,
    x: np.ndarray,
    before: np.ndarray,
    out: np.ndarray,
    g: Number,
    a: Number,
    c: Number,
    v: np.ndarray,
    first: int,
    last: int,
    periodic: bool,
) -> None:
    """out = g x - a before + c D^-1 (b - A x); `out` may be `before`."""
    ahead, behind, shift = tables
    m = b.shape[1] - 2
    for row in range(first, last):
        _beside(A, ahead, behind, shift, x, row, v)
        d = A[0, row, 1 : m + 1]
        e = inverse[row, 1 : m + 1]
        f = b[row, 1 : m + 1]
        y = x[row, 1 : m + 1]
        z = before[row, 1 : m + 1]
        o = out[row, 1 : m + 1]
        for i in range(m):
            o[i] = g * y[i] - a * z[i] + c * e[i] * (f[i] - d[i] * y[i] - v[i])
        if periodic:
            wrap(out, row)


@compiled
def _residual(
    A: np.ndarray,
    tables: Tables,
    b: np.ndarray,
    x: np.ndarray,
    out: np.ndarray,
    v: np.ndarray,
    first: int,
    last: int,
    periodic: bool,
) -> None:
    """out = b - A x"""
    ahead, behind, shift = tables
    m = b.shape[1] - 2
    for row in range(first, last):
        _beside(A, ahead, behind, shift, x, row, v)
        d = A[0, row, 1 : m + 1]
        f = b[row, 1 : m + 1]
        y = x[row, 1 : m + 1]
        o = out[row, 1 : m + 1]
        for i in range(m):
            o[i] = f[i] - d[i] * y[i] - v[i]
        if periodic:
            wrap(out, row)


@compiled
def _part(first: int, lag: int, band: int, rows: int) -> tuple[int, int]:
    """The rows of a band that starts at `first`, of a sweep that is `lag` rows behind."""
    return max(first - lag, 1), max(min(first + band - lag, rows), 1)


@compiled
def smooth_from_zero(
    A: np.ndarray,
    inverse: np.ndarray,
    tables: Tables,
    b: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
    r: np.ndarray,
    factors: Factors,
    reach: int,
    band: int,
    periodic: bool,
) -> None:
    """x = q(D^-1 A) D^-1 b and r = b - A x; y is overwritten. All sweeps go over a band of rows,
    each `reach` rows behind the one before, while the rows are in the cache."""
    begin, a, c = factors
    rows = b.shape[0]
    v = np.empty(b.shape[1] - 2, b.dtype)
    zero = b.dtype.type(0)
    one = b.dtype.type(1)
    first = 1
    while first - 2 * reach < rows:
        low, high = _part(first, 0, band, rows)
        _scaled(inverse, b, begin, y, low, high, periodic)
        low, high = _part(first, reach, band, rows)
        _relax(A, inverse, tables, b, y, y, x, one + a, zero, c, v, low, high, periodic)
        low, high = _part(first, 2 * reach, band, rows)
        _residual(A, tables, b, x, r, v, low, high, periodic)
        first += band


@compiled
def correct_and_smooth(
    A: np.ndarray,
    inverse: np.ndarray,
    tables: Tables,
    b: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
    e: np.ndarray,
    parents: Related,
    along: Along,
    factors: Factors,
    reach: int,
    band: int,
    periodic: bool,
) -> None:
    """x := x + P e, x := x + q(D^-1 A) D^-1 (b - A x); y is overwritten."""
    begin, a, c = factors
    rows = b.shape[0]
    v = np.empty(b.shape[1] - 2, b.dtype)
    zero = b.dtype.type(0)
    one = b.dtype.type(1)
    first = 1
    while first - 2 * reach < rows:
        low, high = _part(first, 0, band, rows)
        _prolong(e, parents, along, x, low, high, periodic)
        low, high = _part(first, reach, band, rows)
        _relax(A, inverse, tables, b, x, x, y, one, zero, begin, v, low, high, periodic)
        low, high = _part(first, 2 * reach, band, rows)
        _relax(A, inverse, tables, b, y, x, x, one + a, a, c, v, low, high, periodic)
        first += band


@compiled
def _sum_of_rows(
    x: np.ndarray, rows: np.ndarray, weights: np.ndarray, row: int, line: np.ndarray
) -> None:
    """line = sum of the rows of x that a row stands in relation to."""
    line[:] = 0
    for k in range(rows.shape[1]):
        w = weights[row, k]
        if w != 0:
            y = x[rows[row, k]]
            for i in range(line.size):
                line[i] += w * y[i]


@compiled
def restrict(r: np.ndarray, children: Related, along: Along, out: np.ndarray) -> None:
    """out = P^T r: rows of r with their weights, then along x where it is halved."""
    rows, weights = children
    halved, lower, upper = along
    line = np.empty(r.shape[1], r.dtype)
    n = out.shape[1] - 2
    for row in range(1, out.shape[0]):
        _sum_of_rows(r, rows, weights, row, line)
        o = out[row]
        if halved:
            for i in range(n):
                beside = upper[i] * line[2 * i] + lower[i + 1] * line[2 * i + 2]
                o[i + 1] = line[2 * i + 1] + beside
        else:
            for i in range(1, n + 1):
                o[i] = line[i]


@compiled
def _prolong(
    e: np.ndarray,
    parents: Related,
    along: Along,
    x: np.ndarray,
    first: int,
    last: int,
    periodic: bool,
) -> None:
    """x += P e in rows from `first` to before `last`."""
    rows, weights = parents
    halved, lower, upper = along
    m = x.shape[1] - 2
    line = np.empty(e.shape[1], e.dtype)
    for row in range(first, last):
        _sum_of_rows(e, rows, weights, row, line)
        o = x[row]
        if halved:
            for i in range((m + 1) // 2):
                o[2 * i + 1] += line[i + 1]
            for i in range(m // 2):
                o[2 * i + 2] += lower[i + 1] * line[i + 1] + upper[i + 1] * line[i + 2]
        else:
            for i in range(1, m + 1):
                o[i] += line[i]
        if periodic:
            wrap(x, row)


@compiled
def bound(A: np.ndarray, inverse: np.ndarray, tables: Tables) -> float:
    """Gershgorin's bound of the eigenvalues of D^-1 A."""
    ahead, behind, shift = tables
    m = A.shape[2] - 2
    most = A.dtype.type(0)
    v = np.empty(m, A.dtype)
    for row in range(1, A.shape[1]):
        v[:] = 0
        for o in range(1, shift.size):
            s = shift[o]
            a = A[o, row, 1 : m + 1]
            b = A[o, behind[row, o], 1 - s : m + 1 - s]
            for i in range(m):
                v[i] += abs(a[i]) + abs(b[i])
        e = inverse[row, 1 : m + 1]
        for i in range(m):
            most = max(most, e[i] * v[i])
    return float(1 + most)


@compiled
def _halve_one(
    minus: np.ndarray,
    zero: np.ndarray,
    plus: np.ndarray,
    lower: np.ndarray,
    upper: np.ndarray,
    periodic: bool,
    c: int,
    found: np.ndarray,
) -> None:
    """Row c of P^T A P along x from rows of couplings to the cells before, at and after."""
    count, i = zero.size, 2 * c
    left = lower[c] * minus[i]
    here = upper[c] * minus[i] + zero[i] + lower[c + 1] * plus[i]
    right = upper[c + 1] * plus[i]
    # Slots of which both ends are coarse cells have no cell of their own.
    if i + 1 < count:
        here += lower[c + 1] * (minus[i + 1] + lower[c + 1] * zero[i + 1])
        right += lower[c + 1] * (upper[c + 1] * zero[i + 1] + plus[i + 1])
    if i > 0 or (periodic and count % 2 == 0):
        j = i - 1 if i > 0 else count - 1
        left += upper[c] * (minus[j] + lower[c] * zero[j])
        here += upper[c] * (upper[c] * zero[j] + plus[j])
    found[0, c], found[1, c], found[2, c] = left, here, right


@compiled
def halve_rows(
    minus: np.ndarray,
    zero: np.ndarray,
    plus: np.ndarray,
    lower: np.ndarray,
    upper: np.ndarray,
    periodic: bool,
    found: np.ndarray,
) -> None:
    """P^T A P along x, of rows of couplings to the cells before, at and after; see halving.py.
    found [3, row, c]."""
    coarse = found.shape[2]
    for k in range(zero.shape[0]):
        a, b, d, out = minus[k], zero[k], plus[k], found[:, k]
        left, here, right = out[0], out[1], out[2]
        for c in range(1, coarse - 1):
            i = 2 * c
            p, q, r, s = lower[c], upper[c], lower[c + 1], upper[c + 1]
            before = q * b[i - 1]
            after = r * b[i + 1]
            left[c] = p * (a[i] + before) + q * a[i - 1]
            middle = q * (a[i] + before + d[i - 1])
            here[c] = b[i] + middle + r * (d[i] + a[i + 1] + after)
            right[c] = s * (d[i] + after) + r * d[i + 1]
        _halve_one(a, b, d, lower, upper, periodic, 0, out)
        _halve_one(a, b, d, lower, upper, periodic, coarse - 1, out)


@compiled
def halve(
    minus: np.ndarray,
    zero: np.ndarray,
    plus: np.ndarray,
    lower: np.ndarray,
    upper: np.ndarray,
    periodic: bool,
    found: np.ndarray,
) -> None:
    """P^T A P along the middle axis of couplings [before, i, after]; found [3, before, c, after].
    See halving.py."""
    count, coarse = zero.shape[1], found.shape[2]
    for k in range(zero.shape[0]):
        for c in range(coarse):
            i = 2 * c
            p, q, r, s = lower[c], upper[c], lower[c + 1], upper[c + 1]
            a, b, d = minus[k, i], zero[k, i], plus[k, i]
            left, here, right = found[0, k, c], found[1, k, c], found[2, k, c]
            for n in range(a.size):
                left[n] = p * a[n]
                here[n] = q * a[n] + b[n] + r * d[n]
                right[n] = s * d[n]
            # Slots of which both ends are coarse cells have no cell of their own.
            if i + 1 < count:
                a, b, d = minus[k, i + 1], zero[k, i + 1], plus[k, i + 1]
                for n in range(a.size):
                    here[n] += r * (a[n] + r * b[n])
                    right[n] += r * (s * b[n] + d[n])
            if i > 0 or (periodic and count % 2 == 0):
                j = i - 1 if i > 0 else count - 1
                a, b, d = minus[k, j], zero[k, j], plus[k, j]
                for n in range(a.size):
                    left[n] += q * (a[n] + p * b[n])
                    here[n] += q * (q * b[n] + d[n])


@compiled
def largest(x: np.ndarray) -> float:
    """max |x|; NaN where there is one."""
    most = 0.0
    odd = 0.0
    for i in range(x.size):
        size = abs(x[i])
        most = max(most, size)
        odd += x[i] - x[i]
    return most + odd


@compiled
def put(values: np.ndarray, factor: float, x: np.ndarray, periodic: bool) -> None:
    """x = factor times values, x fastest."""
    m = x.shape[1] - 2
    for row in range(1, x.shape[0]):
        given = values[(row - 1) * m : row * m]
        y = x[row, 1 : m + 1]
        for i in range(m):
            y[i] = factor * given[i]
        if periodic:
            wrap(x, row)


@compiled
def take(x: np.ndarray, factor: float, values: np.ndarray) -> None:
    """values, x fastest, = factor times x."""
    m = x.shape[1] - 2
    for row in range(1, x.shape[0]):
        found = values[(row - 1) * m : row * m]
        y = x[row, 1 : m + 1]
        for i in range(m):
            found[i] = factor * y[i]


@compiled
def dots(b: np.ndarray, x: np.ndarray) -> tuple[float, float]:
    """b^T x and x^T x."""
    m = x.shape[1] - 2
    both, own = 0.0, 0.0
    for row in range(1, x.shape[0]):
        f = b[row, 1 : m + 1]
        y = x[row, 1 : m + 1]
        p, q = x.dtype.type(0), x.dtype.type(0)
        for i in range(m):
            p += f[i] * y[i]
            q += y[i] * y[i]
        both += p
        own += q
    return both, own


@compiled
def product(A: np.ndarray, tables: Tables, x: np.ndarray, out: np.ndarray) -> float:
    """out = A x; x^T A x."""
    ahead, behind, shift = tables
    m = x.shape[1] - 2
    v = np.empty(m, x.dtype)
    total = 0.0
    for row in range(1, x.shape[0]):
        total += _product(A, ahead, behind, shift, x, out, v, row)
    return total


@compiled
def _product(
    A: np.ndarray,
    ahead: np.ndarray,
    behind: np.ndarray,
    shift: np.ndarray,
    x: np.ndarray,
    out: np.ndarray,
    v: np.ndarray,
    row: int,
) -> float:
    m = x.shape[1] - 2
    _beside(A, ahead, behind, shift, x, row, v)
    d = A[0, row, 1 : m + 1]
    y = x[row, 1 : m + 1]
    o = out[row, 1 : m + 1]
    part = 0.0
    for i in range(m):
        value = d[i] * y[i] + v[i]
        o[i] = value
        part += value * y[i]
    return part


@compiled
def direction(
    A: np.ndarray,
    tables: Tables,
    z: np.ndarray,
    factor: Number,
    p: np.ndarray,
    beta: float,
    out: np.ndarray,
    reach: int,
    band: int,
    periodic: bool,
) -> float:
    """p := factor z + beta p, out = A p; p^T A p. Bands of rows as in smooth_from_zero."""
    ahead, behind, shift = tables
    rows, m = p.shape[0], p.shape[1] - 2
    v = np.empty(m, p.dtype)
    total = 0.0
    first = 1
    while first - reach < rows:
        low, high = _part(first, 0, band, rows)
        for row in range(low, high):
            y = p[row, 1 : m + 1]
            w = z[row, 1 : m + 1]
            for i in range(m):
                y[i] = factor * w[i] + beta * y[i]
            if periodic:
                wrap(p, row)
        low, high = _part(first, reach, band, rows)
        for row in range(low, high):
            total += _product(A, ahead, behind, shift, p, out, v, row)
        first += band
    return total


@compiled
def advance(
    x: np.ndarray,
    r: np.ndarray,
    p: np.ndarray,
    q: np.ndarray,
    alpha: float,
    factor: Number,
    b: np.ndarray,
    periodic: bool,
) -> float:
    """x += alpha p, r -= alpha q, b = factor r in its precision; r^T r."""
    m = x.shape[1] - 2
    total = 0.0
    for row in range(1, x.shape[0]):
        xs = x[row, 1 : m + 1]
        rs = r[row, 1 : m + 1]
        ps = p[row, 1 : m + 1]
        qs = q[row, 1 : m + 1]
        bs = b[row, 1 : m + 1]
        part = 0.0
        for i in range(m):
            xs[i] += alpha * ps[i]
            value = rs[i] - alpha * qs[i]
            rs[i] = value
            bs[i] = factor * value
            part += value * value
        total += part
        if periodic:
            wrap(b, row)
    return total

"""P^T A P along one axis of planes of couplings, in compiled loops; see halving.py.

Couplings are given to the cells before, at and after. `kind` says what of them there is: WHOLE all
three; SYMMETRIC those to the cell before are the same as those from there to the one after, and are
neither read nor written; ALONE those to the cell itself only.
"""

from __future__ import annotations

import numpy as np

from npde_opt.compiling import compiled

WHOLE, SYMMETRIC, ALONE = range(3)


@compiled
def _at(
    minus: np.ndarray, plus: np.ndarray, i: int, kind: int, periodic: bool
) -> float:
    """The coupling of cell i to the one before."""
    if kind == WHOLE:
        return float(minus[i])
    if i > 0:
        return float(plus[i - 1])
    return float(plus[plus.size - 1]) if periodic else 0.0


@compiled
def _halve_one(
    minus: np.ndarray,
    zero: np.ndarray,
    plus: np.ndarray,
    lower: np.ndarray,
    upper: np.ndarray,
    periodic: bool,
    kind: int,
    c: int,
    found: np.ndarray,
) -> None:
    """Row c of P^T A P along x from rows of couplings to the cells before, at and after."""
    count, i, some = zero.size, 2 * c, kind != ALONE
    left, here, right = 0.0, zero[i], 0.0
    if some:
        own = _at(minus, plus, i, kind, periodic)
        left, right = lower[c] * own, upper[c + 1] * plus[i]
        here += upper[c] * own + lower[c + 1] * plus[i]
    # Slots of which both ends are coarse cells have no cell of their own.
    if i + 1 < count:
        here += lower[c + 1] * lower[c + 1] * zero[i + 1]
        right += lower[c + 1] * upper[c + 1] * zero[i + 1]
        if some:
            here += lower[c + 1] * _at(minus, plus, i + 1, kind, periodic)
            right += lower[c + 1] * plus[i + 1]
    if i > 0 or (periodic and count % 2 == 0):
        j = i - 1 if i > 0 else count - 1
        left += upper[c] * lower[c] * zero[j]
        here += upper[c] * upper[c] * zero[j]
        if some:
            left += upper[c] * _at(minus, plus, j, kind, periodic)
            here += upper[c] * plus[j]
    found[0, c], found[1, c], found[2, c] = left, here, right


@compiled
def halve_rows(
    minus: np.ndarray,
    zero: np.ndarray,
    plus: np.ndarray,
    lower: np.ndarray,
    upper: np.ndarray,
    periodic: bool,
    kind: int,
    found: np.ndarray,
) -> None:
    """P^T A P along x, of rows of couplings. found [3, row, c]."""
    coarse = found.shape[2]
    for k in range(zero.shape[0]):
        a, b, d, out = minus[k], zero[k], plus[k], found[:, k]
        left, here, right = out[0], out[1], out[2]
        if kind == WHOLE:
            for c in range(1, coarse - 1):
                i = 2 * c
                p, q, r, s = lower[c], upper[c], lower[c + 1], upper[c + 1]
                before = q * b[i - 1]
                after = r * b[i + 1]
                left[c] = p * (a[i] + before) + q * a[i - 1]
                middle = q * (a[i] + before + d[i - 1])
                here[c] = b[i] + middle + r * (d[i] + a[i + 1] + after)
                right[c] = s * (d[i] + after) + r * d[i + 1]
        elif kind == SYMMETRIC:
            for c in range(1, coarse - 1):
                i = 2 * c
                q, r, s = upper[c], lower[c + 1], upper[c + 1]
                after = r * b[i + 1]
                middle = q * (2 * d[i - 1] + q * b[i - 1])
                here[c] = b[i] + middle + r * (2 * d[i] + after)
                right[c] = s * (d[i] + after) + r * d[i + 1]
        else:
            for c in range(1, coarse - 1):
                i = 2 * c
                q, r = upper[c], lower[c + 1]
                before, after = q * b[i - 1], r * b[i + 1]
                left[c] = lower[c] * before
                here[c] = b[i] + q * before + r * after
                right[c] = upper[c + 1] * after
        _halve_one(a, b, d, lower, upper, periodic, kind, 0, out)
        _halve_one(a, b, d, lower, upper, periodic, kind, coarse - 1, out)


@compiled
def halve(
    minus: np.ndarray,
    zero: np.ndarray,
    plus: np.ndarray,
    lower: np.ndarray,
    upper: np.ndarray,
    periodic: bool,
    kind: int,
    first: int,
    found: np.ndarray,
) -> None:
    """P^T A P along the middle axis of couplings [before, i, after], of coarse lines from `first`
    on; found [3, before, c, after]."""
    count, coarse = zero.shape[1], found.shape[2]
    nothing = np.zeros(zero.shape[2], zero.dtype)
    for k in range(zero.shape[0]):
        for c in range(first, first + coarse):
            i, to = 2 * c, c - first
            q, r = upper[c], lower[c + 1]
            left, here, right = found[0, k, to], found[1, k, to], found[2, k, to]
            # Slots of which both ends are coarse cells have no cell of their own.
            after = i + 1 if i + 1 < count else -1
            before = (
                i - 1 if i > 0 else count - 1 if periodic and count % 2 == 0 else -1
            )
            b = zero[k, i]
            e = zero[k, after] if after >= 0 else nothing
            f = zero[k, before] if before >= 0 else nothing
            if kind == ALONE:
                p, s = lower[c], upper[c + 1]
                for n in range(b.size):
                    left[n] = p * q * f[n]
                    here[n] = b[n] + q * q * f[n] + r * r * e[n]
                    right[n] = r * s * e[n]
                continue
            _halve_coupled(
                _line(minus, plus, k, i, kind, periodic, nothing),
                _line(minus, plus, k, after, kind, periodic, nothing),
                _line(minus, plus, k, before, kind, periodic, nothing),
                (b, e, f),
                (plus[k, i], plus[k, after] if after >= 0 else nothing),
                plus[k, before] if before >= 0 else nothing,
                (lower[c], q, r, upper[c + 1]),
                kind,
                (left, here, right),
            )


@compiled
def _line(
    minus: np.ndarray,
    plus: np.ndarray,
    k: int,
    i: int,
    kind: int,
    periodic: bool,
    nothing: np.ndarray,
) -> np.ndarray:
    """Couplings of line i to the one before; of none for i = -1."""
    found: np.ndarray = nothing
    if i >= 0 and kind == WHOLE:
        found = minus[k, i]
    elif i > 0:
        found = plus[k, i - 1]
    elif i == 0 and periodic:
        found = plus[k, plus.shape[1] - 1]
    return found


Row = np.ndarray


@compiled
def _halve_coupled(
    a: Row,
    a_after: Row,
    a_before: Row,
    zero: tuple[Row, Row, Row],
    plus: tuple[Row, Row],
    d_before: Row,
    weights: tuple[float, float, float, float],
    kind: int,
    found: tuple[Row, Row, Row],
) -> None:
    """One line, of couplings of the lines at, after and before."""
    p, q, r, s = weights
    b, b_after, b_before = zero
    d, d_after = plus
    left, here, right = found
    for n in range(b.size):
        after, before = r * b_after[n], q * b_before[n]
        middle = q * (a[n] + before + d_before[n])
        here[n] = b[n] + middle + r * (d[n] + a_after[n] + after)
        right[n] = s * (d[n] + after) + r * d_after[n]
    if kind == WHOLE:
        for n in range(b.size):
            left[n] = p * (a[n] + q * b_before[n]) + q * a_before[n]

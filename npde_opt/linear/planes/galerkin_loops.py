"""P^T A P along one axis of planes of couplings, in compiled loops; see halving.py."""

from __future__ import annotations

import numpy as np

from npde_opt.compiling import compiled


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

"""Steps of a linear equation along a line, many in one call: with S_k = M + alpha_k A in bands,

    forward    S U_i = M U_0 - dt sum_{j<i} a_ij (A U_j + f_j) - dt a_ii f_i + e_i
    backward   S^T mu_i = [i = s] lambda_{n+1} - dt A^T sum_{l>i} a_li mu_l + e_i,
               lambda_n = J_n + sum_i M mu_i - dt A^T sum_l a_l0 mu_l + e_0       (see stepper.py)

Where steps are nonlinear these are those of their derivatives, with A = r_u at each stage.

Bands are stored by rows: bands[r, i, d] is A[i, i + d - b] of the r-th A, 0 where that is no
column. Factors L and U of rows that were exchanged take b columns more, with 1/U_ii in place of
U_ii. They allocate nothing: their machine code is loaded without numba (see machine_code.py).
"""

from __future__ import annotations

import numpy as np

from npde_opt.compiling import compiled


@compiled
def factor(
    bands: np.ndarray,
    mass: np.ndarray,
    alphas: np.ndarray,
    which: np.ndarray,
    lu: np.ndarray,
    pivots: np.ndarray,
    largest: np.ndarray,
) -> int:
    """L U = P S_k with partial pivoting, of all k; the k of a matrix that is singular, or -1.

    Args:
        which [k]: the r of A.
        lu [k, row, 3 b + 1], pivots [k, row]: set. largest [k]: set to the infinity norms.
    """
    n, width = bands.shape[1:]
    band = (width - 1) // 2
    for k in range(alphas.size):
        a, A = lu[k], bands[which[k]]
        largest[k] = 0.0
        for i in range(n):
            size = 0.0
            for d in range(width):
                a[i, d] = alphas[k] * A[i, d]
            a[i, band] += mass[i]
            for d in range(width):
                size += abs(a[i, d])
            for d in range(width, 3 * band + 1):
                a[i, d] = 0.0
            largest[k] = max(largest[k], size)
        for i in range(n):
            last, end = min(i + band, n - 1), min(i + 2 * band, n - 1)
            p = i
            for q in range(i + 1, last + 1):
                if abs(a[q, i - q + band]) > abs(a[p, i - p + band]):
                    p = q
            pivots[k, i] = p
            if not abs(a[p, i - p + band]) > 0.0:
                return k
            if p != i:
                for j in range(i, end + 1):
                    kept = a[i, j - i + band]
                    a[i, j - i + band] = a[p, j - p + band]
                    a[p, j - p + band] = kept
            inverse = 1.0 / a[i, band]
            a[i, band] = inverse
            for q in range(i + 1, last + 1):
                share = a[q, i - q + band] * inverse
                a[q, i - q + band] = share
                for j in range(i + 1, end + 1):
                    a[q, j - q + band] -= share * a[i, j - i + band]
    return -1


@compiled
def _solve(a: np.ndarray, pivots: np.ndarray, x: np.ndarray) -> None:
    """x := S^-1 x."""
    n = pivots.size
    band = (a.shape[1] - 1) // 3
    for i in range(n):
        p = pivots[i]
        value = x[p]
        x[p] = x[i]
        x[i] = value
        for q in range(i + 1, min(i + band, n - 1) + 1):
            x[q] -= a[q, i - q + band] * value
    for i in range(n - 1, -1, -1):
        value = x[i]
        for j in range(i + 1, min(i + 2 * band, n - 1) + 1):
            value -= a[i, j - i + band] * x[j]
        x[i] = value * a[i, band]


@compiled
def _solve_transposed(a: np.ndarray, pivots: np.ndarray, x: np.ndarray) -> None:
    """x := S^-T x."""
    n = pivots.size
    band = (a.shape[1] - 1) // 3
    for i in range(n):
        value = x[i] * a[i, band]
        x[i] = value
        for j in range(i + 1, min(i + 2 * band, n - 1) + 1):
            x[j] -= a[i, j - i + band] * value
    for i in range(n - 1, -1, -1):
        value = x[i]
        for q in range(i + 1, min(i + band, n - 1) + 1):
            value -= a[q, i - q + band] * x[q]
        p = pivots[i]
        x[i] = x[p]
        x[p] = value


@compiled
def _product(bands: np.ndarray, x: np.ndarray, y: np.ndarray) -> None:
    """y = A x."""
    n, width = bands.shape
    band = (width - 1) // 2
    for i in range(n):
        value = 0.0
        for d in range(max(band - i, 0), min(width, n - i + band)):
            value += bands[i, d] * x[i + d - band]
        y[i] = value


@compiled
def _product_transposed(bands: np.ndarray, x: np.ndarray, y: np.ndarray) -> None:
    """y = A^T x."""
    n, width = bands.shape
    band = (width - 1) // 2
    for i in range(n):
        y[i] = 0.0
    for i in range(n):
        for d in range(max(band - i, 0), min(width, n - i + band)):
            y[i + d - band] += bands[i, d] * x[i]


@compiled
def _left(
    b: np.ndarray,
    x: np.ndarray,
    mass: np.ndarray,
    alpha: float,
    Ax: np.ndarray,
    seen: np.ndarray,
) -> None:
    """Sets `seen` [5] to |b - S x|, |b|, |x|, x^T (b - S x) and x^T b."""
    left = size = found = rest = energy = 0.0
    for i in range(b.size):
        r = b[i] - mass[i] * x[i] - alpha * Ax[i]
        left += r * r
        size += b[i] * b[i]
        found += x[i] * x[i]
        rest += x[i] * r
        energy += x[i] * b[i]
    seen[0], seen[1], seen[2] = np.sqrt(left), np.sqrt(size), np.sqrt(found)
    seen[3], seen[4] = rest, energy


@compiled
def forward(
    bands: np.ndarray,
    mass: np.ndarray,
    lu: np.ndarray,
    pivots: np.ndarray,
    which: np.ndarray,
    at: np.ndarray,
    steps: np.ndarray,
    weights: np.ndarray,
    rates: np.ndarray,
    place: np.ndarray,
    extra: np.ndarray,
    states: np.ndarray,
    found: np.ndarray,
    work: np.ndarray,
) -> None:
    """All stages of all steps.

    Args:
        which [n, i]: the k of a stage. at [n, j]: the r of A there. steps: dt.
        weights [i, j]: a_ij, with an empty row 0.
        rates [row, unknown], place [n, j]: f_j and its row.
        extra [n s + i - 1, unknown]: e_i, or without rows where that is 0.
        states [n s + i, unknown]: the first row is u_0, the others are set.
        found [n s + i - 1, 5]: set to what `_left` finds of the solves.
        work [i + 1, unknown]: overwritten.
    """
    size, stages = mass.size, weights.shape[0] - 1
    b, products = work[0], work[1:]
    for j in range(stages + 1):
        for m in range(size):
            products[j, m] = 0.0
    for n in range(steps.size):
        dt, start = steps[n], n * stages
        if weights[1:, 0].any():
            _product(bands[at[n, 0]], states[start], products[0])
        for i in range(1, stages + 1):
            x = states[start + i]
            for m in range(size):
                b[m] = mass[m] * states[start, m]
            if extra.shape[0] > 0:
                for m in range(size):
                    b[m] += extra[start + i - 1, m]
            for j in range(i):
                w = dt * weights[i, j]
                if w != 0.0:
                    f = rates[place[n, j]]
                    for m in range(size):
                        b[m] -= w * (products[j, m] + f[m])
            alpha = dt * weights[i, i]
            if alpha == 0.0:
                for m in range(size):
                    x[m] = b[m] / mass[m]
                _product(bands[at[n, i]], x, products[i])
                continue
            f = rates[place[n, i]]
            for m in range(size):
                b[m] -= alpha * f[m]
                x[m] = b[m]
            _solve(lu[which[n, i]], pivots[which[n, i]], x)
            _product(bands[at[n, i]], x, products[i])
            _left(b, x, mass, alpha, products[i], found[start + i - 1])


@compiled
def backward(
    bands: np.ndarray,
    mass: np.ndarray,
    lu: np.ndarray,
    pivots: np.ndarray,
    which: np.ndarray,
    at: np.ndarray,
    steps: np.ndarray,
    weights: np.ndarray,
    seen: np.ndarray,
    extra: np.ndarray,
    multipliers: np.ndarray,
    found: np.ndarray,
    after: np.ndarray,
    work: np.ndarray,
) -> None:
    """lambda_0, and all mu.

    Args:
        seen [n, unknown]: J_n, of n = 0 ... N.
        extra [n, i, unknown]: e_i, or without steps where that is 0.
        multipliers [n s + i - 1, unknown], found [n s + i - 1, 5]: set, as in `forward`.
        after [unknown]: set to lambda_0. work [4, unknown]: overwritten.
    """
    size, stages = mass.size, weights.shape[0] - 1
    nu, y, b, result = work[0], work[1], work[2], work[3]
    for m in range(size):
        after[m] = seen[steps.size, m]
    for n in range(steps.size - 1, -1, -1):
        dt, start = steps[n], n * stages
        for m in range(size):
            result[m] = seen[n, m]
        for i in range(stages, -1, -1):
            for m in range(size):
                b[m] = after[m] if i == stages else 0.0
            if extra.shape[0] > 0:
                for m in range(size):
                    b[m] += extra[n, i, m]
            if weights[i + 1 :, i].any():
                for m in range(size):
                    nu[m] = 0.0
                for late in range(i + 1, stages + 1):
                    w = dt * weights[late, i]
                    for m in range(size):
                        nu[m] -= w * multipliers[start + late - 1, m]
                _product_transposed(bands[at[n, i]], nu, y)
                for m in range(size):
                    b[m] += y[m]
            if i == 0:
                for m in range(size):
                    result[m] += b[m]
                break
            x, alpha = multipliers[start + i - 1], dt * weights[i, i]
            if alpha == 0.0:
                for m in range(size):
                    x[m] = b[m] / mass[m]
            else:
                for m in range(size):
                    x[m] = b[m]
                _solve_transposed(lu[which[n, i]], pivots[which[n, i]], x)
                _product_transposed(bands[at[n, i]], x, y)
                _left(b, x, mass, alpha, y, found[start + i - 1])
            for m in range(size):
                result[m] += mass[m] * x[m]
        for m in range(size):
            after[m] = result[m]

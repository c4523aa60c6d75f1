"""Sweeps that solve for a line of cells at once, for all lines along an axis in turn:

    x_L := T_L^-1 (b - (A - T) x)_L,   T the tridiagonal parts of A along the axis,

those with even numbers across first, then those with odd ones, or the other way round: the second
order is the transpose of the first. Fields and stencils are those of adapted_loops.py. T = L D L^T
is factored once; where the axis is periodic, what joins its ends is not in T.

b - (A - T) x is formed for some rows of cells at a time, with the ghosts between them: loops over
20 or 40 values take twice as long a value. Of lines along y and z, what neighbours give that do not
change between even and odd cells of a row is taken once.
"""

from __future__ import annotations

import numpy as np

from npde_opt.compiling import compiled
from npde_opt.linear.planes.adapted_loops import NX, NY, NZ, PAD_Z, PITCH, PLANE

BEFORE, BEHIND = 0, 1
"""Of the two neighbours in a line, the numbers of whose planes `ends` has."""


@compiled
def factor(
    A: np.ndarray,
    centre: int,
    before: int,
    starts: np.ndarray,
    count: int,
    step: int,
    low: np.ndarray,
    inverse: np.ndarray,
) -> None:
    """L, below its diagonal of 1, and D^-1 of lines of `count` cells that begin at `starts`."""
    for n in range(starts.size):
        c = starts[n]
        inverse[c] = 1 / A[centre, c] if A[centre, c] != 0 else 1.0
        for _ in range(1, count):
            c += step
            a = A[before, c]
            low[c] = a * inverse[c - step]
            d = A[centre, c] - low[c] * a
            inverse[c] = 1 / d if d != 0 else 1.0


@compiled
def _first(j: int, k: int, numbers: np.ndarray) -> int:
    """The first cell of a row."""
    found: int = (k + numbers[PAD_Z]) * numbers[PLANE] + (j + 1) * numbers[PITCH] + 1
    return found


@compiled
def _less_neighbours(
    A: np.ndarray,
    steps: np.ndarray,
    b: np.ndarray,
    x: np.ndarray,
    c: int,
    v: np.ndarray,
) -> None:
    """v = b - A x, of the cells from c on and of the neighbours of `steps`."""
    run, count = v.size, steps.shape[0]
    v[:] = b[c : c + run]
    # Two at a time: v is read and written once for both.
    pairs = count - count % 2
    for o in range(0, pairs, 2):
        to, other = c + steps[o, 2], c + steps[o + 1, 2]
        y, z = x[to : to + run], x[other : other + run]
        to, other = c + steps[o, 1], c + steps[o + 1, 1]
        a, d = A[steps[o, 0], to : to + run], A[steps[o + 1, 0], other : other + run]
        for i in range(run):
            v[i] -= a[i] * y[i] + d[i] * z[i]
    for o in range(pairs, count):
        to, own = c + steps[o, 2], c + steps[o, 1]
        a, y = A[steps[o, 0], own : own + run], x[to : to + run]
        for i in range(run):
            v[i] -= a[i] * y[i]


@compiled
def _solve_row(
    A: np.ndarray,
    ends: np.ndarray,
    low: np.ndarray,
    inverse: np.ndarray,
    x: np.ndarray,
    c: int,
    v: np.ndarray,
) -> None:
    """x of the line along x that begins at c, from its v, which is written over."""
    nx = v.size
    last = c + nx - 1
    v[0] -= A[ends[BEFORE], c] * x[c - 1]
    v[nx - 1] -= A[ends[BEHIND], last] * x[last + 1]
    l, d, out = low[c : c + nx], inverse[c : c + nx], x[c : c + nx]
    for i in range(1, nx):
        v[i] -= l[i] * v[i - 1]
    out[nx - 1] = d[nx - 1] * v[nx - 1]
    for i in range(nx - 2, -1, -1):
        out[i] = d[i] * v[i] - l[i + 1] * out[i + 1]


@compiled
def along_rows(
    A: np.ndarray,
    steps: np.ndarray,
    ends: np.ndarray,
    low: np.ndarray,
    inverse: np.ndarray,
    b: np.ndarray,
    x: np.ndarray,
    numbers: np.ndarray,
    together: int,
    back: int,
) -> None:
    """A sweep of lines along x.

    Args:
        steps [o, 3]: planes of neighbours that are not in a line, and how far their values and they
            are.
        numbers: of cells and ghosts (see adapted_loops.py).
        together: rows that are gone over at a time.
        back: 1 in the transposed order, else 0.
    """
    nx, ny, nz, pitch = numbers[NX], numbers[NY], numbers[NZ], numbers[PITCH]
    work = np.empty(together * pitch, x.dtype)
    for turn in range(2):
        odd = turn ^ back
        for t in range(nz):
            k = nz - 1 - t if back else t
            for j in range(0, ny, together):
                some = min(together, ny - j)
                if some == 1 and (j + k) % 2 != odd:
                    continue
                c = _first(j, k, numbers)
                run = (some - 1) * pitch + nx
                v = work[:run]
                _less_neighbours(A, steps, b, x, c, v)
                for n in range((j + k + odd) % 2, some, 2):
                    at = n * pitch
                    _solve_row(A, ends, low, inverse, x, c + at, v[at : at + nx])


@compiled
def across_rows(
    A: np.ndarray,
    steady: np.ndarray,
    moving: np.ndarray,
    ends: np.ndarray,
    low: np.ndarray,
    inverse: np.ndarray,
    b: np.ndarray,
    x: np.ndarray,
    r: np.ndarray,
    numbers: np.ndarray,
    together: int,
    axis: int,
    back: int,
) -> None:
    """A sweep of lines along y or z; every other line along x at a time.

    Args:
        steady, moving [o, 3]: the same, of those in other rows than the lines' and of those in
            these rows.
        r: is written over.
        axis: 1 or 2.
    """
    work = np.empty(together * numbers[PITCH], x.dtype)
    given = r if steady.shape[0] > 0 else b
    for turn in range(2):
        odd = turn ^ back
        if steady.shape[0] > 0:
            _less_steady(A, steady, b, x, r, numbers, together, axis, odd)
        for part in range(2):
            start = part ^ back
            how = numbers, together, axis, odd, start
            _eliminate(A, moving, ends, low, given, x, work, how)
            _substitute(low, inverse, x, how)


@compiled
def _takes(j: int, k: int, some: int, axis: int, odd: int) -> bool:
    """Whether one of some rows from (j, k) on is of lines with such a number across."""
    return k % 2 == odd if axis == 1 else some > 1 or j % 2 == odd


@compiled
def _less_steady(
    A: np.ndarray,
    steady: np.ndarray,
    b: np.ndarray,
    x: np.ndarray,
    r: np.ndarray,
    numbers: np.ndarray,
    together: int,
    axis: int,
    odd: int,
) -> None:
    """r = b - A x, of the steady neighbours of lines with such a number across."""
    ny = numbers[NY]
    for k in range(numbers[NZ]):
        for j in range(0, ny, together):
            some = min(together, ny - j)
            if _takes(j, k, some, axis, odd):
                c = _first(j, k, numbers)
                behind = c + (some - 1) * numbers[PITCH] + numbers[NX]
                _less_neighbours(A, steady, b, x, c, r[c:behind])


@compiled
def _eliminate(
    A: np.ndarray,
    moving: np.ndarray,
    ends: np.ndarray,
    low: np.ndarray,
    given: np.ndarray,
    x: np.ndarray,
    work: np.ndarray,
    how: tuple[np.ndarray, int, int, int, int],
) -> None:
    """x = L^-1 (given - A x of the moving neighbours), of every other cell of the rows of lines
    with such a number across."""
    numbers, together, axis, odd, start = how
    nx, ny, pitch = numbers[NX], numbers[NY], numbers[PITCH]
    count = ny if axis == 1 else numbers[NZ]
    step = pitch if axis == 1 else numbers[PLANE]
    for k in range(numbers[NZ]):
        for j in range(0, ny, together):
            some = min(together, ny - j)
            if not _takes(j, k, some, axis, odd):
                continue
            c = _first(j, k, numbers)
            run = (some - 1) * pitch + nx
            v = work[:run]
            _less_neighbours(A, moving, given, x, c, v)
            for n in range(some):
                if not _takes(j + n, k, 1, axis, odd):
                    continue
                t, at = j + n if axis == 1 else k, c + n * pitch
                f, y = v[n * pitch : n * pitch + nx], x[at : at + nx]
                before = x[at - step : at - step + nx]
                l = A[ends[BEFORE], at : at + nx] if t == 0 else low[at : at + nx]
                if t == count - 1:
                    a, z = A[ends[BEHIND], at : at + nx], x[at + step : at + step + nx]
                    for i in range(start, nx, 2):
                        f[i] -= a[i] * z[i]
                for i in range(start, nx, 2):
                    y[i] = f[i] - l[i] * before[i]


@compiled
def _substitute(
    low: np.ndarray,
    inverse: np.ndarray,
    x: np.ndarray,
    how: tuple[np.ndarray, int, int, int, int],
) -> None:
    """x = L^-T D^-1 x, of these cells."""
    numbers, _, axis, odd, start = how
    nx, ny, nz = numbers[NX], numbers[NY], numbers[NZ]
    count = ny if axis == 1 else nz
    step = numbers[PITCH] if axis == 1 else numbers[PLANE]
    for k in range(nz - 1, -1, -1):
        for j in range(ny - 1, -1, -1):
            if not _takes(j, k, 1, axis, odd):
                continue
            c = _first(j, k, numbers)
            d, y = inverse[c : c + nx], x[c : c + nx]
            if (j if axis == 1 else k) == count - 1:
                for i in range(start, nx, 2):
                    y[i] *= d[i]
                continue
            behind = c + step
            l, z = low[behind : behind + nx], x[behind : behind + nx]
            for i in range(start, nx, 2):
                y[i] = d[i] * y[i] - l[i] * z[i]


@compiled
def residual(
    A: np.ndarray,
    steps: np.ndarray,
    b: np.ndarray,
    x: np.ndarray,
    numbers: np.ndarray,
    together: int,
    r: np.ndarray,
) -> None:
    """r = b - A x, with anything in its ghosts."""
    ny = numbers[NY]
    for k in range(numbers[NZ]):
        for j in range(0, ny, together):
            some = min(together, ny - j)
            c = _first(j, k, numbers)
            behind = c + (some - 1) * numbers[PITCH] + numbers[NX]
            _less_neighbours(A, steps, b, x, c, r[c:behind])

"""found = W given along one axis of a box, in a compiled loop: W has a few entries a row, the same
on all lines of the axis.

Where a grid is refined by 2, rows repeat themselves: those of W two rows and a cell further, those
of W^T a row and two cells further. They are found together, from lines read cell after cell.
"""

from __future__ import annotations

import numpy as np

from npde_opt.compiling import compiled

ONE, TWO, THREE, FOUR = (np.uint64(n) for n in (1, 2, 3, 4))
"""Numbers that are no less than 0 are taken for places as they are."""


@compiled
def _on_a_line(
    starts: np.ndarray,
    cells: np.ndarray,
    weights: np.ndarray,
    line: np.ndarray,
    image: np.ndarray,
    begin: int,
    stop: int,
) -> None:
    """image = W line of rows from one to before another; four entries at a time."""
    for row in range(begin, stop):
        at, end, total = starts[row], starts[row + 1], 0.0
        while at + FOUR <= end:
            total += (
                weights[at] * line[cells[at]]
                + weights[at + ONE] * line[cells[at + ONE]]
                + weights[at + TWO] * line[cells[at + TWO]]
                + weights[at + THREE] * line[cells[at + THREE]]
            )
            at += FOUR
        while at < end:
            total += weights[at] * line[cells[at]]
            at += ONE
        image[row] = total


@compiled
def _refined(
    places: np.ndarray, weights: np.ndarray, line: np.ndarray, image: np.ndarray
) -> None:
    """image_2j = sum_k weights_kj line_{places_k + j} of the first four k; image_2j+1 of the
    others."""
    a, b = line[places[0] :], line[places[1] :]
    c, d = line[places[2] :], line[places[3] :]
    e, f = line[places[4] :], line[places[5] :]
    g, h = line[places[6] :], line[places[7] :]
    A, B, C, D = weights[0], weights[1], weights[2], weights[3]
    E, F, G, H = weights[4], weights[5], weights[6], weights[7]
    for j in range(A.size):
        image[2 * j] = A[j] * a[j] + B[j] * b[j] + C[j] * c[j] + D[j] * d[j]
        image[2 * j + 1] = E[j] * e[j] + F[j] * f[j] + G[j] * g[j] + H[j] * h[j]


@compiled
def _coarsened(
    places: np.ndarray,
    weights: np.ndarray,
    parts: np.ndarray,
    line: np.ndarray,
    image: np.ndarray,
) -> None:
    """image_j = sum_k weights_kj line_{places_k + 2j} of eight k; `parts` is work, [2, cells]."""
    even, odd, half = parts[0], parts[1], line.size // 2
    for j in range(half):
        even[j] = line[2 * j]
        odd[j] = line[2 * j + 1]
    if line.size > 2 * half:
        even[half] = line[2 * half]
    a, b = _from(parts, places[0]), _from(parts, places[1])
    c, d = _from(parts, places[2]), _from(parts, places[3])
    e, f = _from(parts, places[4]), _from(parts, places[5])
    g, h = _from(parts, places[6]), _from(parts, places[7])
    A, B, C, D = weights[0], weights[1], weights[2], weights[3]
    E, F, G, H = weights[4], weights[5], weights[6], weights[7]
    for j in range(A.size):
        first = A[j] * a[j] + B[j] * b[j] + C[j] * c[j] + D[j] * d[j]
        second = E[j] * e[j] + F[j] * f[j] + G[j] * g[j] + H[j] * h[j]
        image[j] = first + second


@compiled
def _from(parts: np.ndarray, cell: int) -> np.ndarray:
    """Every other cell of a line from one on."""
    cells: np.ndarray = parts[cell % 2][cell // 2 :]
    return cells


@compiled
def _layer(given: np.ndarray, beside: np.ndarray, outer: int, cell: int) -> np.ndarray:
    """The layer of a cell, which others have from the last own one on."""
    n = np.uint64(given.shape[1])
    layer: np.ndarray = given[outer, cell] if cell < n else beside[cell - n, outer]
    return layer


@compiled
def _of_layers(
    starts: np.ndarray,
    cells: np.ndarray,
    weights: np.ndarray,
    given: np.ndarray,
    beside: np.ndarray,
    outer: int,
    row: int,
    out: np.ndarray,
) -> None:
    """out = the layer of a row; four layers in one sweep."""
    at, end = starts[row], starts[row + 1]
    if at + FOUR > end:
        out[:] = 0.0
    first = at
    while at + FOUR <= end:
        p = _layer(given, beside, outer, cells[at])
        q = _layer(given, beside, outer, cells[at + ONE])
        r = _layer(given, beside, outer, cells[at + TWO])
        s = _layer(given, beside, outer, cells[at + THREE])
        a, b = weights[at], weights[at + ONE]
        c, d = weights[at + TWO], weights[at + THREE]
        if at == first:
            for i in range(out.size):
                out[i] = a * p[i] + b * q[i] + c * r[i] + d * s[i]
        else:
            for i in range(out.size):
                out[i] += a * p[i] + b * q[i] + c * r[i] + d * s[i]
        at += FOUR
    while at < end:
        p, a = _layer(given, beside, outer, cells[at]), weights[at]
        for i in range(out.size):
            out[i] += a * p[i]
        at += ONE


@compiled
def along(
    starts: np.ndarray,
    cells: np.ndarray,
    weights: np.ndarray,
    between: np.ndarray,
    places: np.ndarray,
    repeated: np.ndarray,
    parts: np.ndarray,
    line: np.ndarray,
    image: np.ndarray,
    given: np.ndarray,
    beside: np.ndarray,
    found: np.ndarray,
    over: np.ndarray,
) -> None:
    """Rows of W by their starts in `cells` and `weights`.

    Args:
        between: the first of the rows that repeat themselves, and the first after them.
        places, repeated: see `_refined` and, where there are two parts, `_coarsened`.
        given, beside: [outer, cell, inner], and the cells that follow in W's columns
            [cell, outer, inner].
        found, over: as these two, of rows.
        line, image: work, of the columns and of the rows.
    """
    outer, n, inner = given.shape
    own = found.shape[1]
    begin, end = between
    for o in range(outer):
        if inner == 1:
            for i in range(n):
                line[i] = given[o, i, 0]
            for i in range(n, line.size):
                line[i] = beside[i - n, o, 0]
            _on_a_line(starts, cells, weights, line, image, 0, begin)
            if begin < end and len(parts) == 2:
                _coarsened(places, repeated, parts, line, image[begin:])
            elif begin < end:
                _refined(places, repeated, line, image[begin:])
            _on_a_line(starts, cells, weights, line, image, end, image.size)
            for i in range(own):
                found[o, i, 0] = image[i]
            for i in range(own, image.size):
                over[i - own, o, 0] = image[i]
        else:
            rest = given, beside, o
            for row in range(own):
                _of_layers(starts, cells, weights, *rest, row, found[o, row])
            for row in range(own, image.size):
                _of_layers(starts, cells, weights, *rest, row, over[row - own, o])

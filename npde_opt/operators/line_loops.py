"""found = W given along one axis of a box, in a compiled loop: W has a few entries a row, the same
on all lines of the axis."""

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
) -> None:
    """image = W line; four entries at a time."""
    for row in range(image.size):
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
    for i in range(out.size):
        out[i] = 0.0
    while at + FOUR <= end:
        p = _layer(given, beside, outer, cells[at])
        q = _layer(given, beside, outer, cells[at + ONE])
        r = _layer(given, beside, outer, cells[at + TWO])
        s = _layer(given, beside, outer, cells[at + THREE])
        a, b = weights[at], weights[at + ONE]
        c, d = weights[at + TWO], weights[at + THREE]
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
    line: np.ndarray,
    image: np.ndarray,
    given: np.ndarray,
    beside: np.ndarray,
    found: np.ndarray,
    over: np.ndarray,
) -> None:
    """Rows of W by their starts in `cells` and `weights`.

    Args:
        given, beside: [outer, cell, inner], and the cells that follow in W's columns
            [cell, outer, inner].
        found, over: as these two, of rows.
        line, image: work, of the columns and of the rows.
    """
    outer, n, inner = given.shape
    own = found.shape[1]
    for o in range(outer):
        if inner == 1:
            for i in range(n):
                line[i] = given[o, i, 0]
            for i in range(n, line.size):
                line[i] = beside[i - n, o, 0]
            _on_a_line(starts, cells, weights, line, image)
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

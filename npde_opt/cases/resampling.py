"""Values of cells on the cells of other edges over the same box.

u_i = sum_j w_ij u_j / sum_j w_ij with w_ij the volume that cells i and j share, axis by axis; or,
for labels, what lies at the middle of a cell.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from npde_opt.cases.parts import Part
from npde_opt.grids.overlap import multiply_along, overlap


def cell_of(x: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """The cells that hold coordinates; the first or the last one where they lie outside."""
    return np.clip(np.searchsorted(edges, x, side="right") - 1, 0, edges.size - 2)


def resample(
    values: np.ndarray, source: list[np.ndarray], target: list[np.ndarray]
) -> np.ndarray:
    """Volume means of `values` over the cells of `target` edges."""
    out = np.asarray(values, float)
    for d, (a, b) in enumerate(zip(source, target, strict=True)):
        if np.array_equal(a, b):
            continue
        out = multiply_along(overlap(a, b), out, d)
    return np.asarray(out, order="F")  # also of no axes


def nearest_values(
    values: np.ndarray, source: Sequence[np.ndarray], target: Sequence[np.ndarray]
) -> np.ndarray:
    """What `values` hold at the middles of the cells of `target` edges."""
    middles = [(e[1:] + e[:-1]) / 2 for e in target]
    picks = [cell_of(x, edges) for x, edges in zip(middles, source, strict=True)]
    return np.asarray(values, float)[np.ix_(*picks)]


class Resampling:
    """From the cells of other edges to those of a part, as `resample` or `nearest_values` of all
    of them: the same bits.

    Attributes:
        window: the source cells that the part's cells need.
    """

    def __init__(self, source: Sequence[np.ndarray], part: Part, nearest: bool):
        self.source, self.part, self.nearest = source, part, nearest
        axes = zip(source, part.edges, part.own_edges, part.box, strict=True)
        self._same = [
            np.array_equal(a, e) for a, e in zip(source, part.edges, strict=True)
        ]
        self.window = tuple(
            box if same else _needed(a, own)
            for same, (a, _, own, box) in zip(self._same, axes, strict=True)
        )

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """On the part's cells.

        Args:
            values: of the window.
        """
        if self.part.empty:
            return np.empty(self.part.shape, order="F")
        pairs = zip(self.source, self.window, strict=True)
        edges = [a[w.start : w.stop + 1] for a, w in pairs]
        if self.nearest:
            return nearest_values(values, edges, self.part.own_edges)
        out = np.asarray(values, float)
        steps = zip(edges, self.part.own_edges, self._same, strict=True)
        for d, (a, b, same) in enumerate(steps):
            out = out if same else multiply_along(overlap(a, b), out, d)
        return np.asarray(out, order="F")


def _needed(source: np.ndarray, target: np.ndarray) -> slice:
    """The cells of an axis from the one that holds the first edge of others to that which holds
    the last; the outermost where these lie beyond."""
    if target.size < 2:
        return slice(0, 0)
    first = np.searchsorted(source, target[0], "right") - 1
    last = np.searchsorted(source, target[-1], "left") - 1
    most = source.size - 2
    return slice(int(np.clip(first, 0, most)), int(np.clip(last, 0, most)) + 1)

"""Values of cells on the cells of other edges over the same box.

u_i = sum_j w_ij u_j / sum_j w_ij with w_ij the volume that cells i and j share, axis by axis; or,
for labels, what lies at the middle of a cell.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

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

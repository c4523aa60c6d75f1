"""Values of cells on the cells of other edges over the same box.

u_i = sum_j w_ij u_j / sum_j w_ij with w_ij the volume that cells i and j share, axis by axis; or, for
labels, what lies at the middle of a cell.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse


def cell_of(x: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """The cells that hold coordinates; the first or the last one where they lie outside."""
    return np.clip(np.searchsorted(edges, x, side="right") - 1, 0, edges.size - 2)


def overlap(source: np.ndarray, target: np.ndarray) -> scipy.sparse.csr_matrix:
    """Fractions (target cells x source cells) of each target cell covered by the source cells, both
    given by edges."""
    cuts = np.unique(np.concatenate([source, target]))
    cuts = cuts[(cuts >= max(source[0], target[0])) & (cuts <= min(source[-1], target[-1]))]
    middles, lengths = (cuts[1:] + cuts[:-1]) / 2, np.diff(cuts)
    rows, columns = (cell_of(middles, edges) for edges in (target, source))
    shape = (target.size - 1, source.size - 1)
    shared = scipy.sparse.csr_matrix((lengths, (rows, columns)), shape=shape)
    total = np.asarray(shared.sum(axis=1)).ravel()
    shared.data /= np.repeat(total, np.diff(shared.indptr))
    return shared


def resample(values: np.ndarray, source: list[np.ndarray], target: list[np.ndarray]) -> np.ndarray:
    """Volume means of `values` over the cells of `target` edges."""
    out = np.asarray(values, float)
    for d, (a, b) in enumerate(zip(source, target, strict=True)):
        if np.array_equal(a, b):
            continue
        moved = np.moveaxis(out, d, 0)
        flat = overlap(a, b) @ moved.reshape(moved.shape[0], -1)
        out = np.moveaxis(flat.reshape(-1, *moved.shape[1:]), 0, d)
    return np.asfortranarray(out)


def nearest_values(
    values: np.ndarray, source: list[np.ndarray], target: list[np.ndarray]
) -> np.ndarray:
    """What `values` hold at the middles of the cells of `target` edges."""
    middles = [(e[1:] + e[:-1]) / 2 for e in target]
    picks = [cell_of(x, edges) for x, edges in zip(middles, source, strict=True)]
    return np.asarray(values, float)[np.ix_(*picks)]

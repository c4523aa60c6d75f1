"""What the cells of one grid share with those of another: a product of lengths, one an axis."""

from __future__ import annotations

import math

import numpy as np

from npde_opt.packages import scipy

ROUNDING = 1e-9
"""Overlaps that are a smaller share of the narrower cell are those of rounded edges."""


def overlap_lengths(a: np.ndarray, b: np.ndarray) -> scipy.sparse.csr_matrix:
    """Lengths shared by the intervals between edges a (rows) and edges b (columns)."""
    first = np.clip(np.searchsorted(a, b[:-1], side="right") - 1, 0, a.size - 2)
    last = np.clip(np.searchsorted(a, b[1:], side="left") - 1, 0, a.size - 2)
    counts = last - first + 1
    rows = consecutive(first, counts)
    columns = np.repeat(np.arange(b.size - 1), counts)
    lower = np.maximum(a[rows], b[columns])
    upper = np.minimum(a[rows + 1], b[columns + 1])
    lengths = upper - lower
    narrower = np.minimum(np.diff(a)[rows], np.diff(b)[columns])
    kept = lengths > ROUNDING * narrower
    entries = (lengths[kept], (rows[kept], columns[kept]))
    return scipy.sparse.csr_matrix(entries, shape=(a.size - 1, b.size - 1))


def overlap(source: np.ndarray, target: np.ndarray) -> scipy.sparse.csr_matrix:
    """Fractions (target cells x source cells) of what source cells cover of each target cell, both
    given by edges. Rows add up to 1; those of target cells that nothing covers are empty."""
    shared = overlap_lengths(target, source)
    covered = np.asarray(shared.sum(axis=1)).ravel()
    shared.data /= np.repeat(covered, np.diff(shared.indptr))
    return shared


def multiply_along(
    matrix: scipy.sparse.csr_matrix, values: np.ndarray, axis: int
) -> np.ndarray:
    """The product of a matrix with the values along one axis."""
    moved = np.moveaxis(values, axis, 0)
    others = moved.shape[1:]
    flat = matrix @ moved.reshape(moved.shape[0], math.prod(others))
    return np.moveaxis(flat.reshape(matrix.shape[0], *others), 0, axis)


def consecutive(first: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """first[0], first[0] + 1, ... counts[0] of them, then so from first[1], and so on."""
    starts = np.cumsum(counts) - counts
    return np.arange(counts.sum()) + np.repeat(first - starts, counts)

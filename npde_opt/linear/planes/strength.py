"""How strongly cells are coupled along each axis, and which cells of an axis a coarse level keeps.

Along an axis l, m and u are the couplings of a cell to all cells before, at and after it, summed
across. Errors that sweeps leave are smooth along an axis only where s = max(-l, -u) is about as
large as along the others. So a cell's line (or plane) across an axis is taken out only where s is
at least WEAK of the largest of all axes in half of its cells, and the one before is kept: every
other one where nothing differs, none in padding whose cells have become long.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from npde_opt.linear.planes.levels import Planes

WEAK = 0.25
FEW = 5
"""Cells along an axis that are not parted further, while others are."""

Sums = tuple[np.ndarray, np.ndarray, np.ndarray]


def sums(planes: Planes, d: int) -> Sums:
    """-l, m, -u [k, j, i] along axis d, from planes of both of o and -o."""
    like = next(iter(planes.values()))
    found = np.zeros(like.shape), np.zeros(like.shape), np.zeros(like.shape)
    for offset, values in planes.items():
        if offset[d]:
            found[offset[d] + 1][...] -= values
        else:
            found[1][...] += values
    return found


def strengths(planes: Planes, dim: int) -> np.ndarray:
    """s [axis, k, j, i]."""
    found = []
    for d in range(dim):
        before, _, after = sums(planes, d)
        found.append(np.maximum(before, after))
    return np.stack(found)


def weak_shares(s: np.ndarray, active: np.ndarray) -> list[tuple[np.ndarray, ...]]:
    """By axis, along it: numbers of cells with weak couplings, and of active ones."""
    dim, largest = len(s), s.max(axis=0)
    found = list[tuple[np.ndarray, ...]]()
    for d in range(dim):
        across = tuple(a for a in range(dim) if a != dim - 1 - d)
        weak = active & (s[d] < WEAK * largest)
        found.append((weak.sum(axis=across), active.sum(axis=across)))
    return found


def kept(shares: Sequence[tuple[np.ndarray, ...]], few: int) -> list[np.ndarray]:
    """By axis the numbers of cells that are kept, from what `weak_shares` gives."""
    found = list[np.ndarray]()
    for weak, active in shares:
        keep = np.ones(weak.size, bool)
        if weak.size >= few:
            goes = 2 * weak <= active
            for i in range(1, weak.size):
                keep[i] = not (keep[i - 1] and goes[i])
        found.append(np.flatnonzero(keep))
    return found

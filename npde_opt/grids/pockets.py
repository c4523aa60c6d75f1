"""Pockets: parts of the active cells that no face joins to the rest.

The steady equation is singular in a pocket that has neither a Dirichlet or Robin side, nor a
reaction or ground. Every rank labels the cells of its box; only labels at faces between boxes are
known to all ranks, and a pocket is told by the number of its first cell, on any number of ranks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from npde_opt import reductions
from npde_opt.errors import InputError
from npde_opt.grids import AXES, Grid
from npde_opt.grids.scattered import Mask, Scattered
from npde_opt.packages import scipy


@dataclass(frozen=True, eq=False)
class Pockets:
    """Args:
    labels: of the owned cells [i, j, k], 0 where they are inactive.
    first: of the pocket of each label 1, 2, ..., the number of its first cell in the order of i,
        then j, then k.
    here: whether this rank owns that cell.
    sizes: cells of each label's pocket.
    count: pockets of all ranks.
    shared: whether a label's pocket may go on in other boxes.
    """

    labels: np.ndarray
    first: np.ndarray
    here: np.ndarray
    sizes: np.ndarray
    count: int
    shared: np.ndarray


def pockets(mask: Mask, periodic: Sequence[bool] = ()) -> Pockets:
    """Those of the active cells, across the ends of periodic axes too. Collective."""
    labels, count = scipy.ndimage.label(mask.owned)
    own, sizes = _first_cells(mask, labels), np.bincount(labels.ravel())[1:]
    begin = mask.comm.scan(count) - count
    joined = _joined(mask, labels, begin, periodic)
    groups, nodes = joined
    mine = np.flatnonzero((nodes > begin) & (nodes <= begin + count))
    local = nodes[mine] - begin - 1
    told = mask.comm.allgather((groups[mine], own[local], sizes[local]))
    group, least, size = (np.concatenate(x) for x in zip(*told, strict=True))
    parts = int(groups.max(initial=-1)) + 1
    first = np.full(parts, np.iinfo(np.int64).max)
    np.minimum.at(first, group, least)
    whole = np.bincount(group, size, parts).astype(np.int64)
    shared = np.zeros(count, bool)
    shared[local] = True
    found, cells = own.copy(), sizes.copy()
    found[local], cells[local] = first[groups[mine]], whole[groups[mine]]
    alone = int(reductions.total(mask.comm, float(count - local.size)))
    # Of several labels of one pocket on this rank one has its first cell.
    return Pockets(labels, found, found == own, cells, alone + parts, shared)


def _first_cells(mask: Mask, labels: np.ndarray) -> np.ndarray:
    """Numbers of the first cells of the labels 1, 2, ... among all cells, the last axis fastest."""
    there, index = np.unique(labels.ravel(), return_index=True)
    index = index[there > 0]
    local = np.unravel_index(index, labels.shape)
    cells = [i + s for i, s in zip(local, mask.layout.start, strict=True)]
    found = np.zeros(index.size, np.int64)
    for i, n in zip(cells, mask.shape, strict=True):
        found = found * n + i
    return found


def _joined(
    mask: Mask, labels: np.ndarray, begin: int, periodic: Sequence[bool]
) -> tuple[np.ndarray, np.ndarray]:
    """Groups of the labels that faces between boxes, or the ends of an axis, join, and these labels
    with those of all ranks counted on from `begin`: the same on all ranks."""
    numbers = np.where(labels > 0, labels + np.int64(begin), 0)
    spread = Scattered(mask.comm, mask.layout, numbers)
    pairs = [np.empty((0, 2), np.int64)]
    for axis, n in enumerate(mask.shape):
        wraps = axis < len(periodic) and periodic[axis]
        if len(mask.layout.counts[axis]) == 1 and not wraps:
            continue
        start = mask.layout.start[axis]
        asked = mask.layout.local_size > 0 and (wraps or start > 0)
        cells = mask.layout.owned()
        cells[axis] = np.arange(start - 1, start)[: int(asked)] % n
        below = spread.at(cells)
        if asked:
            beside = np.stack([below, numbers.take([0], axis)], axis=-1).reshape(-1, 2)
            pairs.append(np.unique(beside[(beside > 0).all(axis=1)], axis=0))
    every = np.concatenate(mask.comm.allgather(np.concatenate(pairs)))
    nodes, place = np.unique(every, return_inverse=True)
    place = place.reshape(-1, 2)
    ones = np.ones(len(place))
    links = scipy.sparse.coo_matrix((ones, (*place.T,)), shape=(nodes.size,) * 2)
    _, groups = scipy.sparse.csgraph.connected_components(links, directed=False)
    return groups, nodes


def largest_pocket(mask: Mask, periodic: Sequence[bool] = ()) -> Mask:
    """The mask's largest pocket, of several as large the first one. Collective."""
    found = pockets(mask, periodic)
    if found.count < 2:
        return mask
    most = reductions.largest(mask.comm, float(found.sizes.max(initial=0)))
    own = found.first[found.sizes == most]
    first = reductions.smallest(mask.comm, float(min(own, default=np.inf)))
    kept = np.append(False, found.first == first)[found.labels]
    return Mask(mask.comm, mask.layout, np.asfortranarray(kept)).counted()


def check_fixed(grid: Grid, held: np.ndarray | bool) -> None:
    """Raises InputError unless the solution is fixed in every pocket. Collective.

    Args:
        held: owned cells [i, j, k], or all of them, that have a reaction.
    """
    fixing = [s for s, b in grid.boundaries.items() if b.kind in ("dirichlet", "robin")]
    some = reductions.anywhere(grid.comm, bool(np.any(held & grid.active)))
    if not fixing and not some:
        raise InputError(
            "boundaries",
            "no Dirichlet or Robin side and no reaction",
            "one of them (or a ground), "
            "without which the solution is defined up to a constant only, or its mean",
        )
    if grid.mask is None:
        return
    found = pockets(grid.mask, [grid.periodic(d) for d in range(grid.dim)])
    good = np.zeros(found.first.size + 1, bool)
    good[found.labels[held & grid.active]] = True
    for side in fixing:
        axis, upper = AXES.index(side[0]), side[1] == "+"
        if grid.stop[axis] == grid.shape[axis] if upper else grid.start[axis] == 0:
            good[found.labels.take(-1 if upper else 0, axis)] = True
    loose = found.here & ~_held_anywhere(grid, found, good[1:])
    cells = found.sizes[loose]
    told = grid.comm.allgather((cells.size, int(cells.sum()), found.first[loose]))
    numbers, sizes, firsts = zip(*told, strict=True)
    if sum(numbers):
        first = np.unravel_index(int(np.concatenate(firsts).min()), grid.shape)
        raise InputError(
            "grid.active",
            f"{sum(numbers)} of {found.count} separate parts ({sum(sizes):,} of "
            f"{grid.active_size:,} cells, the first at cell {[int(i) for i in first]}) "
            "without an active cell at a Dirichlet or Robin side, a reaction or a ground",
            "a mask whose parts each have one, or "
            "grid.keep = 'largest' to keep the largest part only",
        )


def _held_anywhere(grid: Grid, found: Pockets, good: np.ndarray) -> np.ndarray:
    """Whether the pocket of each label is fixed here or on another rank. Collective."""
    told = grid.comm.allgather(np.unique(found.first[good & found.shared]))
    return good | np.isin(found.first, np.concatenate(told))


def check_free(grid: Grid, held: np.ndarray | bool) -> None:
    """Raises InputError unless nothing fixes the level of the solution, and the active cells are
    one part. Collective.

    Args:
        held: owned cells [i, j, k], or all of them, that have a reaction.
    """
    fixing = [s for s, b in grid.boundaries.items() if b.kind in ("dirichlet", "robin")]
    if fixing or reductions.anywhere(grid.comm, bool(np.any(held & grid.active))):
        said = f"given beside {', '.join(fixing) or 'a reaction'}"
        raise InputError(
            "mean", said, "no mean, where a side or a reaction fixes the level"
        )
    if grid.mask is None:
        return
    count = pockets(grid.mask, [grid.periodic(d) for d in range(grid.dim)]).count
    if count > 1:
        said = "one part (grid.keep = 'largest' keeps the largest): each has a level of its own"
        raise InputError(
            "mean", f"given for {count} separate parts of the active cells", said
        )

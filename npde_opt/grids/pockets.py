"""Pockets: parts of the active cells that no face joins to the rest.

The steady equation is singular in a pocket that has neither a Dirichlet or Robin side, nor a
reaction or ground.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy  # loads its parts when they are used

from npde_opt import reductions
from npde_opt.errors import InputError
from npde_opt.grids import AXES, Grid


def label_pockets(
    mask: np.ndarray, periodic: Sequence[bool] = ()
) -> tuple[np.ndarray, int]:
    """Pocket numbers 1, 2, ... of the true cells [i, j, k] (0 elsewhere) and how many there are."""
    labels, count = scipy.ndimage.label(mask)
    pairs = []
    for axis, wraps in enumerate(periodic):
        if wraps:
            ends = labels.take(0, axis).ravel(), labels.take(-1, axis).ravel()
            both = (ends[0] > 0) & (ends[1] > 0)
            pairs.append(np.stack([e[both] for e in ends]))
    if not pairs or count < 2:
        return labels, count
    first, second = np.concatenate(pairs, axis=1) - 1
    ones = np.ones(first.size)
    joined = scipy.sparse.coo_matrix((ones, (first, second)), shape=(count, count))
    count, groups = scipy.sparse.csgraph.connected_components(joined, directed=False)
    return np.append(0, groups + 1)[labels], count


def largest_pocket(mask: np.ndarray, periodic: Sequence[bool] = ()) -> np.ndarray:
    """The mask's largest pocket."""
    labels, count = label_pockets(mask, periodic)
    return (
        mask
        if count < 2
        else labels == 1 + int(np.argmax(np.bincount(labels.ravel())[1:]))
    )


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
    mask = grid.active_global
    if mask is None:
        return
    labels, count = label_pockets(mask, [grid.periodic(d) for d in range(grid.dim)])
    good = np.zeros(count + 1, bool)
    good[labels[grid.local_slice][held & grid.active]] = True
    good = reductions.largest(grid.comm, good.astype("i1")) > 0
    for side in fixing:
        good[
            np.unique(labels.take(-1 if side[1] == "+" else 0, AXES.index(side[0])))
        ] = True
    loose = np.flatnonzero(~good[1:]) + 1
    if loose.size:
        cells = np.bincount(labels.ravel(), minlength=count + 1)
        first = tuple(int(i) for i in np.argwhere(labels == loose[0])[0])
        raise InputError(
            "grid.active",
            f"{loose.size} of {count} separate parts ({cells[loose].sum():,} of "
            f"{cells[1:].sum():,} cells, the first at cell {list(first)}) without an active cell "
            "at a Dirichlet or "
            "Robin side, a reaction or a ground",
            "a mask whose parts each have one, or "
            "grid.keep = 'largest' to keep the largest part only",
        )


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
    mask = grid.active_global
    if mask is None:
        return
    _, count = label_pockets(mask, [grid.periodic(d) for d in range(grid.dim)])
    if count > 1:
        said = "one part (grid.keep = 'largest' keeps the largest): each has a level of its own"
        raise InputError(
            "mean", f"given for {count} separate parts of the active cells", said
        )

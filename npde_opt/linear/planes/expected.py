"""Messages and numbers of a V-cycle on planes (stages.py), from the boxes that it would have on any
number of ranks. Nothing is sent.

    on levels of the same ranks    one exchange of b down, one of x up; none of b on the last one,
                                   none of x on the first
    to fewer ranks                 b to the rank that has the group, x back
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

from mpi4py import MPI

from npde_opt.grids.layout import Layout
from npde_opt.linear.geometric import COARSEST, axes_to_halve
from npde_opt.linear.planes.boxes import TOP, Box
from npde_opt.linear.planes.gathering import Gathering, on_the_same_ranks

NUMBER = 4
"""Bytes."""
UNSENT = cast(MPI.Intracomm, None)
"""The communicator of boxes that exchange nothing."""
ALL = 64
"""Up to so many ranks each is looked at, of more those at a corner and inside."""

Counted = tuple[int, int]
"""Messages sent and taken by a rank, and bytes in them."""


def axes_halved(cells: Sequence[int]) -> list[list[bool]]:
    """By level, finest first, which axes of a grid of cells as long as wide are halved."""
    sizes, spacing, found = list(cells), [1.0] * len(cells), list[list[bool]]()
    while math.prod(sizes) > COARSEST:
        axes = axes_to_halve(sizes, spacing)
        if not axes:
            break
        found.append([d in axes for d in range(len(sizes))])
        for d in axes:
            sizes[d], spacing[d] = (sizes[d] + 1) // 2, 2 * spacing[d]
    return found


def of_rank(
    layout: Layout, periodic: Sequence[bool], halved: Sequence[Sequence[bool]]
) -> Counted:
    """Of the layout's own rank, in one cycle."""
    box = Box(UNSENT, layout, range(layout.rank_count), periodic, TOP)
    messages, numbers = _of_stage(box, halved)
    return messages, NUMBER * numbers


def most(
    counts: Sequence[Sequence[int]],
    periodic: Sequence[bool],
    halved: Sequence[Sequence[bool]],
) -> Counted:
    """The most messages of a rank in one cycle, and the most bytes.

    Args:
        counts: cells of the boxes, by axis.
    """
    cut = tuple(tuple(c) for c in counts)
    ranks = _looked_at(Layout(cut, 0))
    found = [of_rank(Layout(cut, rank), periodic, halved) for rank in ranks]
    messages, numbers = zip(*found, strict=True)
    return max(messages), max(numbers)


def _looked_at(layout: Layout) -> Sequence[int]:
    """Of many ranks those that have groups of ranks of their own, at the first corner and inside:
    powers of two along each axis."""
    if layout.rank_count <= ALL:
        return range(layout.rank_count)
    found, stride = [0], 1
    for many in layout.processes:
        inside = 1 << (many.bit_length() - 2) if many > 1 else 0
        found = [n + at * stride for n in found for at in sorted({0, inside})]
        stride *= many
    return found


def _of_stage(first: Box, halved: Sequence[Sequence[bool]]) -> Counted:
    boxes = on_the_same_ranks(first, halved)
    own = len(boxes) - 1
    last, messages, numbers = boxes[-1], 0, 0
    for box in (*boxes[:-1], *boxes[1:]):
        there, amount = box.traffic()
        messages, numbers = messages + there, numbers + amount
    if not last.is_cut:
        return messages, numbers
    gathering = Gathering(last, own == len(halved))
    there, amount = gathering.traffic()
    messages, numbers = messages + 2 * there, numbers + 2 * amount
    if gathering.box is None:
        return messages, numbers
    more = _of_stage(gathering.box, halved[own:])
    return messages + more[0], numbers + more[1]

"""Electrodes in rings: points at even angles on the outline of a plane's active cells.

Each rank has some of these cells: all find the same points, to the bit on any number of ranks.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from mpi4py import MPI

from npde_opt import reductions
from npde_opt.errors import InputError
from npde_opt.grids.scattered import Mask

COUNT = "electrodes.count"
NARROWEST = 60
"""A point is sought within half of the angle between neighbours, or of this share of a turn."""


def ring_levels(mask: Mask, rings: int) -> list[int]:
    """Indices of the axial planes of rings, evenly spaced over those with active cells; of one
    ring the middle of the box. Raises InputError for more rings than planes. Collective."""
    planes = np.zeros(mask.shape[2])
    planes[mask.layout.box[2]] = mask.owned.any(axis=(0, 1))
    on = np.flatnonzero(reductions.largest(mask.comm, planes))
    if not 1 <= rings <= max(on.size, 1):
        allowed = f"from 1 to the {on.size} planes with active cells"
        raise InputError("electrodes.rings", rings, allowed)
    if rings == 1:
        return [mask.shape[2] // 2]
    return [int(on[(k + 1) * on.size // (rings + 1)]) for k in range(rings)]


Cells = tuple[np.ndarray, np.ndarray]
"""Indices i, and j."""


def cells_of(mask: Mask, level: int | None = None) -> Cells:
    """A rank's active cells; of three axes those in a plane."""
    on, (first, second, *_) = mask.owned, mask.layout.start
    if level is not None:
        at = level - mask.layout.start[2]
        here = 0 <= at < mask.layout.local_shape[2]
        on = on[:, :, at] if here else np.zeros((0, 0), bool)
    i, j = np.nonzero(on)
    return i + first, j + second


def outline(
    cells: Cells,
    edges: Sequence[np.ndarray],
    count: int,
    radius: float,
    comm: MPI.Intracomm = MPI.COMM_SELF,
) -> np.ndarray:
    """Points (count, 2) at even angles about the mean of a plane's active cells: centres of the
    outermost cell in each direction, moved inwards by half a radius. Collective.

    Args:
        cells: this rank's active ones.

    Raises:
        InputError: where no cell is active, none lies in some direction, two points would share a
            cell, or the radius leads back to the middle.
    """
    plane = _Plane(cells, edges, comm)
    if not plane.size:
        raise InputError(
            "electrodes", "no active cell in the middle plane", "electrodes.at"
        )
    if count > plane.size:
        raise InputError(COUNT, count, f"at most the plane's {plane.size} active cells")
    targets = 2 * np.pi * np.arange(count) / count
    chosen = plane.outermost(targets)
    found = []
    for number, target in zip(chosen, targets, strict=True):
        x = plane.offsets(number)
        r = float(np.hypot(x[0], x[1]))
        if number < 0 or not r > 0.5 * radius:
            raise InputError(
                COUNT,
                count,
                "electrodes.at: in the direction of "
                f"{np.degrees(target):.0f} degrees there is no active cell, or none "
                "further than half a radius from the middle",
            )
        pull = 1 - 0.5 * radius / r
        found.append([m + pull * a for m, a in zip(plane.middle, x, strict=True)])
    if len(set(chosen)) < count:
        raise InputError(
            COUNT,
            count,
            f"at most {len(set(chosen))}: more would share cells of the "
            "outline (or finer cells, or electrodes.at)",
        )
    return np.array(found)


class _Plane:
    """Active cells, of which each rank has some. Making one is collective.

    Attributes:
        size: of all ranks.
        middle: the mean of all centres.
    """

    def __init__(self, cells: Cells, edges: Sequence[np.ndarray], comm: MPI.Intracomm):
        self.comm, self.edges = comm, edges[:2]
        # From numbers of cells along each axis: the same bits on any number of ranks.
        lengths = [e.size - 1 for e in self.edges]
        numbers = np.concatenate(
            [np.bincount(i, minlength=n) for i, n in zip(cells, lengths, strict=True)]
        )
        along = np.split(reductions.total(comm, numbers.astype(float)), lengths[:1])
        self.size = int(along[0].sum())
        self.middle = [
            float(n @ (e[:-1] + e[1:])) / 2 / max(self.size, 1)
            for n, e in zip(along, self.edges, strict=True)
        ]
        self._boxes = [(e[i], e[i + 1]) for e, i in zip(self.edges, cells, strict=True)]
        self._numbers = cells[0] * lengths[1] + cells[1]

    def offsets(self, number: int) -> list[float]:
        """Of a cell's centre from the middle."""
        cell = divmod(number, self.edges[1].size - 1)
        return [
            float((e[i] + e[i + 1]) / 2) - m
            for i, e, m in zip(cell, self.edges, self.middle, strict=True)
        ]

    def outermost(self, targets: np.ndarray) -> list[int]:
        """Numbers of the cells (-1: none) that are farthest from the middle near these angles; a
        cell that the ray in this direction leaves last is near. Collective."""
        x, y = (
            (low + high) / 2 - m
            for (low, high), m in zip(self._boxes, self.middle, strict=True)
        )
        angle, r = np.arctan2(y, x), np.hypot(x, y)
        last = self._first_of_largest([self._leaving(t) for t in targets])
        width = np.pi / max(targets.size, NARROWEST)
        near = []
        for target, number in zip(targets, last, strict=True):
            beside = np.abs(np.angle(np.exp(1j * (angle - target)))) < width
            near.append(np.where(beside | (self._numbers == number), r, -np.inf))
        return self._first_of_largest(near)

    def _first_of_largest(self, values: Sequence[np.ndarray]) -> list[int]:
        """Of each array of values of this rank's cells, the number of the cell with the largest of
        all ranks, of several the first one; -1 where all are -inf. Collective."""
        own = np.array([v.max(initial=-np.inf) for v in values])
        most = reductions.largest(self.comm, own)
        none = 2**53
        first = [
            float(self._numbers[v == top].min(initial=none))
            for v, top in zip(values, most, strict=True)
        ]
        numbers = reductions.smallest(self.comm, np.array(first))
        return [
            -1 if top == -np.inf else int(k)
            for top, k in zip(most, numbers, strict=True)
        ]

    def _leaving(self, angle: float) -> np.ndarray:
        """How far from the middle a ray leaves each cell, -inf where it does not meet it."""
        size = self._numbers.size
        enter, leave = np.zeros(size), np.full(size, np.inf)
        direction = np.cos(angle), np.sin(angle)
        for (low, high), m, step in zip(
            self._boxes, self.middle, direction, strict=True
        ):
            if abs(step) < 1e-12:  # along the other axis
                leave[(low > m) | (high < m)] = -np.inf
                continue
            ends = np.sort([(low - m) / step, (high - m) / step], axis=0)
            enter, leave = np.maximum(enter, ends[0]), np.minimum(leave, ends[1])
        return np.where(leave > enter, leave, -np.inf)

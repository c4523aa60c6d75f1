"""What a rank holds of a level: its own box of cells, and as many ghosts beyond every cut as let a
leg of the cycle run without its neighbours.

A leg sweeps `degree` times and restricts or interpolates once; every sweep is right on one layer of
ghosts less than the one before. So ghosts are exchanged once a leg, and what is computed is the
same on any number of ranks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from mpi4py import MPI

from npde_opt import traffic
from npde_opt.grids.layout import Layout

DEGREE = 2
"""Sweeps of a leg."""
DEPTH = DEGREE + 1
"""Layers of ghosts of a level."""
TOP = DEGREE + 2
"""Those of the finest one, whose solution is known on one layer of ghosts, too."""
LEAST = DEGREE
"""Those that interpolation to the level above needs."""
SHORTEST = 4
"""Cells along a cut axis that every rank has where levels are spread."""

Index = tuple[slice, ...]
Phase = list[tuple[int, int, Index, int, Index]]
"""(rank, tag sent, what is sent, tag received, where to) of the sides of an axis."""
Planes = dict[tuple[int, ...], np.ndarray]


@dataclass(frozen=True)
class Extent:
    """A box along one axis. Places are cells of the axis, and go on past its ends where it is
    periodic and cut."""

    total: int
    first: int
    count: int
    below: int
    above: int
    periodic: bool
    cut: bool

    @property
    def start(self) -> int:
        """The first ghost, or the first cell where there is none."""
        return self.first - self.below

    @property
    def size(self) -> int:
        """Cells with ghosts."""
        return self.below + self.count + self.above

    @property
    def end(self) -> int:
        return self.start + self.size

    @property
    def wraps(self) -> bool:
        """Whether the cell behind the last one is the rank's own first."""
        return self.periodic and not self.cut

    @property
    def owned(self) -> np.ndarray:
        return self.first + np.arange(self.count)

    @property
    def inner(self) -> slice:
        """The owned cells of those with ghosts."""
        return slice(self.below, self.below + self.count)

    def local(self, places: np.ndarray) -> np.ndarray:
        """Numbers of cells from the first ghost on."""
        return places % self.total if self.wraps else places - self.start

    def exists(self, places: np.ndarray) -> np.ndarray:
        """Whether there are such cells. Those past the ends are other cells again where the axis
        is periodic and even; where it is odd the two at its ends are both coarse."""
        if self.periodic and self.total % 2 == 0:
            return np.ones(places.shape, bool)
        found: np.ndarray = (places >= 0) & (places < self.total)
        return found


class Exchange:
    """Ghosts of an array [k, j, i] that is kept, and so are the messages: a leg of the cycle has
    one exchange, and on coarse levels hardly more work than that."""

    def __init__(self, comm: MPI.Intracomm, phases: list[Phase], field: np.ndarray):
        self._comm = comm
        self._phases = [[self._side(field, *side) for side in p] for p in phases]

    def _side(
        self,
        field: np.ndarray,
        rank: int,
        sent: int,
        out: Index,
        received: int,
        into: Index,
    ) -> tuple[int, int, np.ndarray, np.ndarray, int, np.ndarray, np.ndarray]:
        given, ghosts = field[out], field[into]
        buffers = (
            np.empty(given.shape, field.dtype),
            np.empty(ghosts.shape, field.dtype),
        )
        return rank, sent, given, buffers[0], received, ghosts, buffers[1]

    def run(self) -> None:
        """Ghosts take what their owners have. Collective."""
        comm = self._comm
        for phase in self._phases:
            requests = list[MPI.Request]()
            for rank, sent, given, out, received, _, taken in phase:
                np.copyto(out, given)
                traffic.taken(taken)
                traffic.sent(out)
                requests.append(comm.Irecv(taken, rank, received))
                requests.append(comm.Isend(out, rank, sent))
            MPI.Request.Waitall(requests)
            for *_, ghosts, taken in phase:
                np.copyto(ghosts, taken)


class Box:
    """A rank's cells of a level.

    Args:
        layout: of the ranks that hold the level, with the own number among them.
        ranks: their numbers in `comm`.
        depth: layers of ghosts.
    """

    def __init__(
        self,
        comm: MPI.Intracomm,
        layout: Layout,
        ranks: Sequence[int],
        periodic: Sequence[bool],
        depth: int,
    ):
        self.comm, self.layout = comm, layout
        self.ranks = ranks if isinstance(ranks, range) else tuple(ranks)
        self.periodic, self.depth = tuple(periodic), depth
        self.extents = tuple(self._extent(d) for d in range(layout.dim))
        self.phases = [
            self._phase(d) for d, e in enumerate(self.extents) if e.below or e.above
        ]
        """Of an exchange, by axis that is cut."""

    def _extent(self, d: int) -> Extent:
        layout = self.layout
        at, many = layout.position[d], layout.processes[d]
        cut, wraps = many > 1, self.periodic[d]
        below = self.depth if cut and (at > 0 or wraps) else 0
        above = self.depth if cut and (at < many - 1 or wraps) else 0
        own = layout.shape[d], layout.start[d], layout.local_shape[d]
        return Extent(*own, below, above, wraps, cut)

    @property
    def cells(self) -> tuple[int, ...]:
        """With ghosts, along x, y, z."""
        return tuple(e.size for e in self.extents)

    @property
    def wraps(self) -> tuple[bool, ...]:
        return tuple(e.wraps for e in self.extents)

    @property
    def is_cut(self) -> bool:
        return len(self.ranks) > 1

    @property
    def inner(self) -> Index:
        """The owned cells of an array [k, j, i] with ghosts."""
        return tuple(e.inner for e in self.extents[::-1])

    def _phase(self, d: int) -> Phase:
        """Of an exchange along axis d, with the ghosts of earlier axes, which fills the corners."""
        own, layout, depth = self.extents[d], self.layout, self.depth
        stride = int(np.prod(layout.processes[:d], dtype=int))
        at, many = layout.position[d], layout.processes[d]
        first, last = own.below, own.below + own.count
        sides = [
            (-1, own.below, slice(first, first + depth), slice(0, depth)),
            (1, own.above, slice(last - depth, last), slice(last, last + depth)),
        ]
        found: Phase = []
        for step, ghosts, sent, received in sides:
            if ghosts:
                beside = self.ranks[layout.rank + ((at + step) % many - at) * stride]
                up = int(step > 0)
                tags = 2 * d + up, 2 * d + 1 - up
                out, into = self._slab(d, sent), self._slab(d, received)
                found.append((beside, tags[0], out, tags[1], into))
        return found

    def _slab(self, d: int, part: slice) -> Index:
        """Cells [k, j, i] of a part of axis d."""
        along = [
            slice(None) if n < d else part if n == d else e.inner
            for n, e in enumerate(self.extents)
        ]
        return tuple(along[::-1])

    def traffic(self) -> tuple[int, int]:
        """Messages that this rank sends or gets in an exchange of one array, and numbers in
        them."""
        sides = [side for phase in self.phases for side in phase]
        parts = [part for _, _, out, _, into in sides for part in (out, into)]
        return len(parts), sum(self._size(part) for part in parts)

    def _size(self, part: Index) -> int:
        """Cells of a part [k, j, i] of the box."""
        along = zip(part, self.cells[::-1], strict=True)
        return math.prod(len(range(*s.indices(n))) for s, n in along)

    def exchange(self, *fields: np.ndarray) -> None:
        """Ghosts of arrays [k, j, i] take what their owners have, all in one message a neighbour.
        Collective."""
        for phase in self.phases:
            requests, pending = list[MPI.Request](), list[tuple[Index, np.ndarray]]()
            for rank, sent, out, received, into in phase:
                given = np.stack([field[out] for field in fields])
                like = fields[0][into].shape
                buffer = np.empty((len(fields), *like), given.dtype)
                pending.append((into, buffer))
                traffic.taken(buffer)
                traffic.sent(given)
                requests.append(self.comm.Irecv(buffer, rank, received))
                requests.append(self.comm.Isend(given, rank, sent))
            MPI.Request.Waitall(requests)
            for into, buffer in pending:
                for field, values in zip(fields, buffer, strict=True):
                    field[into] = values

    def kept(self, field: np.ndarray) -> Exchange:
        """Exchanges of an array [k, j, i] that is kept."""
        return Exchange(self.comm, self.phases, field)

    def spread(self, values: np.ndarray) -> np.ndarray:
        """Owned values [k, j, i], with ghosts. Collective."""
        if not self.phases:
            return values
        found = np.zeros(self.cells[::-1], values.dtype)
        found[self.inner] = values
        self.exchange(found)
        return found

    def with_ghosts(self, planes: Planes, kept: Planes) -> Planes:
        """Owned planes with ghosts, in arrays that are kept from call to call; the planes
        themselves where there are no ghosts. Collective."""
        if not self.phases:
            return planes
        for offset, values in planes.items():
            if offset not in kept:
                kept[offset] = np.zeros(self.cells[::-1], values.dtype)
            kept[offset][self.inner] = values
        self.exchange(*kept.values())
        return kept

    def coarsened(self, halved: Sequence[bool]) -> Box:
        """The box of the level below, where cell 2I of an axis is the coarse cell I."""
        layout = self.layout.coarsened(list(halved))
        depth = DEPTH if fits(layout, self.periodic) else LEAST
        return Box(self.comm, layout, self.ranks, self.periodic, depth)

    def of_cells(self, cells: Sequence[int]) -> Box:
        """A box of as many cells that this rank has alone, as it has this one."""
        layout = Layout(tuple((int(n),) for n in cells), 0)
        return Box(self.comm, layout, self.ranks[:1], self.periodic, self.depth)


def fits(layout: Layout, periodic: Sequence[bool]) -> bool:
    """Whether a level can be spread over ranks: each has cells enough, and where coarse cells are
    every other one, they are so across the ends of periodic axes."""
    for counts, total, wraps in zip(layout.counts, layout.shape, periodic, strict=True):
        if len(counts) > 1 and (min(counts) < SHORTEST or (wraps and total % 2)):
            return False
    return True

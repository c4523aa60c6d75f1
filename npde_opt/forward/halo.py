"""Ghosts of states on several ranks, for compiled loops of explicit steps: persistent messages to
the ranks beside this one, and how the own cells are cut,

    inside     cells that need nothing from other ranks: what is done while messages are under way
    borders    the cells beside ghosts that others have, once these are there

Along x, the fastest axis, cells are not cut, as loops over a few of them would take as long as over
all: ghosts from there are waited for first. The axes' messages are under way together; corners are
not needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from mpi4py import MPI

from npde_opt import traffic
from npde_opt.grids import Grid
from npde_opt.linear.planes.messages import Requests, calls
from npde_opt.machine_code import address_of
from npde_opt.reductions import everywhere

TAG, RING_TAG = 80, 96
"""The first of the ghosts' and of the agreement's tags, which are those of no other messages."""
ENDS = (0, 1)

Beside = tuple[int | None, int | None]


def can(grid: Grid) -> bool:
    """Whether messages of compiled loops can be made on all ranks. Collective, at first."""
    return grid.once("halo", lambda: everywhere(grid.comm, calls() is not None))


def beside(grid: Grid) -> list[Beside]:
    """The ranks below and above by axis, the slowest first; None where ghosts are this rank's own
    business."""
    found: list[Beside] = []
    for d in reversed(range(grid.dim)):
        split = grid.local_shape[d] != grid.shape[d]
        ranks = grid.layout.beside(d, grid.periodic(d)) if split else (None, None)
        found.append(ranks)
    return found


def parts(sizes: Sequence[int], ranks: Sequence[Beside]) -> np.ndarray:
    """[part, axis, end] of the own cells, the slowest axis first: inside, and borders; each cell is
    in one.

    Args:
        sizes: of the own box. ranks: see `beside`.
    """
    inside, borders = [[0, n] for n in sizes], list[list[list[int]]]()
    for axis, (below, above) in enumerate(ranks[:-1]):
        n = sizes[axis]
        low = min(1, n) if below is not None else 0
        high = max(n - 1, low) if above is not None else n
        for first, last in ((0, low), (high, n)):
            if first < last:
                border = [list(ends) for ends in inside]
                border[axis] = [first, last]
                borders.append(border)
        inside[axis] = [low, high]
    return np.array([inside, *borders], np.int64)


@dataclass(frozen=True)
class Message:
    """A ghost layer that comes and the layer that goes to the same rank: `size` values each, from
    `at` on in the buffers."""

    axis: int
    end: int
    rank: int
    at: int
    size: int


class Halo:
    """What loops over states of one shape and precision need on several ranks.

    Attributes:
        parts: see above.
        sides: [axis, end]: where a layer begins in the buffers; -1: it is not sent.
        given, taken: the buffers.
        calls: addresses and numbers of requests, see fused_ranks.py.
        ring, shared: of the agreement, see halo_loops.py.

    Args:
        whole: an array around such a state.
    """

    def __init__(self, grid: Grid, whole: np.ndarray):
        self.comm, ranks = grid.comm, beside(grid)
        sizes = list(grid.local_shape[::-1])
        self.parts = parts(sizes, ranks)
        self.sides = np.full((grid.dim, 2), -1, np.int64)
        self._messages, total = list[Message](), 0
        samples = int(np.prod(whole.shape[grid.dim + 1 :], dtype=int))
        for axis in (grid.dim - 1, *range(grid.dim - 1)):
            across = int(np.prod(sizes[:axis] + sizes[axis + 1 :], dtype=int))
            size = len(whole) * samples * across
            for end, rank in zip(ENDS, ranks[axis], strict=True):
                if rank is not None and size > 0:
                    self.sides[axis, end] = total
                    self._messages.append(Message(axis, end, rank, total, size))
                    total += size
        self.given, self.taken = (np.zeros(total, whole.dtype) for _ in ENDS)
        self.shared = np.zeros((2, 2 + len(whole)))
        self.calls, self.ring = np.zeros(8, np.int64), np.zeros(7, np.int64)
        if can(grid):
            self._make(grid.dim - 1)

    def _make(self, x: int) -> None:
        """The requests: those along x come first."""
        start, wait, _ = calls() or (0, 0, 0)
        requests = list[MPI.Prequest]()
        for m in self._messages:
            own = slice(m.at, m.at + m.size)
            # What goes up comes from below.
            tag = TAG + 2 * m.axis
            taken, given = self.taken[own], self.given[own]
            requests.append(self.comm.Recv_init(taken, m.rank, tag + 1 - m.end))
            requests.append(self.comm.Send_init(given, m.rank, tag + m.end))
        kept = Requests(requests)
        bytes_of = kept.handles.itemsize
        first = 2 * sum(m.axis == x for m in self._messages)
        at, rest = address_of(kept.handles), len(requests) - first
        behind = at + first * bytes_of
        self.calls[:] = (
            start,
            wait,
            address_of(kept.statuses),
            len(requests),
            at,
            first,
            behind,
            rest,
        )
        rounds = list[MPI.Prequest]()
        distance, P, r = 1, self.comm.size, self.comm.rank
        while distance < P:
            tag = RING_TAG + len(rounds) // 2
            other = self.shared[1]
            rounds.append(self.comm.Recv_init(other, (r - distance) % P, tag))
            rounds.append(self.comm.Send_init(self.shared[0], (r + distance) % P, tag))
            distance *= 2
        ring = Requests(rounds)
        number, handles = len(rounds) // 2, address_of(ring.handles)
        statuses = address_of(ring.statuses)
        self.ring[:] = start, wait, statuses, number, handles, bytes_of, 0
        self._kept = kept, ring

    @property
    def arguments(self) -> tuple[np.ndarray, ...]:
        """Of loops, by the names of fused_ranks.GHOSTS."""
        return self.parts, self.calls, self.sides, self.given, self.taken

    def over(self, found: int, messages: int) -> int:
        """What a loop returned, in which ghosts came as often as said: for PETSc's log.

        Raises:
            MPI.Exception: where that is MPI's error.
        """
        if found < 0:
            raise MPI.Exception(-found)
        *_, rounds, _, _, agreements = self.ring.tolist()
        self.ring[-1] = 0
        number = messages * len(self._messages) + agreements * rounds
        of_agreements = agreements * rounds * self.shared[0].nbytes
        both = number, messages * self.given.nbytes + of_agreements
        traffic.many(both, both)
        return found

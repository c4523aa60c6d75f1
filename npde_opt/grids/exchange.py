"""Rows across an axis that ranks of a line give each other as ghosts: who wants which of whom, and
the messages that are under way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from mpi4py import MPI

from npde_opt import traffic
from npde_opt.grids.layout import Layout

Places = slice | np.ndarray


@dataclass(frozen=True)
class Partner:
    """A rank that has ghosts of this one, or wants some from it.

    Args:
        sent: the own rows that it wants.
        here: which ghosts its rows are; None: it has none of them.
    """

    rank: int
    sent: np.ndarray
    here: Places | None


@dataclass(frozen=True)
class Line:
    """Ghosts along an axis, as every rank of it knows them without being told.

    Args:
        rows: global rows of the ghosts below and above; -1 outside the domain.
        partners: in the order of their places along the axis, this rank among them.
        brought: whether others have some of those below, and of those above.
    """

    rows: np.ndarray
    partners: tuple[Partner, ...]
    brought: tuple[bool, bool]

    @property
    def outside(self) -> np.ndarray:
        return np.flatnonzero(self.rows < 0)


@lru_cache(maxsize=1024)
def line_of(layout: Layout, d: int, width: int, periodic: bool) -> Line:
    """The ghosts of a width along axis d."""
    at, counts = layout.position[d], layout.counts[d]
    first, stride = layout.start[d], int(np.prod(layout.processes[:d], dtype=int))
    own = _wanted(layout, d, at, width, periodic)
    partners = []
    for p, count in enumerate(counts):
        theirs, start = _wanted(layout, d, p, width, periodic), sum(counts[:p])
        sent = theirs[(theirs >= first) & (theirs < first + counts[at])] - first
        here = np.flatnonzero((own >= start) & (own < start + count))
        if sent.size or here.size:
            rank = layout.rank + (p - at) * stride
            partners.append(Partner(rank, sent, _places(here)))
    of_others = (own >= 0) & ((own < first) | (own >= first + counts[at]))
    below, above = bool(of_others[:width].any()), bool(of_others[width:].any())
    return Line(own, tuple(partners), (below, above))


def _wanted(layout: Layout, d: int, at: int, width: int, periodic: bool) -> np.ndarray:
    """Global rows along axis d that the ranks of position `at` want below and above theirs; -1
    outside the domain."""
    count, n = layout.counts[d][at], layout.shape[d]
    first = sum(layout.counts[d][:at])
    ghosts = np.concatenate([np.arange(-width, 0), count + np.arange(width)])
    rows = first + ghosts
    return rows % n if periodic else np.where((rows >= 0) & (rows < n), rows, -1)


def _places(numbers: np.ndarray) -> Places | None:
    """As a slice where they follow each other, so that messages arrive where they belong."""
    if not numbers.size:
        return None
    if numbers[-1] - numbers[0] == numbers.size - 1:
        return slice(int(numbers[0]), int(numbers[-1]) + 1)
    return numbers


_given: list[tuple[MPI.Request, np.ndarray]] = []
"""What was sent and may not have arrived. Nobody waits for it: who waits for own ghosts only is not
held up by neighbours that are a little behind."""


def attend() -> None:
    """Lets messages go on: longer ones move only while both sides are in MPI. To be called now and
    then by who works while they are under way."""
    _given[:] = [pair for pair in _given if not pair[0].Test()]


@dataclass
class Exchange:
    """Ghosts that come from others.

    Args:
        line: along which axis they lie.
        rows: of all of them [row, ...].
        finished: whether those of other ranks are there.
    """

    line: Line
    rows: np.ndarray
    finished: bool = False
    _requests: list[MPI.Request] = field(default_factory=list)
    _beside: list[tuple[np.ndarray, np.ndarray]] = field(default_factory=list)

    def post(
        self,
        comm: MPI.Intracomm,
        tag: int,
        own: Callable[[Sequence[int] | np.ndarray], np.ndarray],
    ) -> None:
        """Sends and asks, without waiting.

        Args:
            own: the own rows of some numbers, as a new array.
        """
        attend()
        for other in self.line.partners:
            if other.rank == comm.rank:
                self.rows[other.here] = own(other.sent)
                continue
            if other.here is not None:
                there = self.rows[other.here]
                if not isinstance(other.here, slice):
                    self._beside.append((other.here, there))
                traffic.taken(there)
                self._requests.append(comm.Irecv(there, other.rank, tag))
            if other.sent.size:
                given = own(other.sent)
                traffic.sent(given)
                _given.append((comm.Isend(given, other.rank, tag), given))

    def finish(self) -> bool:
        """Waits for the ghosts; whether nobody did before."""
        if self.finished:
            return False
        self.finished = True
        MPI.Request.Waitall(self._requests)
        for places, rows in self._beside:
            self.rows[places] = rows
        return True

    def __del__(self) -> None:
        # MPI writes to the rows until then.
        if not self.finished and self._requests:
            MPI.Request.Waitall(self._requests)

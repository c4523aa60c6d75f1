"""The points of an observation, of which each rank has an even run."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from mpi4py import MPI

from npde_opt.observations.shares import even_starts

SHOWN = 10_000
"""Points that every rank has, for figures; of more the first ones."""


def own_run(count: int, comm: MPI.Intracomm) -> slice:
    """Numbers of a rank's points."""
    first, last = even_starts(count, comm.size)[comm.rank : comm.rank + 2]
    return slice(int(first), int(last))


@dataclass(frozen=True, eq=False)
class OwnPoints:
    """Args:
    comm: the ranks that share them.
    count: of all.
    at: coordinates of the own ones (n, dim).
    dropped: which of them do not count (n,).
    """

    comm: MPI.Intracomm
    count: int
    at: np.ndarray
    dropped: np.ndarray
    _others: dict[int, OwnPoints] = field(default_factory=dict)

    @property
    def numbers(self) -> np.ndarray:
        own = own_run(self.count, self.comm)
        return np.arange(own.start, own.stop)

    def first(self, most: int) -> tuple[np.ndarray, np.ndarray]:
        """Coordinates of the first ones, and whether they are dropped, on every rank.
        Collective."""
        own = max(min(most, self.count) - own_run(self.count, self.comm).start, 0)
        parts = self.comm.allgather((self.at[:own], self.dropped[:own]))
        at, dropped = zip(*parts, strict=True)
        return np.concatenate(at), np.concatenate(dropped)

    def over(self, comm: MPI.Intracomm) -> OwnPoints:
        """The same points cut over the ranks of a group, of which there are as many in each.
        Collective over all ranks at first."""
        if comm.size == self.comm.size:
            return self
        if comm.size not in self._others:
            self._others[comm.size] = self._moved(comm)
        return self._others[comm.size]

    def _moved(self, comm: MPI.Intracomm) -> OwnPoints:
        have, want = own_run(self.count, self.comm), own_run(self.count, comm)
        sent = []
        for other in self.comm.allgather((want.start, want.stop)):
            a, b = (min(max(k - have.start, 0), len(self.at)) for k in other)
            sent.append((self.at[a:b], self.dropped[a:b]))
        at, dropped = zip(*self.comm.alltoall(sent), strict=True)
        return OwnPoints(comm, self.count, np.concatenate(at), np.concatenate(dropped))

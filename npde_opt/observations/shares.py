"""The data of one experiment that a rank holds: of every observation an even share of its places,

    a_r <= place < a_{r+1},   at all times,

as PETSc cuts the rows of a matrix. They are listed by observation, time and place, as all data are;
`order` says where they are among all. Who needs them in order, as a file does, has them on rank 0
slab after slab.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from mpi4py import MPI

from npde_opt import reductions

SLAB = 1 << 18
"""Data that rank 0 holds at a time."""
Size = tuple[int, int]
"""Numbers of times and places of an observation."""
Part = Callable[[slice, slice], np.ndarray]


def even_start(count: int, ranks: int, rank: int) -> int:
    """Where the share of one of so many ranks begins; of rank `ranks`, where the last one ends."""
    return rank * (count // ranks) + min(rank, count % ranks)


def even_starts(count: int, ranks: int) -> np.ndarray:
    """Where the shares of so many ranks begin, and the last one ends (ranks + 1,)."""
    numbers = np.arange(ranks + 1)
    return numbers * (count // ranks) + np.minimum(numbers, count % ranks)


def _listed(sizes: Sequence[Size], at: Sequence[slice]) -> np.ndarray:
    """Where the data of these runs of places are in a list of data of such sizes, increasing."""
    found, first = [np.empty(0, int)], 0
    for (times, places), run in zip(sizes, at, strict=True):
        numbers = np.arange(run.start, run.stop)
        found.append((first + places * np.arange(times)[:, None] + numbers).ravel())
        first += times * places
    return np.concatenate(found)


@dataclass(frozen=True, eq=False)
class Share:
    """Args:
    comm: the ranks that share the data.
    sizes: of the observations.
    """

    comm: MPI.Intracomm
    sizes: tuple[Size, ...]

    @cached_property
    def places(self) -> list[slice]:
        """Those of this rank, by observation."""
        return [self._places_of(i, self.comm.rank) for i in range(len(self.sizes))]

    def _places_of(self, i: int, rank: int) -> slice:
        count, ranks = self.sizes[i][1], self.comm.size
        return slice(even_start(count, ranks, rank), even_start(count, ranks, rank + 1))

    @cached_property
    def shapes(self) -> list[Size]:
        """Numbers of times and of own places, by observation."""
        pairs = zip(self.sizes, self.places, strict=True)
        return [(times, own.stop - own.start) for (times, _), own in pairs]

    @property
    def total(self) -> int:
        """Data of an experiment."""
        return sum(math.prod(size) for size in self.sizes)

    @cached_property
    def order(self) -> np.ndarray:
        """The place of each own datum among all of them, increasing."""
        return _listed(self.sizes, self.places)

    def split(self, own: np.ndarray) -> list[np.ndarray]:
        """The own data of an experiment by observation, as views (times, own places)."""
        ends = np.cumsum([math.prod(shape) for shape in self.shapes])[:-1]
        parts = zip(np.split(own, ends), self.shapes, strict=True)
        return [part.reshape(shape) for part, shape in parts]

    def scattered(self, i: int, whole: np.ndarray | None) -> np.ndarray:
        """The own part (times, own places) of values (times, places) of observation i, which rank
        0 has. Collective."""
        own = np.empty(self.shapes[i])
        if self.comm.rank:
            self.comm.Recv(own, source=0)
            return own
        assert whole is not None
        for rank in range(1, self.comm.size):
            part = whole[:, self._places_of(i, rank)]
            self.comm.Send(np.ascontiguousarray(part, float), rank)
        own[...] = whole[:, self.places[i]]
        return own

    def moved(self, values: Sequence[np.ndarray], there: Share) -> list[np.ndarray]:
        """Own values of the same data, arrays of one kind, as other ranks share them: `there.comm`
        is a part of this one's ranks, and every part gets all. Collective on all ranks."""
        own = dict(enumerate(values))
        return self.exchanged(self.comm, own, there, len(values))

    def over(self, comm: MPI.Intracomm) -> Share:
        """The same data shared by more ranks."""
        return self if comm.size == self.comm.size else Share(comm, self.sizes)

    def of_all(
        self, own: Mapping[int, np.ndarray], comm: MPI.Intracomm, count: int
    ) -> list[np.ndarray]:
        """Of `count` experiments what is known in this group of ranks of its own, by number, as all
        ranks share it: own values over `over(comm)`. Collective on all ranks."""
        there = self.over(comm)
        if there is self:
            return [own[e] for e in range(count)]
        return self.exchanged(comm, own, there, count)

    def exchanged(
        self,
        comm: MPI.Intracomm,
        own: Mapping[int, np.ndarray],
        there: Share,
        count: int,
    ) -> list[np.ndarray]:
        """Own values of `count` numbered arrays of one kind as other ranks share them. Collective.

        Args:
            comm: all ranks, of which those of this share and of `there` are parts.
            own: those arrays that this part of the ranks has; every one is had by some part.
        """
        asked = comm.allgather((there.comm.size, there.comm.rank))
        sent = [self._piece(own, *of) for of in asked]
        found: dict[int, np.ndarray] = {}
        for ranks, rank, pieces in comm.alltoall(sent):
            rows = _listed(there.shapes, there._common(ranks, rank)) if pieces else None
            for k, piece in pieces.items():
                if k not in found:
                    found[k] = np.empty(there.order.size, piece.dtype)
                found[k][rows] = piece
        # A rank that shares no data is sent none.
        return [found.get(k, np.empty(0)) for k in range(count)]

    def _piece(
        self, own: Mapping[int, np.ndarray], ranks: int, rank: int
    ) -> tuple[int, int, dict[int, np.ndarray]]:
        """How many ranks share here, which of them this is, and what another one of so many asks of
        it."""
        rows = _listed(self.shapes, self._common(ranks, rank))
        asked = {k: v[rows] for k, v in own.items()} if rows.size else {}
        return self.comm.size, self.comm.rank, asked

    def _common(self, ranks: int, rank: int) -> list[slice]:
        """Which of the own places a rank has where so many share them, by observation."""
        found = []
        for own, (_, count) in zip(self.places, self.sizes, strict=True):
            first, last = (even_start(count, ranks, k) for k in (rank, rank + 1))
            a, b = (min(max(n, own.start), own.stop) for n in (first, last))
            found.append(slice(a - own.start, b - own.start))
        return found

    def largest(self, values: Sequence[np.ndarray]) -> float:
        """Of the sizes of all data, NaN left out; 0 of none. Collective."""
        own = [np.abs(v[~np.isnan(v)]).max(initial=0.0) for v in values]
        return reductions.largest(self.comm, float(max(own, default=0.0)))

    def sums(self, *values: np.ndarray) -> np.ndarray:
        """The sum of each array over all ranks, and how many numbers it has: (arrays, 2), NaN left
        out. Collective."""
        there = [v[~np.isnan(v)] for v in values]
        own = np.array([[v.sum(), v.size] for v in there], float)
        return reductions.total(self.comm, own.reshape(-1, 2))

    def in_order(self, count: int, part: Part) -> Iterator[np.ndarray | None]:
        """All data of `count` experiments, one after the other, in runs (n, k) on rank 0 and None
        on the others. Collective, run by run.

        Runs are of at most SLAB data, and of many experiments where these have few.

        Args:
            part: values (experiments, data, k) of a range of experiments and one of the own data.
        """
        step = min(SLAB, max(self.total, 1))
        at_once = max(1, SLAB // step) if step == self.total else 1
        for e in range(0, count, at_once):
            for first in range(0, self.total, step):
                last = min(first + step, self.total)
                a, b = np.searchsorted(self.order, [first, last])
                values = part(slice(e, min(e + at_once, count)), slice(int(a), int(b)))
                yield self._run(self.order[a:b] - first, values, last - first)

    def _run(self, at: np.ndarray, own: np.ndarray, size: int) -> np.ndarray | None:
        """Values (experiments, data, k) of all ranks at their places of a run, (n, k) on rank 0."""
        parts = self.comm.gather((at, own), root=0)
        if parts is None:
            return None
        found = np.empty((len(own), size, own.shape[2]))
        for places, values in parts:
            found[:, places] = values
        return found.reshape(-1, own.shape[2])

"""The data of one experiment that a rank holds: of every observation an even share of its places,

    a_r <= place < a_{r+1},   at all times,

as PETSc cuts the rows of a matrix. They are listed by observation, time and place, as all data are;
`order` says where they are among all. Who needs them in order, as a file does, has them on rank 0
slab after slab.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
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


def even_starts(count: int, ranks: int) -> np.ndarray:
    """Where the shares of so many ranks begin, and the last one ends (ranks + 1,)."""
    numbers = np.arange(ranks + 1)
    return numbers * (count // ranks) + np.minimum(numbers, count % ranks)


def order_of(sizes: Sequence[Size], ranks: int, rank: int) -> np.ndarray:
    """The places of a rank's data among all, increasing, where so many ranks share them."""
    found, first = [np.empty(0, int)], 0
    for times, places in sizes:
        starts = even_starts(places, ranks)
        at = np.arange(starts[rank], starts[rank + 1])
        found.append((first + places * np.arange(times)[:, None] + at).ravel())
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
        starts = even_starts(self.sizes[i][1], self.comm.size)
        return slice(int(starts[rank]), int(starts[rank + 1]))

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
        return order_of(self.sizes, self.comm.size, self.comm.rank)

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
        stacked = np.array(values).reshape(len(values), self.order.size)
        parts = self.comm.allgather((there.comm.size, there.comm.rank))
        given = []
        for ranks, rank in parts:
            wanted = order_of(self.sizes, ranks, rank)
            _, here, at = np.intersect1d(
                self.order, wanted, assume_unique=True, return_indices=True
            )
            given.append((at, stacked[:, here]))
        found = np.empty((len(values), there.order.size), stacked.dtype)
        for at, own in self.comm.alltoall(given):
            found[:, at] = own
        return list(found)

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

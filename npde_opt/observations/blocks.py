"""What is seen of several experiments: blocks of data of those that are observed alike.

Experiments that share all samplings are the columns of one block. States come with several
experiments as columns [c, s, i, j, k] or of a single one [c, i, j, k]; which of them belong to
which block is found here.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from petsc4py import PETSc

from npde_opt.grids import Grid
from npde_opt.observations.data import DataBlock, DataLayout, Metric
from npde_opt.observations.observer import Observer, When
from npde_opt.observations.sampling import Sampling


@dataclass(frozen=True)
class Run:
    """Neighbouring columns of a block which are neighbouring columns of a state, too.

    `states` is None where the state is a single experiment's.
    """

    block: int
    columns: slice
    states: slice | None

    def of(self, u: np.ndarray) -> np.ndarray:
        """Its part of a state, as a view; of a single column without the axis of samples."""
        if self.states is None:
            return u
        if self.states.stop - self.states.start == 1:
            return u[:, self.states.start]
        return u[:, self.states]


class Observations:
    """Args:
        times: at which steps end; none for steady states.
        samplings: of each experiment; they stay the caller's.

    Attributes:
        observers, layouts: one a block.

    Raises:
        InputError: see Observer.
    """

    def __init__(
        self,
        grid: Grid,
        species: Sequence[str],
        times: Sequence[float] | np.ndarray,
        samplings: Sequence[Sequence[Sampling]],
    ):
        alike: dict[tuple[Sampling, ...], list[int]] = {}
        for e, own in enumerate(samplings):
            alike.setdefault(tuple(own), []).append(e)
        self.observers = [Observer(grid, species, times, own) for own in alike]
        self.layouts = [
            DataLayout(grid.comm, observer.size, observer.order, tuple(members))
            for observer, members in zip(self.observers, alike.values(), strict=True)
        ]
        self._shared = False
        self._runs: dict[tuple[int, ...], list[Run]] = {}

    def over(self, experiments: Collection[int]) -> Observations:
        """What is seen of some of the experiments, by the same observers. Blocks of which none
        is left are left out."""
        found: Observations = object.__new__(Observations)
        found.observers, found.layouts = [], []
        found._shared, found._runs = True, {}
        for observer, layout in zip(self.observers, self.layouts, strict=True):
            columns = layout.columns_of(experiments)
            if columns.size:
                found.observers.append(observer)
                found.layouts.append(layout.over(columns))
        return found

    def zeros(self) -> list[DataBlock]:
        return [layout.zeros() for layout in self.layouts]

    @property
    def plain(self) -> PETSc.Mat | None:
        """B of the only experiment, a steady one, where its data are B u; None where they are
        not."""
        if len(self.layouts) != 1 or self.layouts[0].columns != 1:
            return None
        return self.observers[0].plain

    def observer(self, experiment: int) -> Observer:
        """Of the block that an experiment is a column of."""
        return self.observers[self._place(experiment)[0]]

    def _place(self, experiment: int) -> tuple[int, int]:
        """Block and column of an experiment."""
        for b, layout in enumerate(self.layouts):
            column = int(layout.places([experiment])[0])
            if column >= 0:
                return b, column
        raise KeyError(experiment)

    def by_experiment(self, data: Sequence[DataBlock]) -> dict[int, np.ndarray]:
        """The owned data of each experiment, by sampling, time and place."""
        found: dict[int, np.ndarray] = {}
        for block in data:
            found |= dict(zip(block.layout.members, block.values.T, strict=True))
        return dict(sorted(found.items()))

    def lost(self) -> dict[int, np.ndarray]:
        """By experiment, which owned data are of places that no active cell is seen from."""
        found: dict[int, np.ndarray] = {}
        for observer, layout in zip(self.observers, self.layouts, strict=True):
            found |= dict.fromkeys(layout.members, observer.lost())
        return dict(sorted(found.items()))

    def runs(self, members: Sequence[int]) -> list[Run]:
        """Where the columns of a state of these experiments belong."""
        key = tuple(members)
        if key not in self._runs:
            self._runs[key] = list(self._found_runs(key))
        return self._runs[key]

    def _found_runs(self, members: tuple[int, ...]) -> Iterator[Run]:
        if len(members) == 1:
            b, column = self._place(members[0])
            yield Run(b, slice(column, column + 1), None)
            return
        for b, layout in enumerate(self.layouts):
            places = layout.places(members)
            here = np.flatnonzero(places >= 0)
            columns = places[here]
            increasing = np.argsort(columns)
            for part in _neighbours(np.stack([columns, here], axis=1)[increasing]):
                (c, s), n = part[0], len(part)
                yield Run(b, slice(c, c + n), slice(s, s + n))

    def instants(self, members: Sequence[int]) -> list[int]:
        """The n at which something is seen of these experiments, in order."""
        seen = (self.observers[run.block].instants for run in self.runs(members))
        return sorted(set[int]().union(*seen))

    def observe(
        self, members: Sequence[int], n: When, u: np.ndarray, data: Sequence[DataBlock]
    ) -> None:
        """Adds what is seen of the state u(t_n) of these experiments. Collective, as all that
        follow."""
        for run, values in self._seen(members, n, data):
            self.observers[run.block].observe(n, run.of(u), values)

    def push(
        self,
        members: Sequence[int],
        n: When,
        u: np.ndarray,
        du: np.ndarray,
        data: Sequence[DataBlock],
    ) -> None:
        """Adds B g'(u) du to the data."""
        for run, values in self._seen(members, n, data):
            self.observers[run.block].push(n, run.of(u), run.of(du), values)

    def pull(
        self,
        members: Sequence[int],
        n: When,
        u: np.ndarray,
        d: Sequence[DataBlock],
        out: np.ndarray,
    ) -> None:
        """Adds g'(u)^T B^T d to `out`, shaped as u."""
        for run, values in self._seen(members, n, d):
            self.observers[run.block].pull(n, run.of(u), values, run.of(out))

    def second(
        self,
        members: Sequence[int],
        n: When,
        u: np.ndarray,
        du: np.ndarray,
        d: Sequence[DataBlock],
        out: np.ndarray,
    ) -> None:
        """Adds (g''(u) du)^T B^T d to `out`, shaped as u."""
        for run, values in self._seen(members, n, d):
            self.observers[run.block].second(
                n, run.of(u), run.of(du), values, run.of(out)
            )

    def _seen(
        self, members: Sequence[int], n: When, data: Sequence[DataBlock]
    ) -> Iterator[tuple[Run, np.ndarray]]:
        """The runs that see t_n, and their columns of the data, as views."""
        for run in self.runs(members):
            if isinstance(n, slice) or n in self.observers[run.block].instants:
                yield run, data[run.block].values[:, run.columns]

    def parts(
        self, members: Sequence[int], data: Sequence[DataBlock]
    ) -> Iterator[np.ndarray]:
        """The data of these experiments, as views."""
        for run in self.runs(members):
            yield data[run.block].values[:, run.columns]

    def weigh(
        self,
        members: Sequence[int],
        metrics: Sequence[Metric],
        data: Sequence[DataBlock],
    ) -> None:
        """d := W d of the data of these experiments, W one a block."""
        for run in self.runs(members):
            metrics[run.block].apply(data[run.block], run.columns)

    def destroy(self) -> None:
        """Nothing where the observers are another's."""
        if not self._shared:
            for observer in self.observers:
                observer.destroy()


def _neighbours(pairs: np.ndarray) -> list[np.ndarray]:
    """Pairs (n, 2), cut where either number does not follow the last one."""
    if not len(pairs):
        return []
    jumps = np.flatnonzero((np.diff(pairs, axis=0) != 1).any(axis=1)) + 1
    return np.split(pairs, jumps)

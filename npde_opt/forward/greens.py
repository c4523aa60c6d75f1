"""J of a linear steady equation by Green's functions of what is observed: with

    A^T z_q = g_q     for every distinct functional g_q of the state,

    J_e dm = -Z^T (A_m dm) u_e,     J_e^T d = -((A_m .) u_e)^T (Z d),

cost no solve, whatever the experiments, which share A. A product with Gauss-Newton's Hessian takes
two solves an experiment without them: where the functionals are as many as the experiments, as
electrodes that carry a current one after the other and are all observed, one product pays for them
(McGillivray, Oldenburg 1990: sensitivities of resistivity data by adjoint fields).

They are formed once products at a point have cost as many solves as they do, so that they never
cost more than what was spent, and are kept while the point is: so many fields of cells.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from npde_opt import reductions
from npde_opt.forward.columns import most_columns
from npde_opt.forward.steady_systems import Block
from npde_opt.grids import Grid
from npde_opt.observations import DataBlock, Observations, Sampling
from npde_opt.observations.blocks import Run

MOST = 8
"""Functionals an experiment: more are not formed, as their fields take as much memory as so many
states."""
LOOKED_AT = 64
"""Outputs an experiment that are compared, to find those that are alike."""
ALIKE = 1e-12
"""How far weights of one functional differ, in parts of the largest."""
TOGETHER = 16
"""Experiments that are multiplied at a time."""

Entries = tuple[np.ndarray, np.ndarray]
"""Owned cells, x fastest, and their weights."""


class Sensors:
    """The distinct functionals that experiments are observed by. Making them is collective.

    Attributes:
        entries: of each functional on this rank.
        numbers: by block of data, the functional of each owned output.
    """

    def __init__(self, grid: Grid, observed: Observations):
        self.grid = grid
        rows: dict[Sampling, slice] = {}
        every: list[Entries] = []
        for sampling in (s for o in observed.observers for s in o.samplings):
            if sampling not in rows:
                own = _entries(grid, sampling)
                rows[sampling] = slice(len(every), len(every) + len(own))
                every += own
        first, classes = _distinct(grid, every)
        self.entries = [every[i] for i in first]
        self.numbers: list[np.ndarray] = []
        for observer in observed.observers:
            found = [np.empty(0, int)]
            for s in observer.samplings:
                found.append(classes[rows[s]][slice(*s.matrix.getOwnershipRange())])
            self.numbers.append(np.concatenate(found))

    @property
    def count(self) -> int:
        return len(self.entries)

    def fill(self, number: int, out: np.ndarray) -> None:
        """Writes a functional into a field [i, j, k] of zeros."""
        cells, weights = self.entries[number]
        out[np.unravel_index(cells, out.shape, order="F")] = weights


def sensors(grid: Grid, observed: Observations, experiments: int) -> Sensors | None:
    """Of what is linear in the state and seen once; None where it is not so, or where there are too
    many to be of use. Collective."""
    outputs = {s: s.size for o in observed.observers for s in o.samplings}
    linear = all(q.is_species for o in observed.observers for q in o.quantities)
    if not linear or sum(outputs.values()) > LOOKED_AT * experiments:
        return None
    found = Sensors(grid, observed)
    return found if found.count <= MOST * experiments else None


def _entries(grid: Grid, sampling: Sampling) -> list[Entries]:
    """Those of every row of B, of which each rank has all of its cells. Collective."""
    found, row = [], sampling.matrix.createVecLeft()
    cells, (start, end) = grid.create_scalar(), row.getOwnershipRange()
    for number in range(sampling.size):
        row.set(0.0)
        if start <= number < end:
            row.getArray()[number - start] = 1.0
        sampling.matrix.multTranspose(row, cells)
        own = grid.view(cells).ravel(order="F")
        seen = np.flatnonzero(own)
        found.append((seen, own[seen]))
    for vec in (row, cells):
        vec.destroy()
    return found


def _distinct(grid: Grid, every: Sequence[Entries]) -> tuple[np.ndarray, np.ndarray]:
    """The first of each kind, and the kind of each. Collective."""
    known: dict[tuple[bytes, ...], int] = {}
    own = [known.setdefault(_told(entries), len(known)) for entries in every]
    on_ranks = np.array(grid.comm.allgather(own), int).reshape(grid.comm.size, -1)
    _, first, kinds = np.unique(
        on_ranks, axis=1, return_index=True, return_inverse=True
    )
    return first, kinds.ravel()


def _told(entries: Entries) -> tuple[bytes, ...]:
    """What is the same of functionals that differ by rounding, as where ranks added up entries in
    another order."""
    cells, weights = entries
    scale = 2.0 ** np.frexp(np.abs(weights).max(initial=1e-300))[1]
    return cells.tobytes(), np.rint(weights / scale / ALIKE).tobytes(), scale.tobytes()


def batches(blocks: Sequence[Block]) -> Iterator[list[int]]:
    """Numbers of the blocks that are multiplied with at a time."""
    found, count = list[int](), 0
    for b, block in enumerate(blocks):
        if found and count + len(block.members) > TOGETHER:
            yield found
            found, count = [], 0
        found.append(b)
        count += len(block.members)
    yield found


class Greens:
    """Z at one point.

    Args:
        observed: what the experiments are seen by.
        like: a block of experiments at the point.
        solve: A^-T g of a block's states.
        exactness: the tolerance of these solves.

    Attributes:
        fields: Z^T, (functionals, owned active cells).
    """

    def __init__(
        self,
        sensors: Sensors,
        observed: Observations,
        like: Block,
        solve: Callable[[Block, np.ndarray], np.ndarray],
        exactness: float,
    ):
        self.sensors, self.observed, self.grid = sensors, observed, sensors.grid
        self.exactness = exactness
        self.fields = np.empty((sensors.count, self.grid.active_local_size))
        most = most_columns(self.grid)
        for first in range(0, sensors.count, most):
            members = tuple(range(first, min(first + most, sensors.count)))
            block = replace(like, members=members, outside=None)
            rhs = block.zeros(1)
            for q, column in block.each(rhs):
                sensors.fill(q, column[0])
            for q, z in block.each(solve(block, rhs)):
                self.fields[q] = self.grid.pack(z[0])

    def see(
        self,
        blocks: Sequence[Block],
        rhs: Sequence[np.ndarray],
        data: Sequence[DataBlock],
    ) -> None:
        """Adds what is seen of A^-1 rhs to the data of the blocks' experiments. Collective."""
        pairs = zip(blocks, rhs, strict=True)
        own = [self.grid.pack(u[0]) for block, b in pairs for _, u in block.each(b)]
        seen = reductions.total(self.grid.comm, self.fields @ np.array(own).T)
        for run, columns in self._runs(blocks):
            numbers = self.sensors.numbers[run.block]
            data[run.block].values[:, run.columns] += seen[numbers, columns]

    def spread(
        self, blocks: Sequence[Block], data: Sequence[DataBlock]
    ) -> list[np.ndarray]:
        """A^-T B^T d, one state a block. Collective."""
        count = sum(len(block.members) for block in blocks)
        own = np.zeros((self.sensors.count, count))
        for run, columns in self._runs(blocks):
            values = data[run.block].values[:, run.columns]
            np.add.at(own[:, columns], self.sensors.numbers[run.block], values)
        weights = reductions.total(self.grid.comm, own)
        rows, found = iter(weights.T @ self.fields), []
        for block in blocks:
            found.append(block.zeros(1))
            for _, state in block.each(found[-1]):
                state[0].T[self.grid.active.T] = next(rows)
        return found

    def _runs(self, blocks: Sequence[Block]) -> Iterator[tuple[Run, slice]]:
        """The columns of data that belong together, and those of all blocks' experiments."""
        at = 0
        for block in blocks:
            for run in self.observed.runs(block.members):
                first, last = (
                    (0, 1)
                    if run.states is None
                    else (run.states.start, run.states.stop)
                )
                yield run, slice(at + first, at + last)
            at += len(block.members)

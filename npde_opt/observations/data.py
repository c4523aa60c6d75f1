"""Data as blocks: outputs (rows) x columns, the columns experiments that are observed alike.

An output is one sampling at one time and place. Outputs are spread over the ranks of a group as
the rows of B are; every rank has its outputs of all columns.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

import numpy as np
from mpi4py import MPI

from npde_opt import reductions
from npde_opt.draws import normal_numbers
from npde_opt.errors import InputError, collective

ALL = slice(None)
"""All columns."""


class Metric(Protocol):
    """W of a misfit's second derivative; columns do not depend on each other."""

    def apply(self, d: DataBlock, columns: slice = ALL) -> None:
        """d := W d, of some of the columns. Collective."""


@dataclass(frozen=True, eq=False)
class DataLayout:
    """Which outputs a rank has, and of which experiments.

    Args:
        comm: the ranks that share the outputs.
        size: outputs a column.
        order: the place of each owned output among all of them (by sampling, time and place).
        members: numbers of the experiments, one a column.
    """

    comm: MPI.Intracomm
    size: int
    order: np.ndarray
    members: tuple[int, ...]

    @property
    def columns(self) -> int:
        return len(self.members)

    def zeros(self) -> DataBlock:
        return DataBlock(self, np.zeros((self.order.size, self.columns)))

    def block(self, values: np.ndarray) -> DataBlock:
        """The block of an array that every rank has (see `array`)."""
        own = self.array(values)[self.order]
        return DataBlock(self, own)

    def noise(self, seed: int | Sequence[int]) -> DataBlock:
        """Standard normal values, the same on any number of ranks, of which each draws its own."""
        found, own = self.zeros(), [seed] if isinstance(seed, int) else list(seed)
        for column in range(self.columns):
            found.values[:, column] = normal_numbers([*own, column], self.order)
        return found

    def array(self, values: np.ndarray, field: str = "data") -> np.ndarray:
        """Values of all outputs as an array (outputs, columns).

        Args:
            values: (outputs, columns); of a single column also (outputs,) or any shape of as
                many values, by sampling, time and place.

        Raises:
            InputError: naming `field`, for other numbers of values.
        """
        found = np.asarray(values, float)
        if self.columns == 1 and found.size == self.size:
            found = found.reshape(-1, 1)
        if found.shape != (self.size, self.columns):
            wanted = f"{self.size} outputs x {self.columns} columns"
            if self.columns == 1:
                wanted = f"{self.size} values, by sampling, time and place"
            raise InputError(field, _told(found), wanted)
        return found

    def own(self, values: np.ndarray, field: str = "data") -> np.ndarray:
        """Values of the owned outputs as an array (owned outputs, columns), by `order`.

        Raises:
            InputError: naming `field`, for other numbers of values, on every rank.
        """
        found, shape = np.asarray(values, float), (self.order.size, self.columns)
        with collective(self.comm):
            if found.shape != shape:
                wanted = f"{shape[0]} owned outputs x {shape[1]} columns"
                raise InputError(field, _told(found), wanted)
        return found

    def over(self, columns: Sequence[int] | np.ndarray) -> DataLayout:
        """Of some of the columns."""
        members = [self.members[c] for c in np.asarray(columns, int).tolist()]
        return replace(self, members=tuple(members))

    @cached_property
    def _places(self) -> np.ndarray:
        """The column of each experiment, -1 of those that are none, and one more -1 behind."""
        places = np.full(max(self.members, default=-1) + 2, -1)
        places[list(self.members)] = np.arange(self.columns)
        return places

    def places(self, experiments: Collection[int] | np.ndarray) -> np.ndarray:
        """The column of each of these experiments, -1 where one is no member; the time that it
        takes does not depend on the number of members."""
        wanted = np.fromiter(experiments, int, len(experiments))
        return np.asarray(self._places[np.minimum(wanted, self._places.size - 1)])

    def columns_of(self, experiments: Collection[int] | np.ndarray) -> np.ndarray:
        """Numbers of the columns of those experiments that are members, in increasing order."""
        found = np.sort(self.places(experiments))
        return found[found >= 0]


def _told(values: np.ndarray) -> str:
    """The shape of data."""
    if values.ndim == 2:
        return f"{values.shape[0]} outputs x {values.shape[1]} columns"
    return f"{values.size} values"


@dataclass(frozen=True, eq=False)
class DataBlock:
    """Args:
    values: of the owned outputs, (outputs here, columns).
    """

    layout: DataLayout
    values: np.ndarray

    def column(self, experiment: int) -> np.ndarray:
        """The owned outputs of an experiment, as a view."""
        return self.values[:, self.layout.places([experiment])[0]]

    def copy(self) -> DataBlock:
        return DataBlock(self.layout, self.values.copy(order="F"))

    def like(self, values: np.ndarray) -> DataBlock:
        """Another block of the same outputs and columns."""
        return DataBlock(self.layout, values)

    def scale(self, a: float) -> None:
        np.multiply(self.values, a, out=self.values)

    def axpy(self, a: float, x: DataBlock) -> None:
        """Adds a x."""
        np.add(self.values, a * x.values, out=self.values)

    def dot(self, other: DataBlock) -> float:
        """The sum of the products of all outputs of all columns. Collective."""
        own = np.vdot(self.values, other.values)
        return reductions.total(self.layout.comm, float(own))

    def norm(self) -> float:
        """Collective."""
        return float(np.sqrt(self.dot(self)))

    def gather(self) -> np.ndarray:
        """The block (outputs, columns), by sampling, time and place, on every rank. Collective."""
        layout = self.layout
        out = np.empty((layout.size, layout.columns))
        for order, values in layout.comm.allgather((layout.order, self.values)):
            out[order] = values
        return out

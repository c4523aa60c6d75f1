"""A block: which numbers p an unknown is, on which ranks they lie, and how terms read k = T(p).

    coefficient = S k,   dJ/dp = T'(p) * S^T (dJ/d coefficient)

S spreads numbers to where terms read them (region constants to cells, numbers of one rank to all
ranks); S^T sums over cells and ranks. `Block` says it for any grid, `Placed` is a block on one.

Arrays of a placed block are
    own      the numbers of this rank, in the shape of `view`: a part of a parameter vector
    values   the numbers that this rank reads: its cells of a field, all numbers of a small array
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import cached_property
from typing import Protocol

import numpy as np
from mpi4py import MPI
from petsc4py import PETSc

from npde_opt import reductions
from npde_opt.aliases import Coefficient, Numbers
from npde_opt.grids import Grid
from npde_opt.io.vectors import Sink, Source

Inverse = Callable[[np.ndarray], np.ndarray]
"""From values of a coefficient to parameters; raises InputError where there are none."""


class Lift(Protocol):
    """A linear map of own numbers, as they lie in memory, from a coarser grid to a finer one, and
    its transpose: of every row of an array into a row of another one, both in C order. Collective;
    on all ranks of as many rows."""

    def apply(self, rows: np.ndarray, found: np.ndarray) -> None:
        """From (n, coarse numbers) to (n, fine numbers)."""

    def transpose(self, rows: np.ndarray, found: np.ndarray) -> None:
        """From (n, fine numbers) to (n, coarse numbers)."""


class Transformed(Protocol):
    """k = T(p) of an unknown."""

    def value(self, p: np.ndarray) -> np.ndarray: ...

    def inverse(self, k: Numbers) -> np.ndarray: ...


class Copied:
    """What does not depend on the grid."""

    def apply(self, rows: np.ndarray, found: np.ndarray) -> None:
        found[...] = rows

    def transpose(self, rows: np.ndarray, found: np.ndarray) -> None:
        found[...] = rows


class Block(ABC):
    """The numbers of an unknown, before there is a grid.

    listed: they are so few that a person reads them one by one, with an interval each.
    cellwise: terms read one value a cell, so that there is something to draw.
    length: of the array that terms read, 1 for a number; None for anything else.
    """

    cellwise: bool = False

    @property
    @abstractmethod
    def count(self) -> int:
        """Numbers that do not depend on the grid; 0 where they do."""

    @property
    def listed(self) -> bool:
        return False

    @property
    def length(self) -> int | None:
        return None

    @abstractmethod
    def on(self, grid: Grid, where: str) -> Placed:
        """The block on a grid. `where` stands before keys in messages ('unknown.D').

        Raises:
            InputError: where the block does not go with the grid.
        """


class Placed(ABC):
    """A block on a grid.

    Args:
        comm: of the grid.
        count: numbers of all ranks, without those in inactive cells.
        shape, axes: of the owned numbers as they lie in memory, and which of these axes come first,
            second ... in `view`.
    """

    large: bool = False
    """Many numbers on every rank: they lie first in a vector, where arrays are aligned."""

    def __init__(
        self,
        comm: MPI.Intracomm,
        count: int,
        shape: tuple[int, ...],
        axes: tuple[int, ...],
    ):
        self.comm, self.count = comm, count
        self.shape, self.axes = shape, axes
        self.local_size = int(np.prod(shape, dtype=np.int64))

    def view(self, flat: np.ndarray) -> np.ndarray:
        """A rank's part of a vector as an own array; writing into it writes the vector."""
        return flat.reshape(self.shape).transpose(self.axes)

    def empty(self) -> np.ndarray:
        """An own array of zeros."""
        return self.view(np.zeros(self.local_size))

    def create_vec(self) -> PETSc.Vec:
        """A Vec of the numbers of this block alone. Collective."""
        return PETSc.Vec().createMPI((self.local_size, None), comm=self.comm)

    @property
    def free(self) -> np.ndarray:
        """Which own numbers are unknown (bool); the others keep what they are."""
        return np.ones(self.empty().shape, bool)

    @cached_property
    def all_free(self) -> bool:
        """Whether all own numbers are."""
        return bool(self.free.all())

    @cached_property
    def free_in_memory(self) -> np.ndarray:
        """`free` of the numbers as they lie in memory."""
        found = np.empty(self.local_size, bool)
        self.view(found)[...] = self.free
        return found

    def free_count(self) -> int:
        """Free numbers of all ranks. Collective."""
        return int(reductions.total(self.comm, int(self.free.sum())))

    def mass(self) -> np.ndarray:
        """Own weights of the inner product: the dual of p has the norm sqrt(g^T M^-1 g)."""
        return self.empty() + 1.0

    @abstractmethod
    def noise(self, seed: int) -> np.ndarray:
        """Own independent standard normal numbers, 0 where they are not free: the same on any
        number of ranks. Collective."""

    def smooth(self, seed: int) -> np.ndarray:
        """Own random numbers of mean square 1, the same on any number of ranks; of fields a smooth
        function, the same on all grids of a box. Collective."""
        return self.noise(seed)

    @abstractmethod
    def parameters(self, given: Numbers, inverse: Inverse) -> np.ndarray:
        """Own parameters of coefficient values: a number, or an array of the shape that terms
        read."""

    @abstractmethod
    def values(self, own: np.ndarray) -> np.ndarray:
        """The numbers that this rank reads. Collective."""

    @abstractmethod
    def own(self, values: np.ndarray) -> np.ndarray:
        """The part of `values` that this rank owns."""

    @abstractmethod
    def coefficient(self, k: np.ndarray) -> Coefficient:
        """What terms read, S k: k are transformed values."""

    def change(self, dk: np.ndarray) -> Coefficient:
        """S dk of a change."""
        return self.coefficient(dk)

    def cotangent(self, value: Coefficient) -> Coefficient:
        """dJ/d coefficient of one term and rank in the form in which such are added up."""
        return value

    @abstractmethod
    def sums(self, cotangent: Coefficient) -> np.ndarray:
        """Own part of S^T cotangent, 0 where the numbers are not free. Collective."""

    @abstractmethod
    def write(self, own: np.ndarray, sink: Sink) -> None:
        """Writes in natural order. Collective."""

    @abstractmethod
    def read(self, source: Source) -> np.ndarray:
        """The own array that was written, on any number of ranks. Collective."""

    def lift(self, coarse: Placed, cubic: bool, matrix: Callable[[bool], Lift]) -> Lift:
        """From this block on a coarser grid.

        Args:
            cubic: interpolate cubically where it is interpolated; else linearly.
            matrix: makes the interpolation between the two grids, cubic or linear.
        """
        return Copied()

    def squares(
        self, unknown: Transformed, own: np.ndarray, truth: Numbers, start: Numbers
    ) -> np.ndarray:
        """Sums over own numbers of the squared error of parameters, and of what it is relative to:
        here of the coefficient, relative to the truth.

        Args:
            unknown: whose transform it is. truth, start: coefficient values, as in `parameters`.
        """
        true = self.parameters(truth, lambda k: k)
        wrong = unknown.value(own) - true
        return np.array([(wrong**2).sum(), (true**2).sum()])

    def repeated(self, steps: int) -> Placed | None:
        """This many of them as one block; None: each by itself."""
        return None

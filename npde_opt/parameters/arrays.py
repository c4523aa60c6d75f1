"""Numbers that do not lie in cells: constants of regions, small arrays that all ranks read, and
matrices of which each rank reads rows.

Few numbers lie on rank 0, more than MANY in equal ranges on all ranks. Terms of every rank read all
of them, and what each of them gives to the gradient is summed where the number lies.
"""

from __future__ import annotations

import numpy as np
from mpi4py import MPI

from npde_opt import reductions
from npde_opt.aliases import Coefficient, Numbers
from npde_opt.errors import InputError, collective
from npde_opt.grids import Grid, sums_by_number
from npde_opt.io.vectors import Sink, Source
from npde_opt.parameters.draws import normal
from npde_opt.parameters.interface import Block, Inverse, Placed

MANY = 4096
"""Numbers from which on they are spread over ranks, and not listed one by one."""


class Line:
    """The range of a row of numbers that a rank owns: all on rank 0, or `spread` over the ranks
    (None: where they are MANY). To files it is an array of one axis."""

    def __init__(self, comm: MPI.Intracomm, count: int, spread: bool | None = None):
        spread = count > MANY if spread is None else spread
        self.comm, self.size, self.shape = comm, count, (count,)
        share, extra = divmod(count, comm.size) if spread else (0, 0)
        self.counts = [share + (rank < extra) for rank in range(comm.size)]
        if not spread:
            self.counts[0] = count
        self.first = sum(self.counts[: comm.rank])
        self.last = self.first + self.counts[comm.rank]
        self.local_slice = (slice(self.first, self.last),)
        self.local_shape = (self.last - self.first,)

    def gathered(self, own: np.ndarray) -> np.ndarray:
        """All numbers, on every rank. Collective."""
        if self.comm.size == 1:
            return np.array(own, float)
        whole = np.empty(self.size)
        self.comm.Allgatherv(np.ascontiguousarray(own, float), [whole, self.counts])
        return whole

    def summed(self, whole: np.ndarray) -> np.ndarray:
        """The own part of the sum over the ranks. Collective."""
        return reductions.total_parts(self.comm, whole, self.counts)


class Constants(Placed):
    """An array, row by row, that every rank reads whole."""

    def __init__(self, comm: MPI.Intracomm, array: tuple[int, ...]):
        count = int(np.prod(array, dtype=np.int64))
        self.array, self.line = array, Line(comm, count)
        super().__init__(comm, count, self.line.local_shape, (0,))

    def noise(self, seed: int) -> np.ndarray:
        return normal(seed, self.count, self.line.first, self.line.last)

    def parameters(self, given: Numbers, inverse: Inverse) -> np.ndarray:
        values = np.asarray(given, float)
        if values.size != self.count:
            values = np.broadcast_to(values, self.array)
        return self.own(inverse(values.ravel()))

    def values(self, own: np.ndarray) -> np.ndarray:
        """(count,)"""
        return self.line.gathered(own)

    def own(self, values: np.ndarray) -> np.ndarray:
        return values[self.line.first : self.line.last]

    def write(self, own: np.ndarray, sink: Sink) -> None:
        sink.field(self.line, own)

    def read(self, source: Source) -> np.ndarray:
        return source.field(self.line)


class Regions(Block):
    """k(x) = k_r in the cells of region r.

    Args:
        numbers: int [i, j, k], whole on every rank, or its owned cells: 0, 1, ... in active cells.
        least: numbers there are at least, also where the last ones have no cell on a coarser grid.
    """

    cellwise = True

    def __init__(self, numbers: np.ndarray, least: int = 0):
        self.numbers = numbers
        self._count = max(int(numbers.max(initial=-1)) + 1, least)

    @property
    def count(self) -> int:
        return self._count

    @property
    def listed(self) -> bool:
        return self.count <= MANY

    def on(self, grid: Grid, where: str) -> PlacedRegions:
        field = f"{where}.regions"
        with collective(grid.comm):
            own = grid.own(field, self.numbers)
            inside = own[grid.active]
            if np.any(inside < 0):
                said = f"{int(inside.min())} in an active cell"
                raise InputError(field, said, "integers >= 0")
        # Owned cells may have none of the last region.
        count = int(reductions.largest(grid.comm, self.count))
        return PlacedRegions(grid, own, count)


class PlacedRegions(Constants):
    """Constants of regions on a grid; `region` are the numbers of the owned cells."""

    def __init__(self, grid: Grid, region: np.ndarray, count: int):
        super().__init__(grid.comm, (count,))
        self.grid, self.region = grid, region

    def coefficient(self, k: np.ndarray) -> np.ndarray:
        return k[self.region]

    def sums(self, cotangent: Coefficient) -> np.ndarray:
        on = self.grid.active
        cells = np.asarray(cotangent)
        return self.line.summed(sums_by_number(self.region[on], cells[on], self.count))


class Shared(Block):
    """A number, or an array of them, that every rank reads: Shared(), Shared(3), Shared((3, 4))."""

    def __init__(self, shape: int | tuple[int, ...] = ()):
        self.shape = (shape,) if isinstance(shape, int) else tuple(shape)
        if any(n < 1 for n in self.shape):
            raise InputError("Shared: shape", list(self.shape), "positive integers")

    @property
    def count(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def listed(self) -> bool:
        return self.count <= MANY

    @property
    def length(self) -> int:
        return self.count

    def on(self, grid: Grid, where: str) -> PlacedShared:
        return PlacedShared(grid, self.shape)


class PlacedShared(Constants):
    """A shared array beside a grid, row by row."""

    def __init__(self, grid: Grid, array: tuple[int, ...]):
        super().__init__(grid.comm, array)
        self.grid = grid

    def coefficient(self, k: np.ndarray) -> Coefficient:
        return k.reshape(self.array)[()]

    def cotangent(self, value: Coefficient) -> Coefficient:
        """Of a single number the sum, over the active cells where it comes cell by cell."""
        if self.count > 1:
            return value
        given = np.asarray(value)
        masked = self.grid.mask is not None and given.shape == self.grid.local_shape
        return float(np.sum(given[self.grid.active] if masked else given))

    def sums(self, cotangent: Coefficient) -> np.ndarray:
        values = np.asarray(self.cotangent(cotangent), float)
        return self.line.summed(np.broadcast_to(values, self.array).ravel())

    def repeated(self, steps: int) -> PlacedShared:
        return PlacedShared(self.grid, (steps, *self.array))


class Matrix(Block):
    """A matrix (rows, columns) of which every rank has, reads and owns a range of rows."""

    def __init__(self, rows: int, columns: int):
        if rows < 1 or columns < 1:
            raise InputError(
                "Matrix: rows, columns", [rows, columns], "positive integers"
            )
        self.rows, self.columns = rows, columns

    @property
    def count(self) -> int:
        return self.rows * self.columns

    def on(self, grid: Grid, where: str) -> PlacedMatrix:
        return PlacedMatrix(grid.comm, self.rows, self.columns)


class Rows:
    """The box of a matrix by rows, [column, row]: its columns run first."""

    def __init__(self, line: Line, columns: int):
        self.shape = (columns, line.size)
        self.size = columns * line.size
        self.local_slice = (slice(0, columns), *line.local_slice)
        self.local_shape = (columns, *line.local_shape)


class PlacedMatrix(Placed):
    """A matrix over the ranks: own and read are its rows [line.first, line.last)."""

    large = True

    def __init__(self, comm: MPI.Intracomm, rows: int, columns: int):
        self.line, self.columns = Line(comm, rows, True), columns
        super().__init__(
            comm, rows * columns, (*self.line.local_shape, columns), (0, 1)
        )
        self._box = Rows(self.line, columns)

    def noise(self, seed: int) -> np.ndarray:
        first, last = self.line.first * self.columns, self.line.last * self.columns
        return normal(seed, self.count, first, last).reshape(self.shape)

    def parameters(self, given: Numbers, inverse: Inverse) -> np.ndarray:
        """Of a number, or of the owned rows."""
        return inverse(np.broadcast_to(np.asarray(given, float), self.shape))

    def values(self, own: np.ndarray) -> np.ndarray:
        return own

    def own(self, values: np.ndarray) -> np.ndarray:
        return values

    def coefficient(self, k: np.ndarray) -> np.ndarray:
        return k

    def sums(self, cotangent: Coefficient) -> np.ndarray:
        return np.broadcast_to(np.asarray(cotangent, float), self.shape)

    def write(self, own: np.ndarray, sink: Sink) -> None:
        sink.field(self._box, own.T)

    def read(self, source: Source) -> np.ndarray:
        return source.field(self._box).T

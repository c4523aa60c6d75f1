"""The levels of which a rank has a part as rows of a table, for a V-cycle in one call
(whole_loops.py)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
from mpi4py import MPI

from npde_opt.linear.planes import tables
from npde_opt.linear.planes.boxes import Box
from npde_opt.linear.planes.gathering import Gathering
from npde_opt.linear.planes.geometry import Geometry
from npde_opt.linear.planes.levels import SINGLE, Shape
from npde_opt.linear.planes.messages import Messages, calls
from npde_opt.machine_code import Kept

if TYPE_CHECKING:
    from npde_opt.linear.planes.transfers import Transfer

CYCLE = Kept("npde_opt.linear.planes.whole_loops", "cycle", int)

CELLS = 1 << 20
"""Of the finest level, up to which its fields are kept from solve to solve, and so is a table."""


class Level(Protocol):
    """What a level has that sweeps go over; see stages.PlaneLevel."""

    box: Box
    A: np.ndarray
    inverse: np.ndarray
    v: np.ndarray
    shape: Shape
    restriction: Transfer
    prolongation: Transfer

    @property
    def factors(self) -> tuple[float | np.floating, ...]: ...
    @property
    def b(self) -> np.ndarray: ...
    @property
    def x(self) -> np.ndarray: ...
    @property
    def y(self) -> np.ndarray: ...
    @property
    def row(self) -> np.ndarray: ...
    @property
    def row_below(self) -> np.ndarray: ...


Part = tuple[Level, Gathering | None]
"""A level, and what gathers it from its ranks on fewer, where the next one is the same there."""


class Whole:
    """A V-cycle over the levels that this rank has a part of, finest first.

    Args:
        size: unknowns of the last level, where it is inverted here; else 0.

    Collective.
    """

    def __init__(self, parts: Sequence[Part], size: int):
        self._table = np.zeros((len(parts), tables.WIDTH), np.int64)
        self._levels = [level for level, _ in parts]
        self._factors = np.zeros((len(parts), 3), SINGLE)
        self._inverse = np.zeros((size, size))
        self._work = np.empty((2, size))
        # The table has no more than their addresses.
        self._kept = list[np.ndarray]()
        self._fields = self._levels[0].b, self._levels[0].x
        self.messages = Messages()
        for n, (level, _) in enumerate(parts):
            self._put(n, tables.GEOMETRY, self._geometry(level.shape.geometry))
            self._put(n, tables.B, self._field(level.b))
            self._put(n, tables.X, self._field(level.x))
        for n, (level, gathering) in enumerate(parts):
            below = self._levels[n + 1] if n + 1 < len(parts) else None
            if gathering is not None:
                self._gather(n, level, gathering, below)
            elif below is not None:
                self._sweep(n, level, below)
            else:
                self._put(n, tables.KIND, [tables.INVERTED])
        self._phases, sides = self.messages.tables
        addresses = np.array(calls() or (0, 0, 0), np.int64)
        self._parts = np.zeros(2)
        numbers = self._table, self._factors, self._inverse, self._work
        self.arguments = *numbers, self._phases, sides, addresses, self._parts
        """Of the compiled loop."""
        self._cycle = CYCLE.bound(*self.arguments)

    def goes_over(self, level: Level) -> bool:
        """Whether the first level's fields are those that it had."""
        return level.b is self._fields[0] and level.x is self._fields[1]

    def renew(self, inverse: np.ndarray) -> None:
        """Takes what followed from new values of the levels.

        Args:
            inverse: of the last level's matrix, where it is inverted here.
        """
        self._inverse[...] = inverse
        for n, level in enumerate(self._levels):
            self._factors[n] = level.factors

    def _gather(
        self, n: int, level: Level, gathering: Gathering, below: Level | None
    ) -> None:
        """What a level that lies on fewer ranks needs.

        Args:
            below: the same level of the group, on the rank that has it.
        """
        given, found = (level.shape, level.b), (level.shape, level.x)
        b = None if below is None else (below.shape, below.b)
        x = None if below is None else (below.shape, below.x)
        down = self.messages.gathered(gathering, level.box, given, b)
        up = self.messages.scattered(gathering, level.box, x, found)
        self._put(n, tables.KIND, [tables.GATHERED, *down, *up])

    def _sweep(self, n: int, level: Level, below: Level) -> None:
        """What sweeps over a level need, and transfers to the one below."""
        self._fill(n, level)
        down = self.messages.ghosts(level.box, level.shape, level.b)
        up = self.messages.ghosts(below.box, below.shape, below.x)
        self._put(n, tables.KIND, [tables.SWEPT, *down, *up])

    def _fill(self, n: int, level: Level) -> None:
        """Values and fields of sweeps over a level."""
        transfers = (
            (tables.RESTRICTION, level.restriction),
            (tables.PROLONGATION, level.prolongation),
        )
        for at, transfer in transfers:
            self._put(n, at, self._transfer(transfer))
        fields = (
            (tables.INVERSE, level.inverse),
            (tables.Y, level.y),
            (tables.V, level.v),
            (tables.ROW, level.row),
            (tables.ROW_BELOW, level.row_below),
        )
        for at, field in fields:
            self._put(n, at, self._field(field))
        planes, size = level.A.shape
        self._put(n, tables.A, [self._address(level.A, SINGLE), size])
        self._put(n, tables.PLANES, [planes])

    def _put(self, n: int, at: int, entries: Sequence[int]) -> None:
        self._table[n, at : at + len(entries)] = entries

    def _address(self, array: np.ndarray, dtype: type) -> int:
        # The loops believe what the table says.
        if array.dtype != dtype or not array.flags.c_contiguous:
            raise TypeError(f"{array.dtype}, contiguous: {array.flags.c_contiguous}")
        self._kept.append(array)
        return array.ctypes.data

    def _field(self, field: np.ndarray) -> list[int]:
        return [self._address(field, SINGLE), field.size]

    def _numbers(self, array: np.ndarray) -> list[int]:
        return [self._address(array, np.int64), len(array)]

    def _geometry(self, geometry: Geometry) -> list[int]:
        numbers, own, outside, along_x, runs, spans, firsts = geometry
        found = [*map(self._numbers, (numbers, own, outside))]
        rest = [*map(self._numbers, (runs, spans, firsts))]
        return [*sum(found, []), int(along_x), *sum(rest, [])]

    def _transfer(self, transfer: Transfer) -> list[int]:
        halved, numbers, lower, upper, targets, rows, weights, last, parts = transfer
        found = [int(halved), *self._numbers(numbers)]
        found += [*self._field(lower), *self._field(upper), *self._numbers(targets)]
        found += [*self._numbers(rows), rows.shape[1], self._address(weights, SINGLE)]
        return [*found, *self._numbers(last), *self._numbers(parts)]

    def run(self) -> tuple[float, float]:
        """x of the first level from its b; own parts of b^T x and x^T x. Collective."""
        failed = self._cycle()
        if failed:
            raise MPI.Exception(failed)
        self.messages.count()
        both, own = self._parts.tolist()
        return both, own

"""The levels of one rank as rows of a table, for a V-cycle in one call (whole_loops.py)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np

from npde_opt.lazily import loaded_lazily
from npde_opt.linear.planes.levels import SINGLE, Shape

if TYPE_CHECKING:
    from npde_opt.linear.planes import whole_loops
    from npde_opt.linear.planes.rows import Geometry
    from npde_opt.linear.planes.transfers import Transfer
else:
    whole_loops = loaded_lazily("npde_opt.linear.planes.whole_loops")

CELLS = 1 << 20
"""Of the finest level, up to which its fields are kept from solve to solve, and so is a table."""


class Level(Protocol):
    """What a level has that sweeps go over; see stages.PlaneLevel."""

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


class Whole:
    """A V-cycle with the present values of some levels, all of one rank, the last one inverted.

    Args:
        inverse: of the last level's matrix.
    """

    def __init__(self, levels: Sequence[Level], inverse: np.ndarray):
        self._table = np.zeros((len(levels), whole_loops.WIDTH), np.int64)
        self._factors = np.zeros((len(levels), 3), SINGLE)
        self._inverse = np.ascontiguousarray(inverse, float)
        self._work = np.empty((2, len(inverse)))
        self._kept: list[
            np.ndarray
        ] = []  # as the table has no more than their addresses
        self._fields = levels[0].b, levels[0].x
        for n, level in enumerate(levels):
            self._put(n, whole_loops.GEOMETRY, self._geometry(level.shape.geometry))
            self._put(n, whole_loops.B, self._field(level.b))
            self._put(n, whole_loops.X, self._field(level.x))
            if level is not levels[-1]:
                self._fill(n, level)

    def goes_over(self, level: Level) -> bool:
        """Whether the first level's fields are those that it had."""
        return level.b is self._fields[0] and level.x is self._fields[1]

    def _fill(self, n: int, level: Level) -> None:
        """What sweeps over a level need."""
        self._factors[n] = level.factors
        transfers = (
            (whole_loops.RESTRICTION, level.restriction),
            (whole_loops.PROLONGATION, level.prolongation),
        )
        for at, transfer in transfers:
            self._put(n, at, self._transfer(transfer))
        fields = (
            (whole_loops.INVERSE, level.inverse),
            (whole_loops.Y, level.y),
            (whole_loops.V, level.v),
            (whole_loops.ROW, level.row),
            (whole_loops.ROW_BELOW, level.row_below),
        )
        for at, field in fields:
            self._put(n, at, self._field(field))
        planes, size = level.A.shape
        self._put(n, whole_loops.A, [self._address(level.A, SINGLE), size])
        self._put(n, whole_loops.PLANES, [planes])

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
        """x of the first level from its b; b^T x and x^T x."""
        given = self._table, self._factors, self._inverse, self._work
        found: tuple[float, float] = whole_loops.cycle(*given)
        return found

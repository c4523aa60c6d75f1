"""One number a cell and channel: p_c(x), on the rank that owns the cell; inner product
sum_c int p_c q_c dx."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from petsc4py import PETSc

from npde_opt.aliases import Coefficient, Numbers
from npde_opt.errors import InputError
from npde_opt.grids import Grid
from npde_opt.io.vectors import Sink, Source
from npde_opt.parameters.draws import child, waves
from npde_opt.parameters.interface import (
    Block,
    Inverse,
    Lift,
    Placed,
    Transformed,
)


class Field(Block):
    """A field [i, j, k], or [c, i, j, k] with several channels.

    Args:
        channels: values a cell.
        fixed: values of the coefficient [i, j, k], whole on every rank or owned; where they are
            not NaN the field is known and kept, in all channels.
    """

    def __init__(self, channels: int = 1, fixed: np.ndarray | None = None):
        if channels < 1:
            raise InputError("Field: channels", channels, "a positive integer")
        self.channels, self.fixed = channels, fixed
        self.cellwise = channels == 1

    @property
    def count(self) -> int:
        return 0

    def on(self, grid: Grid, where: str) -> PlacedField:
        fixed = None
        if self.fixed is not None:
            fixed = grid.own(f"{where}.fixed", self.fixed)
        return PlacedField(grid, self.channels, fixed)


class ChannelBox:
    """The box of a field of several channels, [i, j, k, c]: channels lie one after the other."""

    def __init__(self, grid: Grid, channels: int):
        self.shape = (*grid.shape, channels)
        self.size = grid.size * channels
        self.local_slice = (*grid.local_slice, slice(0, channels))
        self.local_shape = (*grid.local_shape, channels)


class PlacedField(Placed):
    """A field on a grid; `fixed` are owned values [i, j, k], NaN where the field is unknown."""

    large = True

    def __init__(self, grid: Grid, channels: int, fixed: np.ndarray | None):
        self.grid, self.channels, self.fixed = grid, channels, fixed
        lead = (channels,) if channels > 1 else ()
        shape = (*lead, *grid.local_shape[::-1])
        last = tuple(range(len(shape) - 1, len(lead) - 1, -1))
        super().__init__(
            grid.comm, grid.active_size * channels, shape, (*range(len(lead)), *last)
        )
        inside = grid.active if fixed is None else grid.active & np.isnan(fixed)
        self._inside = np.asfortranarray(inside)
        self._whole = bool(inside.all())
        self._free = np.broadcast_to(self._inside, self.empty().shape)
        self._box = ChannelBox(grid, channels) if channels > 1 else grid

    def create_vec(self) -> PETSc.Vec:
        return self.grid.create_scalar() if self.channels == 1 else super().create_vec()

    @property
    def free(self) -> np.ndarray:
        return self._free

    def mass(self) -> np.ndarray:
        """Volumes of the cells, 1 where nothing is unknown."""
        own = self.empty()
        own[...] = np.where(self._inside, self.grid.volume, 1.0)
        return own

    def noise(self, seed: int) -> np.ndarray:
        own = self.empty()
        for c, channel in enumerate(self._channels(own)):
            drawn = self.grid.standard_normal(child(seed, c))
            channel[...] = np.where(self._inside, self.grid.view(drawn), 0.0)
            drawn.destroy()
        return own

    def smooth(self, seed: int) -> np.ndarray:
        own = self.empty()
        for c, channel in enumerate(self._channels(own)):
            channel[...] = np.where(self._inside, waves(self.grid, child(seed, c)), 0.0)
        return own

    def _channels(self, own: np.ndarray) -> np.ndarray:
        """[c, i, j, k], also of one channel."""
        return own if self.channels > 1 else own[None]

    def parameters(self, given: Numbers, inverse: Inverse) -> np.ndarray:
        own = self.empty()
        values = np.array(
            np.broadcast_to(np.asarray(given, float), own.shape), order="F"
        )
        own[self._free] = inverse(values[self._free])
        if self.fixed is not None:
            # Regularizers see the known values too.
            known = self.grid.active & ~self._inside
            own[..., known] = inverse(self.fixed[known])
        return own

    def values(self, own: np.ndarray) -> np.ndarray:
        return own

    def own(self, values: np.ndarray) -> np.ndarray:
        return values

    def coefficient(self, k: np.ndarray) -> np.ndarray:
        """1 in inactive cells, known values where the field is fixed."""
        if self._whole:
            return k
        found = np.where(self._inside, k, 1.0 if self.fixed is None else self.fixed)
        found[..., ~self.grid.active] = 1.0
        return found

    def change(self, dk: np.ndarray) -> np.ndarray:
        return dk if self._whole else np.where(self._inside, dk, 0.0)

    def sums(self, cotangent: Coefficient) -> np.ndarray:
        if self._whole and np.shape(cotangent) == self._free.shape:
            return np.asarray(cotangent)
        return np.where(self._inside, cotangent, 0.0)

    def write(self, own: np.ndarray, sink: Sink) -> None:
        sink.field(self._box, np.moveaxis(own, 0, -1) if self.channels > 1 else own)

    def read(self, source: Source) -> np.ndarray:
        found = source.field(self._box)
        return np.moveaxis(found, -1, 0) if self.channels > 1 else found

    def lift(self, coarse: Placed, cubic: bool, matrix: Callable[[bool], Lift]) -> Lift:
        assert isinstance(coarse, PlacedField)
        return Interpolated(coarse, self, matrix(cubic))

    def squares(
        self, unknown: Transformed, own: np.ndarray, truth: Numbers, start: Numbers
    ) -> np.ndarray:
        """Of the parameter, relative to the error of the start."""
        true, first = (
            unknown.inverse(np.broadcast_to(x, own.shape)[self._free])
            for x in (truth, start)
        )
        return np.array(
            [((own[self._free] - true) ** 2).sum(), ((first - true) ** 2).sum()]
        )


class Interpolated:
    """Channel by channel to a finer grid, 0 in its cells that are not free; the map of cell values
    belongs to others."""

    def __init__(self, coarse: PlacedField, fine: PlacedField, cells: Lift):
        self.coarse, self.fine, self.cells = coarse, fine, cells

    def apply(self, rows: np.ndarray, found: np.ndarray) -> None:
        self.cells.apply(self._by_channel(rows), self._by_channel(found))
        if not self.fine.all_free:
            found *= self.fine.free_in_memory

    def transpose(self, rows: np.ndarray, found: np.ndarray) -> None:
        given = rows if self.fine.all_free else rows * self.fine.free_in_memory
        self.cells.transpose(self._by_channel(given), self._by_channel(found))

    def _by_channel(self, rows: np.ndarray) -> np.ndarray:
        """A row a channel: channels lie in memory one after the other."""
        return rows.reshape(len(rows) * self.fine.channels, -1)

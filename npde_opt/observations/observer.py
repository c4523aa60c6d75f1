"""What is seen of an experiment, or of several as columns: d = (B_s g_s(u(t_n)))_sn over the
samplings s and their times.

With derivatives for all n together,

    push  B g'(u) du,     pull  g'(u)^T B^T d,     second  (g''(u) du)^T B^T d.

A steady state is seen at n = 0, by samplings without times. States are owned values [c, i, j, k],
or [c, s, i, j, k] of several samples; data are arrays of the owned outputs, (outputs, samples).
Along a line, all times of one experiment can be seen at once, as columns [c, n, i].
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from petsc4py import PETSc

from npde_opt import reductions
from npde_opt.errors import InputError
from npde_opt.grids import Grid
from npde_opt.observations.every_time import EveryTime
from npde_opt.observations.instants import indices_of
from npde_opt.observations.quantity import quantity_of
from npde_opt.observations.sampling import Sampling
from npde_opt.observations.shares import Share
from npde_opt.observations.wide import WideProduct

When = int | slice
"""n, or EVERY."""

EVERY = slice(None)
"""All n at once, along a line on one rank: states of one experiment are columns [c, n, i]."""


class Observer:
    """Several samplings of experiments that are observed alike.

    Outputs are ordered by sampling, time, place. A rank owns those of the rows of B that it owns.

    Args:
        species: names of the channels of a state.
        times: at which steps end; none for a steady state.
        samplings: at some of these times; they stay the caller's.

    Attributes:
        size: outputs.
        order: the place of each owned output among all.
        instants: the n at which something is seen.

    Raises:
        InputError: for a quantity that is no text in the species' names, a sampling of another
            grid, and times at which no step ends (for a steady state: any).
    """

    def __init__(
        self,
        grid: Grid,
        species: Sequence[str],
        times: Sequence[float] | np.ndarray,
        samplings: Sequence[Sampling],
    ):
        self.grid, self.species, self.samplings = grid, tuple(species), tuple(samplings)
        self.quantities = [
            quantity_of(s.quantity, self.species, f"observation[{k}].quantity")
            for k, s in enumerate(samplings)
        ]
        # By n: the samplings that see u(t_n), and where their data begin in this rank's part.
        self._seen: dict[int, list[tuple[int, int]]] = {}
        # By sampling: the n at which it sees, and where its data begin.
        self._times: list[tuple[np.ndarray, int]] = []
        order: list[np.ndarray] = []
        at = self.size = 0
        for k, s in enumerate(samplings):
            self._check_grid(k)
            seen = self._instants(np.asarray(times, float), k)
            self._times.append((np.array(seen), at))
            for n in seen:
                self._seen.setdefault(n, []).append((k, at))
                order.append(self.size + s.order)
                at += s.order.size
                self.size += s.size
        self.order = np.concatenate(order) if order else np.empty(0, int)
        self.instants = frozenset(self._seen)
        self._cells = grid.create_scalar()
        # By sampling, once one state is seen.
        self._seen_rows: dict[int, PETSc.Vec] = {}
        # By sampling, once it is asked for.
        self._all: dict[int, bool] = {}
        # By sampling, once several samples are seen.
        self._wide: dict[int, WideProduct] = {}
        # By sampling, once all times are seen at once.
        self._every: dict[int, EveryTime] = {}

    def _check_grid(self, k: int) -> None:
        cells = self.samplings[k].matrix.getSize()[1]
        if cells != self.grid.layout.size:
            raise InputError(
                f"observation[{k}]",
                f"a sampling of {cells:,} cells",
                f"one of this grid, {self.grid.layout.size:,} cells",
            )

    def _instants(self, times: np.ndarray, k: int) -> list[int]:
        """The n at which a sampling sees u(t_n)."""
        own, field = self.samplings[k].times, f"observation[{k}].times"
        if not times.size:
            if own:
                raise InputError(
                    field, f"{len(own)} times", "none: a steady state is seen once"
                )
            return [0]
        if not own:
            raise InputError(field, "none", f"times from {times[0]:g} to {times[-1]:g}")
        return indices_of(times, np.asarray(own, float), field).tolist()

    @property
    def sizes(self) -> list[tuple[int, int]]:
        """Numbers of times and of places of the samplings."""
        return [(s.count, s.size) for s in self.samplings]

    @property
    def share(self) -> Share:
        """Of data at places that are cut evenly, as cases have them."""
        return Share(self.grid.comm, tuple(self.sizes))

    @property
    def plain(self) -> PETSc.Mat | None:
        """B where its data are B u of the only species at n = 0; None where they are not."""
        if len(self.samplings) != 1 or len(self.species) != 1 or self.instants != {0}:
            return None
        return self.samplings[0].matrix if self.quantities[0].is_species else None

    def lost(self) -> np.ndarray:
        """Whether an owned output is of a place that no active cell is seen from."""
        empty = [np.tile(s.empty_rows(), s.count) for s in self.samplings]
        return np.concatenate([np.empty(0, bool), *empty])

    def unseen(self) -> np.ndarray:
        """As `lost`, of all outputs by sampling, time and place, on every rank. Collective."""
        own = np.zeros(self.size)
        own[self.order] = self.lost()
        return reductions.total(self.grid.comm, own) > 0

    def observe(self, n: When, u: np.ndarray, data: np.ndarray) -> None:
        """Adds what is seen of u(t_n) to `data`. Collective, as all that follow."""
        if isinstance(n, slice):
            for k, states in self._at_times(u):
                self._see_times(k, self.quantities[k].value(*states), data)
            return
        for k, at in self._seen.get(n, ()):
            self._see(k, at, self.quantities[k].value(u), data)

    def push(self, n: When, u: np.ndarray, du: np.ndarray, data: np.ndarray) -> None:
        """Adds B g'(u) du to `data`."""
        if isinstance(n, slice):
            for k, states in self._at_times(u, du):
                self._see_times(k, self.quantities[k].push(*states), data)
            return
        for k, at in self._seen.get(n, ()):
            self._see(k, at, self.quantities[k].push(u, du), data)

    def pull(self, n: When, u: np.ndarray, d: np.ndarray, out: np.ndarray) -> None:
        """Adds g'(u)^T B^T d to `out`, shaped as u."""
        if isinstance(n, slice):
            for k, (own,) in self._at_times(u):
                found = np.zeros_like(own)
                self.quantities[k].pull(own, self._spread_times(k, d), found)
                self._add_times(k, found, out)
            return
        for k, at in self._seen.get(n, ()):
            self.quantities[k].pull(u, self._spread(k, at, d), out)

    def second(
        self, n: When, u: np.ndarray, du: np.ndarray, d: np.ndarray, out: np.ndarray
    ) -> None:
        """Adds (g''(u) du)^T B^T d to `out`, shaped as u."""
        if isinstance(n, slice):
            for k, (own, change) in self._at_times(u, du):
                found, w = np.zeros_like(own), self._spread_times(k, d)
                self.quantities[k].second(own, w, change, found)
                self._add_times(k, found, out)
            return
        for k, at in self._seen.get(n, ()):
            if not self.quantities[k].is_species:
                self.quantities[k].second(u, self._spread(k, at, d), du, out)

    def _at_times(self, *states: np.ndarray) -> Iterator[tuple[int, list[np.ndarray]]]:
        """(sampling, the columns that it sees)."""
        for k, (seen, _) in enumerate(self._times):
            yield k, [u[:, seen] for u in states]

    def _add_times(self, k: int, found: np.ndarray, out: np.ndarray) -> None:
        """Adds to the columns that sampling k sees, some maybe twice."""
        for channel, values in zip(out, found, strict=True):
            np.add.at(channel, self._times[k][0], values)

    def _rows_of(self, k: int, data: np.ndarray) -> np.ndarray:
        """The data of a sampling [t, row], as a view."""
        (seen, at), rows = self._times[k], self.samplings[k].order.size
        return data[at : at + seen.size * rows, 0].reshape(seen.size, rows)

    def _see_times(self, k: int, fields: np.ndarray, data: np.ndarray) -> None:
        """Adds B field of all times that sampling k sees."""
        rows = self._rows_of(k, data)
        whole = np.broadcast_to(fields, (len(rows), self.grid.layout.size))
        rows += self._product_of_times(k).see(whole)

    def _spread_times(self, k: int, d: np.ndarray) -> np.ndarray:
        """B^T d of all times that sampling k sees."""
        rows, size = self._rows_of(k, d), self.grid.layout.size
        return self._product_of_times(k).spread(rows, size)

    def _product_of_times(self, k: int) -> EveryTime:
        if k not in self._every:
            self._every[k] = EveryTime(self.samplings[k].matrix)
        return self._every[k]

    def _see(self, k: int, at: int, field: np.ndarray, data: np.ndarray) -> None:
        """Adds B field to the rows of sampling k that begin at `at`."""
        rows = data[at : at + self.samplings[k].order.size]
        if rows.shape[1] > 1:
            whole = np.broadcast_to(field, (rows.shape[1], *self.grid.local_shape))
            rows += self._product(k).see(whole)
            return
        if self._sees_all(k):
            rows[:, 0].reshape(self.grid.local_shape, order="F")[...] += field
            return
        self.grid.view(self._cells)[...] = field
        seen = self._rows_vec(k)
        self.samplings[k].matrix.mult(self._cells, seen)
        rows[:, 0] += seen.getArray(readonly=True)

    def _spread(self, k: int, at: int, d: np.ndarray) -> np.ndarray:
        """B^T d, to read only; the next call overwrites it."""
        rows = d[at : at + self.samplings[k].order.size]
        if rows.shape[1] > 1:
            return self._product(k).spread(rows)
        if self._sees_all(k):
            return rows[:, 0].reshape(self.grid.local_shape, order="F")
        seen = self._rows_vec(k)
        seen.setArray(rows[:, 0])
        self.samplings[k].matrix.multTranspose(seen, self._cells)
        return self.grid.view(self._cells)

    def _sees_all(self, k: int) -> bool:
        """Whether a sampling on one rank sees all cells as they are, in their order in memory."""
        if k not in self._all:
            matrix, cells = self.samplings[k].matrix, self.grid.layout.local_size
            one = self.grid.comm.size == 1 and matrix.getSize() == (cells, cells)
            if one:
                starts, columns, values = matrix.getValuesCSR()
                every = np.arange(cells)
                one = np.array_equal(columns, every) and bool((values == 1.0).all())
                one = one and np.array_equal(starts[1:], every + 1)
            self._all[k] = one and cells == np.prod(self.grid.local_shape)
        return self._all[k]

    def _rows_vec(self, k: int) -> PETSc.Vec:
        """For the data of a sampling, kept."""
        if k not in self._seen_rows:
            self._seen_rows[k] = self.samplings[k].matrix.createVecLeft()
        return self._seen_rows[k]

    def _product(self, k: int) -> WideProduct:
        if k not in self._wide:
            self._wide[k] = WideProduct(self.grid, self.samplings[k].matrix)
        return self._wide[k]

    def destroy(self) -> None:
        for product in self._wide.values():
            product.destroy()
        self._wide.clear()
        for vec in (self._cells, *self._seen_rows.values()):
            vec.destroy()
        self._seen_rows.clear()

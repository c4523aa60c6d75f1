"""What is seen of one experiment: d = (B_s g_s(u(t_n)))_sn over its samplings s and their times.

With derivatives for all n together,

    push  B g'(u) du,     pull  g'(u)^T B^T d,     second  (g''(u) du)^T B^T d.

A steady state is seen at n = 0, by samplings without times. States are owned values [c, i, j, k].
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from petsc4py import PETSc

from npde_opt.errors import InputError
from npde_opt.grids import Grid
from npde_opt.observations.instants import indices_of
from npde_opt.observations.quantity import quantity_of
from npde_opt.observations.sampling import Sampling


class Observer:
    """Several samplings of one experiment.

    Data are ordered by sampling, time, place. A Vec holds them rank by rank, of each rank the rows
    of B that it owns: `arrange` and `gather` translate.

    Args:
        species: names of the channels of a state.
        times: at which steps end; none for a steady state.
        samplings: at some of these times; they stay the caller's.

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
        order: list[np.ndarray] = []
        self.local_size = self.size = 0
        for k, s in enumerate(samplings):
            self._check_grid(k)
            for n in self._instants(np.asarray(times, float), k):
                self._seen.setdefault(n, []).append((k, self.local_size))
                order.append(self.size + s.order)
                self.local_size += s.order.size
                self.size += s.size
        self.order = np.concatenate(order) if order else np.empty(0, int)
        self._cells = grid.create_scalar()

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
                raise InputError(field, f"{len(own)} times", "none: a steady state is seen once")
            return [0]
        if not own:
            raise InputError(field, "none", f"times from {times[0]:g} to {times[-1]:g}")
        return indices_of(times, np.asarray(own, float), field).tolist()

    @property
    def instants(self) -> set[int]:
        """The n at which something is seen."""
        return set(self._seen)

    def create_vec(self) -> PETSc.Vec:
        """A Vec of data. Collective."""
        return PETSc.Vec().createMPI((self.local_size, self.size), comm=self.grid.comm)

    def unseen(self) -> np.ndarray:
        """1 for data of places that no active cell is seen from, else 0, by sampling, time and
        place, on every rank. Collective."""
        vec, at = self.create_vec(), 0
        for s in self.samplings:
            empty = np.tile(s.empty_rows(), s.count)
            vec.getArray()[at : at + empty.size] = empty
            at += empty.size
        out = self.gather(vec)
        vec.destroy()
        return out

    def arrange(self, values: np.ndarray) -> np.ndarray:
        """A global array of data, by sampling, time and place, in the order of the Vec.

        Raises:
            InputError: for another number of values.
        """
        values = np.asarray(values, float).ravel()
        if values.size != self.size:
            wanted = f"{self.size} values, by sampling, time and place"
            raise InputError("data", f"{values.size} values", wanted)
        return values[np.concatenate(self.grid.comm.allgather(self.order))]

    def gather(self, vec: PETSc.Vec) -> np.ndarray:
        """The data by sampling, time and place on every rank. Collective."""
        out = np.empty(self.size)
        own = np.array(vec.getArray(readonly=True))
        for order, values in self.grid.comm.allgather((self.order, own)):
            out[order] = values
        return out

    def observe(self, n: int, u: np.ndarray, data: PETSc.Vec) -> None:
        """Adds what is seen of u(t_n) to `data`. Collective, as all that follow."""
        for k, at in self._seen.get(n, ()):
            self._see(k, at, self.quantities[k].value(u), data)

    def push(self, n: int, u: np.ndarray, du: np.ndarray, data: PETSc.Vec) -> None:
        """Adds B g'(u) du to `data`."""
        for k, at in self._seen.get(n, ()):
            self._see(k, at, self.quantities[k].push(u, du), data)

    def pull(self, n: int, u: np.ndarray, d: PETSc.Vec, out: np.ndarray) -> None:
        """Adds g'(u)^T B^T d to `out`, shaped as u."""
        for k, at in self._seen.get(n, ()):
            self.quantities[k].pull(u, self._spread(k, at, d), out)

    def second(self, n: int, u: np.ndarray, du: np.ndarray, d: PETSc.Vec, out: np.ndarray) -> None:
        """Adds (g''(u) du)^T B^T d to `out`, shaped as u."""
        for k, at in self._seen.get(n, ()):
            if not self.quantities[k].is_species:
                self.quantities[k].second(u, self._spread(k, at, d), du, out)

    def _rows(self, k: int, at: int, vec: PETSc.Vec) -> np.ndarray:
        """This rank's data of sampling k at a time; writing into them writes the Vec."""
        return vec.getArray()[at : at + self.samplings[k].order.size]

    def _see(self, k: int, at: int, field: np.ndarray, data: PETSc.Vec) -> None:
        """Adds B field."""
        B = self.samplings[k].matrix
        self.grid.view(self._cells)[...] = field
        seen = B.createVecLeft()
        B.mult(self._cells, seen)
        rows = self._rows(k, at, data)
        rows += seen.getArray(readonly=True)
        seen.destroy()

    def _spread(self, k: int, at: int, d: PETSc.Vec) -> np.ndarray:
        """B^T d, which the next call overwrites."""
        B = self.samplings[k].matrix
        seen = B.createVecLeft()
        seen.setArray(self._rows(k, at, d))
        B.multTranspose(seen, self._cells)
        seen.destroy()
        return self.grid.view(self._cells)

    def destroy(self) -> None:
        self._cells.destroy()

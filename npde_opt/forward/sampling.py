"""Observations of a trajectory: d = (B_n g_n(u(t_n)))_n, g pointwise in the species (linear or not), B_n linear.

g is given as text in the species' names: "u", "re**2 + im**2" (intensity), "1/(1 + exp(-(u - 0.3)/0.05))" (a smooth
threshold). B_n interpolates to points, averages over regions, or keeps every cell.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse
from petsc4py import PETSc

from npde_opt import reductions
from npde_opt.errors import InputError
from npde_opt.forward.steps import index_of
from npde_opt.functions.text import Expressions
from npde_opt.grids import Grid, sums_by_number
from npde_opt.operators import from_rows, interpolation
from npde_opt.terms.state import channels

ROUNDING = 1e-9
"""Overlaps of cells that are a smaller share of the narrower one are those of rounded edges."""


@dataclass(frozen=True, eq=False)
class Sampling:
    """What is observed at certain times.

    Args:
        times: at which; steps end there.
        matrix: B, a Mat (n x cells); belongs to the sampling.
        quantity: g as text. order: the place, among the n data of a time, of each owned row of B.
    """

    times: tuple[float, ...]
    matrix: PETSc.Mat
    quantity: str
    order: np.ndarray

    @property
    def size(self) -> int:
        """Data a time."""
        return int(self.matrix.getSize()[0])

    def destroy(self) -> None:
        self.matrix.destroy()


def at_points(grid: Grid, times: Sequence[float], points: np.ndarray, quantity: str = "u",
              field: str = "points", nearest: bool = False) -> Sampling:
    """Values interpolated to points (n, dim). `locate.py` says where they may lie, and what
    `nearest` is. Raises InputError naming `field`."""
    B = interpolation(grid, points, field, nearest)
    return Sampling(tuple(times), B, quantity, np.arange(*B.getOwnershipRange()))


def snapshots(grid: Grid, times: Sequence[float], quantity: str = "u") -> Sampling:
    """Every cell, in natural order (x fastest)."""
    owned = np.meshgrid(*grid.layout.owned(), indexing="ij")
    natural = np.ravel_multi_index(owned, grid.shape, order="F").ravel(order="F")
    rows = grid.layout.global_index(grid.layout.owned_mesh()).reshape(-1, 1)
    n = grid.layout.local_size
    B = from_rows(grid.comm, n, (n, grid.layout.size), rows, np.ones((n, 1)), np.ones((n, 1), bool))
    return Sampling(tuple(times), B, quantity, natural)


def over_regions(grid: Grid, times: Sequence[float], regions: np.ndarray, quantity: str = "u", least: int = 0,
                 field: str = "observation.regions", unseen: bool = False) -> Sampling:
    """Volume averages over the regions 0, 1, ... of an int array [i, j, k] (global, on every rank); -1: in none.

    Args:
        least: so many regions at least, also where the last ones have no cell.
        unseen: averages of regions without an active cell are 0, and `Observer.unseen` says so; else they are refused.

    Raises:
        InputError: naming `field`, for another shape and for regions without an active cell.
    """
    if regions.shape != grid.shape:
        raise InputError(field, f"shape {regions.shape}", f"shape {grid.shape}")
    own, count = regions[grid.local_slice], max(int(regions.max()) + 1, least)
    inside = grid.active & (own >= 0)
    weights = sums_by_number(own[inside], grid.volume[inside], count)
    total = reductions.total(grid.comm, weights)
    if not unseen and not (total > 0).all():
        raise InputError(field, f"region {int(np.argmin(total > 0))} without an active cell",
                         "regions of at least one active cell, numbered 0, 1, ... without gaps; -1 is in none")
    B = PETSc.Mat().createAIJ(((None, count), (grid.layout.local_size, grid.layout.size)), comm=grid.comm)
    columns = grid.layout.global_index(grid.layout.owned_mesh()).reshape(grid.local_shape, order="F")
    B.setPreallocationCOO(own[inside].astype(PETSc.IntType), columns[inside])
    B.setValuesCOO(grid.volume[inside] / total[own[inside]])
    return Sampling(tuple(times), B, quantity, np.arange(*B.getOwnershipRange()))


def voxels(grid: Grid, times: Sequence[float], edges: Sequence[np.ndarray], quantity: str = "u") -> Sampling:
    """Volume averages, over active cells, of the boxes between other edges of the same domain, in natural order: data of
    one grid seen by finer or coarser ones. Boxes without an active cell are 0."""
    overlaps = [overlap_lengths(e, g[s.start: s.stop + 1]).tocoo()
                for e, g, s in zip(edges, grid.edges, grid.local_slice, strict=True)]
    shape = tuple(e.size - 1 for e in edges)
    rows, columns, weights = _tensor(overlaps, grid, shape)
    n, size = int(np.prod(shape, dtype=np.int64)), grid.comm.size
    share = n // size + (grid.comm.rank < n % size)
    B = PETSc.Mat().create(grid.comm)
    B.setSizes(((share, n), (grid.layout.local_size, grid.layout.size)))
    B.setType(PETSc.Mat.Type.AIJ)
    B.setPreallocationCOO(rows.astype(PETSc.IntType), columns.astype(PETSc.IntType))
    B.setValuesCOO(weights)
    ones, total = B.createVecs()
    ones.set(1.0)
    B.mult(ones, total)
    sums = np.array(total.getArray(readonly=True))
    total.setArray(np.divide(1.0, sums, out=np.zeros_like(sums), where=sums > 0))
    B.diagonalScale(L=total)
    ones.destroy()
    total.destroy()
    return Sampling(tuple(times), B, quantity, np.arange(*B.getOwnershipRange()))


def overlap_lengths(a: np.ndarray, b: np.ndarray) -> scipy.sparse.csr_matrix:
    """Lengths shared by the intervals between edges a (rows) and edges b (columns)."""
    first = np.clip(np.searchsorted(a, b[:-1], side="right") - 1, 0, a.size - 2)
    last = np.clip(np.searchsorted(a, b[1:], side="left") - 1, 0, a.size - 2)
    counts = last - first + 1
    columns = np.repeat(np.arange(b.size - 1), counts)
    rows = np.repeat(first, counts) + np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    lengths = np.minimum(a[rows + 1], b[columns + 1]) - np.maximum(a[rows], b[columns])
    shorter = np.minimum(a[rows + 1] - a[rows], b[columns + 1] - b[columns])
    keep = lengths > ROUNDING * shorter
    return scipy.sparse.csr_matrix((lengths[keep], (rows[keep], columns[keep])), shape=(a.size - 1, b.size - 1))


def _tensor(overlaps: Sequence[scipy.sparse.coo_matrix], grid: Grid, shape: tuple[int, ...]):
    """Rows, global columns and weights of the product of one overlap an axis, over active cells."""
    meshes = np.meshgrid(*[np.arange(o.nnz) for o in overlaps], indexing="ij")
    row = [o.row[m.ravel()] for o, m in zip(overlaps, meshes, strict=True)]
    own = [o.col[m.ravel()] for o, m in zip(overlaps, meshes, strict=True)]
    weights = np.prod([o.data[m.ravel()] for o, m in zip(overlaps, meshes, strict=True)], axis=0)
    on = grid.active[tuple(own)]
    columns = grid.layout.global_index([c + s for c, s in zip(own, grid.start, strict=True)])
    return np.ravel_multi_index(row, shape, order="F")[on], columns[on], weights[on]


class Observer:
    """Several samplings of one experiment, with derivatives; `times` are those at which steps end.

    Data are ordered by sampling, time, place; a Vec holds them rank by rank: `arrange` and `gather` translate.
    """

    def __init__(self, grid: Grid, species: Sequence[str], times: np.ndarray, samplings: Sequence[Sampling]):
        self.grid, self.species, self.samplings = grid, tuple(species), tuple(samplings)
        self.expressions = [Expressions([s.quantity], species, f"observation[{i}].quantity")
                            for i, s in enumerate(samplings)]
        for e in self.expressions:
            e.check_names((), "the species " + ", ".join(species))
        self.places: dict[int, list[tuple[int, int]]] = {}
        order, local, total = [], 0, 0
        for k, s in enumerate(samplings):
            rows = s.matrix.getLocalSize()[0]
            for t in s.times:
                self.places.setdefault(index_of(times, t), []).append((k, local))
                order.append(total + s.order)
                local, total = local + rows, total + s.size
        self.order = np.concatenate(order) if order else np.empty(0, int)
        self.local_size, self.size = local, total
        self._x = grid.create_scalar()

    def create_vec(self) -> PETSc.Vec:
        return PETSc.Vec().createMPI((self.local_size, self.size), comm=self.grid.comm)

    def unseen(self) -> np.ndarray:
        """1 for data of places that no active cell is seen from, else 0, by sampling, time and place. Collective."""
        vec = self.create_vec()
        self._x.set(1.0)
        self.grid.view(self._x)[~self.grid.active] = 0
        at = 0
        for s in self.samplings:
            y = s.matrix.createVecLeft()
            s.matrix.mult(self._x, y)
            empty = (y.getArray(readonly=True) == 0).astype(float)
            for _ in s.times:
                vec.getArray()[at: at + empty.size] = empty
                at += empty.size
            y.destroy()
        out = self.gather(vec)
        vec.destroy()
        return out

    def arrange(self, values: np.ndarray) -> np.ndarray:
        """A global array of data, by sampling, time and place, in the order of the Vec. Collective."""
        values = np.asarray(values, float).ravel()
        if values.size != self.size:
            raise InputError("data", f"{values.size} values", f"{self.size} values, by sampling, time and place")
        return values[np.concatenate(self.grid.comm.allgather(self.order))]

    def gather(self, vec: PETSc.Vec) -> np.ndarray:
        """The data by sampling, time and place on every rank. Collective."""
        out = np.empty(self.size)
        pieces = self.grid.comm.allgather((self.order, np.array(vec.getArray(readonly=True))))
        for order, values in pieces:
            out[order] = values
        return out

    def _rows(self, k: int, vec: PETSc.Vec, at: int) -> np.ndarray:
        return vec.getArray()[at: at + self.samplings[k].matrix.getLocalSize()[0]]

    def _apply(self, k: int, field: np.ndarray) -> np.ndarray:
        self.grid.view(self._x)[...] = np.where(self.grid.active, field, 0.0)
        y = self.samplings[k].matrix.createVecLeft()
        self.samplings[k].matrix.mult(self._x, y)
        values = np.array(y.getArray(readonly=True))
        y.destroy()
        return values

    def _apply_transpose(self, k: int, values: np.ndarray) -> np.ndarray:
        y = self.samplings[k].matrix.createVecLeft()
        y.setArray(values)
        self.samplings[k].matrix.multTranspose(y, self._x)
        y.destroy()
        return np.where(self.grid.active, self.grid.view(self._x), 0.0)

    def observe(self, n: int, u: np.ndarray, data: PETSc.Vec) -> None:
        """Adds what is seen of u(t_n) to `data`. Collective."""
        for k, at in self.places.get(n, ()):
            seen = self._apply(k, self.expressions[k].value(*u)[0])
            rows = self._rows(k, data, at)
            rows += seen

    def push(self, n: int, u: np.ndarray, du: np.ndarray, data: PETSc.Vec) -> None:
        """Adds B g'(u) du."""
        for k, at in self.places.get(n, ()):
            seen = self._apply(k, self.expressions[k].push(*u, *du)[0])
            rows = self._rows(k, data, at)
            rows += seen

    def pull(self, n: int, u: np.ndarray, d: PETSc.Vec, out: np.ndarray) -> None:
        """Adds g'(u)^T B^T d."""
        for k, at in self.places.get(n, ()):
            w = self._apply_transpose(k, self._rows(k, d, at))
            for c, part in enumerate(self.expressions[k].pull(*u, w)):
                out[c] += np.where(w != 0, part, 0.0)  # g need not have a slope where it is not seen

    def second(self, n: int, u: np.ndarray, du: np.ndarray, d: PETSc.Vec, out: np.ndarray) -> None:
        """Adds (g''(u) du)^T B^T d."""
        for k, at in self.places.get(n, ()):
            w = self._apply_transpose(k, self._rows(k, d, at))
            for c, part in enumerate(self.expressions[k].second(*u, w, *du)):
                out[c] += np.where(w != 0, part, 0.0)

    def zeros(self) -> np.ndarray:
        return channels(self.grid, len(self.species))

    def destroy(self) -> None:
        self._x.destroy()

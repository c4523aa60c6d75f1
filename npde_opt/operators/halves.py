"""Symmetric stencils of face neighbours without index arrays: the diagonal and, along each axis,
the couplings to the cells after. Those to the cells before are the same values seen from there, but
for the first cells, before which another rank's or, where the axis is periodic, the last ones
lie."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

import numpy as np
from mpi4py import MPI
from petsc4py import PETSc

from npde_opt import reductions
from npde_opt.grids.layout import Layers, Layout, neighbours
from npde_opt.machine_code import Kept, Repeated

MULTIPLY = Kept("npde_opt.operators.product_loops", "multiply")

Offset = tuple[int, ...]
NONE = np.empty(0)
Planes = dict[Offset, np.ndarray]
"""Owned values [k, j, i] (x last) by offset."""


def _unit(dim: int, d: int, step: int) -> Offset:
    return tuple(step * int(d == e) for e in range(dim))


class Half:
    """A symmetric stencil's values on this rank's cells.

    Args:
        planes: of all offsets; kept, but for those to the cells before.
        ends: what `symmetric` gives.
    """

    def __init__(
        self,
        planes: Planes,
        ends: list[np.ndarray],
        layout: Layout,
        periodic: Sequence[bool],
        comm: MPI.Intracomm,
    ):
        self.layout, self.comm, self.dim = layout, comm, layout.dim
        self._periodic, axes = tuple(periodic), range(self.dim)
        self._spanned = [d for d in axes if periodic[d] or layout.processes[d] > 1]
        """Axes along which cells have neighbours elsewhere."""
        self._layers = dict[int, list[Layers]]()
        """Of these, by how many rows."""
        self.values: Planes = {(0,) * self.dim: planes[(0,) * self.dim]}
        """The diagonal, and the couplings to the cells after; 0 of the last cells along an axis,
        but for the last axis."""
        self._before, self._after = ends, list[np.ndarray]()
        """Couplings of the first cells to those before, of the last ones to those after."""
        for d in axes:
            after = self.values[_unit(self.dim, d, 1)] = planes[_unit(self.dim, d, 1)]
            last = self._along(after, d)[-1:]
            self._after.append(last.copy())
            if d < self.dim - 1:
                # In memory the next line of cells follows, or the next plane.
                last[...] = 0
        centre, *flat = (np.ravel(values) for values in self.values.values())
        # Cells from one to the next along each axis, as they lie.
        steps = tuple(math.prod(layout.local_shape[:d]) for d in axes)
        self._flat = centre, tuple(flat), steps
        self._multiply = {weighted: Repeated(MULTIPLY) for weighted in (False, True)}

    @classmethod
    def of(
        cls,
        planes: Planes,
        layout: Layout,
        periodic: Sequence[bool],
        comm: MPI.Intracomm,
    ) -> Half | None:
        """None where the values are not symmetric to the last bit. Sets couplings to what is
        outside to 0. Collective."""
        equal, ends = True, list[np.ndarray]()
        for d in range(layout.dim):
            first, last = (
                np.moveaxis(planes[_unit(layout.dim, d, s)], layout.dim - 1 - d, 0)
                for s in (-1, 1)
            )
            at, many = layout.position[d], layout.processes[d]
            if not periodic[d] and at == 0:
                first[:1] = 0
            if not periodic[d] and at == many - 1:
                last[-1:] = 0
            equal = equal and np.array_equal(first[1:], last[:-1])
            if periodic[d] or many > 1:
                after = planes[_unit(layout.dim, d, 1)]
                below, _ = neighbours(after, layout, d, periodic[d], comm)
                met = np.moveaxis(below, layout.dim - 1 - d, 0)
                equal = equal and np.array_equal(first[:1], met)
            ends.append(first[:1].copy())
        if not reductions.everywhere(comm, equal):
            return None
        return cls(planes, ends, layout, periodic, comm)

    @property
    def diagonal(self) -> np.ndarray:
        return self.values[(0,) * self.dim]

    def kept(self) -> Planes:
        """The diagonal, and the couplings to the cells after; 0 towards what is outside."""
        found = dict(self.values)
        for d in self._spanned:
            if d < self.dim - 1:
                plane = found[_unit(self.dim, d, 1)].copy()
                self._along(plane, d)[-1:] = self._after[d]
                found[_unit(self.dim, d, 1)] = plane
        return found

    def whole(self) -> Planes:
        """Planes of all offsets."""
        found = self.kept()
        for d in range(self.dim):
            after = self._along(found[_unit(self.dim, d, 1)], d)
            before = np.concatenate([self._before[d], after[:-1]])[: len(after)]
            found[_unit(self.dim, d, -1)] = np.moveaxis(before, 0, self.dim - 1 - d)
        return found

    def _along(self, values: np.ndarray, d: int) -> np.ndarray:
        return np.moveaxis(values, self.dim - 1 - d, 0)

    def multiply(
        self,
        rows: np.ndarray,
        found: np.ndarray,
        factor: float = 1.0,
        weights: np.ndarray | None = None,
    ) -> None:
        """A x of every row x (n, owned cells), x fastest, times a number and weights of the cells,
        into a row of `found`; both in C order. Collective; on all ranks of as many rows."""
        count = len(rows)
        box = (count, *self.layout.local_shape[::-1])
        given, out = rows.reshape(box), found.reshape(box)
        spans = self._spans(count)
        for layers in spans:
            layers.post(given)
        own = NONE if weights is None else weights
        multiply = self._multiply[weights is not None]
        multiply(*self._flat, float(factor), own, rows, found)
        for layers in spans:
            below, above = layers.finish()
            first, last = layers.ends
            d = layers.axis
            # Of no cells there are no ends.
            before, after_last = (
                np.moveaxis(part[d], 0, self.dim - 1 - d)
                for part in (self._before, self._after)
            )
            for end, part in ((first, before * below), (last, after_last * above)):
                part *= factor
                if weights is not None:
                    part *= weights.reshape(box[1:])[end[1:]]
                out[end] += part

    def _spans(self, count: int) -> list[Layers]:
        """Of one row, and of the number of rows that was last."""
        if count not in self._layers:
            kept = {n: layers for n, layers in self._layers.items() if n == 1}
            made = [
                Layers(self.layout, d, self._periodic[d], self.comm, (count,))
                for d in self._spanned
            ]
            self._layers = {**kept, count: made}
        return self._layers[count]

    def largest_row(self) -> float:
        """The largest sum of |A_ij| of a row over all ranks. Collective."""
        rows: np.ndarray = sum(np.abs(v) for v in self.whole().values())  # type: ignore[assignment]
        return reductions.largest(self.comm, float(rows.max(initial=0.0)))


class Operator(Protocol):
    """What a stencil matrix does."""

    def product(self, x: PETSc.Vec, y: PETSc.Vec, transposed: bool = False) -> None: ...

    def largest_row(self) -> float: ...

    def diagonal(self, out: PETSc.Vec) -> None: ...


class Shell:
    """Context of a Python Mat with a stencil matrix's products."""

    def __init__(self, of: Operator):
        self._of = of

    def mult(self, mat: PETSc.Mat, x: PETSc.Vec, y: PETSc.Vec) -> None:
        self._of.product(x, y)

    def multTranspose(self, mat: PETSc.Mat, x: PETSc.Vec, y: PETSc.Vec) -> None:
        self._of.product(x, y, transposed=True)

    def norm(self, mat: PETSc.Mat, kind: PETSc.NormType) -> float:
        return self._of.largest_row()

    def getDiagonal(self, mat: PETSc.Mat, out: PETSc.Vec) -> None:
        self._of.diagonal(out)

"""Symmetric stencils of face neighbours without index arrays: the diagonal and, along each axis,
the couplings to the cells after. Those to the cells before are the same values seen from there, but
for the first cells, before which another rank's or, where the axis is periodic, the last ones
lie."""

from __future__ import annotations

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
        self._before = ends
        axes = range(self.dim)
        self._spans = [
            Layers(layout, d, periodic[d], comm)
            for d in axes
            if periodic[d] or layout.processes[d] > 1
        ]
        """Of axes along which cells have neighbours elsewhere."""
        self.values: Planes = {(0,) * self.dim: planes[(0,) * self.dim]}
        """The diagonal, and the couplings to the cells after; 0 towards what is outside."""
        self.values |= {
            _unit(self.dim, d, 1): planes[_unit(self.dim, d, 1)] for d in axes
        }
        centre, *after = (np.ravel(v) for v in self.values.values())
        lines = (1,) * (3 - self.dim) + tuple(layout.local_shape[::-1])
        self._flat = centre, tuple(after), lines
        self._multiply = Repeated(MULTIPLY)

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

    def whole(self) -> Planes:
        """Planes of all offsets."""
        found = dict(self.values)
        for d in range(self.dim):
            after = self._along(self.values[_unit(self.dim, d, 1)], d)
            before = np.concatenate([self._before[d], after[:-1]])[: len(after)]
            found[_unit(self.dim, d, -1)] = np.moveaxis(before, 0, self.dim - 1 - d)
        return found

    def _along(self, values: np.ndarray, d: int) -> np.ndarray:
        return np.moveaxis(values, self.dim - 1 - d, 0)

    def multiply(self, x: np.ndarray, y: np.ndarray) -> None:
        """y = A x of owned cells, x fastest. Collective."""
        shape = self.layout.local_shape[::-1]
        given, out = x.reshape(shape), y.reshape(shape)
        for layers in self._spans:
            layers.post(given)
        self._multiply(*self._flat, x, y)
        for layers in self._spans:
            below, above = layers.finish()
            first, last = layers.ends
            d = layers.axis
            # Of no cells there are no ends.
            out[first] += np.moveaxis(self._before[d], 0, self.dim - 1 - d) * below
            out[last] += self.values[_unit(self.dim, d, 1)][last] * above

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

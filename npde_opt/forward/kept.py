"""Jacobians at the stages of a trajectory, factored once: products with a Hessian solve with the
same ones again and again.

On a line they are bands (linear/banded.py), elsewhere small systems of one rank have a sparse LU:
PETSc's of one species (linear/lu.py), SuperLU with pivots of several that react. At 64^2 cells that
takes 4 or 8 ms and a solve 0.2 or 0.4 ms, where multigrid takes 3 ms to be set up and as much a
solve, which pays from the second solve on.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Protocol

import numpy as np
from petsc4py import PETSc

from npde_opt.grids import Grid
from npde_opt.linear.banded import Banded
from npde_opt.linear.factored import Factored
from npde_opt.linear.lu import Lu, Ordering
from npde_opt.linear.measured import note
from npde_opt.operators.blocks import pack, unpack
from npde_opt.packages import scipy

CHECKED = 8
"""Of so many solves with kept factors one is checked, the first of each always: a check costs as
much as a solve."""
BYTES = 256_000_000
"""Of all factors that are kept for the systems of a Newton's method."""
Place = tuple[int, int]
"""Step and stage."""


class Factors(Protocol):
    """Solves with one matrix, whatever is assembled since."""

    @property
    def bytes(self) -> int: ...

    def solve(self, b: np.ndarray, transposed: bool, kind: str) -> np.ndarray:
        """All species [c, i, j, k]. `kind` as linear/measured.py counts it."""

    def solve_all(self, bs: Sequence[np.ndarray], kind: str) -> list[np.ndarray]:
        """Of each right-hand side."""

    def destroy(self) -> None: ...


class OnLine:
    """With the factors of a band."""

    def __init__(self, factors: Banded):
        self.factors, self.bytes = factors, factors.bytes

    def solve(self, b: np.ndarray, transposed: bool, kind: str) -> np.ndarray:
        found = self.factors.solve(b, transposed)
        note(kind, self.factors.residual, 1)
        return found

    def solve_all(self, bs: Sequence[np.ndarray], kind: str) -> list[np.ndarray]:
        return [self.solve(b, False, kind) for b in bs]

    def destroy(self) -> None:
        """Nothing of PETSc's."""


class One:
    """With PETSc's LU of one species, on one rank."""

    def __init__(self, grid: Grid, matrix: PETSc.Mat, ordering: Ordering, prefix: str):
        self.grid = grid
        self._factors = Lu(matrix, ordering, prefix, CHECKED)
        self._b = matrix.createVecLeft()
        self.bytes = self._factors.bytes

    def solve(self, b: np.ndarray, transposed: bool, kind: str) -> np.ndarray:
        self.grid.put(b[0], self._b)
        out = np.empty_like(b)
        self.grid.take(self._factors.solve(self._b, transposed, kind), out[0])
        return out

    def solve_all(self, bs: Sequence[np.ndarray], kind: str) -> list[np.ndarray]:
        return [self.solve(b, False, kind) for b in bs]

    def destroy(self) -> None:
        self._b.destroy()
        self._factors.destroy()


class Small:
    """With a sparse LU of all species together, on one rank."""

    def __init__(self, grid: Grid, matrix: scipy.sparse.csr_matrix, prefix: str):
        self.grid = grid
        self._factored = Factored(grid.comm, prefix, CHECKED)
        self._factored.update((matrix.indptr, matrix.indices, matrix.data))
        self.bytes = self._factored.bytes

    def solve(self, b: np.ndarray, transposed: bool, kind: str) -> np.ndarray:
        rows = np.concatenate([pack(self.grid, x[None]) for x in b])
        found = self._factored.solve(rows, transposed, kind)
        return self._state(found, b)

    def solve_all(self, bs: Sequence[np.ndarray], kind: str) -> list[np.ndarray]:
        own = [np.concatenate([pack(self.grid, x[None]) for x in b]) for b in bs]
        found = self._factored.solve(np.concatenate(own, axis=1), False, kind)
        columns = np.split(found, len(bs), axis=1)
        return [self._state(x, b) for x, b in zip(columns, bs, strict=True)]

    def _state(self, rows: np.ndarray, like: np.ndarray) -> np.ndarray:
        """All species [c, i, j, k] of one column."""
        out = np.empty_like(like)
        for x, part in zip(out, np.split(rows, len(like)), strict=True):
            x[...] = unpack(self.grid, part)[0]
        return out

    def destroy(self) -> None:
        """Nothing of PETSc's."""


class KeptFactors:
    """Those of one trajectory, by step and stage; all share a budget.

    Args:
        budget: of all that are alive.
    """

    def __init__(self, budget: Budget):
        self.bytes, self._budget = 0, budget
        self._found: dict[Place, Factors] = {}
        budget.alive.add(self)

    def at(self, place: Place) -> Factors | None:
        return self._found.get(place)

    @property
    def room(self) -> bool:
        """Whether one more fits, as large as the last one: none is given up for others, as sweeps
        go through all of them."""
        return self._budget.left() >= self._budget.last

    def keep(self, place: Place, factors: Factors) -> None:
        self._found[place] = factors
        self._budget.last = factors.bytes
        self.bytes += factors.bytes

    def forget(self) -> None:
        for factors in self._found.values():
            factors.destroy()
        self._found.clear()
        self.bytes = 0


class Budget:
    """BYTES for the factors of several trajectories."""

    def __init__(self) -> None:
        self.alive: weakref.WeakSet[KeptFactors] = weakref.WeakSet()
        self.last = 1

    def left(self) -> int:
        return BYTES - sum(kept.bytes for kept in self.alive)

"""Rows of an equation on a grid, as sparse Mats: sums of cells against test functions.

A row belongs to a window of time and one of the cells, and sums what all ranks have of its cells.
Rows are spread evenly over the ranks, unknowns lie with their cells: those of a rank are its
fields, one after the other, and on the last rank the constants.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

import numpy as np
from petsc4py import PETSc
from scipy import sparse

from npde_opt.errors import InputError
from npde_opt.grids import Grid, along
from npde_opt.pseudoinverse.equation_error import Term
from npde_opt.pseudoinverse.iterative import stacked
from npde_opt.pseudoinverse.weak import Bumps

POWER = 4
"""p of (1 - s^2)^p: nearly all cells of a window count."""
LEAST = (4, 2)
"""Half widths in time and space."""
ONE = np.ones(())
TINY = 1e-10
"""Of the columns' mean square, added to the matrix that preconditions: cells that no window sees
must not make it singular."""

Entries = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Rows, columns, values."""


class Sums:
    """Test functions on a grid and its times.

    Args:
        windows: half widths in steps of time and in cells of each axis; they overlap by half.

    Attributes:
        count: rows of all ranks.

    Raises:
        InputError: for windows that do not fit.
    """

    def __init__(self, grid: Grid, t: np.ndarray, windows: tuple[int, int]):
        self.grid = grid
        lengths = len(t), min(grid.shape)
        for name, n, half, least in zip(
            ("time", "space"), lengths, windows, LEAST, strict=True
        ):
            if not least <= half <= (n - 1) // 2:
                allowed = f"{least} to {(n - 1) // 2} steps"
                raise InputError(f"equation: half window in {name}", half, allowed)
        times = Bumps(len(t), float(t[1] - t[0]), windows[0], power=POWER)
        self.time, self.rates = times.of(0), times.changes()
        axes = []
        for n, own in zip(grid.shape, grid.local_slice, strict=True):
            phi = Bumps(n, 1.0, windows[1], power=POWER).of(0)
            axes.append(sparse.csr_array(phi[:, own] / phi.sum(axis=1, keepdims=True)))
        # Cells are numbered with the first axis fastest.
        self.space = sparse.csr_array(reduce(lambda a, b: sparse.kron(b, a), axes))
        self.windows = self.space.shape[0]
        self.count = len(self.time) * self.windows
        own = PETSc.Vec().createMPI((None, self.count), comm=grid.comm)
        self.start, self.end = own.getOwnershipRange()
        own.destroy()

    def summed(self, of_windows: np.ndarray) -> np.ndarray:
        """Own rows of [time window, i, j, k], summed against phi over all ranks. Collective."""
        own = np.concatenate([self.space @ f.ravel(order="F") for f in of_windows])
        vec = PETSc.Vec().createMPI(
            (self.end - self.start, self.count), comm=self.grid.comm
        )
        there = np.flatnonzero(own).astype(PETSc.IntType)
        vec.setValues(there, own[there], addv=PETSc.InsertMode.ADD_VALUES)
        vec.assemble()
        found: np.ndarray = vec.array_r.copy()
        vec.destroy()
        return found

    def over_time(self, values: np.ndarray) -> np.ndarray:
        """(theta, values) [time window, i, j, k]."""
        found: np.ndarray = np.tensordot(self.time, values, 1)
        return found

    def changes(self, u: np.ndarray) -> np.ndarray:
        """Own rows of (theta phi, u_t)."""
        return self.summed(np.tensordot(self.rates, u, 1))

    def constant(self, term: Term, u: np.ndarray, variance: float = 0.0) -> np.ndarray:
        """Own rows of a term with coefficient 1."""
        return self.of_values(term, term.value(u, ONE, variance))

    def of_values(self, term: Term, values: np.ndarray) -> np.ndarray:
        """Own rows of a term with coefficient 1 and these values of f."""
        summed = self.over_time(values)
        if term.derivative:
            total = np.zeros_like(summed)
            for _, _, slope in self.slopes(summed):
                total += 2 * slope
            summed = total
        return self.summed(summed)

    def slopes(self, f: np.ndarray) -> list[tuple[int, int, np.ndarray]]:
        """Axis, side (-1 or 1), and half of what a coefficient of 1 at that face brings into each
        own cell [time window, i, j, k]; 0 at the sides of the grid. Collective."""
        grid, found = self.grid, []
        padded = grid.ghosted(np.asfortranarray(f))
        for d in range(grid.dim):
            centers, widths = grid.centers[d], grid.widths[d]
            own = np.arange(grid.start[d], grid.stop[d])
            for side in (-1, 1):
                near = own + side
                inside = (near >= 0) & (near < grid.shape[d])
                to = np.clip(near, 0, grid.shape[d] - 1)
                away = np.where(inside, abs(centers[to] - centers[own]), 1.0)
                factor = np.where(inside, 0.5 / (away * widths[own]), 0.0)
                box = [slice(None)] + [slice(1, -1)] * grid.dim
                box[d + 1] = slice(1 + side, padded.shape[d + 1] - 1 + side)
                slope = along(factor, d, grid.dim) * (padded[tuple(box)] - f)
                found.append((d, side, slope))
        return found


class Rows:
    """G with its regularization below, of unknowns in units of `sizes`. Collective.

    Args:
        sizes: (terms,). varying: numbers of the terms whose coefficients are fields.
        u: owned states [time, i, j, k]. variance: of their noise.
    """

    def __init__(
        self,
        sums: Sums,
        terms: Sequence[Term],
        sizes: np.ndarray,
        varying: Sequence[int],
        u: np.ndarray,
        variance: float,
    ):
        self.sums, self.terms, self.sizes = sums, terms, sizes
        self.varying = sorted(set(varying))
        self.fixed = [j for j in range(len(terms)) if j not in self.varying]
        grid, K = sums.grid, len(self.varying)
        last = grid.comm.rank == grid.comm.size - 1
        self.own = K * grid.layout.local_size + (len(self.fixed) if last else 0)
        self.ends = np.cumsum(grid.comm.allgather(grid.layout.local_size))
        self._make(u, variance)

    def _make(self, u: np.ndarray, variance: float) -> None:
        entries: list[Entries] = []
        for k, j in enumerate(self.varying):
            term = self.terms[j]
            f = self.sums.over_time(term.value(u, ONE, variance))
            entries += self._field(k, term, self.sizes[j] * f)
        for m, j in enumerate(self.fixed):
            own = self.sizes[j] * self.sums.constant(self.terms[j], u, variance)
            rows = self.sums.start + np.arange(len(own))
            column = len(self.varying) * self.sums.grid.size + m
            entries.append((rows, np.full(len(own), column), own))
        self.G = self._mat(self.sums.end - self.sums.start, entries)
        self.faces = self._mat(None, self._differences())
        self._normal = self.G.transposeMatMult(self.G)
        self._normal.shift(TINY * self.mean_square())
        self._rough = self.faces.transposeMatMult(self.faces)

    def _field(self, k: int, term: Term, f: np.ndarray) -> list[Entries]:
        """Entries of a field's columns; f: over time [time window, i, j, k]."""
        grid, found = self.sums.grid, []
        cells = grid.layout.owned_mesh()
        parts: list[tuple[list[np.ndarray], np.ndarray]] = []
        if term.derivative:
            for d, side, slope in self.sums.slopes(f):
                near = [c + side * (axis == d) for axis, c in enumerate(cells)]
                parts += [(cells, slope), (near, slope)]
        else:
            parts.append((cells, f))
        for columns, values in parts:
            numbers = self._numbers(k, columns)
            for window, own in enumerate(values):
                flat = own.ravel(order="F")
                P = sparse.coo_array(self.sums.space * flat[None, :])
                there = (P.data != 0) & (numbers[P.col] >= 0)
                row = window * self.sums.windows + P.row[there]
                found.append((row, numbers[P.col[there]], P.data[there]))
        return found

    def _numbers(self, k: int, cells: list[np.ndarray]) -> np.ndarray:
        """Of the k-th field's unknowns at cells, -1 outside the grid."""
        index = self.sums.grid.layout.global_index(cells)
        at = np.maximum(index, 0)
        owner = np.searchsorted(self.ends, at, side="right")
        sizes = np.diff(self.ends, prepend=0)
        first = self.ends[owner] - sizes[owner]
        number = len(self.varying) * first + k * sizes[owner] + at - first
        found: np.ndarray = np.where(index >= 0, number, -1)
        return found

    def _differences(self) -> list[Entries]:
        """Of neighbours, one row a face: steeper where they are nearer than the mean."""
        grid, found = self.sums.grid, []
        cells = grid.layout.owned_mesh()
        row = grid.layout.global_index(cells)
        for k in range(len(self.varying)):
            for d in range(grid.dim):
                near = [c + (axis == d) for axis, c in enumerate(cells)]
                here, there = self._numbers(k, cells), self._numbers(k, near)
                inside = there >= 0
                away = np.diff(grid.centers[d])
                steep = away.mean() / away[cells[d][inside]]
                rows = (k * grid.dim + d) * grid.size + row[inside]
                found += [
                    (rows, here[inside], -steep),
                    (rows, there[inside], steep),
                ]
        return found

    def _mat(self, own_rows: int | None, entries: list[Entries]) -> PETSc.Mat:
        grid = self.sums.grid
        count = len(self.varying) * grid.dim * grid.size
        rows = (own_rows, self.sums.count) if own_rows is not None else (None, count)
        mat = PETSc.Mat().createAIJ((rows, (self.own, None)), comm=grid.comm)
        i, j, a = (np.concatenate(parts) for parts in zip(*entries, strict=True))
        mat.setPreallocationCOO(i.astype(PETSc.IntType), j.astype(PETSc.IntType))
        mat.setValuesCOO(a)
        return mat

    def of_noise(
        self, e: np.ndarray, u: np.ndarray, constants: np.ndarray
    ) -> np.ndarray:
        """Own rows of what noise e of u adds to b - G c, with constants c."""
        found = self.sums.changes(e)
        for term, c in zip(self.terms, constants, strict=True):
            found -= c * self.sums.of_values(term, term.slope(u, ONE) * e)
        return found

    def with_ridge(self, ridge: float) -> tuple[PETSc.Mat, PETSc.Mat]:
        """[G; root of the ridge times differences], a Mat of own rows of both; and its square,
        assembled. Both are the caller's."""
        square = self._normal.copy()
        square.axpy(ridge, self._rough)
        return stacked(self.G, float(np.sqrt(ridge)), self.faces), square

    def product(self, z: np.ndarray) -> np.ndarray:
        """Own rows of G z."""
        x, y = self.G.createVecs()
        x.array[:] = z
        self.G.mult(x, y)
        found: np.ndarray = y.array_r.copy()
        x.destroy()
        y.destroy()
        return found

    def mean_square(self) -> float:
        """Of the columns of fields."""
        total = float(self.G.norm(PETSc.NormType.FROBENIUS)) ** 2
        return total / (len(self.varying) * self.sums.grid.size)

    def fields(self, z: np.ndarray) -> list[np.ndarray]:
        """Coefficients of all terms, owned [i, j, k]. Collective."""
        grid, n = self.sums.grid, self.sums.grid.layout.local_size
        K = len(self.varying)
        constants = grid.comm.bcast(z[K * n :], root=grid.comm.size - 1)
        found: dict[int, np.ndarray] = {}
        for k, j in enumerate(self.varying):
            own = z[k * n : (k + 1) * n].reshape(grid.local_shape, order="F")
            found[j] = self.sizes[j] * own
        for m, j in enumerate(self.fixed):
            found[j] = np.full(grid.local_shape, self.sizes[j] * constants[m])
        return [found[j] for j in range(len(self.terms))]

    def destroy(self) -> None:
        for mat in (self.G, self.faces, self._normal, self._rough):
            mat.destroy()

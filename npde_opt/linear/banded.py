"""A x = b along a line: LU of a band matrix with partial pivoting (LAPACK's gbtrf), for A and A^T.

Unknowns go cell by cell, in a cell species by species, so that s species with couplings to w
neighbours on either side make 2 (s (w + 1) - 1) + 1 diagonals. A solve takes O(cells) whatever the
values are, which no iteration does.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from petsc4py import PETSc

from npde_opt.errors import SolverError
from npde_opt.grids import Grid
from npde_opt.linear.measured import measuring
from npde_opt.linear.residual import DIRECT, ROUNDING, is_singular, singular
from npde_opt.packages import scipy

Planes = Mapping[tuple[int, int, tuple[int, ...]], np.ndarray]
"""Entries by (row, column, offset), one value a cell: species `row` of cell i, species `column` of
cell i + offset. Those that lead outside are ignored."""


def is_line(grid: Grid, prefix: str, recipe: str) -> bool:
    """Whether systems on a grid are solved as bands: one axis with two ends, all cells active, on
    one rank, unless the recipe or the options -<prefix>ksp_type and -<prefix>pc_type ask for
    another solver."""
    if grid.dim > 1 or grid.comm.size > 1 or grid.mask is not None or grid.periodic(0):
        return False
    options = PETSc.Options()
    asked = options.hasName(prefix + "ksp_type") or options.hasName(prefix + "pc_type")
    return recipe in ("auto", "direct") and not asked


class Banded:
    """The factors of one matrix; they stay as they are.

    Args:
        count: unknowns a cell.
        prefix, remedy: in messages.

    Attributes:
        largest: row sum of absolute values, the matrix's infinity norm.
        residual: |b - A x| / |b| of the last solve that was checked: the first one, and all where
            solves are measured.

    Raises:
        SolverError: for a matrix that is singular.
    """

    def __init__(self, planes: Planes, count: int, prefix: str, remedy: str = ""):
        self.count, self.prefix, self.remedy = count, prefix, remedy
        self.residual, self._checked = 0.0, False
        cells = next(iter(planes.values())).size
        self.size = cells * count
        width = max(abs(o) for _, _, (o,) in planes)
        self.band = min(count * (width + 1) - 1, max(self.size - 1, 0))
        self._A = np.zeros((2 * self.band + 1, self.size), order="F")
        rows = np.zeros((count, cells))
        for (row, column, (o,)), values in planes.items():
            first, last = max(0, -o), cells - max(0, o)
            if first >= last:
                continue
            diagonal = self.band + row - column - o * count
            into = slice(
                (first + o) * count + column, (last + o - 1) * count + column + 1, count
            )
            self._A[diagonal, into] = values[first:last]
            rows[row, first:last] += np.abs(values[first:last])
        self.largest = float(rows.max())
        self._factor()

    def _factor(self) -> None:
        # The pivots fill as many diagonals again.
        work = np.zeros((3 * self.band + 1, self.size), order="F")
        work[self.band :] = self._A
        factored = scipy.linalg.lapack.dgbtrf(
            work, self.band, self.band, overwrite_ab=True
        )
        self._lu, self._pivots, info = factored
        if info > 0:
            raise SolverError(
                self.prefix, "the matrix of a line is singular", self.remedy
            )

    @property
    def bytes(self) -> int:
        return int(self._lu.nbytes + self._A.nbytes)

    def solve(self, b: np.ndarray, transposed: bool = False) -> np.ndarray:
        """x of A x = b, or A^T x = b, for all species [c, i].

        Raises:
            SolverError: where the true residual is not small.
        """
        rhs = b.T.ravel()
        found, _ = scipy.linalg.lapack.dgbtrs(
            self._lu, self.band, self.band, rhs, self._pivots, trans=int(transposed)
        )
        if measuring() or not self._checked:
            self._check(rhs, found, transposed)
        x: np.ndarray = found.reshape(-1, self.count).T
        return x

    def _check(self, b: np.ndarray, x: np.ndarray, transposed: bool) -> None:
        rest = b - self._product(x, transposed)
        left = float(np.linalg.norm(rest))
        size = float(np.linalg.norm(b))
        self.residual = left / size if size > 0 else 0.0 if left == 0 else np.inf
        rounding = ROUNDING * self.largest * float(np.linalg.norm(x))
        if not (self.residual <= DIRECT or left <= rounding):
            said = f"the true residual |b - A x| / |b| of a direct solve is {self.residual:.2g}"
            raise SolverError(self.prefix, said, self.remedy)
        if is_singular(self.residual, float(x @ rest), float(x @ b)):
            raise singular(self.prefix, self.residual)
        self._checked = True

    def _product(self, x: np.ndarray, transposed: bool) -> np.ndarray:
        """A x, or A^T x, diagonal by diagonal."""
        found = np.zeros(self.size)
        for diagonal, values in enumerate(self._A):
            below = diagonal - self.band  # rows less columns
            columns = slice(max(0, -below), self.size - max(0, below))
            rows = slice(max(0, below), self.size - max(0, -below))
            to, source = (columns, rows) if transposed else (rows, columns)
            found[to] += values[columns] * x[source]
        return found

"""A x = b and A^T x = b of one matrix on one rank, by factors that stay as they are while the
matrix takes other values: PETSc's LU after nested dissection, without pivoting, as the recipe
`direct` has it.

At 64^2 cells it takes half the time of SuperLU, and so does a solve: the order is found once for
all matrices of a pattern.
"""

from __future__ import annotations

import numpy as np
from petsc4py import PETSc

from npde_opt.errors import SolverError
from npde_opt.linear.direct import ZERO_PIVOT
from npde_opt.linear.measured import measuring, note
from npde_opt.linear.residual import (
    DIRECT,
    ROUNDING,
    SINGULAR,
    is_singular,
    relative,
    singular,
)

ENTRY = 12
"""Bytes: a value and a column."""


class Ordering:
    """The order in which matrices of one pattern are eliminated, found for the first one.

    Attributes:
        fill: entries of factors over those of the matrix, as the last one had it.
    """

    def __init__(self) -> None:
        self._order: tuple[PETSc.IS, PETSc.IS] | None = None
        self.fill = 6.0

    def factored(self, matrix: PETSc.Mat) -> PETSc.Mat:
        """The factors of a matrix, the caller's."""
        if self._order is None:
            self._order = matrix.getOrdering(PETSc.Mat.OrderingType.ND)
        found = matrix.duplicate(copy=True)
        options = {"fill": self.fill, "zeropivot": float(ZERO_PIVOT)}
        found.factorLU(*self._order, options)
        needed = float(found.getInfo()["fill_ratio_needed"])
        self.fill = max(self.fill, needed)
        return found


class Lu:
    """The factors of one matrix.

    Args:
        matrix: on one rank, with entries of its own; it may take other values afterwards.
        prefix: in messages.
        checked: of so many solves one is checked for its true residual, the first always.

    Attributes:
        true_residual: the largest |b - A x| / |b| of the solves that were checked.
    """

    def __init__(
        self, matrix: PETSc.Mat, ordering: Ordering, prefix: str, checked: int = 1
    ):
        self.prefix, self.checked = prefix, checked
        self.true_residual = 0.0
        self._matrix = matrix.duplicate(copy=True)
        self._factors = ordering.factored(matrix)
        self._size: float | None = None
        self._x, self._work = matrix.createVecRight(), matrix.createVecLeft()
        self._solves = 0

    @property
    def bytes(self) -> int:
        """Of the factors and of the matrix."""
        both = self._factors, self._matrix
        return ENTRY * int(sum(m.getInfo()["nz_used"] for m in both))

    def solve(
        self, b: PETSc.Vec, transposed: bool = False, kind: str = "state"
    ) -> PETSc.Vec:
        """x, which the next solve overwrites.

        Args:
            kind: of the system, as linear/measured.py counts it.

        Raises:
            SolverError: where the true residual is not small.
        """
        solve = self._factors.solveTranspose if transposed else self._factors.solve
        solve(b, self._x)
        if measuring() or self._solves % self.checked == 0:
            self._check(b, transposed, kind)
        self._solves += 1
        return self._x

    def _check(self, b: PETSc.Vec, transposed: bool, kind: str) -> None:
        found, size = relative(self._matrix, b, self._x, self._work, transposed)
        note(kind, found, 1)
        if self._size is None:
            self._size = float(self._matrix.norm(PETSc.NormType.INFINITY))
        rounding = ROUNDING * self._size * self._x.norm()
        if not (found <= DIRECT or found * size <= rounding):
            said = f"the true residual |b - A x| / |b| of a direct solve is {found:.2g}"
            remedy = f"Try another -{self.prefix}recipe."
            raise SolverError(self.prefix, said, remedy)
        if found > SINGULAR:
            energies = self._x.dot(self._work), self._x.dot(b)
            if is_singular(found, *energies):
                raise singular(self.prefix, found)
        if np.isfinite(found):
            self.true_residual = max(self.true_residual, found)

    def destroy(self) -> None:
        for item in (self._matrix, self._factors, self._x, self._work):
            item.destroy()

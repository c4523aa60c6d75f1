"""A X = B of a small system for a block of right-hand sides: one sparse LU on every rank, each of
which solves for its share of the columns.

Multigrid takes a state at a time, and its levels cost the same however few cells they have: of a
few thousand unknowns one factorization is cheaper as soon as several columns share it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from mpi4py import MPI
from petsc4py import PETSc

from npde_opt.errors import SolverError
from npde_opt.linear.measured import measuring, note
from npde_opt.linear.residual import DIRECT, ROUNDING, is_singular, singular
from npde_opt.operators.patterns import Csr
from npde_opt.packages import scipy

MOST = {1: 4096, 2: 4096, 3: 1024}
"""Unknowns of a system that is factored, by the grid's axes: fill grows with them."""

SHARE = 256
"""Unknowns for which a column pays: as many columns as this says have to share a factorization."""


def factors(prefix: str, recipe: str, dim: int, unknowns: int, columns: int) -> bool:
    """Whether a system is factored; not where the options -<prefix>ksp_type, -<prefix>pc_type or a
    recipe ask for another solver, or where there is a single column."""
    if columns == 1 or unknowns > min(MOST[dim], SHARE * columns):
        return False
    options = PETSc.Options()
    asked = options.hasName(prefix + "ksp_type") or options.hasName(prefix + "pc_type")
    return recipe in ("auto", "direct") and not asked


class Factored:
    """The system, its rows spread over the ranks, one rank's after the other's.

    Args:
        prefix: in messages.
        checked: of so many solves one is checked for its true residual, the first after `update`
            always.

    Attributes:
        true_residual: the largest |b - A x| / |b| of the columns that were checked.
        iterations: one a column, as PETSc counts direct solves.
    """

    asked = "direct"

    def __init__(self, comm: MPI.Intracomm, prefix: str, checked: int = 1):
        self.comm, self.prefix, self.checked = comm, prefix, checked
        self.true_residual = 0.0
        self.iterations = self._solves = 0

    def update(self, rows: Csr) -> None:
        """Takes the owned rows (starts, global columns, values). Collective.

        Raises:
            SolverError: for a matrix that is singular.
        """
        i, j, a = rows
        pieces = self.comm.allgather((np.diff(i), j, a))
        lengths, columns, values = (
            np.concatenate(parts) for parts in zip(*pieces, strict=True)
        )
        starts = np.concatenate([[0], np.cumsum(lengths)])
        shape = (lengths.size, lengths.size)
        self.sizes = [piece[0].size for piece in pieces]
        self.matrix = scipy.sparse.csr_matrix((values, columns, starts), shape=shape)
        # Views of the same arrays, with the norm that every check asks for.
        self._transposed = self.matrix.T
        self._size = float(abs(self.matrix).sum(axis=1).max())
        self._solves = 0
        from scipy.sparse.linalg import splu

        try:
            # A diagonal that is not small stays where it is, so that symmetric patterns fill less.
            self._lu = splu(
                self.matrix.tocsc(),
                permc_spec="MMD_AT_PLUS_A",
                diag_pivot_thresh=0.1,
                options={"SymmetricMode": True},
            )
        except RuntimeError as error:
            remedy = "Bound the parameters, or look for a part of the domain that nothing holds."
            raise SolverError(
                self.prefix, f"the factorization failed: {error}", remedy
            ) from error

    @property
    def bytes(self) -> int:
        """Of the factors: a value and a row for every entry."""
        return 12 * int(self._lu.nnz)

    def solve(
        self, b: np.ndarray, transposed: bool = False, kind: str = "state"
    ) -> np.ndarray:
        """X, or that of A^T X = B, for owned rows [row, s]. Collective.

        Args:
            kind: of the systems, as linear/measured.py counts them.

        Raises:
            SolverError: where a true residual is not small.
        """
        whole = self._gathered(b)
        found = self._lu.solve(whole, "T" if transposed else "N")
        if measuring() or self._solves % self.checked == 0:
            self._check(whole, found, transposed, kind)
        self._solves += 1
        self.iterations += b.shape[1]
        return self._scattered(found, b.shape[1])

    def _shares(self, columns: int) -> list[slice]:
        """The columns of each rank."""
        ends = [columns * r // self.comm.size for r in range(self.comm.size + 1)]
        return [slice(a, b) for a, b in zip(ends, ends[1:], strict=False)]

    def _gathered(self, b: np.ndarray) -> np.ndarray:
        """All rows of this rank's columns."""
        if self.comm.size == 1:
            return b
        sent = [np.ascontiguousarray(b[:, share]) for share in self._shares(b.shape[1])]
        return np.concatenate(self.comm.alltoall(sent))

    def _scattered(self, x: np.ndarray, columns: int) -> np.ndarray:
        """The owned rows of all columns."""
        if self.comm.size == 1:
            return np.ascontiguousarray(x)
        parts: Sequence[np.ndarray] = np.split(x, np.cumsum(self.sizes)[:-1])
        found = self.comm.alltoall([np.ascontiguousarray(part) for part in parts])
        return np.concatenate(found, axis=1)

    def _check(self, b: np.ndarray, x: np.ndarray, transposed: bool, kind: str) -> None:
        """The true residuals of all columns, by rank."""
        A = self._transposed if transposed else self.matrix
        rest = b - A @ x
        left = np.linalg.norm(rest, axis=0)
        size = np.linalg.norm(b, axis=0)
        relative = np.where(left == 0, 0.0, left / np.where(size == 0, np.nan, size))
        rounding = ROUNDING * self._size * np.linalg.norm(x, axis=0)
        good = (relative <= DIRECT) | (left <= rounding)
        energies = (x * rest).sum(axis=0), (x * b).sum(axis=0)
        lost = [is_singular(*of) for of in zip(relative, *energies, strict=True)]
        found = np.concatenate(self.comm.allgather(relative))
        wrong = np.concatenate(self.comm.allgather(~good))
        lost_anywhere = np.concatenate(self.comm.allgather(good & np.array(lost, bool)))
        for residual in found:
            note(kind, float(residual), 1)
        if wrong.any():
            raise SolverError(
                self.prefix,
                f"the true residual |b - A x| / |b| of a direct solve is {found[wrong].max():.2g}",
                f"Try another -{self.prefix}recipe.",
            )
        if lost_anywhere.any():
            raise singular(self.prefix, float(found[lost_anywhere].max()))
        self.true_residual = max(self.true_residual, float(found.max(initial=0.0)))

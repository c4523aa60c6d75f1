"""Linear functionals of a field: d_i = sum_c W_ic u_c over the active cells c, i = 0 ... size - 1.

Each rank holds some of the entries of W, and W is what all of them add up to. Whose they are is the
makers' choice (see places.py): those of the cells, and of the points in cells, that a rank owns. So
functionals of all kinds are put together, picked and subtracted alike, without a message between
ranks; `matrix` assembles what they add up to.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from mpi4py import MPI
from petsc4py import PETSc

from npde_opt.distinct import distinct
from npde_opt.errors import InputError
from npde_opt.grids import Grid
from npde_opt.grids.overlap import consecutive
from npde_opt.operators.rows import from_entries


def _none() -> np.ndarray:
    return np.empty(0, int)


@dataclass(frozen=True, eq=False)
class Functionals:
    """One functional or many. `f[numbers]` are some of them, in any order and also repeatedly.

    Args:
        size: how many, the same on all ranks.
        rows: number of the functional of each entry of this rank (entries,).
        columns: PETSc's global number of the cell of each entry.
        weights: of each entry. Entries of one row and column are added.
        unseen: numbers of functionals that see no active cell, those that this rank knows of; one
            may be known to several. They have no entries.
        comm: the ranks that have entries; this one alone where none is given.
    """

    size: int
    rows: np.ndarray
    columns: np.ndarray
    weights: np.ndarray
    unseen: np.ndarray = field(default_factory=_none)
    comm: MPI.Intracomm = field(default_factory=lambda: MPI.COMM_SELF)

    def every_unseen(self) -> np.ndarray:
        """Those that any rank knows of, increasing, on every rank. Collective."""
        return distinct(np.concatenate(self.comm.allgather(self.unseen)))

    def __len__(self) -> int:
        return self.size

    def __getitem__(
        self, numbers: slice | int | Sequence[int] | np.ndarray
    ) -> Functionals:
        taken = np.atleast_1d(np.arange(self.size)[numbers])
        order = np.argsort(self.rows, kind="stable")
        sorted_rows = self.rows[order]
        first = np.searchsorted(sorted_rows, taken)
        counts = np.searchsorted(sorted_rows, taken, side="right") - first
        entries = order[consecutive(first, counts)]
        rows = np.repeat(np.arange(taken.size), counts)
        unseen = np.flatnonzero(np.isin(taken, self.unseen))
        columns, weights = self.columns[entries], self.weights[entries]
        return Functionals(taken.size, rows, columns, weights, unseen, self.comm)


def together(parts: Sequence[Functionals]) -> Functionals:
    """All functionals of the parts, one part after the other."""
    sizes = [part.size for part in parts]
    starts = np.cumsum([0, *sizes])[:-1]
    rows = [part.rows + start for part, start in zip(parts, starts, strict=True)]
    unseen = [part.unseen + start for part, start in zip(parts, starts, strict=True)]
    return Functionals(
        sum(sizes),
        np.concatenate([_none(), *rows]),
        np.concatenate([_none(), *[part.columns for part in parts]]),
        np.concatenate([np.empty(0), *[part.weights for part in parts]]),
        np.concatenate([_none(), *unseen]),
        parts[0].comm if parts else MPI.COMM_SELF,
    )


def without(functionals: Functionals, dropped: np.ndarray) -> Functionals:
    """The functionals, of which those `dropped` (bool), the same on every rank, are unseen."""
    if not dropped.any():
        return functionals
    kept = ~dropped[functionals.rows]
    unseen = np.union1d(functionals.unseen, np.flatnonzero(dropped))
    f = functionals
    columns, weights = f.columns[kept], f.weights[kept]
    return Functionals(f.size, f.rows[kept], columns, weights, unseen, f.comm)


def difference(
    a: Functionals, b: Functionals, field: str = "difference"
) -> Functionals:
    """a_i - b_i. A single functional on one side is a reference for all of the other side.

    A difference of which one side is unseen is so too. A reference that sees many cells gives as
    many entries to each row of B. Collective.

    Raises:
        InputError: naming `field`, for different numbers of functionals.
    """
    if a.size != b.size and 1 not in (a.size, b.size):
        raise InputError(
            field, f"{a.size} places less {b.size}", "as many on both sides, or one"
        )
    size = max(a.size, b.size) if a.size and b.size else 0
    a, b = (f if f.size == size else f[np.zeros(size, int)] for f in (a, b))
    rows = np.concatenate([a.rows, b.rows])
    columns = np.concatenate([a.columns, b.columns])
    weights = np.concatenate([a.weights, -b.weights])
    unseen = np.union1d(a.every_unseen(), b.every_unseen())
    kept = ~np.isin(rows, unseen)
    return Functionals(size, rows[kept], columns[kept], weights[kept], unseen, a.comm)


def matrix(grid: Grid, functionals: Functionals) -> PETSc.Mat:
    """W (functionals x cells), of which each rank owns an even share of the rows. The caller
    destroys it. Collective."""
    f = functionals
    return from_entries(grid, f.size, f.rows, f.columns, f.weights)

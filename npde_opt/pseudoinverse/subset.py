"""R of a part of the rows of a Mat, as what preconditions an iteration with all of them:

    R^T R = rows / count sum over the part of h h^T  ~  H^T H

A part of a few times as many rows as there are columns, drawn at random, makes H R^-1 well
conditioned whatever H is (Avron, Maymounkov, Toledo 2010, who mix the rows before). Rows are drawn
by a hash of their numbers: on any ranks the same ones.
"""

from __future__ import annotations

import numpy as np
from mpi4py import MPI
from petsc4py import PETSc
from scipy.linalg import svd

from npde_opt.errors import InputError, collective
from npde_opt.pseudoinverse import triangle
from npde_opt.pseudoinverse.sample import keys_of
from npde_opt.pseudoinverse.solution import EPS, reciprocal_condition

STORED = ("aij", "dense")
"""In the names of types whose rows can be read; of others a row is H^T e_i."""
BLOCK = 256
"""Rows that are folded at once."""


def subset_triangle(H: PETSc.Mat, count: int) -> np.ndarray | None:
    """R (n, n), of full rank, of `count` rows; on rank 0, None on others. Collective.

    Where the rows that were drawn have no full rank, the directions that they miss get the median
    of the singular values of the others.

    Raises:
        InputError: for fewer rows than columns, and rows that are not finite.
    """
    rows, columns = H.getSize()
    if not isinstance(count, int | np.integer) or not columns <= count <= rows:
        allowed = f"from {columns}, the columns of H, to {rows}, its rows"
        raise InputError("pseudoinverse: precondition_rows", count, allowed)
    comm = H.getComm().tompi4py()
    drawn = _drawn(H, comm, count)
    stored = any(name in H.getType() for name in STORED)
    R = _folded_rows(H, drawn) if stored else _folded_products(H, comm, drawn)
    whole = triangle.fold_ranks(comm, R)
    with collective(comm):
        if whole is not None:
            if not np.isfinite(whole).all():
                told = "rows that are not finite"
                raise InputError("pseudoinverse: H", told, "finite numbers")
            whole = _of_full_rank(np.sqrt(rows / count) * np.triu(whole))
    return whole


def _drawn(H: PETSc.Mat, comm: MPI.Intracomm, count: int) -> np.ndarray:
    """Numbers of the rows of the smallest keys, of all ranks, in order."""
    start, end = H.getOwnershipRange()
    keys = keys_of(0, start, end - start)
    own = np.argsort(keys)[:count]
    pairs = comm.allgather((keys[own], start + own))
    all_keys, numbers = (np.concatenate(parts) for parts in zip(*pairs, strict=True))
    found: np.ndarray = np.sort(numbers[np.argsort(all_keys)[:count]])
    return found


def _folded_rows(H: PETSc.Mat, drawn: np.ndarray) -> np.ndarray:
    start, end = H.getOwnershipRange()
    own = drawn[(drawn >= start) & (drawn < end)]
    n = H.getSize()[1]
    R = triangle.empty(n)
    for at in range(0, len(own), BLOCK):
        X = np.zeros((len(own[at : at + BLOCK]), n), order="F")
        for i, row in enumerate(own[at : at + BLOCK]):
            places, values = H.getRow(int(row))
            X[i, places] = values
        R = triangle.fold(R, X)
    return R


def _folded_products(
    H: PETSc.Mat, comm: MPI.Intracomm, drawn: np.ndarray
) -> np.ndarray:
    """Rows of an implicit H, one product each; ranks fold them by turns."""
    n, (w, t) = H.getSize()[1], H.createVecs()
    counts = np.diff(w.getOwnershipRanges())
    R, X = triangle.empty(n), []
    start, end = t.getOwnershipRange()
    for at, row in enumerate(drawn):
        t.set(0)
        if start <= row < end:
            t.array[row - start] = 1.0
        H.multTranspose(t, w)
        to = at // BLOCK % comm.size
        whole = np.empty(n) if comm.rank == to else None
        comm.Gatherv(w.array_r, (whole, counts), root=to)
        if whole is not None:
            X.append(whole)
        if X and (len(X) == BLOCK or at == len(drawn) - 1):
            R, X = triangle.fold(R, np.array(X, order="F")), []
    for owned in (w, t):
        owned.destroy()
    return R


def _of_full_rank(R: np.ndarray) -> np.ndarray:
    n = len(R)
    if reciprocal_condition(np.asfortranarray(R)) > n * EPS:
        return R
    _, s, Vt = svd(R)
    there = s > n * EPS * s[0]
    s[~there] = np.median(s[there]) if there.any() else 1.0
    return triangle.fold(triangle.empty(n), np.asfortranarray(s[:, None] * Vt))

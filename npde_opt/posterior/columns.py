"""Dense blocks of parameter vectors: own rows (local, columns) of each on every rank."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from petsc4py import PETSc

from npde_opt import reductions
from npde_opt.parameters import ParameterSpace

Action = Callable[[PETSc.Vec, PETSc.Vec], None]


def gram(space: ParameterSpace, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """A^T B, the same on every rank. Collective."""
    return np.asarray(reductions.total(space.comm, np.ascontiguousarray(a.T @ b)))


def times(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """A B by columns, as vectors take them: numpy's own product has rows together."""
    return np.asarray((b.T @ a.T).T)


ROWS = 4096
"""That are worked on at once: they fit a cache, and no memory is asked for that was not touched
before, which costs more than the product."""


def mix(a: np.ndarray, b: np.ndarray) -> None:
    """A <- A B with a square B, of columns that lie one after the other."""
    rows, turned = a.T, np.ascontiguousarray(b.T)
    for first in range(0, len(a), ROWS):
        part = rows[:, first : first + ROWS]
        part[...] = turned @ part


def less(c: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """C - A B by columns, in new memory that is gone through once."""
    from scipy.linalg.blas import dgemm

    kept = np.array(c, order="F")
    if not (c.size and a.size):
        return kept
    return np.asarray(dgemm(-1.0, a, b, 1.0, kept, overwrite_c=1))


def squares_times(a: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """sum_j a_ij^2 weights_jn, (local, n)."""
    found = np.empty((len(a), weights.shape[1]))
    for first in range(0, len(a), ROWS):
        found[first : first + ROWS] = a[first : first + ROWS] ** 2 @ weights
    return found


def dots(space: ParameterSpace, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a_j^T b_j of every column j, the same on every rank. Collective."""
    own = np.array([x @ y for x, y in zip(a.T, b.T, strict=True)])
    return np.asarray(reductions.total(space.comm, own))


def mapped(space: ParameterSpace, action: Action, columns: np.ndarray) -> np.ndarray:
    """The action on each column. Collective."""
    given, image = space.create_vec(), space.create_vec()
    found = np.empty_like(columns, order="F")
    for j in range(columns.shape[1]):
        given.setArray(columns[:, j])
        action(given, image)
        found[:, j] = image.getArray(readonly=True)
    given.destroy()
    image.destroy()
    return found


def views(space: ParameterSpace, columns: np.ndarray) -> list[PETSc.Vec]:
    """Vecs whose values are the columns (local, any), which lie one after the other. They are the
    caller's, and live no longer than the columns. Collective."""
    size = space.local_size, None
    return [PETSc.Vec().createWithArray(x, size, comm=space.comm) for x in columns.T]


def column(vec: PETSc.Vec) -> np.ndarray:
    """Own values (local, 1)."""
    return np.array(vec.getArray(readonly=True))[:, None]


def together(vecs: Sequence[PETSc.Vec]) -> np.ndarray:
    """Own values (local, any) of some Vecs."""
    found = np.empty((vecs[0].getLocalSize(), len(vecs)), order="F")
    for j, vec in enumerate(vecs):
        found[:, j] = vec.getArray(readonly=True)
    return found

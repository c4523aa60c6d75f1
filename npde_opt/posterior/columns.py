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


def column(vec: PETSc.Vec) -> np.ndarray:
    """Own values (local, 1)."""
    return np.array(vec.getArray(readonly=True))[:, None]


def together(vecs: Sequence[PETSc.Vec]) -> np.ndarray:
    """Own values (local, any) of some Vecs."""
    found = np.empty((vecs[0].getLocalSize(), len(vecs)), order="F")
    for j, vec in enumerate(vecs):
        found[:, j] = vec.getArray(readonly=True)
    return found

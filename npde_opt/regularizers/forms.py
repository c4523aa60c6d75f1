"""x^T R'' y of many vectors x and y of all unknowns, as rows of arrays on one rank: R'' of the
regularized ones, the identity of others."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from petsc4py import PETSc

from npde_opt.parameters import ParameterSpace
from npde_opt.regularizers.interface import Constant, Regularizer


def constant_forms(
    space: ParameterSpace,
    regularizers: Mapping[str, Regularizer],
    rows: np.ndarray,
    others: np.ndarray,
) -> np.ndarray | None:
    """Without a product for each vector; None where R'' of a regularizer is not constant.

    Args:
        rows, others: (n, values) and (m, values), 0 where nothing is unknown; maybe one array.

    Returns:
        (n, m).
    """
    found = np.zeros((len(rows), len(others)))
    for name in space.blocks:
        place, regularizer = space.place(name), regularizers.get(name)
        left = rows[:, place]
        right = left if others is rows else others[:, place]
        if regularizer is None:
            found += left @ right.T
        elif isinstance(regularizer, Constant):
            found += regularizer.gram(left, right)
        else:
            return None
    return found


def forms_by_products(
    like: PETSc.Vec,
    product: Callable[[PETSc.Vec, PETSc.Vec], None],
    rows: np.ndarray,
    others: np.ndarray,
) -> np.ndarray:
    """The same by a product R'' y for each of the others."""
    images = np.empty(others.shape)
    y, image = like.duplicate(), like.duplicate()
    for row, found in zip(others, images, strict=True):
        y.setArray(row)
        product(y, image)
        found[...] = image.getArray(readonly=True)
    y.destroy()
    image.destroy()
    return np.asarray(rows @ images.T)

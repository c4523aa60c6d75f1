"""R'' x of many vectors x of all unknowns, as rows of arrays (n, own values): R'' of the
regularized ones, the identity of others. What is not unknown is 0 in x."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from petsc4py import PETSc

from npde_opt.operators.many import by_parts
from npde_opt.parameters import ParameterSpace
from npde_opt.regularizers.interface import Constant, Regularizer


def constant_products(
    space: ParameterSpace,
    regularizers: Mapping[str, Regularizer],
    rows: np.ndarray,
    found: np.ndarray,
) -> bool:
    """Of all at once, into rows of `found`; False where R'' of a regularizer is not constant, of
    which nothing is found. Collective."""
    constant = {n: r for n, r in regularizers.items() if isinstance(r, Constant)}
    if len(constant) < len(regularizers):
        return False
    for name, block in space.blocks.items():
        given, image = (part[:, space.place(name)] for part in (rows, found))
        if name not in constant:
            image[...] = given
            continue
        by_parts(constant[name].products, given, image)
        if not block.all_free:
            image *= block.free_in_memory
    return True


def products_one_by_one(
    like: PETSc.Vec,
    product: Callable[[PETSc.Vec, PETSc.Vec], None],
    rows: np.ndarray,
    found: np.ndarray,
) -> None:
    """The same of one after the other, by a product R'' x."""
    x, image = like.duplicate(), like.duplicate()
    for row, out in zip(rows, found, strict=True):
        x.setArray(row)
        product(x, image)
        out[...] = image.getArray(readonly=True)
    x.destroy()
    image.destroy()

"""Additions to the planes of a stencil: one for each offset of a neighbour; its value at cell i
is the entry of row i towards cell i + offset.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product

import numpy as np

from npde_opt.grids import Grid
from npde_opt.operators.patterns import Offset
from npde_opt.operators.stencils import stencil_offsets
from npde_opt.terms.interface import Planes


def add_exchange(planes: Planes, d: int, lower: np.ndarray, upper: np.ndarray) -> None:
    """Adds lower (u - u_lower) + upper (u - u_upper), the neighbours along axis d."""
    centre, *others = planes_along(planes, d)
    centre += lower
    centre += upper
    others[0] -= lower
    others[1] -= upper


def add_products(
    grid: Grid,
    weight: np.ndarray,
    left: Mapping[Offset, np.ndarray],
    right: Mapping[Offset, np.ndarray],
    planes: Planes,
) -> None:
    """Adds sum_c weight_c p_c^T q_c of functionals p_c(u) = sum_o left[o]_c u_{c + o} and q of
    `right`: row i = c + a has left[a]_c right[b]_c towards c + b. Collective."""
    ghosted = [
        {o: grid.ghosted(np.asfortranarray(v)) for o, v in part.items()}
        for part in (left, right)
    ]
    weights = grid.ghosted(np.asfortranarray(weight))
    for a, b in product(left, right):
        box = tuple(
            slice(1 - x, n + 1 - x) for x, n in zip(a, grid.local_shape, strict=True)
        )
        plane = planes[between(a, b)]
        plane += weights[box] * ghosted[0][a][box] * ghosted[1][b][box]


def between(a: Offset, b: Offset) -> Offset:
    """From a to b."""
    return tuple(y - x for x, y in zip(a, b, strict=True))


def planes_along(planes: Planes, d: int) -> list[np.ndarray]:
    """Those of the cell and of its lower and upper neighbours along axis d."""
    offsets = stencil_offsets(len(next(iter(planes))))
    return [planes[offsets[s]] for s in (0, 1 + 2 * d, 2 + 2 * d)]

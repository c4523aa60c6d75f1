"""The coefficients of an equation: that all have a value, which is one that can be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from npde_opt import reductions
from npde_opt.aliases import Coefficients
from npde_opt.errors import InputError
from npde_opt.forward.equation import Equation
from npde_opt.forward.initial import InitialState
from npde_opt.forward.positivity import check_known
from npde_opt.grids import Grid
from npde_opt.parameters import ParameterSpace
from npde_opt.terms.interface import Reader


def known_values(grid: Grid, known: Coefficients) -> dict[str, np.ndarray]:
    """Known coefficients as numbers or owned arrays, 1 in inactive cells."""
    found = {name: np.asarray(value, float) for name, value in known.items()}
    for name, values in found.items():
        if values.shape == grid.local_shape and grid.mask is not None:
            found[name] = np.where(grid.active, values, 1.0)
    return found


def check_coefficients(
    space: ParameterSpace,
    equation: Equation,
    known: Mapping[str, np.ndarray],
    initials: Sequence[InitialState],
    terms: Sequence[Reader],
    zero: bool,
) -> None:
    """Raises InputError for coefficients without a value, known ones that are not finite, known
    diffusivities that are not positive, and histories of another length. Collective.

    Args:
        terms: all of them, those of the equation and of experiments, and boundary values.
        zero: diffusivities may be 0.
    """
    grid = space.grid
    parts: list[Reader | InitialState] = [*terms, *initials]
    given = {*known, *(u.name for u in space.unknowns)}
    for part in parts:
        for text in part.texts:
            text.check_names(given)
    needed = {name for part in parts for name in part.coefficients}
    missing = needed - given
    if missing:
        listed = ", ".join(sorted(given)) or "none"
        raise InputError(
            "coefficients",
            f"no value for {', '.join(sorted(missing))}",
            f"known or unknown values for all; those given are {listed}",
        )
    for name in sorted(needed & set(known)):
        values = known[name]
        on = values if values.shape != grid.local_shape else values[grid.active]
        if not reductions.everywhere(grid.comm, bool(np.isfinite(on).all())):
            raise InputError(
                f"known.{name}",
                "values that are not finite",
                "finite numbers in active cells",
            )
    if not equation.complex:
        check_known(grid, [n for n in equation.positive if n in known], known, zero)
    lengths = {name: int(np.size(value)) for name, value in known.items()}
    lengths |= {u.name: u.block.length or 0 for u in space.unknowns}
    for term in terms:
        term.take_lengths(lengths)

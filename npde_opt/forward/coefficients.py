"""Every coefficient that terms, initial states and sources read has a value, known or unknown, and the known ones are finite."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from npde_opt import reductions
from npde_opt.errors import InputError
from npde_opt.forward.equation import Equation
from npde_opt.forward.initial import InitialState
from npde_opt.forward.positivity import check_known, diffusivities
from npde_opt.grids import Grid
from npde_opt.parameters import ParameterSpace
from npde_opt.terms.source import Source


def known_values(grid: Grid, known: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """As float arrays; fields are 1 in inactive cells."""
    found = {name: np.asarray(values, float) for name, values in known.items()}
    if grid.active_global is None:
        return found
    return {
        name: np.where(grid.active, values, 1.0) if values.shape == grid.local_shape else values
        for name, values in found.items()
    }


def check_coefficients(
    space: ParameterSpace,
    equation: Equation,
    known: Mapping[str, np.ndarray],
    initials: Sequence[InitialState],
    sources: Sequence[Source],
) -> None:
    """Raises InputError on all ranks of the grid, with the key of a text that reads an unknown name.

    Args:
        sources: of all experiments.
    """
    _check_texts(space, equation, known, initials, sources)
    needed = equation.coefficients.union(
        *(i.coefficients for i in initials), *(s.coefficients for s in sources)
    )
    given = {*known, *(u.name for u in space.unknowns)}
    missing = ", ".join(sorted(needed - given))
    if missing:
        listed = ", ".join(sorted(given)) or "none"
        allowed = f"known or unknown values for all; those given are {listed}"
        raise InputError("coefficients", f"no value for {missing}", allowed)
    _check_finite(equation.grid, known, needed)
    if not equation.complex:
        names = diffusivities(t for o in equation.operators for t in o.terms)
        check_known(equation.grid, [n for n in names if n in known], known, zero=True)
    for source in (*sources, *equation.nonlinear):
        if isinstance(source, Source) and isinstance(source.history, str):
            _check_history(space, known, source)


def _check_texts(
    space: ParameterSpace,
    equation: Equation,
    known: Iterable[str],
    initials: Sequence[InitialState],
    sources: Sequence[Source],
) -> None:
    """Raises InputError for a name in a text that nothing gives a value, with the key of the text."""
    given = {*known, *(u.name for u in space.unknowns)}
    linear = [t for o in equation.operators for t in o.terms]
    for part in (*linear, *equation.nonlinear, *initials, *sources):
        for text in getattr(part, "texts", ()):
            text.check_names(given)


def _check_finite(grid: Grid, known: Mapping[str, np.ndarray], needed: Iterable[str]) -> None:
    for name in sorted(set(needed) & set(known)):
        values = known[name]
        on = values if values.shape != grid.local_shape else values[grid.active]
        if not reductions.everywhere(grid.comm, bool(np.isfinite(on).all())):
            allowed = "finite numbers in active cells"
            raise InputError(f"known.{name}", "values that are not finite", allowed)


def _check_history(space: ParameterSpace, known: Mapping[str, np.ndarray], source: Source) -> None:
    name = str(source.history)
    unknown = [u.length or 0 for u in space.unknowns if u.name == name]
    length = unknown[0] if unknown else np.size(known[name])
    source.take_length(f"{source.field}.history {name!r}", length)

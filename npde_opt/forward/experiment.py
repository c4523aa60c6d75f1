"""One experiment of an equation, steady or not: where it starts, what drives it, and its boundary
values as fields.

    Dirichlet sides   u                  in the ghosts outside
    Robin sides       the outer u        in the ghosts outside
    Neumann sides     the inward flux    times area, in the load of the cells at the side
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from npde_opt import reductions
from npde_opt.errors import InputError
from npde_opt.forward.equation import Equation
from npde_opt.forward.initial import Spec
from npde_opt.grids import AXES, Grid
from npde_opt.observations import Sampling
from npde_opt.terms.interface import Term
from npde_opt.terms.source import Load, Source
from npde_opt.terms.state import channels

Sides = Mapping[str, float]
"""Values by side."""


@dataclass(frozen=True, eq=False)
class Experiment:
    """What may differ between experiments on one grid.

    Args:
        initial: species to number, owned array or text (see InitialState); of a steady state where
            Newton's method starts.
        sources: of this experiment only.
        boundary: {side: value} for all species, or {species: {side: value}}: u on Dirichlet sides,
            the outer u on Robin sides, the inward flux D du/dn on Neumann sides (per unit of area).
            0 where not given.
        load: owned values [i, j, k] of a source that is constant in time, integrated over cells
            (wells, electrodes), or those by species.
        samplings: what is observed; None: what the others observe (given to the forward map).
        where: what stands before the keys `initial` and `boundary` in error messages
            ('experiment[0].').
    """

    initial: Mapping[str, Spec] = field(default_factory=dict)
    sources: Sequence[Source] = ()
    boundary: Mapping[str, Any] = field(default_factory=dict)
    load: np.ndarray | Mapping[str, np.ndarray] | None = None
    samplings: Sequence[Sampling] | None = None
    where: str = ""


class Driving:
    """What drives an experiment.

    Attributes:
        outside: a ghosted field of boundary values by species, zero inside, or None.
        load: what does not depend on the parameters [c, i, j, k], or None; 0 in inactive cells.
        terms: that do not depend on the state: the sources and the load.

    Raises:
        InputError: for boundary values and loads that are not the equation's.
    """

    def __init__(self, equation: Equation, experiment: Experiment):
        key = f"{experiment.where}boundary"
        grid = equation.grid
        sides = by_species(equation, experiment.boundary, key)
        self.outside = [outside(grid, values, key) if values else None for values in sides]
        load = loads(equation, experiment)
        for c, values in enumerate(sides):
            if values:
                add_fluxes(grid, values, load[c])
        load = np.where(grid.active, load, 0.0)
        given = reductions.anywhere(grid.comm, bool(np.any(load)))
        self.load = load if given else None
        self.terms: list[Term] = list(experiment.sources)
        if self.load is not None:
            self.terms.append(Load(grid, self.load))


def by_species(equation: Equation, boundary: Mapping[str, Any], key: str) -> list[Sides]:
    """Boundary values of each species from {side: value} or {species: {side: value}}."""
    named = {s: v for s, v in boundary.items() if s in equation.species}
    plain = {s: v for s, v in boundary.items() if s not in equation.species}
    tables = [isinstance(v, Mapping) for v in named.values()]
    if (plain and named) or any(isinstance(v, Mapping) for v in plain.values()) or not all(tables):
        raise InputError(
            key,
            dict(boundary),
            "side = value, or {species = {side = value}} with the species "
            + ", ".join(equation.species),
        )
    if equation.complex and any(v != 0 for v in plain.values()):
        raise InputError(
            key, plain, "{re = {side = value}, im = {side = value}} where gamma is imaginary"
        )
    found = [named.get(s, {}) if named else plain for s in equation.species]
    for values in found:
        _check_sides(equation, values, key)
    return found


def _check_sides(equation: Equation, values: Sides, key: str) -> None:
    boundaries = equation.grid.boundaries
    for side, value in values.items():
        kind = boundaries[side].kind if side in boundaries else "periodic"
        if kind == "periodic":
            allowed = [s for s, b in boundaries.items() if b.kind != "periodic"]
            raise InputError(key, side, ", ".join(allowed) or "no side of this grid")
        if side == equation.grid.closed_side and value:
            raise InputError(key, side, "another side: r = 0 is the axis of a radial grid")
        if kind == "neumann" and equation.complex and value:
            raise InputError(key, side, "Dirichlet or Robin sides where gamma is imaginary")


def _at_side(grid: Grid, side: str) -> tuple[int, bool, bool]:
    """The axis of a side, whether it is the upper one, and whether this rank has cells at it."""
    d, upper = AXES.index(side[0]), side[1] == "+"
    return d, upper, bool(grid.stop[d] == grid.shape[d] if upper else grid.start[d] == 0)


def outside(grid: Grid, values: Sides, key: str = "boundary") -> np.ndarray:
    """The ghosted field that holds values of Dirichlet and Robin sides in the ghosts outside the
    domain, 0 inside."""
    out = np.zeros([n + 2 for n in grid.local_shape], order="F")
    for side, value in values.items():
        d, upper, here = _at_side(grid, side)
        if here and grid.boundaries[side].kind in ("dirichlet", "robin"):
            layer: list[slice | int] = [slice(1, -1)] * grid.dim
            layer[d] = -1 if upper else 0
            out[tuple(layer)] = value
    return out


def add_fluxes(grid: Grid, values: Sides, load: np.ndarray) -> None:
    """Adds the fluxes through Neumann sides, integrated over cells."""
    for side, value in values.items():
        d, upper, here = _at_side(grid, side)
        if here and grid.boundaries[side].kind == "neumann" and value:
            cells: list[slice] = [slice(None)] * grid.dim
            cells[d] = slice(-1, None) if upper else slice(0, 1)
            load[tuple(cells)] += value * grid.side_area(d, upper)


def loads(equation: Equation, experiment: Experiment) -> np.ndarray:
    """The load of an experiment by species [c, i, j, k]."""
    out = channels(equation.grid, len(equation.species))
    given = experiment.load
    if given is None:
        return out
    if not isinstance(given, Mapping):
        if len(equation.species) > 1:
            raise InputError(
                f"{experiment.where}load",
                "an array",
                "{species = array} where there are several species",
            )
        given = {equation.species[0]: given}
    for name, values in given.items():
        if name not in equation.species:
            raise InputError(
                f"{experiment.where}load",
                f"a load of {name!r}",
                "species " + ", ".join(equation.species),
            )
        out[equation.species.index(name)] = values
    return out

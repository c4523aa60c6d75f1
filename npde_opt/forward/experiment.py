"""One experiment of an equation, steady or not: where it starts and what drives it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from npde_opt import reductions
from npde_opt.aliases import Coefficients
from npde_opt.distinct import distinct
from npde_opt.errors import InputError, SolverError
from npde_opt.forward.equation import Equation
from npde_opt.forward.initial import Spec
from npde_opt.grids import Grid
from npde_opt.grids.sides import Side
from npde_opt.observations import Sampling
from npde_opt.terms.boundary import BoundaryValues, Flux, Profile, Value
from npde_opt.terms.interface import Reader, Term
from npde_opt.terms.source import Load, Source
from npde_opt.terms.state import channels

Sides = Mapping[str, Value]
"""Boundary values by side."""
Boundaries = Mapping[str, Value | Sides]
"""{side: value} for all species, or {species: {side: value}}."""


@dataclass(frozen=True, eq=False)
class Experiment:
    """What may differ between experiments on one grid.

    Args:
        initial: species to number, owned array or text (see InitialState); of a steady state where
            Newton's method starts.
        sources: of this experiment only.
        boundary: {side: value} for all species, or {species: {side: value}}: u on Dirichlet sides,
            the outer u on Robin sides, the inward flux D du/dn on Neumann sides (per unit of area).
            A value is a number, text in the coordinates, coefficients and, in an evolution, t, an
            array over the side's cells, or a SideValue (see terms/boundary.py). 0 where not given.
        load: owned values [i, j, k] of a source that is constant in time, integrated over cells
            (wells, electrodes), or those by species.
        samplings: what is observed; None: what the others observe (given to the forward map).
        where: what stands before the keys `initial` and `boundary` in error messages
            ('experiment[0].').
    """

    initial: Mapping[str, Spec] = field(default_factory=dict)
    sources: Sequence[Source] = ()
    boundary: Boundaries = field(default_factory=dict)
    load: np.ndarray | Mapping[str, np.ndarray] | None = None
    samplings: Sequence[Sampling] | None = None
    where: str = ""


class Driving:
    """What drives an experiment.

    Args:
        timed: whether there is a time, which texts may read.

    Attributes:
        boundary: values of Dirichlet and Robin sides.
        load: what does not depend on the parameters and is constant in time [c, i, j, k], or None;
            0 in inactive cells.
        sources: of the experiment, and fluxes that are no numbers.
        terms: that do not depend on the state: the sources and the load.
        texts: boundary values that are text.

    Raises:
        InputError: for boundary values and loads that are not the equation's.
    """

    def __init__(self, equation: Equation, experiment: Experiment, timed: bool):
        key = f"{experiment.where}boundary"
        grid, count = equation.grid, len(equation.species)
        self.grid = grid
        self.sources: list[Term] = list(experiment.sources)
        values = list[tuple[int, Profile]]()
        self.texts: list[Profile] = []
        load = loads(equation, experiment)
        for c, side, value, where in each_side(equation, experiment.boundary, key):
            prescribes = grid.boundaries[side].kind != "neumann"
            if isinstance(value, int | float) and not prescribes:
                add_flux(grid, side, value, load[c])
                continue
            profile = Profile(grid, side, value, where, timed)
            if profile.text is not None:
                self.texts.append(profile)
            if prescribes:
                values.append((c, profile))
            else:
                self.sources.append(Flux(grid, count, c, profile))
        self.boundary = BoundaryValues(grid, values)
        load = np.where(grid.active, load, 0.0)
        given = reductions.anywhere(grid.comm, bool(np.any(load)))
        self.load = load if given else None
        self.terms = list(self.sources)
        if self.load is not None:
            self.terms.append(Load(grid, self.load))

    @property
    def drives(self) -> bool:
        """Whether anything does."""
        return bool(self.terms or self.boundary.parts)

    @property
    def parts(self) -> list[Reader]:
        """All that reads coefficients."""
        return [*self.terms, self.boundary]


SEEN = 33
"""Times at which boundary values are looked at."""


def looked_at(times: np.ndarray) -> np.ndarray:
    """Some of the ends of steps, the first and the last among them."""
    return times[distinct(np.linspace(0, times.size - 1, SEEN).astype(int))]


def check_values(
    driving: Sequence[Driving],
    k: Coefficients,
    times: np.ndarray,
    unknown: Iterable[str],
    prefix: str | None = None,
) -> None:
    """Raises where boundary values given as text are not finite beside an active cell. Collective.

    Args:
        times: at which they are looked at.
        unknown: names of the unknowns.
        prefix: None: those that depend on no unknown, which are wrong input; else the others, by a
            SolverError of this prefix.
    """
    names = set(unknown)
    seen = [p for d in driving for p in d.texts]
    seen = [
        p
        for p in seen
        if (not names.isdisjoint(p.coefficients)) == (prefix is not None)
    ]
    if not seen:
        return
    own = np.array([float(_wrong_values(p, k, times)) for p in seen])
    wrong = np.flatnonzero(reductions.largest(driving[0].grid.comm, own))
    if not wrong.size:
        return
    first = seen[int(wrong[0])]
    assert first.text is not None
    said = f"{first.text.texts[0]!r}, not finite on the side"
    if prefix is None:
        raise InputError(first.key, said, "finite values")
    raise SolverError(prefix, f"{first.key} is {said}", "Bound the parameters.")


def _wrong_values(profile: Profile, k: Coefficients, times: np.ndarray) -> bool:
    seen = times[:1] if profile.constant else times
    return not all(
        np.isfinite(profile.value(k, float(t), float(t))).all() for t in seen
    )


def check_sources(
    terms: Iterable[Reader],
    k: Coefficients,
    unknown: Iterable[str],
    prefix: str | None = None,
) -> None:
    """Raises where the text of a source is not finite in an active cell, as 1/x at x = 0 or the
    root of a negative number. Collective.

    Args:
        terms: all of the equation and of its experiments.
        unknown, prefix: as of `check_values`.
    """
    names, seen = set(unknown), dict.fromkeys(t for t in terms if isinstance(t, Source))
    for source in seen:
        text = source.text
        if text is None or names.isdisjoint(text.parameters) == (prefix is not None):
            continue
        grid = source.grid
        shape = np.broadcast_to(source.at(k).shape, grid.local_shape)
        own = float(np.count_nonzero(~np.isfinite(shape[grid.active])))
        wrong = int(reductions.total(grid.comm, own))
        if not wrong:
            continue
        said = f"{text.texts[0]!r}, not finite in {wrong} active cells"
        if prefix is None:
            raise InputError(source.key, said, "finite values")
        raise SolverError(prefix, f"{source.key} is {said}", "Bound the parameters.")


def each_side(
    equation: Equation, boundary: Boundaries, key: str
) -> Iterator[tuple[int, str, Value, str]]:
    """(species, side, value, key of the value) of boundary values."""
    tables = by_species(equation, boundary, key)
    named = any(name in boundary for name in equation.species)
    for c, (species, values) in enumerate(zip(equation.species, tables, strict=True)):
        for side, value in values.items():
            yield (
                c,
                side,
                value,
                f"{key}.{species}.{side}" if named else f"{key}.{side}",
            )


def by_species(equation: Equation, boundary: Boundaries, key: str) -> list[Sides]:
    """Boundary values of each species from {side: value} or {species: {side: value}}."""
    named = {s: v for s, v in boundary.items() if s in equation.species}
    plain = {s: v for s, v in boundary.items() if s not in equation.species}
    tables = {s: v for s, v in named.items() if isinstance(v, Mapping)}
    values = {s: v for s, v in plain.items() if not isinstance(v, Mapping)}
    if (plain and named) or len(values) < len(plain) or len(tables) < len(named):
        raise InputError(
            key,
            dict(boundary),
            "side = value, or {species = {side = value}} with the species "
            + ", ".join(equation.species),
        )
    if equation.complex and any(not zero(v) for v in values.values()):
        raise InputError(
            key,
            plain,
            "{re = {side = value}, im = {side = value}} where gamma is imaginary",
        )
    found: list[Sides] = [
        tables.get(s, {}) if named else values for s in equation.species
    ]
    for sides in found:
        _check_sides(equation, sides, key)
    return found


def _check_sides(equation: Equation, values: Sides, key: str) -> None:
    boundaries = equation.grid.boundaries
    for side, value in values.items():
        kind = boundaries[side].kind if side in boundaries else "periodic"
        if kind == "periodic":
            allowed = [s for s, b in boundaries.items() if b.kind != "periodic"]
            raise InputError(key, side, ", ".join(allowed) or "no side of this grid")
        if side == equation.grid.closed_side and not zero(value):
            raise InputError(
                key, side, "another side: r = 0 is the axis of a radial grid"
            )
        if kind == "neumann" and equation.complex and not zero(value):
            raise InputError(
                key, side, "Dirichlet or Robin sides where gamma is imaginary"
            )


def zero(value: Value) -> bool:
    """Whether a boundary value is the number 0."""
    return isinstance(value, int | float) and value == 0


def add_flux(grid: Grid, side: str, value: float, load: np.ndarray) -> None:
    """Adds a flux through a Neumann side, integrated over cells."""
    at = Side(grid, side)
    load[at.cells] += value * at.areas


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

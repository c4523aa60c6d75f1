"""The unknowns of a case on a grid, and the parameters that they start from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np
from petsc4py import PETSc

from npde_opt import reductions
from npde_opt.aliases import Plain, Record
from npde_opt.capacity import fits
from npde_opt.cases import learned
from npde_opt.cases.domain import Domain
from npde_opt.cases.fields import evaluate_part
from npde_opt.cases.parts import Part
from npde_opt.cases.regions import means, numbers
from npde_opt.cases.sought_tables import UnknownSection
from npde_opt.errors import InputError, collective
from npde_opt.grids import Grid
from npde_opt.parameters import Field, ParameterSpace, Regions, Shared, Unknown
from npde_opt.parameters.arrays import PlacedRegions
from npde_opt.parameters.interface import Block
from npde_opt.restarts import Move
from npde_opt.restarts import given as put

VALUE_BYTES = 1000
"""At least, of a value of a history: vectors of an optimizer, its column in reports."""


def check_sizes(unknowns: list[UnknownSection]) -> None:
    """Raises InputError for histories that no machine holds."""
    for u in unknowns:
        fits(f"unknown.{u.name}.length", u.length or 0, VALUE_BYTES)


def space_of(
    unknowns: list[UnknownSection], domain: Domain, grid: Grid
) -> ParameterSpace:
    """The parameters of all unknowns. Collective."""
    return ParameterSpace(grid, [_unknown(u, domain, grid) for u in unknowns])


def _unknown(u: UnknownSection, domain: Domain, grid: Grid) -> Unknown:
    if learned.is_function(u):
        f = learned.function(u)
        return Unknown(u.name, f.shape.transform, block=Shared(f.count))
    low, high = u.bounds or (None, None)
    return Unknown(u.name, u.transform, (low, high), _block(u, domain, grid))


def _block(u: UnknownSection, domain: Domain, grid: Grid) -> Block:
    if u.kind == "scalar":
        return Shared()
    if u.kind == "history":
        return Shared(u.length or 0)
    where = f"unknown.{u.name}"
    if u.regions is not None:
        return Regions(*numbers(f"{where}.regions", u.regions, domain, grid))
    if u.known is None:
        return Field()
    part = Part.of(grid)
    mask, kept = (
        evaluate_part(f"{where}.{key}", getattr(u, key), part, domain.sources)
        for key in ("known", "initial")
    )
    return Field(fixed=np.where(mask > 0.5, kept, np.nan))


def value(
    u: UnknownSection, spec: Plain, field: str, space: ParameterSpace, domain: Domain
) -> Plain:
    """A value of an unknown: an owned array [i, j, k], or numbers.

    Region constants are the means of a field. Collective.

    Args:
        spec: as a case says it, under the key `field`.
    """
    if spec is None:
        raise InputError(field, "nothing", "a value, where data are simulated")
    if learned.is_function(u):
        key = field.rpartition(".")[2]
        found = learned.numbers(u, spec, key)
        domain.sources.log.note(field, "a function of " + ", ".join(u.of), found)
        return found
    if u.kind != "field":
        return _numbers(field, spec, u.length or 1, domain)
    grid = space.grid
    own = evaluate_part(field, spec, Part.of(grid), domain.sources)
    if u.regions is None:
        return own
    placed = space.blocks[u.name]
    assert isinstance(placed, PlacedRegions)
    return means(space, placed.region, placed.count, own, domain, spec, field, u)


def _numbers(field: str, spec: Plain, count: int, domain: Domain) -> np.ndarray:
    allowed = f"a number, or {count} numbers"
    try:
        given = np.asarray(spec, float)
    except (TypeError, ValueError) as error:
        raise InputError(field, spec, allowed) from error
    if given.shape not in ((), (count,)):
        raise InputError(field, spec, allowed)
    values = np.broadcast_to(given, count)
    domain.sources.log.note(field, "a list" if np.ndim(spec) else "", values)
    return values


def start(
    unknowns: list[UnknownSection],
    keys: Mapping[str, str],
    space: ParameterSpace,
    domain: Domain,
    positive: set[str],
) -> PETSc.Vec:
    """Parameters of `initial` or `truth`. Collective; the caller destroys the Vec.

    Args:
        keys: which of them, by unknown.
        positive: names of the unknowns that are diffusivities.

    Raises:
        InputError: for values that cannot be.
    """
    values: Record = {}
    on = space.grid.active
    with collective(space.comm):
        for u in unknowns:
            field = f"unknown.{u.name}.{keys[u.name]}"
            found = value(u, getattr(u, keys[u.name]), field, space, domain)
            shown = (
                found[on]
                if u.kind == "field" and u.regions is None
                else np.asarray(found)
            )
            low = reductions.smallest(space.comm, float(shown.min(initial=np.inf)))
            if u.name in positive and not low > 0:
                allowed = "positive values in all active cells (a conductivity or diffusivity)"
                raise InputError(field, low, allowed)
            values[u.name] = found
    with collective(space.comm):
        return space.from_values(values)


def mover(
    unknowns: list[UnknownSection],
    given: Mapping[str, Plain],
    where: str,
    domain: Domain,
) -> Move:
    """To other values to start from.

    Args:
        given: values by unknown, as a case says them under the key `where`.
    """

    def move(space: ParameterSpace, m: PETSc.Vec) -> None:
        with collective(space.comm):
            some = [u for u in unknowns if u.name in given]
            values = {
                u.name: value(u, given[u.name], f"{where}.{u.name}", space, domain)
                for u in some
            }
            for name, found in values.items():
                with told_by(f"{where}.{name}"):
                    put({name: found})(space, m)

    return move


@contextmanager
def told_by(key: str) -> Iterator[None]:
    """What is wrong within is told by this key."""
    try:
        yield
    except InputError as error:
        raise InputError(key, error.value, error.allowed) from error

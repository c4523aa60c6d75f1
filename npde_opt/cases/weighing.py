"""J = sum of misfits + regularizers: what a case asks of data and of unknowns."""

from __future__ import annotations

import inspect
from collections.abc import Callable

import numpy as np
from mpi4py import MPI
from petsc4py import PETSc

from npde_opt import reductions
from npde_opt.aliases import Record
from npde_opt.cases.domain import Domain
from npde_opt.cases.experiment_tables import MisfitSection
from npde_opt.cases.fields import evaluate_part
from npde_opt.cases.histories import places
from npde_opt.cases.learned import function, is_function
from npde_opt.cases.parts import Part
from npde_opt.cases.rules import is_field, regularized
from npde_opt.cases.sections import CaseFile
from npde_opt.cases.sought_tables import RegularizationSection, UnknownSection
from npde_opt.errors import InputError, collective
from npde_opt.grids import Grid
from npde_opt.misfits import (
    CorrelatedErrors,
    Huber,
    LeastSquares,
    Misfit,
    ProportionalErrors,
    StudentT,
    default_floor,
)
from npde_opt.observations import DataBlock, DataLayout, Observer
from npde_opt.observations.shares import Share
from npde_opt.parameters import ParameterSpace
from npde_opt.registry import registered
from npde_opt.regularizers import REGULARIZERS, Roughness, SmallPrior, checked_weights
from npde_opt.regularizers.interface import Regularizer

OPTIONS = {
    "gradient": ("directions",),
    "total-variation": ("epsilon",),
    "bilaplacian": ("gamma", "delta", "correlation_length", "variance", "directions"),
}
"""Keys of [[regularization]] that a regularizer takes as they are."""


def floor(
    section: MisfitSection,
    data: list[np.ndarray],
    share: Share,
    groups: MPI.Intracomm = MPI.COMM_SELF,
) -> float:
    """Of proportional errors: as given, or a part of the largest of the data, of which a rank has
    its share. Collective.

    Args:
        groups: the ranks that have as much of the data of other experiments.
    """
    if section.floor is not None:
        return section.floor
    largest = reductions.largest(groups, share.largest(data))
    return default_floor(np.array([largest]))


def misfit(
    section: MisfitSection,
    observer: Observer,
    layout: DataLayout,
    observed: list[np.ndarray],
    sigma: list[np.ndarray],
    floor_of_data: float,
) -> Misfit:
    """Of a block of data, by column: the own ones, by sampling, time and place. Collective."""
    y, s = np.stack(observed, axis=1), np.stack(sigma, axis=1)
    y = np.where(observer.lost()[:, None], np.nan, y)
    match section.kind:
        case "registered":
            make = _misfit_maker(section)
            if takes_own(make):
                return make(y, s, layout, owned=True, **section.options)
            whole = [DataBlock(layout, values).gather() for values in (y, s)]
            return make(*whole, layout, **section.options)
        case "proportional":
            power = section.power
            return ProportionalErrors(y, s, layout, power, floor_of_data, owned=True)
        case "correlated":
            n = np.arange(len(observer.samplings[0].times))
            correlation = section.correlation ** np.abs(np.subtract.outer(n, n))
            return CorrelatedErrors(y, s, layout, correlation, owned=True)
        case "huber":
            return Huber(y, s, layout, section.threshold, owned=True)
        case "student-t":
            return StudentT(y, s, layout, section.nu, owned=True)
    return LeastSquares(y, s, layout, owned=True)


def options(r: RegularizationSection) -> Record:
    """What a regularizer takes as it is given."""
    if r.kind == "registered":
        return dict(r.options)
    found = {key: getattr(r, key) for key in OPTIONS[r.kind]}
    return {key: v for key, v in found.items() if v is not None}


def regularizers(
    table: CaseFile,
    domain: Domain,
    space: ParameterSpace,
    m: PETSc.Vec,
    chosen: float | None,
) -> Record:
    """By unknown, around the parameters m. Collective.

    Args:
        chosen: the weight where a table asks for a rule.
    """
    found: Record = {}
    for i, r in enumerate(table.regularization):
        name, weight = regularized(table, i), r.weight
        if isinstance(weight, str):
            assert chosen is not None
            weight = chosen
        found[name] = _regularizer(
            f"regularization[{i}]", r, weight, name, domain, space, m
        )
    for u in table.unknown:
        if not is_field(u) and (u.deviation is not None or u.smoothness > 0):
            found[u.name] = _prior(table, u, space, m)
    return found


def takes_own(make: Callable[..., Misfit]) -> bool:
    """Whether a class of the user's takes a rank's own data, which it says by an argument `owned`;
    others take all of them, on every rank."""
    return "owned" in inspect.signature(make).parameters


def check_misfit(section: MisfitSection) -> None:
    """Raises InputError for a name that nobody registered, and for options it does not take."""
    if section.kind == "registered":
        _misfit_maker(section)


def _misfit_maker(section: MisfitSection) -> Callable[..., Misfit]:
    """The class of the user's."""
    if "owned" in section.options:
        allowed = "no key: what a rank has is not the case's choice"
        raise InputError("misfit.options.owned", section.options["owned"], allowed)
    return registered("misfit", "misfit.name", section.name, section.options)


def check_regularization(
    table: CaseFile, i: int, domain: Domain, space: ParameterSpace
) -> None:
    """Reads what regularization[i] takes, and makes one of its options, on few cells of the box.

    Raises:
        InputError: for fields and options that cannot be.
    """
    field, r, grid = f"regularization[{i}]", table.regularization[i], space.grid
    ends = [np.linspace(e[0], e[-1], 3) for e in grid.edges]
    few = Grid((2,) * grid.dim, edges=ends, comm=MPI.COMM_SELF)
    _maker(field, r)(few, 1.0, None, **options(r)).destroy()
    few.destroy()
    part = Part.of(grid)
    if r.reference is not None:
        own = evaluate_part(f"{field}.reference", r.reference, part, domain.sources)
        values = own[grid.active]
        space.unknown(regularized(table, i)).inverse(values)
    if r.cell_weights is not None:
        key = f"{field}.cell_weights"
        own = evaluate_part(key, r.cell_weights, part, domain.sources)
        checked_weights(grid, own)


def _regularizer(
    field: str,
    r: RegularizationSection,
    weight: float,
    name: str,
    domain: Domain,
    space: ParameterSpace,
    m: PETSc.Vec,
) -> Regularizer:
    grid, part = space.grid, Part.of(space.grid)
    reference, given = space.block_vec(m, name), options(r)
    with collective(grid.comm):
        if r.reference is not None:
            on = grid.active
            own = evaluate_part(f"{field}.reference", r.reference, part, domain.sources)
            grid.view(reference)[on] = space.unknown(name).inverse(own[on])
        if r.cell_weights is not None:
            given["cell_weights"] = evaluate_part(
                f"{field}.cell_weights", r.cell_weights, part, domain.sources
            )
    return _maker(field, r)(grid, weight, reference, **given)


def _maker(field: str, r: RegularizationSection) -> Callable[..., Regularizer]:
    """The class of a regularizer."""
    if r.kind == "registered":
        return registered("regularizer", f"{field}.name", r.name, r.options)
    return REGULARIZERS[r.kind]


def _prior(
    table: CaseFile, u: UnknownSection, space: ParameterSpace, m: PETSc.Vec
) -> Regularizer:
    """Of numbers, of functions, or of constants of regions."""
    if is_function(u):
        start, rows = space.values(m, u.name), function(u).differences
        return Roughness(space.comm, rows, start, u.deviation, u.smoothness)
    unknown = space.unknown(u.name)
    weight = 1.0 if u.deviation is not None else 0.0
    at = places(table, u.name, unknown.block.count) if u.smoothness > 0 else None
    values = space.values(m, u.name)
    deviation = u.deviation or 1.0
    return SmallPrior(
        space.comm, unknown.block.count, weight, values, deviation, u.smoothness, at
    )

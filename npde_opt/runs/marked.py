"""What figures of a case mark: electrodes, wells, places of observation, boundary values, units."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from npde_opt.aliases import Plain, Record
from npde_opt.cases import Case
from npde_opt.figures.marks import Marks
from npde_opt.figures.style import amount
from npde_opt.grids import Boundary


def marks_of(case: Case) -> list[Marks]:
    """Electrodes, wells of all experiments, and points of observation, as far as there are any,
    where they are taken to be and count."""
    e = case.electrodes
    electrodes = [] if e is None else [e.centres[~e.dropped]]
    wells = [w.at for own in case.placed_wells for _, w in own]
    points = [o.points[~o.dropped] for o in case.observations if len(o.points)]
    found = [
        _marks("electrodes", electrodes, case.domain.dim),
        _marks("wells", [np.array(wells)] if wells else [], case.domain.dim),
        _marks("observations", points, case.domain.dim),
    ]
    return [kind for kind in found if len(kind.at)]


def _marks(name: str, parts: list[np.ndarray], dim: int) -> Marks:
    """Each place once."""
    if not parts:
        return Marks(name, np.empty((0, dim)))
    return Marks(name, np.unique(np.concatenate(parts), axis=0))


def sides_of(case: Case, experiment: int | None = None) -> dict[str, str]:
    """Side ('x-') to what is prescribed there, in one experiment or in all; sides without flux
    and periodic ones are left out."""
    found = {}
    tables = case.table.experiment
    if experiment is not None:
        tables = tables[experiment : experiment + 1]
    for side, boundary in case.domain.boundaries.items():
        values = [_values(case, x.boundary, side) for x in tables] or [{}]
        said = _said(case, boundary, values)
        if said:
            found[side] = said
    return found


def _values(case: Case, given: Mapping[str, Plain], side: str) -> Record:
    """Of an experiment, species to value at a side."""
    by_species = {
        s: v for s, v in given.items() if s in case.species and isinstance(v, dict)
    }
    if by_species:
        return {s: table[side] for s, table in by_species.items() if side in table}
    return {case.species[0]: given[side]} if side in given else {}


def _said(case: Case, boundary: Boundary, values: list[Record]) -> str:
    """What a side does, in a few words; '' where nothing."""
    if boundary.kind == "periodic":
        return ""
    if boundary.kind == "neumann":
        if not any(any(v != 0 for v in table.values()) for table in values):
            return ""
        return f"flux {_value(values, case.species[0], '')}"
    outer = "outer " if boundary.kind == "robin" else ""
    species = list(dict.fromkeys(s for table in values for s in table)) or case.species
    said: dict[str, list[str]] = {}
    for s in species:
        said.setdefault(_value(values, s, unit_of(case, s)), []).append(s)
    return outer + "; ".join(
        f"{', '.join(names)} {text}" for text, names in said.items()
    )


def _value(values: list[Record], species: str, unit: str) -> str:
    """'= 1 m', or where it is not one number why."""
    each = [table.get(species, 0.0) for table in values]
    if any(not isinstance(v, int | float) for v in each):
        return "as prescribed"
    if len(set(each)) > 1:
        return "by experiment"
    return "= " + amount(f"{each[0]:g}", unit)


def unit_of(case: Case, species: str) -> str:
    """Of a species: that of an observation of the species itself, else ''."""
    for o in case.table.observation:
        seen = o.quantity or case.species[0]
        if seen == species and o.unit:
            return o.unit
    return ""

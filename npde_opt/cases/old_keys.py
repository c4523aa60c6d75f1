"""Keys that cases had before there was one format of them, each with what says it now."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from npde_opt.errors import InputError

OBSERVED = "in an [[observation]] of its own"
INSTEAD = {
    "evolution": "[equation] with species, gamma, terms, known, derived, recipe, and [time] with "
    "times, scheme, memory, axis, bound",
    "experiments": "an [[experiment]] each with boundary, sources, wells; [electrodes]; [wells]",
    "experiments.boundary": "boundary = {...} in an [[experiment]] each",
    "experiments.source": "{ source = 'TEXT' } among equation.terms, with fields among "
    "equation.known",
    "experiments.wells": "wells = [...] in an [[experiment]] each, or [wells] with a file",
    "experiments.electrodes": "[electrodes]",
    "observations": "[[observation]] tables, and [simulation] with refine and shape",
    "observations.points": f"points {OBSERVED}",
    "observations.random": f"random {OBSERVED}",
    "observations.at_electrodes": f"electrodes = true {OBSERVED}",
    "observations.sides": f"sides {OBSERVED}",
    "observations.boxes": f"boxes {OBSERVED}",
    "observations.balls": f"balls {OBSERVED}",
    "observations.integrals": f"integrals {OBSERVED}",
    "observations.refine": "simulation.refine",
    "observations.shape": "simulation.shape",
    "equation.D": "equation.known.D",
    "equation.c": "equation.known.c, and { reaction = 'c' } among equation.terms",
    "equation.anisotropy": "{ diffusion = ['D_x', 'D_y'] } among equation.terms",
    "equation.velocity": "{ advection = [...] } among equation.terms",
    "equation.ground": "{ ground = [x, y], radius = ..., conductance = ... } among equation.terms",
}
"""By its path in a case file."""


def refuse_old(raw: Mapping[str, Any]) -> None:
    """Raises InputError for the first old key of a case, with a line for each that it has."""
    found = [f"{key} is now {INSTEAD[key]}" for key in _used(raw)]
    if found:
        allowed = "\n  ".join(["those of the one format", *found])
        raise InputError("case file", "keys of an older format", allowed)


def _used(raw: Mapping[str, Any]) -> Iterator[str]:
    for section, given in raw.items():
        inner = list(given) if isinstance(given, dict) else []
        named = [f"{section}.{key}" for key in inner if f"{section}.{key}" in INSTEAD]
        yield from named
        if section in INSTEAD and not named:
            yield section

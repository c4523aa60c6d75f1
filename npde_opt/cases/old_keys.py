"""Keys that cases had before there was one format of them, each with what says it now."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from npde_opt.aliases import Plain
from npde_opt.errors import InputError

OBSERVED = "in an [[observation]] of its own"
GIVEN = "terms = [{ diffusion = 'D' }, "
"""Terms that a case gives stand in place of the default, diffusion alone."""
INSTEAD = {
    "evolution": "[equation] with species, gamma, terms, known, derived, recipe, and [time] with "
    "times, scheme, memory, axis, bound",
    "experiments": "an [[experiment]] each with boundary, sources, wells; [electrodes]; [wells]",
    "experiments.boundary": "boundary = { 'x-' = 1.0 } in an [[experiment]] each",
    "experiments.source": f"{GIVEN}{{ source = NUMBER or 'TEXT' }}] in [equation], with fields in "
    "its known",
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
    "observations.data": "data in the [[observation]]",
    "observations.sigma": "sigma in the [[observation]]",
    "observations.noise": "noise in the [[observation]], for simulated data without a sigma",
    "observations.add_noise": "add_noise in the [[observation]]",
    "observations.unit": "unit in the [[observation]]",
    "observations.refine": "simulation.refine",
    "observations.shape": "simulation.shape",
    "equation.D": "equation.known.D",
    "equation.c": f"equation.known.c, and {GIVEN}{{ reaction = 'c' }}] in [equation]",
    "equation.anisotropy": "terms = [{ diffusion = ['D_x', 'D_y'] }] in [equation]",
    "equation.velocity": f"{GIVEN}{{ advection = [1.0, 0.0] }}] in [equation]",
    "equation.ground": f"{GIVEN}{{ ground = [x, y], radius = ..., conductance = ... }}] in "
    "[equation]",
}
"""By its path in a case file."""


def refuse_old(raw: Mapping[str, Plain]) -> None:
    """Raises InputError for the first old key of a case, with a line for each that it has."""
    found = [f"{key} is now {INSTEAD[key]}" for key in _used(raw)]
    if found:
        allowed = "\n  ".join(["those of the one format", *found])
        raise InputError("case file", "keys of an older format", allowed)


def _used(raw: Mapping[str, Plain]) -> Iterator[str]:
    for section, given in raw.items():
        inner = list(given) if isinstance(given, dict) else []
        named = [f"{section}.{key}" for key in inner if f"{section}.{key}" in INSTEAD]
        yield from named
        if section in INSTEAD and not named:
            yield section

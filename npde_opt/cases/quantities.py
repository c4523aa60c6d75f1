"""[[posterior.quantities]]: what is asked of states and coefficients at the answer."""

from __future__ import annotations

from collections.abc import Iterator

from npde_opt.cases.experiment_tables import PLACES, ObservationSection
from npde_opt.cases.posterior_tables import QuantitySection
from npde_opt.cases.sections import CaseFile
from npde_opt.errors import InputError
from npde_opt.functions.parser import check_name
from npde_opt.functions.text import Expressions

DATA = ("data", "sigma", "noise", "add_noise", "held_out", "random")
"""Keys of [[observation]] that an observation without data does not have."""

CANDIDATES = "posterior.design.candidates"


def where(i: int) -> str:
    """The key of a quantity."""
    return f"posterior.quantities[{i}]"


def check_quantities(table: CaseFile) -> None:
    """Raises InputError for quantities that say nothing, or what cannot be."""
    names = _numbers(table)
    for i, q in enumerate(table.posterior.quantities):
        check_name(q.name, f"{where(i)}.name")
        if q.name in names:
            said = "a name that no scalar, figure or quantity has"
            raise InputError(f"{where(i)}.name", repr(q.name), said)
        if (q.text is None) == (q.observation is None):
            there = "neither" if q.text is None else "both"
            raise InputError(where(i), there, "text or observation, one of them")
        if q.text is not None:
            there = "the numbers " + (", ".join(sorted(names)) or "(there is none)")
            Expressions([q.text], (), f"{where(i)}.text").check_names(names, there)
        if q.observation is not None:
            here = f"{where(i)}.observation"
            check_seen(table, here, q.observation, timed=q.of is None)
            _check_of(table, i, q, q.observation)
        names.add(q.name)
    if (design := table.posterior.design) is not None:
        check_seen(table, CANDIDATES, design.candidates)


def _numbers(table: CaseFile) -> set[str]:
    """What texts of quantities may read: scalars, known numbers, derived figures."""
    found = {u.name for u in table.unknown if u.kind == "scalar"}
    known = table.equation.known.items()
    found |= {n for n, v in known if isinstance(v, int | float)}
    return found | set(table.equation.derived)


def check_seen(
    table: CaseFile, here: str, o: ObservationSection, timed: bool = True
) -> None:
    """Raises InputError for an observation that has data, or no place.

    Args:
        timed: it is one of the state, which may depend on time.
    """
    default = ObservationSection()
    for key in DATA:
        if getattr(o, key) != getattr(default, key):
            raise InputError(f"{here}.{key}", "given", "none: it has no data")
    if not any(getattr(o, key) not in (None, False, []) for key in PLACES):
        raise InputError(
            here, "no place", ", ".join(p for p in PLACES if p != "random")
        )
    if o.electrodes and table.electrodes is None:
        said = "false, or a section [electrodes]"
        raise InputError(f"{here}.electrodes", True, said)
    timed = timed and table.time is not None
    if (o.times is not None) != timed:
        of = "a state with [time]" if timed else "what has no times"
        there, said = ("nothing", "times") if timed else ("given", "none")
        raise InputError(f"{here}.times", there, f"{said}, of {of}")


def _check_of(
    table: CaseFile, i: int, q: QuantitySection, o: ObservationSection
) -> None:
    fields = [u.name for u in table.unknown if u.kind == "field"]
    if q.of is not None and q.of not in fields:
        said = "an unknown field: " + (", ".join(fields) or "(there is none)")
        raise InputError(f"{where(i)}.of", repr(q.of), said)
    if q.of is not None and o.quantity is not None:
        key = f"{where(i)}.observation.quantity"
        raise InputError(key, "given beside of", "none")


def observed(table: CaseFile) -> Iterator[tuple[int, QuantitySection]]:
    """Quantities that are observations, with their numbers."""
    for i, q in enumerate(table.posterior.quantities):
        if q.observation is not None:
            yield i, q

"""What [posterior] observes beside the data: quantities of interest, and candidates."""

from __future__ import annotations

from npde_opt.cases.case import Case
from npde_opt.cases.experiment_tables import ObservationSection
from npde_opt.cases.observed import Observed
from npde_opt.cases.posterior_tables import QuantitySection
from npde_opt.cases.quantities import CANDIDATES, observed, where
from npde_opt.errors import InputError


def asked(case: Case) -> list[tuple[QuantitySection, Observed]]:
    """Quantities of interest that are observations.

    Raises:
        InputError: for an experiment that is none.
    """
    found = []
    for i, q in observed(case.table):
        assert q.observation is not None
        key = f"{where(i)}.observation"
        found.append((q, _seen(case, key, q.observation, q.experiment)))
    return found


def candidates(case: Case) -> Observed | None:
    """What could be observed next; None where the case does not ask.

    Raises:
        InputError: for an experiment that is none.
    """
    design = case.table.posterior.design
    if design is None:
        return None
    return _seen(case, CANDIDATES, design.candidates, design.experiment)


def _seen(case: Case, key: str, o: ObservationSection, experiment: int) -> Observed:
    count = case.experiment_count
    if experiment >= count:
        there = f"{key.rpartition('.')[0]}.experiment"
        raise InputError(there, experiment, f"from 0 to {count - 1}")
    of = case.electrodes if o.electrodes else None
    return Observed(key, o, case.domain, of, case.seed, count)

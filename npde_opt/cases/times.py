"""t_0 < ... < t_N: the steps of a case, as given, as accurate as asked, and cut for simulated
data."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from npde_opt.capacity import fits
from npde_opt.cases.equation_tables import AccurateSteps, DoublingSteps, EqualSteps
from npde_opt.cases.rules import histories, sides, time_of
from npde_opt.cases.sections import CaseFile
from npde_opt.cases.side_values import SideTable
from npde_opt.cases.typed import shown
from npde_opt.errors import InputError
from npde_opt.forward.steps import STEP_BYTES, doubling, equal, with_stops

FEWEST = 8
"""Steps that an accuracy is first tried with."""
UNITS: Mapping[str, float] = {"KB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12}


def given_times(table: CaseFile) -> np.ndarray:
    """Those of time.times; where an accuracy is asked for, the fewest steps that are tried."""
    spec = time_of(table).times
    match spec:
        case EqualSteps():
            return equal(spec.start, spec.end, spec.steps)
        case DoublingSteps():
            return doubling(spec.start, spec.first, spec.end, spec.repeats)
        case AccurateSteps():
            return equal(spec.start, spec.end, FEWEST)
    if np.any(np.diff(spec) <= 0):
        raise InputError("time.times", shown(spec), "times that increase")
    return np.asarray(spec, float)


def breakpoints(table: CaseFile) -> list[float]:
    """Of the histories of all experiments, so that all groups of experiments take the same
    steps."""
    listed = [given.times for _, given in histories(table) if given.history is not None]
    listed += [list(v.times) for _, _, v in sides(table) if isinstance(v, SideTable)]
    return [t for times in listed if isinstance(times, list) for t in times]


def cut_times(table: CaseFile, times: np.ndarray, cut: int) -> np.ndarray:
    """The steps with those of histories, each cut into `cut`.

    Raises:
        InputError: for more than the machine can hold.
    """
    whole = with_stops(times, breakpoints(table))
    if cut == 1:
        return whole
    fits("simulation.steps", cut * whole.size, STEP_BYTES, "steps")
    parts = np.arange(cut) / cut
    starts, lengths = whole[:-1, None], np.diff(whole)[:, None]
    return np.append((starts + lengths * parts).ravel(), whole[-1])


def budget(text: str) -> float | None:
    """Bytes of '4GB'; None of ''. Raises InputError for other texts."""
    if not text:
        return None
    plain = text.strip().upper()
    unit = next((u for u in UNITS if plain.endswith(u)), "")
    allowed = "a positive, finite number with KB, MB, GB or TB"
    try:
        size = float(plain.removesuffix(unit)) * UNITS.get(unit, 1.0)
    except ValueError as error:
        raise InputError("--memory", text, allowed) from error
    if not 0 < size < np.inf:
        raise InputError("--memory", text, allowed)
    return size

"""Histories of a case's sources and boundary values: whether their times meet those of the steps,
and where in time the values of an unknown one lie, whose smoothness is measured over their
distances.

The values of a linear history, and of steps with as many times, lie at the times; values of the
intervals between n + 1 times lie at their middles.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from npde_opt.cases.field_tables import File
from npde_opt.cases.rules import histories, time_of
from npde_opt.cases.sections import CaseFile
from npde_opt.cases.sources import Sources
from npde_opt.cases.tables import read_values
from npde_opt.cases.term_tables import Timed
from npde_opt.errors import InputError

EQUAL = 1e-9
"""Distances that differ by a smaller part are equal."""


def read_histories(table: CaseFile, files: Sources) -> None:
    """Histories and their times that are columns of files become lists, and are checked."""
    for where, source in histories(table):
        for key in ("history", "times"):
            spec = getattr(source, key)
            if isinstance(spec, File):
                values = read_values(f"{where}.{key}", spec, files, allow_nan=False)
                setattr(source, key, values.ravel().tolist())
        if source.history is not None:
            _check(where, table, source)


def span(table: CaseFile) -> tuple[float, float]:
    """The first and the last time of the steps."""
    times = time_of(table).times
    if isinstance(times, list):
        return float(times[0]), float(times[-1])
    return times.start, times.end


def between(table: CaseFile, source: Timed) -> bool:
    """Whether the values hold between two times each, and the source is 0 outside of them."""
    times = source.times
    assert isinstance(times, list)
    return source.interpolation == "steps" and len(times) == length(table, source) + 1


def length(table: CaseFile, source: Timed) -> int:
    """How many values a history has."""
    if isinstance(source.history, str):
        return next(
            (u.length or 1 for u in table.unknown if u.name == source.history), 1
        )
    return len(source.history) if isinstance(source.history, list) else 1


def _check(key: str, table: CaseFile, source: Timed) -> None:
    """Raises InputError for a history of which no time is within those of the steps.

    Only one value of it would ever be seen, or none, which is what other units of time look like.
    """
    assert isinstance(source.times, list)
    check_times(f"{key}.times", table, source.times, between(table, source))


def check_times(
    key: str, table: CaseFile, times: Sequence[float], open_ended: bool
) -> None:
    """Raises InputError for times of which none is within those of the steps; the first and the
    last one count where they are not the ends of intervals alone (`open_ended`)."""
    steps = span(table)
    before, after = max(times) < steps[0], min(times) > steps[1]
    if open_ended:
        before, after = max(times) <= steps[0], min(times) >= steps[1]
    if before or after:
        allowed = f"times that meet those of the steps, {steps[0]:g} to {steps[1]:g}"
        raise InputError(key, f"{min(times):g} to {max(times):g}", allowed)


def outside(table: CaseFile, source: Timed) -> str:
    """What the history of a case's source does in steps before its first time and after its last
    one, in words; '' where there are none."""
    times, history, steps = source.times, source.history, span(table)
    assert isinstance(times, list)
    if isinstance(history, list):
        first, last = f"{history[0]:g}", f"{history[-1]:g}"
    else:
        first, last = "its first value", "its last value"
    if between(table, source):
        first = last = "0"
    found = []
    if steps[0] < min(times):
        found.append(f"{first} before")
    if steps[1] > max(times):
        found.append(f"{last} after")
    return " and ".join(found)


def places(table: CaseFile, name: str, count: int) -> np.ndarray | None:
    """Places of a history's values, in units of their mean distance; None where they are equally
    spaced, or where nothing has this history.

    Raises:
        InputError: for a history that sources have at times of different distances.
    """
    found: np.ndarray | None = None
    for key, source in histories(table):
        if source.history != name:
            continue
        at = _places(np.asarray(source.times, float), count)
        if at is None:
            continue
        if found is not None and not np.allclose(
            np.diff(at), np.diff(found), rtol=EQUAL, atol=EQUAL
        ):
            raise InputError(
                f"unknown.{name}.smoothness",
                f"times at other distances in {key}.times",
                "0, or a history whose times have the same distances in all its sources",
            )
        found = at
    if found is None or np.allclose(np.diff(found), 1.0, rtol=EQUAL, atol=0.0):
        return None
    return found


def drawn_at(table: CaseFile, name: str, count: int) -> np.ndarray:
    """Times (count,) of an unknown history's values, or (count + 1,) where each holds between two;
    of the first that has it with times of its own, else the numbers 1, 2, ..."""
    for _, source in histories(table):
        times, steps = np.asarray(source.times, float), source.interpolation == "steps"
        if source.history != name or times.size not in (count, count + 1):
            continue
        if steps and times.size == count:
            last = max(span(table)[1], times[-1])
            return np.append(times, last)
        return times
    return np.arange(1.0, count + 1)


def _places(times: np.ndarray, count: int) -> np.ndarray | None:
    """None where the times do not go with the length: the source says so itself."""
    at = (times[1:] + times[:-1]) / 2 if times.size == count + 1 else times
    if at.size != count or count < 2 or not np.all(np.diff(at) > 0):
        return None
    return (at - at[0]) / ((at[-1] - at[0]) / (count - 1))

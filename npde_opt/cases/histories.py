"""Histories of a case's sources: whether their times meet those of the steps, and where in time the
values of an unknown one lie, whose smoothness is measured over their distances.

The values of a linear history, and of steps with as many times, lie at the times; values of the
intervals between n + 1 times lie at their middles.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from npde_opt.errors import InputError

EQUAL = 1e-9
"""Distances that differ by a smaller part are equal."""


def span(times: Any) -> tuple[float, float]:
    """The first and the last time of evolution.times, a list or a table."""
    if isinstance(times, Sequence):
        return float(times[0]), float(times[-1])
    return float(times.get("start") or 0.0), float(times["end"])


def check(key: str, source: Mapping[str, Any], steps: tuple[float, float]) -> None:
    """Raises InputError for a history of which no time is within those of the steps: only one value
    of it would ever be seen, which is what other units of time look like."""
    times = source["times"]
    if source.get("history") is None or not len(times):
        return
    if max(times) < steps[0] or min(times) > steps[1]:
        raise InputError(
            f"{key}.times",
            f"{min(times):g} to {max(times):g}",
            f"times that meet those of the steps, {steps[0]:g} to {steps[1]:g}",
        )


def outside(table: Mapping[str, Any], source: Mapping[str, Any]) -> str:
    """What the history of a case's source does in steps before its first time and after its last
    one, in words; '' where there are none."""
    times, history, steps = source["times"], source["history"], span(table["evolution"]["times"])
    if isinstance(history, str):
        count = next((u["length"] or 1 for u in table["unknown"] if u["name"] == history), 1)
        first, last = "its first value", "its last value"
    else:
        count, first, last = len(history), f"{history[0]:g}", f"{history[-1]:g}"
    between = source["interpolation"] == "steps" and len(times) == count + 1
    found = []
    if steps[0] < min(times):
        found.append(f"{'0' if between else first} before")
    if steps[1] > max(times):
        found.append(f"{'0' if between else last} after")
    return " and ".join(found)


def sources_of(table: Mapping[str, Any], name: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The sources of a case whose history is the unknown `name`: (key, table)."""
    for i, t in enumerate(table["evolution"]["terms"]):
        if "source" in t and t.get("history") == name:
            yield f"evolution.terms[{i}]", t
    for e, x in enumerate(table["experiment"]):
        for i, y in enumerate(x["sources"]):
            if y["history"] == name:
                yield f"experiment[{e}].sources[{i}]", y


def places(table: Mapping[str, Any], name: str, length: int) -> np.ndarray | None:
    """Places of a history's values, in units of their mean distance; None where they are equally
    spaced, or where no source has this history.

    Raises:
        InputError: for a history that sources have at times of different distances.
    """
    found: np.ndarray | None = None
    for key, source in sources_of(table, name):
        at = _places(np.asarray(source["times"], float), length)
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


def _places(times: np.ndarray, length: int) -> np.ndarray | None:
    """None where the times do not go with the length: the source says so itself."""
    at = (times[1:] + times[:-1]) / 2 if times.size == length + 1 else times
    if at.size != length or length < 2 or not np.all(np.diff(at) > 0):
        return None
    return (at - at[0]) / ((at[-1] - at[0]) / (length - 1))

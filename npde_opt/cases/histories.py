"""Where the values of an unknown history lie in time: the distances that its smoothness is measured over.

The values of a linear history, and of steps with as many times, lie at the times; values of the intervals between n + 1
times lie at their middles.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from npde_opt.errors import InputError

EQUAL = 1e-9
"""Distances that differ by a smaller part are equal."""


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
    """Places of a history's values, in units of their mean distance; None where they are equally spaced, or where no source
    has this history.

    Raises:
        InputError: for a history that sources have at times of different distances.
    """
    found: np.ndarray | None = None
    for key, source in sources_of(table, name):
        at = _places(np.asarray(source["times"], float), length)
        if at is None:
            continue
        if found is not None and not np.allclose(np.diff(at), np.diff(found), rtol=EQUAL, atol=EQUAL):
            raise InputError(f"unknown.{name}.smoothness", f"times at other distances in {key}.times",
                             "0, or a history whose times have the same distances in all its sources")
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

"""What PETSc's -log_view tells of a run: stages as a table, calls as a flame graph.

A stage's seconds, messages, bytes and reductions are those of the rank with the most; PETSc counts
what goes through its own vectors, matrices and scatters, and traffic.py adds the rest.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

TABLE, FLAMES = "log.csv", "log.flame"


@dataclass(frozen=True)
class Stage:
    """Of one stage, the most over ranks; messages are sent and received ones."""

    seconds: float
    messages: float
    bytes: float
    reductions: float


def options(folder: Path) -> list[str]:
    """PETSc's options which write both files."""
    table, flames = folder / TABLE, folder / FLAMES
    return ["-log_view", f":{table}:ascii_csv,:{flames}:ascii_flamegraph"]


def stages(path: Path) -> dict[str, Stage]:
    """By the stage's name; empty where there is no such file."""
    if not path.exists():
        return {}
    found: dict[str, Stage] = {}
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            if row["Event Name"] != "summary":
                continue
            keys = ("Time", "Num Messages", "Message Length", "Num Reductions")
            own = Stage(*(float(row[k]) for k in keys))
            name = "other" if row["Stage Name"] == "Main Stage" else row["Stage Name"]
            found[name] = _most(found[name], own) if name in found else own
    return found


def _most(a: Stage, b: Stage) -> Stage:
    return Stage(
        max(a.seconds, b.seconds),
        max(a.messages, b.messages),
        max(a.bytes, b.bytes),
        max(a.reductions, b.reductions),
    )


def flames(path: Path) -> dict[tuple[str, ...], float]:
    """Seconds by stack of calls, outermost first, without what they call; empty without a
    file."""
    if not path.exists():
        return {}
    found: dict[tuple[str, ...], float] = {}
    for line in path.read_text().splitlines():
        stack, _, microseconds = line.rpartition(" ")
        if stack:
            calls = tuple(stack.split(";"))
            found[calls] = found.get(calls, 0.0) + 1e-6 * float(microseconds)
    return found

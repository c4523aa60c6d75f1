"""The starts of a run: each that ended is kept for a resumed run, and all are told of at the end.

`starts/start-K/` is a checkpoint with the parameters in which start K ended (none where it failed),
the history up to there, and what its table says.
"""

from __future__ import annotations

import io
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from mpi4py import MPI
from petsc4py import PETSc

from npde_opt.aliases import Plain, Record
from npde_opt.ensemble import Ensemble
from npde_opt.errors import collective
from npde_opt.io.checkpoint import Checkpoint, Space, find_checkpoint, save_checkpoint
from npde_opt.restarts import FAILED, Found, Outcome, several
from npde_opt.runs.folder import HISTORY, STARTS, RunDirectory

COLUMNS = ("status", "iterations", "objective", "chi_squared", "distance")
Cell = str | float | None
LONGEST = 80
MOST_VALUES = 8
"""Values a line on the screen; the file has all."""


def keep(
    out: RunDirectory,
    space: Space,
    outcome: Outcome,
    m: PETSc.Vec | None,
    rows: int,
    extra: Mapping[str, Plain],
) -> None:
    """Writes how a start ended. Collective on the folder's ranks.

    Args:
        rows: of the history up to here.
        extra: what a checkpoint of the run has besides.
    """
    out.folder(STARTS)
    folder = out.folder(_name(outcome.start))
    state = SimpleNamespace(vectors={} if m is None else {"m": m}, meta={})
    told = {**extra, "outcome": asdict(outcome), "rows": rows, "start": outcome.start}
    history = {HISTORY: out.history_copy(rows)}
    save_checkpoint(
        folder, out.comm, space, state, 0, told, attachments=history, check=out.check
    )


def _name(start: int) -> str:
    return f"{STARTS}/start-{start}"


def ended(
    out: RunDirectory | None,
    ensemble: Ensemble,
    identity: Mapping[str, str],
    world: MPI.Intracomm,
) -> list[Checkpoint]:
    """The starts that have ended in a folder, on every rank of every group. Collective."""
    found: list[Checkpoint] = []
    with collective(world):
        while out is not None:
            path: Path = out.file(_name(len(found)))
            there = ensemble.space.bcast(path.exists(), root=0)
            one = find_checkpoint(path, ensemble.space, identity) if there else None
            if one is None:
                break
            found.append(one)
    return list(ensemble.across.bcast(found, root=0))


def outcome_of(
    kept: Checkpoint, counters: dict[str, int], work: dict[str, int]
) -> Outcome:
    """What a kept start ended in, with this group's counts."""
    return replace(Outcome(**kept.extra["outcome"]), counters=counters, work=work)


# ---- what is told ------------------------------------------------------------------------------


def metrics(found: Found) -> Record:
    """The table of starts for summary.json, and where there is more than one minimum."""
    if not found.starts:
        return {}
    text = _minima(found)
    told: Record = {"best_start": found.best, "starts": found.starts}
    return told | ({"minima": [text]} if text else {})


def _minima(found: Found) -> str:
    others = several(found.starts)
    if not others:
        return ""
    parts = []
    for number in others:
        o = found.starts[number]
        distance = (
            "" if o.distance is None else f", {o.distance:.3g} standard deviations away"
        )
        parts.append(f"start {number} (objective {o.objective:.5g}{distance})")
    return f"the best is of start {found.best}; elsewhere ended {'; '.join(parts)}"


def lines(starts: Sequence[Outcome], best: int) -> list[str]:
    """The table on the screen; the best one is marked."""
    rows = [["", "start", *COLUMNS, "values"]]
    for o in starts:
        mark = "*" if o.start == best else ""
        rows.append(
            [mark, *(_cell(getattr(o, key)) for key in ("start", *COLUMNS)), _values(o)]
        )
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]) - 1)]
    texts = []
    for cells in rows:
        padded = [cell.rjust(width) for cell, width in zip(cells, widths, strict=False)]
        texts.append("  ".join(["", *padded, cells[-1]]).rstrip())
    return texts


def _cell(value: Cell) -> str:
    if value is None or (isinstance(value, float) and not np.isfinite(value)):
        return "-"
    return f"{value:.5g}" if isinstance(value, float) else str(value).replace("_", " ")


def _values(o: Outcome) -> str:
    """Of the unknowns that are numbers; why a start failed."""
    if o.status == FAILED:
        return textwrap.shorten(o.reason, LONGEST)
    named = [(name, v) for name, values in o.values.items() for v in values]
    shown = ", ".join(f"{name} {value:.5g}" for name, value in named[:MOST_VALUES])
    return shown + (", ..." if len(named) > MOST_VALUES else "")


def csv_text(starts: Sequence[Outcome]) -> str:
    """starts.csv: a line a start; cells of a start that failed are empty."""
    names = {name: len(v) for o in starts for name, v in o.values.items()}
    heads = [f"{n}[{i}]" if k > 1 else n for n, k in names.items() for i in range(k)]
    out = io.StringIO()
    print(",".join(["start", *COLUMNS, *heads]), file=out)
    for o in starts:
        numbers: list[Cell] = [getattr(o, key) for key in ("start", *COLUMNS)]
        numbers += [
            v for name in names for v in o.values.get(name, [None] * names[name])
        ]
        print(",".join(map(_exact, numbers)), file=out)
    return out.getvalue()


def _exact(value: Cell) -> str:
    if value is None or (isinstance(value, float) and not np.isfinite(value)):
        return ""
    return str(value)

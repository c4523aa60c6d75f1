"""One row for each run: what summary.json, PETSc's log and the system say of it."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from npde_opt.aliases import Record
from npde_opt.scaling import logs
from npde_opt.scaling.launch import FOLDER, Place
from npde_opt.scaling.logs import Stage
from npde_opt.scaling.plan import Run

SUMMARY = "summary.json"


@dataclass(frozen=True)
class Row:
    """A run and its cost.

    Attributes:
        unknowns: of one state.
        solves: forward and adjoint ones, of all experiments.
        krylov: iterations of a solve, the mean.
        seconds: of the whole run, from the driver's own clock. solve: without set-up and reports.
        memory: peak bytes of the rank with the most.
        joules: of the machine, None where it does not tell.
        stages: by name.
    """

    run: Run
    status: str
    unknowns: int
    iterations: int
    objective: float
    solves: int
    krylov: float
    seconds: float
    setup: float
    solve: float
    memory: float
    joules: float | None
    stages: dict[str, Stage]

    @property
    def work(self) -> float:
        """Solves times their iterations, at least one each."""
        return max(1.0, self.solves * max(1.0, self.krylov))

    @property
    def load(self) -> float:
        """Unknowns of a rank; groups have whole grids each."""
        return self.unknowns * self.run.groups / self.run.ranks

    def messages(self) -> float:
        """Sent and received by a rank."""
        return sum(s.messages for s in self.stages.values())

    def bytes(self) -> float:
        """Sent and received by a rank."""
        return sum(s.bytes for s in self.stages.values())

    def reductions(self) -> float:
        """Sums over all ranks."""
        return sum(s.reductions for s in self.stages.values())

    def record(self) -> Record:
        """As study.csv and results.json have it."""
        flat: Record = {
            k: v for k, v in asdict(self).items() if k not in ("run", "stages")
        }
        grid = "x".join(map(str, self.run.grid))
        flat = {**asdict(self.run), "grid": grid, **flat}
        flat |= {
            "messages": self.messages(),
            "bytes": self.bytes(),
            "reductions": self.reductions(),
        }
        return flat | {f"seconds_{n}": s.seconds for n, s in self.stages.items()}


def rows(place: Place) -> list[Row]:
    """Of all runs that came to a good end, in the plan's order."""
    found = (row(place, run) for run in place.plan.runs())
    return [r for r in found if r is not None]


def failures(place: Place) -> dict[str, str]:
    """What was said by runs that failed, by their names."""
    found: dict[str, str] = {}
    for run in place.plan.runs():
        cost = place.cost(run)
        if cost is not None and cost["code"]:
            found[run.name] = f"code {cost['code']}: {cost['said']}"
    return found


def row(place: Place, run: Run) -> Row | None:
    """None for a run that is not done or failed."""
    own = place.folder(run)
    cost = place.cost(run)
    if cost is None or cost["code"]:
        return None
    stages = logs.stages(own / logs.TABLE)
    summary = own / FOLDER / SUMMARY
    if not summary.exists():
        return _without_summary(run, cost, stages)
    told = json.loads(summary.read_text())
    return Row(
        run=run,
        status=told["status"],
        unknowns=told["unknowns"],
        iterations=told["iterations"],
        objective=_number(told["objective"]),
        solves=told["forward_solves"] + told["adjoint_solves"],
        krylov=_number(told["krylov_iterations_mean"], 0.0),
        seconds=told["seconds"]["total"],
        setup=told["seconds"]["setup"],
        solve=told["seconds"]["solve"],
        memory=1e6 * told["peak_memory_mb_of_a_rank"],
        joules=cost["joules"],
        stages=stages,
    )


def _without_summary(run: Run, cost: Record, stages: dict[str, Stage]) -> Row:
    """Of drivers that write none: one solve, and seconds by PETSc's log or the clock."""
    logged = sum(s.seconds for s in stages.values())
    return Row(
        run=run,
        status="ended",
        unknowns=math.prod(run.grid),
        iterations=0,
        objective=math.nan,
        solves=1,
        krylov=0.0,
        seconds=cost["wall"],
        setup=math.nan,
        solve=logged or cost["wall"],
        memory=math.nan,
        joules=cost["joules"],
        stages=stages,
    )


def _number(value: float | None, missing: float = math.nan) -> float:
    return missing if value is None else float(value)


def table(found: Sequence[Row]) -> str:
    """study.csv."""
    records = [r.record() for r in found]
    keys = list(dict.fromkeys(k for r in records for k in r))
    text = io.StringIO()
    writer = csv.DictWriter(text, keys, lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return text.getvalue()

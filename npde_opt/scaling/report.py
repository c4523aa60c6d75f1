"""What a study leaves: study.csv, results.json, figures, extrap.txt and index.html."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from npde_opt.aliases import Record
from npde_opt.io.files import whole_file
from npde_opt.io.results import versions
from npde_opt.scaling import collect, drawing, logs
from npde_opt.scaling.collect import Row
from npde_opt.scaling.counted import HEAD, counted, lines
from npde_opt.scaling.launch import Place
from npde_opt.scaling.model import (
    LEAST_RUNS,
    PARTS,
    HeldOut,
    Rates,
    count,
    fit,
    held_out,
)
from npde_opt.scaling.page import page
from npde_opt.scaling.predict import Curve, Network, curves

MODELLED = (
    "messages are modelled for multigrid on planes, for levels of which all lie on all ranks "
    "(geometric) and for halos: what other recipes send (direct, those of PETSc and hypre) is "
    "taken to grow as the nearest of these"
)
GIVEN = ("bandwidth", "reduction", "latency", "link", "message_rate")


@dataclass(frozen=True)
class Asked:
    """What is to be predicted.

    Attributes:
        ranks: None: nothing. load: unknowns a rank of the weak curve.
    """

    ranks: int | None = None
    network: Network = Network()
    load: float | None = None
    groups: int = 1


def rates_of(place: Place) -> dict[int, Rates]:
    """Of the machine, by the number of ranks."""
    found = {}
    for ranks in place.plan.ranks:
        if place.rates(ranks).exists():
            told = json.loads(place.rates(ranks).read_text())
            found[ranks] = Rates(*(told.get(name, 0.0) for name in GIVEN))
    return found


def report(
    place: Place, asked: Asked, figures: bool, say: Callable[[str], None]
) -> bool:
    """Collects the runs that are there, and writes everything; whether there are any."""
    rows = collect.rows(place)
    failed = collect.failures(place)
    if not rows:
        for name, said in failed.items():
            say(f"{name}: {said}")
        say("no run has come to a good end yet")
        return False
    rates = rates_of(place)
    fitted = count(rows) >= LEAST_RUNS
    checked = held_out(rows, rates, Network().rates) if fitted else None
    predicted: list[Curve] = []
    if fitted and asked.ranks is not None:
        predicted = curves(
            rows, rates, asked.ranks, asked.network, asked.load, asked.groups
        )
    notes = _notes(rows, failed, checked, predicted, fitted)
    for line in notes:
        say(line)
    counts = counted(rows)
    for line in lines(counts) if counts else ():
        say(line)
    _write(place.out / "study.csv", collect.table(rows))
    _write(place.out / "extrap.txt", extrap(rows))
    record = _record(rows, failed, rates, checked, predicted, fitted)
    _write(place.out / "results.json", json.dumps(record, indent=2) + "\n")
    if figures:
        drawn = _draw(place, rows, predicted)
        command = " ".join(place.plan.command)
        tables = {"Runs": _runs(rows), "Prediction": _predicted(predicted)}
        tables["A solve"] = [HEAD, *(c.words() for c in counts)]
        shown = {k: v for k, v in tables.items() if len(v) > 1}
        _write(place.out / "index.html", page(command, notes, shown, drawn))
        say(f"all in {place.out / 'index.html'}")
    return True


def _draw(
    place: Place, rows: Sequence[Row], predicted: Sequence[Curve]
) -> dict[str, Path]:
    found = {
        "Speed": drawing.draw_speed(rows, place.out / "speed.png"),
        "Work": drawing.draw_work(rows, place.out / "work.png"),
    }
    if any(r.stages for r in rows):
        found["Stages"] = drawing.draw_stages(rows, place.out / "stages.png")
    if predicted:
        found["Prediction"] = drawing.draw_curves(
            predicted, place.out / "prediction.png"
        )
    last = max(rows, key=lambda r: (r.unknowns, r.run.ranks))
    stacks = logs.flames(place.folder(last.run) / logs.FLAMES)
    if stacks:
        target = place.out / "flames.png"
        found["Where the time goes"] = drawing.draw_flames(
            stacks, last.run.name, target
        )
    return found


def _notes(
    rows: Sequence[Row],
    failed: dict[str, str],
    checked: HeldOut | None,
    predicted: Sequence[Curve],
    fitted: bool,
) -> list[str]:
    names = {r.run.name for r in rows}
    notes = [f"{len(names)} runs"]
    notes += [f"failed: {name}: {said}" for name, said in failed.items()]
    for name, found in drawing.lines(rows):
        first, last = found[0], found[-1]
        if last is first:
            continue
        gained = first.solve / last.solve
        notes.append(
            f"{name}: {last.run.ranks} ranks take {last.solve:.3g} s, {first.run.ranks} take "
            f"{first.solve:.3g} s ({gained:.2f} times), efficiency of an iteration "
            f"{drawing.efficiency(last, first):.2f}, iterations {first.krylov:.1f} and "
            f"{last.krylov:.1f}"
        )
    if not fitted:
        notes.append(f"no model: it needs {LEAST_RUNS} runs with PETSc's log")
    if checked is not None:
        notes.append(
            f"model of the smaller runs: {checked.name} in {checked.seconds:.3g} s, measured "
            f"{checked.measured:.3g} s ({100 * checked.error:+.0f} %)"
        )
    elif fitted:
        notes.append(
            "the model's error is not known: no run is larger than enough others"
        )
    notes += [curve.said() for curve in predicted]
    return notes + [MODELLED] if predicted else notes


def _runs(rows: Sequence[Row]) -> list[list[str]]:
    names = [
        "run",
        "status",
        "unknowns",
        "iterations",
        "solves",
        "Krylov",
        "set-up [s]",
    ]
    names += [
        "solve [s]",
        "memory of a rank [MB]",
        "messages",
        "MB sent",
        "reductions",
        "J",
    ]
    table = [names]
    for r in rows:
        table.append(
            [
                r.run.name,
                r.status,
                f"{r.unknowns:,}",
                str(r.iterations),
                f"{r.solves:,}",
                f"{r.krylov:.1f}",
                f"{r.setup:.3g}",
                f"{r.solve:.3g}",
                f"{r.memory / 1e6:,.0f}",
                f"{r.messages():,.0f}",
                f"{r.bytes() / 1e6:,.1f}",
                f"{r.reductions():,.0f}",
                "" if r.joules is None else f"{r.joules:,.0f}",
            ]
        )
    return table


def _predicted(found: Sequence[Curve]) -> list[list[str]]:
    table = [
        [
            "curve",
            "ranks",
            "unknowns a rank",
            "seconds",
            "90 % band",
            "efficiency",
            *PARTS,
        ]
    ]
    for curve in found:
        for p in curve.points:
            shares = [f"{100 * p.parts[k] / p.seconds:.0f} %" for k in PARTS]
            band = f"{p.low:.3g} to {p.high:.3g}"
            head = [
                curve.kind,
                f"{p.size.ranks:,}",
                f"{p.size.load:,.0f}",
                f"{p.seconds:.3g}",
            ]
            table.append([*head, band, f"{p.efficiency:.2f}", *shares])
    return table


def _record(
    rows: Sequence[Row],
    failed: dict[str, str],
    rates: dict[int, Rates],
    checked: HeldOut | None,
    predicted: Sequence[Curve],
    fitted: bool,
) -> Record:
    """results.json."""
    record: Record = {
        "runs": [_finite(r.record()) for r in rows],
        "failed": failed,
        "machine": {str(p): vars(r) for p, r in rates.items()},
        "versions": versions(),
    }
    if fitted:
        stages = fit(rows, rates).stages
        record["model"] = {
            n: dict(zip(PARTS, c.tolist(), strict=True)) for n, c in stages.items()
        }
    if checked is not None:
        record["held_out"] = {**vars(checked), "error": checked.error}
    record["predicted"] = [
        {
            "kind": c.kind,
            "ranks": [p.size.ranks for p in c.points],
            "seconds": [p.seconds for p in c.points],
            "low": [p.low for p in c.points],
            "high": [p.high for p in c.points],
            "efficiency": [p.efficiency for p in c.points],
        }
        for c in predicted
    ]
    return record


def _finite(record: Record) -> Record:
    bad = [
        k for k, v in record.items() if isinstance(v, float) and not math.isfinite(v)
    ]
    return {**record, **dict.fromkeys(bad)}


def extrap(rows: Sequence[Row]) -> str:
    """The text format of Extra-P: a parameter p, its points, and a line of repeats for each."""
    strong = [r for r in rows if r.run.kind == rows[0].run.kind and r.stages]
    grid = strong[0].run.grid if strong and strong[0].run.kind == "strong" else None
    alike = [r for r in strong if grid is None or r.run.grid == grid]
    ranks = sorted({r.run.ranks for r in alike})
    lines = ["PARAMETER p", "POINTS " + " ".join(f"({p})" for p in ranks)]
    for name in dict.fromkeys(n for r in alike for n in r.stages):
        lines += [f"REGION {name.replace(' ', '_')}", "METRIC time"]
        for p in ranks:
            own = [
                r.stages[name].seconds
                for r in alike
                if r.run.ranks == p and name in r.stages
            ]
            lines.append("DATA " + " ".join(f"{s:.6g}" for s in own))
    return "\n".join(lines) + "\n"


def _write(path: Path, text: str) -> None:
    with whole_file(path) as file:
        file.write(text.encode())

"""What a case is made of, as lines that a tired person reads: what was read, on which sides what is
prescribed, what drives the experiments, and what was taken by default."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence

from npde_opt.aliases import Plain
from npde_opt.cases.case import Case
from npde_opt.cases.domain import Domain
from npde_opt.cases.experiment_tables import BoundaryValue, SideValue
from npde_opt.cases.histories import outside
from npde_opt.cases.sections import CaseFile
from npde_opt.cases.side_values import SideTable
from npde_opt.cases.sources import Log, Reading
from npde_opt.cases.term_tables import AnySource, Ground, Source
from npde_opt.cases.typed import as_dict

PRESCRIBED = ("dirichlet", "robin")
MOST = 12
"""Lines of one kind; the rest is counted."""


def readings(log: Log) -> list[str]:
    """A row for every field and datum: shape, smallest, mean and largest value, and where it comes
    from."""
    if not log.readings:
        return []
    rows = [("", "shape", "smallest", "mean", "largest", "from")]
    rows += [
        (
            key,
            " x ".join(map(str, r.shape)),
            f"{r.low:.6g}",
            f"{r.mean:.6g}",
            f"{r.high:.6g}",
            _origin(r),
        )
        for key, r in log.readings.items()
    ]
    widths = [max(len(row[i]) for row in rows) for i in range(5)]
    return ["  what is read"] + [
        "    "
        + "  ".join(
            [
                row[0].ljust(widths[0]),
                *(w.rjust(n) for w, n in zip(row[1:5], widths[1:], strict=True)),
                row[5],
            ]
        ).rstrip()
        for row in rows
    ]


def _origin(r: Reading) -> str:
    """File, its box, and how many values are missing."""
    parts = [
        r.origin or "a number",
        r.box and f"on {r.box}",
        r.missing and f"{r.missing} missing",
    ]
    return ", ".join(p for p in parts if p)


def boundaries(
    domain: Domain, given: Sequence[Mapping[str, Plain]], named: Iterable[str]
) -> list[str]:
    """A line a side: its kind and the values of the experiments.

    Args:
        given: values by side of every experiment, or by species and side.
        named: sides that the case names; the others are Neumann sides by default.
    """
    lines = ["  sides"]
    for side, boundary in domain.boundaries.items():
        kind = boundary.kind + (
            f" (coefficient {boundary.coefficient:g})"
            if boundary.kind == "robin"
            else ""
        )
        text = f"    {side}  {kind}"
        values = [_value(g, side) for g in given]
        if boundary.kind in PRESCRIBED:
            text += ": " + _grouped([v or "0 by default" for v in values])
        elif any(values):
            text += ": flux " + _grouped([v or "0" for v in values])
        elif side not in named:
            text += " by default: no flux"
        lines.append(text)
    return lines


def _value(given: Mapping[str, Plain], side: str) -> str:
    """The value on a side as text, '' where there is none; by species where that is how it is
    given."""
    if side in given:
        return _told(given[side])
    by_species = {
        s: v[side] for s, v in given.items() if isinstance(v, Mapping) and side in v
    }
    return ", ".join(f"{s} {_told(v)}" for s, v in by_species.items())


def _told(value: BoundaryValue | SideTable) -> str:
    """A boundary value, in words."""
    if isinstance(value, SideTable):
        shape = " x ".join(
            f"{p.size} {a}" for a, p in zip(value.axes, value.points, strict=True)
        )
        return (
            f"{value.values.min():g} ... {value.values.max():g} ({value.file}: {shape})"
        )
    if isinstance(value, SideValue):
        times = value.times if isinstance(value.times, list) else []
        return _told(value.value) + (
            f" times a history of {len(times)} times" if times else ""
        )
    if isinstance(value, list):
        return f"{len(value)} values {min(value):g} ... {max(value):g}"
    return _short(value) if isinstance(value, str) else f"{value:g}"


def _grouped(values: list[str]) -> str:
    """Each value once, with the experiments that have it where they differ."""
    where: dict[str, list[int]] = {}
    for e, value in enumerate(values):
        where.setdefault(value, []).append(e)
    if len(where) < 2:
        return "".join(where) or "0 by default"
    named = [f"{value} (experiment {_numbers(at)})" for value, at in where.items()]
    return "; ".join(named[:MOST]) + (
        f"; and {len(named) - MOST} more values" if len(named) > MOST else ""
    )


def _numbers(at: list[int]) -> str:
    whole = len(at) > 2 and at == list(range(at[0], at[-1] + 1))
    return (
        f"{at[0]} to {at[-1]}"
        if whole
        else ", ".join(map(str, at[:MOST])) + (" ..." if len(at) > MOST else "")
    )


def drives(case: Case) -> list[str]:
    """What drives the experiments: sources, wells, electrodes, grounds and initial states."""
    table = case.table
    lines = _electrodes(table)
    for term in table.equation.terms:
        if isinstance(term, Source):
            history = _history(table, term)
            lines.append(f"all experiments: source {_short(term.shape)}{history}")
        if isinstance(term, Ground):
            lines.append(
                f"ground at {_point(term.ground)}, radius {term.radius:g}, "
                f"conductance {term.conductance:g}"
            )
    for k in range(case.experiment_count):
        lines += [f"experiment {k}: {line}" for line in _experiment(case, k)]
    return _listed("sources, wells, electrodes and initial states", lines)


def _electrodes(table: CaseFile) -> list[str]:
    e = table.electrodes
    if e is None:
        return []
    count = len(e.at) if e.at is not None else (e.count or 0) * e.rings
    between = (
        f"{e.pattern} ones" if isinstance(e.pattern, str) else f"{len(e.pattern)} pairs"
    )
    return [
        f"{count} electrodes of radius {e.radius:g}, current {e.current:g} between {between}"
    ]


def _experiment(case: Case, k: int) -> list[str]:
    """Of one experiment."""
    table = case.table
    x = table.experiment[k] if k < len(table.experiment) else None
    wells = [well for _, well in case.placed_wells[k]]
    lines = [
        f"well at {_point(w.at)}, rate {w.rate:g}, radius {w.radius:g}" for w in wells
    ]
    for source in x.sources if x else []:
        lines.append(f"source {_short(source.shape)}{_history(table, source)}")
    if table.time is not None:
        initial = x.initial if x else {}
        for species in table.equation.species:
            start = _short(initial[species]) if species in initial else "0 by default"
            lines.append(f"{species} starts from {start}")
    return lines


def _history(table: CaseFile, source: AnySource) -> str:
    history, times = source.history, source.times
    if table.time is None:
        return ""
    if history is None:
        return ", constant in time"
    assert isinstance(times, list)
    kind = f", {source.interpolation} between" if len(times) > 1 else ", at"
    values = f"the unknown {history}"
    if isinstance(history, list):
        values = f"{len(history)} values {min(history):g} ... {max(history):g}"
    beyond = outside(table, source)
    ends = f"{len(times)} times {min(times):g} ... {max(times):g}"
    return f" times {values}{kind} {ends}" + (f", {beyond}" if beyond else "")


def _point(at: Sequence[float]) -> str:
    return "(" + ", ".join(f"{x:g}" for x in at) + ")"


def _short(spec: Plain) -> str:
    """A source or an initial state, in a line."""
    given = as_dict(spec)
    if isinstance(given, Mapping) and "file" in given:
        named = [
            f"{key} {given[key]}" for key in ("column", "key", "part") if key in given
        ]
        given = ", ".join([given["file"], *named])
    text = given if isinstance(given, str) else json.dumps(given, default=str)
    return text if len(text) <= 72 else text[:69] + "..."


def _listed(title: str, lines: list[str]) -> list[str]:
    """Lines under a title; of many the first ones and how many follow."""
    if not lines:
        return []
    more = [f"    and {len(lines) - MOST} more"] if len(lines) > MOST else []
    return [f"  {title}", *(f"    {line}" for line in lines[:MOST]), *more]


def defaults(lines: list[str]) -> list[str]:
    """What was not given."""
    return _listed("by default", lines)

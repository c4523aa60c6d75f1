"""Tables of a posterior in the closing text: numbers before and after the data, and what chains say
of them."""

from __future__ import annotations

from collections.abc import Mapping

from npde_opt.aliases import Plain

NUMBERS, SAMPLED, PLACES = "numbers", "sampled", "places"
"""Of the metrics."""
SECTION = "posterior_asked"
"""Of the metrics: which section of a case they are of."""
PROFILED = "profile_interval"
"""Of a number."""
SHOWN = 8
"""Rows of a matrix of correlations that a person still reads."""
Table = Mapping[str, Mapping[str, Plain]]


def lines(metrics: Mapping[str, Plain]) -> list[str]:
    """Of the tables that are there."""
    found = numbers(metrics[NUMBERS]) if NUMBERS in metrics else []
    found += profiled(metrics[NUMBERS]) if NUMBERS in metrics else []
    found += places(metrics[PLACES]) if PLACES in metrics else []
    return found + (sampled(metrics[SAMPLED]) if SAMPLED in metrics else [])


def numbers(table: Table) -> list[str]:
    """A line a number."""
    head = f"  {'number':<22} {'value':>11} {'deviation':>11}   95 % after; before the data"
    rows = []
    for name, row in table.items():
        if "interval" not in row:
            continue
        ends = [row["interval"], row.get("prior_interval")]
        told = "; ".join(f"{a:.4g} to {b:.4g}" for a, b in filter(None, ends))
        rows.append(
            f"  {name:<22} {row['value']:>11.5g} {row['deviation']:>11.4g}   {told}"
        )
    return [head, *rows]


def profiled(table: Table) -> list[str]:
    """A line a number that has an interval by profile likelihood."""
    rows = []
    for name, row in table.items():
        if PROFILED in row:
            low, high = ("-" if e is None else f"{e:.5g}" for e in row[PROFILED])
            note = row.get("profile_note", "")
            rows.append(f"  {name:<22} {low:>11} {high:>11}   {note}".rstrip())
    head = f"  {'95 % by profile':<22} {'low':>11} {'high':>11}"
    return [head, *rows] if rows else []


def places(found: Mapping[str, Plain]) -> list[str]:
    """A line a field and place, with its correlations where they are few."""
    rows, together = found["rows"], found["correlation"]
    few = len(rows) <= SHOWN
    head = f"  {'place':<22} {'value':>11} {'deviation':>11}   {'parameter':<22}"
    lines = [head + ("   correlations" if few else "")]
    for row, line in zip(rows, together, strict=True):
        at = ", ".join(f"{x:.4g}" for x in row["at"])
        name = f"{row['unknown']}({at})"
        told = f"  {name:<22} {row['value']:>11.5g} {row['value_deviation']:>11.4g}"
        told += f"   {_change(row):<22}"
        cells = ["     -" if c is None else f"{c:6.2f}" for c in line]
        lines.append(told + ("   " + " ".join(cells) if few else ""))
    return lines


def _change(row: Mapping[str, Plain]) -> str:
    return f"{row['prior_deviation']:.4g} -> {row['deviation']:.4g}"


def sampled(table: Table) -> list[str]:
    """A line a figure of the chains."""
    head = f"  {'samples of':<22} {'mean':>11} {'deviation':>11} {'R-hat':>7} {'effective':>10}"
    rows = [
        f"  {name:<22} {d['mean']:>11.5g} {d['deviation']:>11.4g} {d['rhat']:>7.3f} "
        f"{d['effective_samples']:>10.0f}"
        for name, d in table.items()
    ]
    return [head, *rows]

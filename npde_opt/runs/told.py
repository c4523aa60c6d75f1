"""Tables of a posterior in the closing text: numbers before and after the data, and what chains say
of them."""

from __future__ import annotations

from collections.abc import Mapping

from npde_opt.aliases import Plain

NUMBERS, SAMPLED, PROFILED = "numbers", "sampled", "profile_interval"
"""Of the metrics, the last of a number's."""
Table = Mapping[str, Mapping[str, Plain]]


def lines(metrics: Mapping[str, Plain]) -> list[str]:
    """Of the tables that are there."""
    found = numbers(metrics[NUMBERS]) if NUMBERS in metrics else []
    found += profiled(metrics[NUMBERS]) if NUMBERS in metrics else []
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


def sampled(table: Table) -> list[str]:
    """A line a figure of the chains."""
    head = f"  {'samples of':<22} {'mean':>11} {'deviation':>11} {'R-hat':>7} {'effective':>10}"
    rows = [
        f"  {name:<22} {d['mean']:>11.5g} {d['deviation']:>11.4g} {d['rhat']:>7.3f} "
        f"{d['effective_samples']:>10.0f}"
        for name, d in table.items()
    ]
    return [head, *rows]

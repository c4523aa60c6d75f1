"""What chains say of the case's numbers, as a table of the closing text."""

from __future__ import annotations

from collections.abc import Mapping

from npde_opt.aliases import Plain

TABLE = "sampled"
HEAD = f"  {'samples of':<22} {'mean':>11} {'deviation':>11} {'R-hat':>7} {'effective':>10}"


def lines(table: Mapping[str, Mapping[str, Plain]]) -> list[str]:
    """A line a figure."""
    rows = [
        f"  {name:<22} {d['mean']:>11.5g} {d['deviation']:>11.4g} {d['rhat']:>7.3f} "
        f"{d['effective_samples']:>10.0f}"
        for name, d in table.items()
    ]
    return [HEAD, *rows]

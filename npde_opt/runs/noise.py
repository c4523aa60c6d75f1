"""The fit of every experiment beside what is known of its noise, and beside what was held out.

All are means of ((predicted - observed) / sigma)^2. Where data are means of replicates their spread
tells what noise alone leaves there; a fit that is far better follows the noise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from npde_opt.aliases import Plain, Record
from npde_opt.runs.predicted import Predicted

EXACT = 1e-8
"""Standard deviations within which a datum is met exactly, as by the state that an evolution starts
from: such a datum has no noise to the fit."""
LEAST = 0.1
FOLLOWS = "  the fit follows the noise"
TABLE = "by_experiment"
HEADS = {
    "experiment": "experiment",
    "data": "data",
    "chi_squared": "chi^2",
    "noise": "its noise",
    "held_out": "held out",
    "held_out_noise": "its noise",
}
"""Of the table."""


def metrics(rows: Predicted) -> Record:
    """`by_experiment`, `noise_chi_squared` and `held_out_*`; only what there is. Collective."""
    fit, out = rows.fitted, ~rows.fitted
    told = rows.any(np.isfinite(rows.noise[fit]))
    held = rows.any(out)
    if not told and not held:
        return {}
    found: Record = {}
    if told:
        found["noise_chi_squared"] = _mean(rows.sums(_noise(rows), fit))
    if held:
        squares = rows.sums(rows.residual**2, out)
        apart = _mean(rows.sums((rows.predicted - rows.observed) ** 2, out))
        found |= {
            "held_out_chi_squared": _mean(squares),
            "held_out_rmse": math.nan if apart is None else math.sqrt(apart),
            "held_out_data": int(squares[:, 1].sum()),
            "held_out": ", ".join(_names(rows)),
        }
        if rows.everywhere(np.isfinite(rows.noise[out])):
            found["held_out_noise"] = _mean(rows.sums(rows.noise, out))
    return found | {TABLE: _table(rows)}


def _names(rows: Predicted) -> list[str]:
    """Of what is held out."""
    return [*rows.names[1:], *(f"experiment {e}" for e in rows.case.held_out)]


def _noise(rows: Predicted) -> np.ndarray:
    """Expected squares of scaled residuals: 1 where sigma is all that is known."""
    expected = np.where(np.isfinite(rows.noise), rows.noise, 1.0)
    return np.where(np.abs(rows.residual) < EXACT, 0.0, expected)


def _table(rows: Predicted) -> list[Record]:
    """A line an experiment."""
    fit, out = rows.fitted, ~rows.fitted
    there = np.isfinite(rows.residual)
    squares = rows.residual**2
    fitted, held = rows.sums(squares, fit), rows.sums(squares, out)
    noise, told = rows.sums(_noise(rows), fit & there), rows.sums(rows.noise, fit)
    of_held = rows.sums(rows.noise, out)
    return [
        {
            "experiment": e,
            "data": int(fitted[e, 1]),
            "chi_squared": _mean(fitted[e]),
            "noise": _mean(noise[e]) if told[e, 1] else None,
            "held_out": _mean(held[e]),
            "held_out_noise": _mean(of_held[e]),
        }
        for e in range(len(fitted))
    ]


def _mean(sums: np.ndarray) -> float | None:
    """Of sums and numbers; None of nothing."""
    total, count = sums.reshape(-1, 2).sum(axis=0)
    return float(total / count) if count else None


def lines(table: Sequence[Record]) -> list[str]:
    """The table on the screen, without columns that are empty."""
    keys = [k for k in HEADS if any(row[k] is not None for row in table)]
    cells = [
        [HEADS[k] for k in keys],
        *([_cell(row[k]) for k in keys] for row in table),
    ]
    widths = [max(len(row[i]) for row in cells) for i in range(len(keys))]
    texts = [
        "  ".join(c.rjust(w) for c, w in zip(row, widths, strict=True)) for row in cells
    ]
    said = ["", *(FOLLOWS if _follows(row) else "" for row in table)]
    return [f"    {text}{more}" for text, more in zip(texts, said, strict=True)]


def _follows(row: Record) -> bool:
    """Whether a fit is far better than its noise allows."""
    chi, noise = row["chi_squared"], row["noise"]
    return chi is not None and noise is not None and chi < (1 - LEAST) * noise


def _cell(value: Plain) -> str:
    if value is None:
        return "-"
    return f"{value:.5g}" if isinstance(value, float) else str(value)

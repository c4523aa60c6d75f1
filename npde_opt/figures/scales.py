"""Scales of colours: they follow percentiles, so that a few values far off do not hide the
rest; arrows at the ends of the bar say that there are such values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axis import Axis
    from matplotlib.colors import Normalize

PERCENTILES = ((2.0, 98.0), (0.5, 99.5), (0.0, 100.0))
"""The first pair between which the values differ is taken."""
FLAT = 1e-3
"""Values that differ by less than this times their size count as the same."""
ENOUGH = 0.8
"""Where a pair covers this much of the whole range the whole range is shown."""


@dataclass(frozen=True)
class Scale:
    """Ends of a scale of colours.

    Args:
        log: a logarithmic one.
        extend: which ends have values beyond: 'neither', 'min', 'max', 'both'.
    """

    low: float
    high: float
    log: bool
    extend: str

    def norm(self) -> Normalize:
        """Matplotlib's."""
        from matplotlib.colors import LogNorm, Normalize

        return (
            LogNorm(self.low, self.high) if self.log else Normalize(self.low, self.high)
        )


def scale_of(parts: Sequence[np.ndarray], log: bool = False) -> Scale:
    """The common scale of arrays; of a logarithmic one positive values count only."""
    kept = [p[np.isfinite(p) & ((p > 0) | (not log))] for p in map(np.ravel, parts)]
    kept = [np.log(p) if log else p for p in kept if p.size]
    if not kept:
        return Scale(0.1 if log else 0.0, 1.0, log, "neither")
    whole = min(p.min() for p in kept), max(p.max() for p in kept)
    low, high = _ends(kept, whole, log)
    extend = {
        (False, False): "neither",
        (True, False): "min",
        (False, True): "max",
    }.get((bool(whole[0] < low), bool(whole[1] > high)), "both")
    if low == high:
        low, high = _apart(low, log)
    if log:
        low, high = np.exp(low), np.exp(high)
    return Scale(float(low), float(high), log, extend)


def _ends(
    kept: Sequence[np.ndarray], whole: tuple[float, float], log: bool
) -> tuple[float, float]:
    """The widest of the parts' percentiles, or the whole range."""
    span = whole[1] - whole[0]
    for pair in PERCENTILES:
        ends = np.array([np.percentile(p, pair) for p in kept])
        low, high = float(ends[:, 0].min()), float(ends[:, 1].max())
        size = 1.0 if log else max(abs(low), abs(high))
        if high - low > FLAT * size:
            return whole if high - low >= ENOUGH * span else (low, high)
    return whole


def _apart(value: float, log: bool) -> tuple[float, float]:
    """Ends around a constant."""
    if log:
        return value - 0.1, value + 0.1
    return value - 0.01 * abs(value) - 1e-12, value + 0.01 * abs(value) + 1e-12


def around(values: np.ndarray, middle: float, log: bool) -> Scale:
    """A symmetric scale around a value, of a logarithmic one by factors."""
    given = np.ravel(values)
    given = given[np.isfinite(given) & ((given > 0) | (not log))]
    off = np.abs(np.log(given / middle) if log else given - middle)
    largest = float(off.max(initial=0.0))
    reach = scale_of([off, np.zeros(1)]).high if largest > 0 else 1.0
    if log:
        reach = float(np.clip(reach, 1e-3, 700.0))
        ends = middle * np.exp(-reach), middle * np.exp(reach)
    else:
        ends = middle - reach, middle + reach
    beyond = largest > reach * (1 + 1e-9)
    return Scale(float(ends[0]), float(ends[1]), log, "both" if beyond else "neither")


STEPS = (1.0, 1.1, 1.2, 1.3, 1.5, 1.7, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0)
COARSER = ((1.0, 1.2, 1.5, 2.0, 3.0, 5.0, 7.0), (1.0, 2.0, 5.0), (1.0,))
"""Numbers beside a logarithmic scale, of each decade; the coarser the more decades there are."""
MOST_TICKS = 8


def log_ticks(low: float, high: float) -> list[float]:
    """Numbers to write beside a logarithmic scale that is not too wide; else none."""
    decades = range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1)
    for steps in (STEPS, *COARSER):
        found = [s * 10.0**d for d in decades for s in steps]
        found = [x for x in found if low <= x <= high]
        if len(found) <= MOST_TICKS:
            return found
    return []


def short_log_ticks(axis: Axis, low: float, high: float) -> None:
    """Plain numbers in place of powers of ten where they are short."""
    from matplotlib.ticker import NullFormatter

    ticks = log_ticks(low, high)
    if not ticks or low < 1e-3 or high >= 1e5:
        return
    axis.set_ticks(ticks, labels=[f"{x:.4g}" for x in ticks])
    axis.set_minor_formatter(NullFormatter())

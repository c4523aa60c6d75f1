"""A history over time: what was recovered, what is true, and how sure it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from npde_opt.aliases import FilePath
from npde_opt.errors import InputError
from npde_opt.figures.style import FAINT, FIRST, SECOND, labelled, save, style, widen


def plot_history(
    path: FilePath,
    times: np.ndarray,
    values: np.ndarray,
    true: np.ndarray | None = None,
    interval: np.ndarray | None = None,
    *,
    name: str = "h",
    unit: str = "",
    axis: str = "t",
) -> Path:
    """Values at times, joined by lines; or between times, one time more than values, as steps.

    Args:
        times: (n,) or (n + 1,), increasing.
        values, true: (n,).
        interval: (n, 2), lower and upper end; NaN where there is none.
    """
    count = len(values)
    if len(times) not in (count, count + 1):
        said = f"{count} values at {len(times)} times"
        raise InputError("figure of a history", said, "as many times, or one more")
    steps = len(times) == count + 1
    marker = "" if steps else "o"
    with style() as plt:
        figure, ax = plt.subplots(figsize=(6.4, 3.8), layout="constrained")
        if interval is not None:
            low, high = (_curve(times, end) for end in np.asarray(interval, float).T)
            told = np.isfinite(low[1]).any()
            label = "95 % interval" if told else "95 % interval: not determined"
            ax.fill_between(*low, high[1], color=FAINT, alpha=0.3, lw=0, label=label)
        if true is not None:
            ax.plot(*_curve(times, true), "--", color=SECOND, label="true")
        ax.plot(
            *_curve(times, values), color=FIRST, marker=marker, ms=4, label="recovered"
        )
        ax.set(xlabel=axis, ylabel=labelled(name, unit))
        widen(ax)
        ax.legend(loc="best")
        return save(plt, figure, path)


def _curve(times: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The line through values; each level twice where they hold between times."""
    if len(times) == len(values):
        return times, values
    return np.repeat(times, 2)[1:-1], np.repeat(values, 2)

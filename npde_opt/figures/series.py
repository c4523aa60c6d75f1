"""A series, what was predicted of it, and where the test begins."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from npde_opt.aliases import FilePath
from npde_opt.figures.style import FAINT, FIRST, SECOND, save, style

BEFORE = 0.6
"""Length that is shown before the test, times that of the test."""


def plot_series(
    path: FilePath,
    times: np.ndarray,
    wanted: np.ndarray,
    found: np.ndarray,
    begin: float,
) -> Path:
    """A panel for each channel.

    Args:
        times: (n,). wanted, found: (n, channels).
        begin: the first time of the test.
    """
    shown = times >= begin - BEFORE * (times[-1] - begin)
    channels = wanted.shape[1]
    with style() as plt:
        size = (7.2, 1.0 + 2.6 * channels)
        figure, every = plt.subplots(
            channels, figsize=size, layout="constrained", squeeze=False, sharex=True
        )
        for ax, own, by in zip(every[:, 0], wanted.T, found.T, strict=True):
            ax.axvline(begin - 0.5, color=FAINT, lw=1.2, ls="--", label="test begins")
            ax.plot(
                times[shown],
                own[shown],
                "o-",
                color=FIRST,
                ms=3,
                lw=1.0,
                label="observed",
            )
            ax.plot(
                times[shown], by[shown], color=SECOND, lw=1.4, label="one step ahead"
            )
        every[-1, 0].set(xlabel="time")
        every[0, 0].legend(ncols=3, loc="lower left", bbox_to_anchor=(0.0, 1.0))
        return save(plt, figure, path)

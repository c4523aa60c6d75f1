"""A function that was found, with its band: drawn where there are data, shaded where there are
none."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from npde_opt.aliases import FilePath
from npde_opt.figures.style import FIRST, SECOND, labelled, save, style, widen

SHADE = "#e4e4e4"


def plot_function(
    path: FilePath,
    v: np.ndarray,
    value: np.ndarray,
    seen: np.ndarray,
    band: tuple[np.ndarray, np.ndarray] | None = None,
    true: np.ndarray | None = None,
    *,
    name: str = "f",
    unit: str = "",
    variable: str = "v",
) -> Path:
    """A function of one variable.

    Args:
        v: places (n,), equally far from each other.
        value, true: there.
        seen: bool (n,); elsewhere nothing is drawn.
        band: lower and upper end (n,), NaN where the data do not tell them.
    """
    half = (v[1] - v[0]) / 2
    with style() as plt:
        figure, ax = plt.subplots(figsize=(6.4, 3.8), layout="constrained")
        for first, last in _runs(~seen):
            ax.axvspan(v[first] - half, v[last] + half, color=SHADE, lw=0)
        if not seen.all():
            ax.fill_between([], [], [], color=SHADE, label="no data")
        shown = np.where(seen, value, np.nan)
        if band is not None:
            low, high = (np.where(seen, end, np.nan) for end in band)
            told = np.isfinite(low).any()
            label = "95 % band" if told else "95 % band: not determined"
            ax.fill_between(v, low, high, color=FIRST, alpha=0.25, lw=0, label=label)
        if true is not None:
            ax.plot(v, np.where(seen, true, np.nan), "--", color=SECOND, label="true")
        ax.plot(v, shown, color=FIRST, label="found")
        ax.set(
            xlabel=variable,
            ylabel=labelled(name, unit),
            xlim=(v[0] - half, v[-1] + half),
        )
        widen(ax)
        ax.legend(loc="best")
        return save(plt, figure, path)


def plot_surface(
    path: FilePath,
    lines: Sequence[np.ndarray],
    value: np.ndarray,
    seen: np.ndarray,
    *,
    name: str = "f",
    unit: str = "",
    variables: Sequence[str] = ("v", "w"),
) -> Path:
    """A function of two variables, values [i, j] over the places `lines`, where it is seen."""
    with style() as plt:
        figure, ax = plt.subplots(figsize=(5.6, 4.2), layout="constrained")
        ax.set_facecolor(SHADE)
        shown = np.ma.masked_where(~seen, value)
        image = ax.pcolormesh(*lines, shown.T, shading="nearest", cmap="viridis")
        figure.colorbar(image, ax=ax, label=labelled(name, unit))
        ax.set(xlabel=variables[0], ylabel=variables[1], title="shaded: no data")
        return save(plt, figure, path)


def _runs(marked: np.ndarray) -> list[tuple[int, int]]:
    """First and last place of each row of places that are marked."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], marked.astype(int), [0]])))
    return [(int(a), int(b) - 1) for a, b in edges.reshape(-1, 2)]

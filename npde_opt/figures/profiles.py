"""Profiles of numbers: how much chi^2 is higher, whatever the others are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from npde_opt.aliases import FilePath
from npde_opt.errors import InputError
from npde_opt.figures.style import FAINT, FIRST, SECOND, save, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

RISE = 3.841458820694124
"""Of chi^2 at the ends of 95 %."""
TOP = 8.0
"""Of the figure."""


@dataclass(frozen=True)
class Curve:
    """Of a number.

    Attributes:
        values: (n,), of one order. r: signed roots of the rise of chi^2. normal: those of the
            normal approximation.
        ends: of the interval, those that there are. notes: of the others.
    """

    name: str
    values: np.ndarray
    r: np.ndarray
    normal: np.ndarray
    ends: Sequence[float]
    notes: Sequence[str]


def plot_profiles(path: FilePath, curves: Sequence[Curve], most: int = 12) -> Path:
    """A panel a number, of the first ones, beside the normal approximation.

    Raises:
        InputError: for no curves.
    """
    shown = list(curves)[:most]
    if not shown:
        raise InputError("figure of profiles", "no number", "at least one")
    columns = min(3, len(shown))
    rows = -(-len(shown) // columns)
    with style() as plt:
        figure, axes = plt.subplots(
            rows,
            columns,
            figsize=(0.6 + 3.6 * columns, 0.7 + 2.9 * rows),
            squeeze=False,
            layout="constrained",
        )
        for ax, curve in zip(axes.ravel(), shown, strict=False):
            _panel(ax, curve)
        for ax in axes.ravel()[len(shown) :]:
            ax.set_axis_off()
        for row in axes:
            row[0].set_ylabel(r"rise of $\chi^2$")
        handles, labels = axes[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=3)
        return save(plt, figure, path)


def _panel(ax: Axes, curve: Curve) -> None:
    order = np.argsort(curve.values)
    values, roots = curve.values[order], curve.r[order]
    # Between points r is nearly straight; chi^2 is not.
    fine = np.interp(np.linspace(0, 1, 201), np.linspace(0, 1, values.size), values)
    inside = np.interp(fine, values, roots) ** 2 <= TOP
    x, seen = fine[inside], roots**2 <= TOP
    ax.plot(x, np.interp(x, values, roots) ** 2, color=FIRST, label="profile")
    ax.plot(values[seen], roots[seen] ** 2, "o", color=FIRST, ms=3.5)
    normal = np.interp(x, values, curve.normal[order]) ** 2
    ax.plot(x, normal, "--", color=SECOND, lw=1.2, label="normal approximation")
    ax.axhline(RISE, color=FAINT, lw=1.2, ls=":", label="95 %")
    for end in curve.ends:
        ax.axvline(end, color=FAINT, lw=0.8)
    low, high = float(x.min()), float(x.max())
    if low > 0 and high > 30 * low:
        ax.set_xscale("log")
    else:
        ax.locator_params(axis="x", nbins=5)
    ax.set(xlabel=curve.name, ylim=(0, TOP))
    if curve.notes:
        ax.set_title("; ".join(dict.fromkeys(curve.notes)), fontsize="small")

"""Least squares: singular values and where they were cut; errors against features and depth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from npde_opt.aliases import FilePath
from npde_opt.errors import InputError
from npde_opt.figures.style import FAINT, FIRST, SECOND, THIRD, save, style


def plot_spectrum(
    path: FilePath, values: np.ndarray, cut: float, ridge: float | None = None
) -> Path:
    """Singular values by their number, those up to the cut apart.

    Args:
        values: largest first.
        cut: values up to it were taken for 0.
        ridge: its weight, drawn at the singular value that it halves.

    Raises:
        InputError: for no values.
    """
    if not len(values):
        raise InputError("figure of singular values", "none", "at least one")
    numbers, kept = np.arange(1, len(values) + 1), values > cut
    with style() as plt:
        figure, ax = plt.subplots(figsize=(6.4, 4.0), layout="constrained")
        ax.plot(
            numbers[kept],
            values[kept],
            ".",
            color=FIRST,
            ms=4,
            label=f"rank {kept.sum()}",
        )
        shown = ~kept & (values > 0)
        if shown.any():
            ax.plot(
                numbers[shown],
                values[shown],
                "x",
                color=FAINT,
                ms=4,
                label="taken for 0",
            )
        if cut > 0:
            ax.axhline(cut, color=SECOND, lw=1.2, ls="--", label=f"cut {cut:.1e}")
        if ridge:
            ax.axhline(
                np.sqrt(ridge), color=THIRD, lw=1.2, ls="--", label=f"ridge {ridge:.1e}"
            )
        if kept.any():
            ax.set_yscale("log")
        ax.set(xlabel="number", ylabel="singular value")
        ax.legend()
        return save(plt, figure, path)


def plot_errors(path: FilePath, features: np.ndarray, errors: np.ndarray) -> Path:
    """Shares of samples that are misread, by the number of features.

    Args:
        features: (numbers,). errors: (numbers, repeats).
    """
    with style() as plt:
        figure, ax = plt.subplots(figsize=(6.4, 4.0), layout="constrained")
        ax.plot(features, 100 * errors, "o", color=FAINT, ms=3.5)
        ax.plot(
            features, 100 * errors.mean(axis=1), "o-", color=FIRST, ms=5, label="mean"
        )
        if len(features) > 1:
            ax.set(xscale="log", yscale="log" if errors.min() > 0 else "linear")
            ax.set_xticks(features, [str(n) for n in features], minor=False)
            # Powers of ten say nothing beside plain numbers.
            ax.xaxis.set_minor_formatter("")
            ax.yaxis.set_major_formatter("{x:g}")
            ax.yaxis.set_minor_formatter("{x:g}")
        ax.set(xlabel="features", ylabel="misread samples of the test [%]")
        ax.legend()
        return save(plt, figure, path)


def plot_depths(
    path: FilePath, errors: Mapping[int, Sequence[Sequence[float]]]
) -> Path:
    """Shares of held-back samples that are misread, by the number of layers; rings are the depths
    that were taken.

    Args:
        errors: by features of a layer, of each repeat, from one layer on.
    """
    with style() as plt:
        figure, ax = plt.subplots(figsize=(6.4, 4.0), layout="constrained")
        for number, (features, repeats) in enumerate(errors.items()):
            for repeat, own in enumerate(repeats):
                percent = 100 * np.array(own)
                depths, taken = np.arange(1, len(own) + 1), int(np.argmin(percent))
                label = f"{features} features a layer" if not repeat else None
                color = (FIRST, SECOND, THIRD)[number % 3]
                ax.plot(depths, percent, ".-", color=color, lw=1, label=label)
                ax.plot(
                    depths[taken],
                    percent[taken],
                    "o",
                    mfc="none",
                    mec=color,
                    ms=9,
                )
        ax.xaxis.get_major_locator().set_params(integer=True)
        ax.set(xlabel="layers (ring: taken)", ylabel="misread held-back samples [%]")
        ax.set_ylim(bottom=0)
        ax.legend()
        return save(plt, figure, path)

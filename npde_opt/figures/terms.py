"""The terms of an equation that was found, with their errors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from npde_opt.aliases import FilePath
from npde_opt.figures.style import FIRST, INK, SECOND, save, style


def plot_terms(
    path: FilePath,
    names: Sequence[str],
    values: np.ndarray,
    errors: np.ndarray,
    path_terms: Sequence[int],
    information: Sequence[float],
    residuals: Sequence[float],
) -> Path:
    """Coefficients, each in units of its size; and what sets of fewer and fewer terms are worth.

    Args:
        names, values, errors: of the terms that were taken.
        path_terms: numbers of terms of the sets that were looked at.
        information, residuals: of these sets.
    """
    with style() as plt:
        figure, (left, right) = plt.subplots(
            1, 2, figsize=(9.8, 3.8), layout="constrained"
        )
        at, size = np.arange(len(names)), abs(values)
        left.errorbar(
            values / size, at, xerr=2 * errors / size, fmt="o", color=FIRST, capsize=4
        )
        told = zip(names, values, errors, strict=True)
        left.set_yticks(at, [f"{n}: {v:.5g} ± {e:.2g}" for n, v, e in told], color=INK)
        left.axvline(0, color=INK, lw=0.8)
        left.set(
            xlabel="coefficient / its size (bars: two deviations)",
            ylim=(-0.6, len(at) - 0.4),
        )
        right.plot(path_terms, residuals, "o-", color=FIRST)
        right.axvline(len(names), color=INK, lw=0.8, ls=":")
        right.set(
            xlabel="terms (dotted: taken)",
            ylabel="residual / right hand side",
            yscale="log",
        )
        right.yaxis.set_minor_formatter(plt.NullFormatter())
        right.xaxis.get_major_locator().set_params(integer=True)
        other = right.twinx()
        other.plot(path_terms, information, "s--", color=SECOND, ms=4)
        other.set_ylabel("information criterion", color=SECOND)
        other.spines["right"].set_visible(True)
        return save(plt, figure, path)


def plot_band(
    path: FilePath, x: np.ndarray, fields: Mapping[str, tuple[np.ndarray, np.ndarray]]
) -> Path:
    """Coefficients along x (values and deviations of each), with bands of two deviations."""
    with style() as plt:
        figure, axes = plt.subplots(
            len(fields),
            figsize=(6.4, 2.8 * len(fields)),
            squeeze=False,
            layout="constrained",
        )
        for axis, (name, (values, errors)) in zip(
            axes[:, 0], fields.items(), strict=True
        ):
            low, high = values - 2 * errors, values + 2 * errors
            axis.fill_between(x, low, high, color=FIRST, alpha=0.25, lw=0)
            axis.plot(x, values, color=FIRST)
            axis.set(xlabel="x", ylabel=f"coefficient of {name}")
        return save(plt, figure, path)

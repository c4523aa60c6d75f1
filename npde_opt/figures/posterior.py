"""What data tell against a prior."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from npde_opt.aliases import FilePath
from npde_opt.errors import InputError
from npde_opt.figures.style import FAINT, FIRST, SECOND, save, style


def plot_information(path: FilePath, values: np.ndarray, cut: float) -> Path:
    """Eigenvalues of the data's Hessian against the prior's precision, by their number, with a line
    at 1, where data and prior tell as much.

    Args:
        values: largest first. cut: smaller ones were not sought.

    Raises:
        InputError: for no values.
    """
    if not len(values):
        raise InputError("figure of eigenvalues", "none", f"one above the cut {cut:g}")
    above = int((values > 1).sum())
    with style() as plt:
        figure, ax = plt.subplots(figsize=(6.4, 4.0), layout="constrained")
        numbers = np.arange(1, len(values) + 1)
        ax.semilogy(numbers, values, ".", color=FIRST, ms=5)
        ax.axhline(1, color=SECOND, lw=1.2, ls="--", label=f"1: {above} lie above")
        ax.axhline(cut, color=FAINT, lw=1.2, ls=":", label=f"cut {cut:g}")
        ax.set(xlabel="number", ylabel="what data tell / what the prior tells")
        ax.legend()
        return save(plt, figure, path)


def plot_chains(
    path: FilePath, names: Sequence[str], traces: np.ndarray, most: int = 6
) -> Path:
    """Of the first figures the chains' samples one after the other, and how these are spread, a
    line a chain.

    Args:
        traces: (chains, samples, names).

    Raises:
        InputError: for no figures.
    """
    shown = list(names)[:most]
    if not shown:
        raise InputError("figure of chains", "no figures", "at least one")
    with style() as plt:
        figure, axes = plt.subplots(
            len(shown),
            2,
            figsize=(9.6, 0.8 + 1.7 * len(shown)),
            squeeze=False,
            width_ratios=(2, 1),
            layout="constrained",
        )
        for k, (name, (left, right)) in enumerate(zip(shown, axes, strict=True)):
            values = traces[:, :, k]
            low, high = np.quantile(values, [0.001, 0.999])
            bins = np.linspace(low, high if high > low else low + 1, 31).tolist()
            for chain in values:
                left.plot(np.arange(1, chain.size + 1), chain, lw=0.6, alpha=0.8)
                right.hist(chain, bins=bins, density=True, histtype="step", lw=1.1)
            left.set(ylabel=name)
            left.margins(x=0.01)
            right.set(xlabel=name, yticks=[])
        axes[0, 0].set_title(f"{len(traces)} chains")
        axes[-1, 0].set_xlabel("sample")
        return save(plt, figure, path)

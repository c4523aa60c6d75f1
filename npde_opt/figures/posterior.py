"""What data tell against a prior."""

from __future__ import annotations

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

"""What data tell against a prior."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from npde_opt.aliases import FilePath
from npde_opt.errors import InputError
from npde_opt.figures.style import FAINT, FIRST, SECOND, labelled, save, style
from npde_opt.grids import AXES


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


def plot_bands(
    path: FilePath,
    predicted: np.ndarray,
    deviation: np.ndarray,
    observed: np.ndarray,
    sigma: np.ndarray,
    *,
    unit: str = "",
) -> Path:
    """Data in the order of what is predicted of them, less that: bands of two standard deviations
    of the prediction, and of a datum.

    Args:
        predicted, deviation, observed, sigma: (n,), NaN where not observed.

    Raises:
        InputError: where nothing was observed.
    """
    kept = np.isfinite(observed) & np.isfinite(predicted)
    if not kept.any():
        raise InputError("figure of bands", "no observed datum", "at least one")
    order = np.flatnonzero(kept)[np.argsort(predicted[kept], kind="stable")]
    wide, whole = deviation[order], np.hypot(deviation[order], sigma[order])
    off, x = observed[order] - predicted[order], np.arange(1, order.size + 1)
    inside = float(np.mean(abs(off) <= 2 * whole))
    with style() as plt:
        figure, ax = plt.subplots(figsize=(7.6, 4.2), layout="constrained")
        said = rf"datum $\pm 2$ deviations: {inside:.1%} inside"
        ax.fill_between(
            x, -2 * whole, 2 * whole, color=FAINT, alpha=0.3, lw=0, label=said
        )
        said = r"prediction $\pm 2$ deviations"
        ax.fill_between(
            x, -2 * wide, 2 * wide, color=SECOND, alpha=0.5, lw=0, label=said
        )
        size = 4 if order.size < 500 else 1.5
        ax.plot(x, off, "o", color=FIRST, ms=size, mec="none", label="observed")
        ax.set(
            xlabel="datum, by its prediction",
            ylabel=labelled(r"observed $-$ predicted", unit),
        )
        figure.legend(loc="outside upper center", ncols=3)
        return save(plt, figure, path)


def plot_design(
    path: FilePath,
    at: np.ndarray,
    deviations: np.ndarray,
    chosen: Sequence[int],
    information: np.ndarray,
    left: np.ndarray,
    *,
    edges: Sequence[np.ndarray],
    length_unit: str = "m",
    axes: Sequence[str] = AXES,
) -> Path:
    """Candidates by how uncertain their prediction is, the chosen ones with their numbers; beside
    it what they tell, and what they leave of the sum of variances.

    Args:
        at: (n, dim) coordinates, NaN where a candidate is no point: then only the curve is drawn.
            In 3-D seen from above.
        information: nats of all up to each of the chosen. left: before any, and after each.
    """
    points = at.shape[1] > 1 and bool(np.isfinite(at).all())
    with style() as plt:
        figure, panels = plt.subplots(
            1,
            1 + points,
            figsize=(5.0 + 4.6 * points, 4.2),
            squeeze=False,
            layout="constrained",
        )
        if points:
            ax = panels[0, 0]
            shown = ax.scatter(*at.T[:2], c=deviations, cmap="viridis", s=20, lw=0)
            said = "standard deviation of the prediction"
            figure.colorbar(shown, ax=ax, label=said, aspect=28, pad=0.02)
            ax.plot(*at[list(chosen)].T[:2], "o", mfc="none", mec=FIRST, ms=9, mew=1.6)
            for number, j in enumerate(chosen):
                ax.annotate(
                    str(number + 1), at[j, :2], (6, 5), textcoords="offset points"
                )
            ax.set(
                xlabel=labelled(axes[0], length_unit),
                ylabel=labelled(axes[1], length_unit),
                xlim=edges[0][[0, -1]],
                ylim=edges[1][[0, -1]],
            )
            ratio = np.ptp(edges[0]) / np.ptp(edges[1])
            ax.set_aspect("equal" if 0.2 < ratio < 5 else "auto")
        ax, count = panels[0, -1], np.arange(len(chosen) + 1)
        ax.plot(count, [0.0, *information], "o-", color=FIRST, ms=4)
        ax.set(xlabel="observed next", ylabel="information [nats]")
        ax.yaxis.label.set_color(FIRST)
        other = ax.twinx()
        other.plot(count, np.asarray(left) / left[0], "s--", color=SECOND, ms=4)
        other.set(ylabel="sum of variances, relative")
        other.yaxis.label.set_color(SECOND)
        other.spines["right"].set_visible(True)
        return save(plt, figure, path)

"""Observed against predicted data, and their residuals against the law that they should have."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from npde_opt.aliases import FilePath
from npde_opt.errors import InputError
from npde_opt.figures.style import FAINT, FIRST, SECOND, labelled, save, style
from npde_opt.grids import AXES

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SMALL = 0.1
"""Share of the box along each axis, up to which places are drawn without the rest of it."""


def plot_data_fit(
    path: FilePath,
    observed: np.ndarray,
    predicted: np.ndarray,
    sigma: float | np.ndarray | None = None,
    *,
    name: str = "data",
    unit: str = "",
) -> Path:
    """Observed against predicted data with the band of 2 sigma, and the residuals against their
    expected law.

    NaN in `observed` is data that were not observed.
    """
    d, p = np.ravel(np.asarray(observed, float)), np.ravel(np.asarray(predicted, float))
    if d.shape != p.shape:
        raise InputError(
            "figure of the data fit",
            f"{p.size} predictions",
            f"{d.size}, one for each observation",
        )
    seen = np.isfinite(d) & np.isfinite(p)
    s = (
        None
        if sigma is None
        else np.broadcast_to(np.ravel(np.asarray(sigma, float)), d.shape)[seen]
    )
    d, p = d[seen], p[seen]
    label = " " + labelled(name, unit)
    with style() as plt:
        figure, (left, right) = plt.subplots(
            1, 2, figsize=(9.6, 4.3), layout="constrained", width_ratios=(1, 1.05)
        )
        low, high = (
            (min(d.min(), p.min()), max(d.max(), p.max())) if d.size else (0.0, 1.0)
        )
        pad = 0.04 * (high - low or 1.0)
        line = np.array([low - pad, high + pad])
        left.plot(line, line, color=FAINT, lw=1, zorder=1)
        if s is not None and s.size:
            width = 2 * float(np.median(s))
            left.fill_between(
                line,
                line - width,
                line + width,
                color=FAINT,
                alpha=0.25,
                lw=0,
                zorder=0,
                label=r"$\pm 2\sigma$",
            )
            left.legend(loc="upper left")
        left.plot(
            d,
            p,
            "o",
            color=FIRST,
            ms=4 if d.size < 500 else 2,
            alpha=0.65,
            mec="none",
            zorder=2,
        )
        left.set(
            xlabel="observed" + label,
            ylabel="predicted" + label,
            xlim=line,
            ylim=line,
            title=f"{d.size:,} observations",
        )
        left.set_aspect("equal")
        _residuals(right, p - d, s, unit)
        return save(plt, figure, path)


def _residuals(
    ax: Axes, residual: np.ndarray, sigma: np.ndarray | None, unit: str
) -> None:
    scaled = residual if sigma is None else residual / sigma
    spread = float(np.percentile(abs(scaled), 99.5)) if scaled.size else 1.0
    reach = max(spread, 3.5 if sigma is not None else spread) or 1.0
    bins = np.linspace(
        -reach, reach, int(np.clip(np.sqrt(scaled.size) * 1.6, 11, 61)) | 1
    )
    ax.hist(
        np.clip(scaled, -reach, reach),
        bins=bins.tolist(),
        density=True,
        color=FIRST,
        alpha=0.75,
        edgecolor="white",
        lw=0.5,
    )
    if sigma is not None:
        t = np.linspace(-reach, reach, 300)
        ax.plot(
            t,
            np.exp(-(t**2) / 2) / np.sqrt(2 * np.pi),
            color=SECOND,
            label="standard normal",
        )
        ax.legend(loc="upper right")
        chi2 = float(np.mean(scaled**2)) if scaled.size else float("nan")
        ax.set(
            xlabel=r"(predicted $-$ observed) / $\sigma$",
            title=rf"mean $\chi^2$ = {chi2:.3g}",
        )
    else:
        rms = float(np.sqrt(np.mean(scaled**2))) if scaled.size else float("nan")
        ax.set(
            xlabel=labelled(r"predicted $-$ observed", unit),
            title=f"root mean square {rms:.3g}",
        )
    ax.set_ylabel("density")


def plot_residuals(
    path: FilePath,
    at: np.ndarray,
    residual: np.ndarray,
    *,
    edges: Sequence[np.ndarray],
    length_unit: str = "m",
    axes: Sequence[str] = AXES,
) -> Path:
    """Residuals by place, each the root mean square over experiments and times: about 1 where the
    model explains the data; a place far above it is a bad sensor, or the model is wrong there.

    Args:
        at: places (n, dim); those with NaN are left out. In 3-D seen from above.
        residual: (predicted - observed) / sigma, NaN where not observed.
        edges: of the grid, for the box.
        axes: their names.
    """
    kept = np.isfinite(at).all(axis=1) & np.isfinite(residual)
    places, number = np.unique(at[kept], axis=0, return_inverse=True)
    number = number.ravel()
    squares = np.bincount(number, residual[kept] ** 2, len(places))
    rms = np.sqrt(squares / np.bincount(number, minlength=len(places)))
    with style() as plt:
        figure, ax = plt.subplots(figsize=(6.4, 4.8), layout="constrained")
        label = r"root mean square of (predicted $-$ observed) / $\sigma$"
        if at.shape[1] == 1:
            ax.plot(places[:, 0], rms, "o", color=FIRST, ms=4)
            ax.axhline(1.0, color=FAINT, lw=1)
            ax.set(
                xlabel=labelled(axes[0], length_unit),
                ylabel=label,
                xlim=_window(places, edges)[0],
            )
            return save(plt, figure, path)
        size = float(np.clip(4000 / max(len(places), 1), 4, 60))
        top = max(2.0, float(np.percentile(rms, 99))) if rms.size else 2.0
        artist = ax.scatter(
            *places.T[:2], c=rms, s=size, cmap="viridis", vmin=0.0, vmax=top, lw=0
        )
        beyond = "max" if rms.size and rms.max() > top else "neither"
        figure.colorbar(artist, ax=ax, label=label, aspect=28, pad=0.02, extend=beyond)
        xlim, ylim = _window(places, edges)[:2]
        ax.set(
            xlabel=labelled(axes[0], length_unit),
            ylabel=labelled(axes[1], length_unit),
            xlim=xlim,
            ylim=ylim,
        )
        ratio = np.ptp(xlim) / np.ptp(ylim)
        ax.set_aspect("equal" if 0.2 < ratio < 5 else "auto")
        return save(plt, figure, path)


def _window(places: np.ndarray, edges: Sequence[np.ndarray]) -> np.ndarray:
    """Lower and upper end along each axis of what is drawn: the box, or where all places lie in a
    small part of it, that part with as much around it as it is wide."""
    box = np.array([e[[0, -1]] for e in edges])
    if not len(places):
        return box
    span = np.ptp(places, axis=0)
    if span.max() == 0 or (span > SMALL * np.ptp(box, axis=1)).any():
        return box
    middle = (places.min(axis=0) + places.max(axis=0)) / 2
    near = middle[:, None] + span.max() * np.array([-1.0, 1.0])
    return np.asarray(np.clip(near, box[:, :1], box[:, 1:]))

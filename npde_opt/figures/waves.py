"""Complex states and snapshots: intensity and phase in time, a state over (t, x), and data beside
their predictions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from npde_opt.aliases import FilePath
from npde_opt.figures.animation import extent, pixels, titled, write
from npde_opt.figures.style import labelled, save, style
from npde_opt.grids import AXES

if TYPE_CHECKING:
    from matplotlib.artist import Artist

SCALED = (-4.0, 4.0)
"""Ends of the scale of differences in units of their standard deviation."""


def animate_wave(
    path: FilePath,
    edges: Sequence[np.ndarray],
    states: Sequence[np.ndarray],
    times: Sequence[float],
    axis: str = "t",
    length_unit: str = "m",
    every: float = 0.1,
) -> Path:
    """An animated GIF of a complex state in two dimensions: |u|^2, and the phase as hue where there
    is light.

    Args:
        states: complex arrays [i, j].

    Raises:
        InputError: for a place that is not writable.
    """
    with style() as plt:
        top = max(float(np.quantile(np.abs(s) ** 2, 0.999)) for s in states)
        figure, axes = plt.subplots(1, 2, figsize=(9.2, 4.2), layout="compressed")

        def shown(values: np.ndarray) -> np.ndarray:
            return pixels(values, edges).T

        kind = {"origin": "lower", "extent": extent(edges)}
        left = axes[0].imshow(
            shown(np.abs(states[0]) ** 2), cmap="inferno", vmin=0, vmax=top, **kind
        )
        right = axes[1].imshow(
            shown(np.angle(states[0])),
            cmap="twilight",
            vmin=-np.pi,
            vmax=np.pi,
            interpolation="nearest",
            **kind,
        )
        for ax, artist, title in zip(
            axes, (left, right), ("intensity", "phase [rad]"), strict=True
        ):
            ax.set(
                title=title,
                xlabel=labelled("x", length_unit),
                ylabel=labelled("y", length_unit),
            )
            figure.colorbar(artist, ax=ax)

        def update(i: int) -> list[Artist]:
            left.set_data(shown(np.abs(states[i]) ** 2))
            right.set_data(shown(np.angle(states[i])))
            right.set_alpha(np.clip(4 * shown(np.abs(states[i]) ** 2) / top, 0, 1))
            figure.suptitle(titled(axis, times[i]))
            return [left, right]

        write(path, plt, figure, update, len(states), every)
    return Path(path)


def plot_course(
    path: FilePath,
    edges: np.ndarray,
    courses: Sequence[np.ndarray],
    times: np.ndarray,
    name: str = "u",
    axis: str = "t",
    length_unit: str = "m",
    marks: Sequence[float] = (),
) -> Path:
    """States of one dimension over (t, x), one panel an experiment: arrays [n, i]; lines at the
    times `marks`."""
    with style() as plt:
        figure, axes = plt.subplots(
            len(courses),
            1,
            figsize=(8, 0.8 + 1.5 * len(courses)),
            squeeze=False,
            sharex=True,
            layout="compressed",
        )
        top = max(float(np.max(c)) for c in courses)
        for ax, course in zip(axes[:, 0], courses, strict=True):
            artist = ax.pcolormesh(
                times,
                (edges[1:] + edges[:-1]) / 2,
                course.T,
                cmap="inferno",
                vmax=top,
                rasterized=True,
            )
            for t in marks:
                ax.axvline(t, color="w", lw=0.7, ls=":")
            ax.set_ylabel(labelled("x", length_unit))
        axes[-1, 0].set_xlabel(axis)
        figure.colorbar(artist, ax=axes, label=name, aspect=30)
        return save(plt, figure, path)


def plot_snapshots(
    path: FilePath,
    edges: Sequence[np.ndarray],
    observed: np.ndarray,
    predicted: np.ndarray,
    times: Sequence[float],
    name: str = "u",
    axis: str = "t",
    length_unit: str = "m",
    sigma: float | np.ndarray = 1.0,
    names: Sequence[str] = AXES,
) -> Path:
    """Data beside predictions and what is left between them, arrays [n, i(, j)] of one experiment;
    lines in one dimension."""
    titles = [titled(axis, t) for t in times]
    with style() as plt:
        if observed.ndim == 2:
            figure, axes = plt.subplots(
                1,
                len(times),
                figsize=(3.2 * len(times), 3.0),
                squeeze=False,
                sharey=True,
                layout="constrained",
            )
            x = (edges[0][1:] + edges[0][:-1]) / 2
            for ax, y, p, title in zip(
                axes[0], observed, predicted, titles, strict=True
            ):
                ax.plot(x, y, ".", ms=3, color="#c8501e", label="data")
                ax.plot(x, p, color="#1f5fa8", lw=1.2, label="predicted")
                ax.set(title=title, xlabel=labelled(names[0], length_unit))
            axes[0, 0].set_ylabel(name)
            axes[0, -1].legend()
            return save(plt, figure, path)
        figure, axes = plt.subplots(
            3,
            len(times),
            figsize=(2.7 * len(times) + 0.8, 8.0),
            squeeze=False,
            layout="compressed",
        )
        low, high = float(np.nanmin(observed)), float(np.nanmax(observed))
        rows = (
            (observed, (low, high), "inferno", f"{name}, data"),
            (predicted, (low, high), "inferno", "predicted"),
            (
                (predicted - observed) / sigma,
                SCALED,
                "RdBu_r",
                r"(predicted $-$ data) / $\sigma$",
            ),
        )
        for row, (values, limits, cmap, text) in zip(axes, rows, strict=True):
            for ax, part in zip(row, values, strict=True):
                artist = ax.imshow(
                    pixels(part, edges).T,
                    origin="lower",
                    extent=extent(edges),
                    vmin=limits[0],
                    vmax=limits[1],
                    cmap=cmap,
                )
                ax.tick_params(labelbottom=row is axes[-1], labelleft=ax is row[0])
            row[0].set_ylabel(labelled(names[1], length_unit))
            beyond = "both" if limits == SCALED else "neither"
            figure.colorbar(artist, ax=row, aspect=14, label=text, extend=beyond)
        for ax in axes[-1]:
            ax.set_xlabel(labelled(names[0], length_unit))
        for ax, title in zip(axes[0], titles, strict=True):
            ax.set_title(title)
        return save(plt, figure, path)

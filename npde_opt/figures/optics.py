"""Masks of a diffractive network, and the light between them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from npde_opt.aliases import FilePath
from npde_opt.errors import InputError
from npde_opt.figures.style import FIRST, SECOND, save, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def plot_masks(path: FilePath, phases: Sequence[np.ndarray]) -> Path:
    """Phases [j, i] in the order in which light passes them, modulo 2 pi.

    Raises:
        InputError: for none.
    """
    if not phases:
        raise InputError("figure of masks", "none", "at least one")
    with style() as plt:
        size = (2.2 * len(phases) + 0.8, 2.5)
        figure, axes = plt.subplots(
            1, len(phases), figsize=size, layout="constrained", squeeze=False
        )
        for number, (ax, phase) in enumerate(zip(axes[0], phases, strict=True), 1):
            turned = (phase + np.pi) % (2 * np.pi) - np.pi
            image = ax.imshow(turned, cmap="twilight", vmin=-np.pi, vmax=np.pi)
            ax.set(xticks=[], yticks=[], title=f"mask {number}")
        figure.colorbar(
            image, ax=axes, label="phase [rad]", ticks=[-np.pi, 0, np.pi]
        ).ax.set_yticklabels([r"$-\pi$", "0", r"$\pi$"])
        return save(plt, figure, path)


def plot_fields(
    path: FilePath,
    samples: Sequence[Sequence[np.ndarray]],
    regions: np.ndarray,
    classes: Sequence[str] = (),
    titles: Sequence[str] = (),
) -> Path:
    """Intensities [j, i] of samples, a row each, from mask to mask to the detectors, whose edges
    are drawn: those that add to an output, and those that take from it. A column has one scale,
    as light spreads on its way.

    Args:
        regions: [output, j, i], positive or negative in detectors.
        classes: names of the outputs, written into the detectors that add to them.
        titles: of the rows.

    Raises:
        InputError: for no samples.
    """
    if not samples:
        raise InputError("figure of fields", "no samples", "at least one")
    rows, columns = len(samples), len(samples[0])
    with style() as plt:
        from matplotlib.colors import PowerNorm

        size = (1.9 * columns, 2.0 * rows + 0.9)
        figure, axes = plt.subplots(
            rows, columns, figsize=size, layout="constrained", squeeze=False
        )
        for column, line in enumerate(axes.T):
            fields = [sample[column] for sample in samples]
            # Of intensities the square root is seen, so that faint light is.
            most = max(float(np.max(fields)), np.finfo(float).tiny)
            scale = PowerNorm(0.5, 0, most)
            for ax, field in zip(line, fields, strict=True):
                image = ax.imshow(field, cmap="magma", norm=scale)
                ax.set(xticks=[], yticks=[])
            at = "detectors" if column == columns - 1 else f"at mask {column + 1}"
            line[0].set_title(at)
            bar = figure.colorbar(image, ax=line, location="bottom", shrink=0.9)
            bar.set_ticks([0, most / 4, most])
            bar.ax.xaxis.set_major_formatter(lambda value, place: f"{value:.2g}")
            bar.ax.tick_params(labelsize=7)
        for ax, title in zip(axes[:, 0], titles, strict=False):
            ax.set_ylabel(title)
        for ax in axes[:, -1]:
            _draw_detectors(ax, regions, classes)
        figure.supxlabel("power of a cell, of 1 in all", fontsize=9)
        return save(plt, figure, path)


def _draw_detectors(ax: Axes, regions: np.ndarray, classes: Sequence[str]) -> None:
    total = regions.sum(axis=0)
    for sign, color in ((1, FIRST), (-1, SECOND)):
        ax.contour(sign * total > 0, [0.5], colors=color, linewidths=0.8)
    for name, region in zip(classes, regions, strict=False):
        j, i = np.argwhere(region > 0).mean(axis=0)
        ax.text(i, j, name, ha="center", va="center", fontsize=7, color="white")

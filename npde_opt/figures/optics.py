"""Masks of a diffractive network, and the light between them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from npde_opt.aliases import FilePath
from npde_opt.errors import InputError
from npde_opt.figures.style import FIRST, SECOND, save, style


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
    path: FilePath, samples: Sequence[Sequence[np.ndarray]], regions: np.ndarray
) -> Path:
    """Intensities [j, i] of samples, a row each, from mask to mask to the detectors, whose edges
    are drawn: those that add to an output, and those that take from it.

    Args:
        regions: [j, i], positive or negative in detectors.

    Raises:
        InputError: for no samples.
    """
    if not samples:
        raise InputError("figure of fields", "no samples", "at least one")
    rows, columns = len(samples), len(samples[0])
    with style() as plt:
        size = (1.9 * columns, 2.0 * rows + 0.3)
        figure, axes = plt.subplots(
            rows, columns, figsize=size, layout="constrained", squeeze=False
        )
        for row, (line, fields) in enumerate(zip(axes, samples, strict=True)):
            for column, (ax, field) in enumerate(zip(line, fields, strict=True)):
                # Amplitudes, so that faint light is seen.
                ax.imshow(np.sqrt(field), cmap="magma", vmin=0)
                ax.set(xticks=[], yticks=[])
                if not row:
                    last = column == columns - 1
                    ax.set_title("detectors" if last else f"at mask {column + 1}")
            for sign, color in ((1, FIRST), (-1, SECOND)):
                line[-1].contour(
                    sign * regions > 0, [0.5], colors=color, linewidths=0.8
                )
        return save(plt, figure, path)

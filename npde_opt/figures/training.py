"""Figures of trained networks: confusion of classes, samples that are misread, pictures before and
after, filters, and the course of a training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from npde_opt.aliases import FilePath, Plain
from npde_opt.errors import InputError
from npde_opt.figures.style import FAINT, FIRST, INK, SECOND, THIRD, save, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_SHOWN = 40
"""Samples or filters of a figure at most."""
ACROSS = 10
"""Samples or filters in a row."""
HIGH = 2.9
"""Inches of a picture beside others."""
MOST_NAMED = 30
"""Classes from which on their counts are not written into the cells."""


def plot_confusion(path: FilePath, counts: np.ndarray, classes: Sequence[str]) -> Path:
    """How many samples of each class were taken for which one.

    Args:
        counts: (true class, class that was found).
    """
    wrong = counts * (1 - np.eye(len(counts), dtype=counts.dtype))
    total, missed = int(counts.sum()), int(wrong.sum())
    side = min(max(3.2, 0.42 * len(classes) + 1.6), 12.0)
    with style() as plt:
        figure, ax = plt.subplots(figsize=(side + 0.6, side), layout="constrained")
        # What is right would hide what is wrong: only the latter has a colour.
        image = ax.imshow(wrong, cmap="Oranges", vmin=0, vmax=max(int(wrong.max()), 1))
        if len(classes) <= MOST_NAMED:
            _write_counts(ax, counts, wrong)
        ticks = np.arange(len(classes))
        ax.set_xticks(ticks, classes, rotation=90 if max(map(len, classes)) > 3 else 0)
        ax.set_yticks(ticks, classes)
        share = missed / max(total, 1)
        title = f"{missed:,} of {total:,} misread ({share:.2%})"
        ax.set(xlabel="found", ylabel="true", title=title)
        ax.spines[:].set_visible(False)
        ax.tick_params(length=0)
        bar = figure.colorbar(image, ax=ax, shrink=0.7, label="misread samples")
        bar.ax.yaxis.get_major_locator().set_params(integer=True)
        return save(plt, figure, path)


def _write_counts(ax: Axes, counts: np.ndarray, wrong: np.ndarray) -> None:
    dark = 0.6 * max(int(wrong.max()), 1)
    for i, j in np.argwhere(counts > 0):
        color = FAINT if i == j else ("white" if wrong[i, j] > dark else INK)
        ax.text(
            j, i, f"{counts[i, j]:,}", ha="center", va="center", fontsize=8, color=color
        )


def plot_misread(
    path: FilePath, pictures: np.ndarray, titles: Sequence[str], title: str = ""
) -> Path:
    """Pictures that were taken for something else.

    Args:
        pictures: [sample, j, i], the first row on top.
        titles: one a picture: the true class and the one that was found.
    """
    if not len(pictures):
        raise InputError("figure of misread samples", "none", "at least one")
    shown = pictures[:MOST_SHOWN]
    with style() as plt:
        figure, axes = _tiles(plt, len(shown), 1.35)
        for ax, picture, text in zip(axes, shown, titles, strict=False):
            ax.imshow(picture, cmap="gray_r", interpolation="nearest")
            ax.set_title(text, fontsize=9, loc="center", pad=3)
        figure.suptitle(
            title or f"{len(shown)} of {len(pictures)} misread", fontsize=11
        )
        return save(plt, figure, path)


def plot_pictures(
    path: FilePath, rows: Sequence[Sequence[tuple[str, np.ndarray]]]
) -> Path:
    """Grey pictures beside each other, brightness from 0 to 1.

    Args:
        rows: of pictures [j, i], the first row of cells on top, each with its title.
    """
    if not rows:
        raise InputError("figure of pictures", "none", "at least one row")
    widest = max(
        picture.shape[1] / picture.shape[0] for row in rows for _, picture in row
    )
    across = max(map(len, rows))
    size = (HIGH * widest * across, (HIGH + 0.3) * len(rows))
    with style() as plt:
        figure, axes = plt.subplots(
            len(rows), across, figsize=size, squeeze=False, layout="constrained"
        )
        for ax in axes.flat:
            ax.axis("off")
        for line, row in zip(axes, rows, strict=True):
            for ax, (title, picture) in zip(line, row, strict=False):
                ax.imshow(picture, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
                ax.set_title(title, fontsize=9, loc="center", pad=3)
        return save(plt, figure, path)


def plot_filters(path: FilePath, weights: Mapping[str, np.ndarray]) -> Path:
    """Stencils as pictures, one row of figures a name.

    Args:
        weights: W [channel, channel before, ty, tx] by name; of the channels before the one that
            weighs most is shown.
    """
    if not weights:
        raise InputError(
            "figure of filters", "no weights of two axes", "at least one layer"
        )
    rows = {name: _strongest(w)[: 2 * ACROSS] for name, w in weights.items()}
    lines = [(name, part) for name, w in rows.items() for part in _rows(w)]
    with style() as plt:
        size = (0.95 * ACROSS, 1.05 * len(lines) + 0.5)
        figure, axes = plt.subplots(
            len(lines), ACROSS, figsize=size, squeeze=False, layout="constrained"
        )
        for row, (name, part) in zip(axes, lines, strict=True):
            limit = float(np.abs(rows[name]).max()) or 1.0
            for ax in row:
                ax.axis("off")
            for ax, taps in zip(row, part, strict=False):
                ax.imshow(
                    taps,
                    cmap="RdBu_r",
                    vmin=-limit,
                    vmax=limit,
                    interpolation="nearest",
                )
            row[0].set_title(name, fontsize=9)
        figure.suptitle(
            "stencils: red > 0, blue < 0, each layer on its own scale", fontsize=10
        )
        return save(plt, figure, path)


def plot_functions(
    path: FilePath, functions: Mapping[str, tuple[np.ndarray, np.ndarray]]
) -> Path:
    """Activations that were learnt, a panel a layer and a line a channel.

    Args:
        functions: points (n,) and values there [channel, n], by name.
    """
    if not functions:
        raise InputError(
            "figure of functions", "no activation that is learnt", "at least one"
        )
    across = min(len(functions), 5)
    down = -(-len(functions) // across)
    with style() as plt:
        size = (2.6 * across, 2.3 * down)
        figure, axes = plt.subplots(
            down, across, figsize=size, squeeze=False, sharex=True, layout="constrained"
        )
        figure.supxlabel("v, what a stencil gives", fontsize=9)
        figure.supylabel("sigma(v), a line a channel", fontsize=9)
        for ax in axes.flat[len(functions) :]:
            ax.axis("off")
        for ax, (name, (v, values)) in zip(axes.flat, functions.items(), strict=False):
            ax.plot(v, values.T, color=FIRST, lw=0.7, alpha=0.6)
            ax.set_title(name, fontsize=9)
            ax.grid(True, color="#e8e8e8", lw=0.6)
        return save(plt, figure, path)


def _strongest(w: np.ndarray) -> np.ndarray:
    """[channel, ty, tx] of the channels before that weigh most."""
    size = (w**2).sum(axis=(2, 3))
    return np.stack([own[np.argmax(s)] for own, s in zip(w, size, strict=True)])


def _rows(w: np.ndarray) -> list[np.ndarray]:
    return [w[a : a + ACROSS] for a in range(0, len(w), ACROSS)]


def _tiles(plt: Plain, count: int, size: float) -> tuple[Plain, list[Axes]]:
    """A figure of so many small axes without ticks."""
    across = min(count, ACROSS)
    down = -(-count // across)
    wide, high = max(size * across, 4.0), size * down + 0.4
    figure, axes = plt.subplots(
        down, across, figsize=(wide, high), squeeze=False, layout="constrained"
    )
    for ax in axes.flat:
        ax.axis("off")
    return figure, list(axes.flat)


def plot_training(
    path: FilePath,
    history: Sequence[Mapping[str, Plain]],
    figures: Sequence[str] = (),
    samples: int = 1,
    label: str = "training",
) -> Path:
    """The loss a sample by passes over the data, with that of the validation where there is one,
    and below it its figures.

    Args:
        history: rows of history.csv, in order.
        figures: columns of the history that have a panel of their own.
        samples: for training.
        label: of their loss.
    """
    if not history:
        raise InputError("figure of training", "an empty history", "at least one row")
    with style() as plt:
        figure, axes = plt.subplots(
            1,
            1 + len(figures),
            figsize=(6.2 + 4.2 * len(figures), 4.0),
            layout="constrained",
        )
        left, *others = np.atleast_1d(axes)
        x, work = _work(history)
        left.plot(x, _column(history, "misfit") / samples, color=FIRST, label=label)
        held = _column(history, "validation")
        if np.isfinite(held).any():
            left.plot(x, held, color=SECOND, label="validation")
            best = int(np.nanargmin(held))
            left.plot(x[best], held[best], "o", ms=9, mfc="none", mec=SECOND, mew=1.5)
        left.legend()
        left.set(yscale="log", xlabel=work, ylabel="loss a sample")
        _plain_ticks(left)
        for ax, name in zip(others, figures, strict=True):
            ax.plot(x, _column(history, name), color=THIRD)
            ax.set(xlabel=work, ylabel=name.replace("_", " "))
        for ax in (left, *others):
            ax.grid(True, which="major", color="#e8e8e8", lw=0.6)
        return save(plt, figure, path)


def _plain_ticks(ax: Axes) -> None:
    """Numbers as they are along a logarithmic axis of about a decade."""
    low, high = ax.get_ylim()
    if high < 30 * low:
        for which in (ax.yaxis.set_major_formatter, ax.yaxis.set_minor_formatter):
            which(lambda value, place: f"{value:.3g}")


def _work(history: Sequence[Mapping[str, Plain]]) -> tuple[np.ndarray, str]:
    """What a run is measured in: passes over the data, where they were counted."""
    passes = _column(history, "passes")
    if np.isfinite(passes).all():
        return passes, "passes over the data"
    return np.arange(len(history), dtype=float), "iteration"


def _column(history: Sequence[Mapping[str, Plain]], key: str) -> np.ndarray:
    return np.array(
        [np.nan if row.get(key) is None else row[key] for row in history], float
    )

"""Fields side by side in one colour scale: lines, maps, or the three orthogonal middle slices of a
box."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from npde_opt.errors import InputError
from npde_opt.figures.style import FAINT, FIRST, SECOND, norm_of, save, style
from npde_opt.grids import AXES

MAX_CELLS = 800


def plot_fields(
    path: str | os.PathLike,
    edges: Sequence[np.ndarray],
    recovered: np.ndarray,
    true: np.ndarray | None = None,
    *,
    name: str = "parameter",
    unit: str = "",
    length_unit: str = "m",
    active: np.ndarray | None = None,
    points: np.ndarray | None = None,
    points_name: str = "observations",
    log: bool = False,
    cmap: str = "viridis",
) -> Path:
    """The recovered field, beside the true one where it is known, in one colour scale.

    Args:
        edges: cell edges along each axis. 1-D gives lines, 2-D maps, 3-D the three orthogonal
            middle slices.
        recovered, true: arrays [i, j, k].
        active: bool [i, j, k]; inactive cells are left grey.
        points: (n, dim) coordinates to mark (electrodes, wells, sensors); in 3-D those near each
            slice.
        log: logarithmic colours; the fields have to be positive.
    """
    panels = ([("true", np.asarray(true))] if true is not None else []) + [
        ("recovered", np.asarray(recovered))
    ]
    shape = tuple(len(e) - 1 for e in edges)
    for label, values in panels:
        if values.shape != shape:
            raise InputError(
                f"figure of the {label} field",
                f"shape {values.shape}",
                f"shape {shape} of the edges",
            )
    mask = np.ones(shape, bool) if active is None else np.asarray(active, bool)
    known = np.concatenate([v[mask & np.isfinite(v) & ((v > 0) | (not log))] for _, v in panels])
    limits = (float(known.min()), float(known.max())) if known.size else (0.0, 1.0)
    if limits[0] == limits[1]:
        limits = (
            (limits[0] * 0.99 - 1e-12, limits[1] * 1.01 + 1e-12)
            if not log
            else (limits[0] / 1.1, limits[1] * 1.1)
        )
    label = f"{name} [{unit}]" if unit else name
    places = None if points is None else np.asarray(points, float).reshape(-1, len(shape))
    with style() as plt:
        if len(shape) == 1:
            figure = _lines(
                plt, edges[0], panels, mask, label, length_unit, places, points_name, log
            )
        else:
            figure = _maps(
                plt, edges, panels, mask, label, length_unit, places, points_name, limits, log, cmap
            )
        return save(plt, figure, path)


def _lines(plt, edges, panels, mask, label, length_unit, places, points_name, log):
    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    for title, values in panels:
        style = {"color": FAINT, "lw": 3.5} if title == "true" else {"color": FIRST, "lw": 1.8}
        axes.stairs(np.where(mask, values, np.nan), edges, label=title, baseline=None, **style)
    if places is not None:
        axes.plot(
            places[:, 0],
            np.zeros(len(places)),
            "v",
            color=SECOND,
            ms=6,
            clip_on=False,
            label=points_name,
            transform=axes.get_xaxis_transform(),
        )
    if log:
        axes.set_yscale("log")
    axes.set(xlabel=f"x [{length_unit}]", ylabel=label, xlim=(edges[0], edges[-1]))
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper right", ncols=3)
    return figure


def _maps(plt, edges, panels, mask, label, length_unit, places, points_name, limits, log, cmap):
    norm = norm_of(limits, log)
    slices = [None] if mask.ndim == 2 else [2, 1, 0]
    extents = [_plane(edges, s) for s in slices]
    ratios = [min(max((e[0][-1] - e[0][0]) / (e[1][-1] - e[1][0]), 0.25), 4.0) for e in extents]
    if mask.ndim == 2:
        rows, columns = (len(panels), 1) if ratios[0] > 1.8 else (1, len(panels))
        width = (
            3.7 * (ratios[0] if ratios[0] <= 1 else 1.25)
            if columns > 1 or len(panels) == 1
            else 7.0
        )
        size = (columns * max(width, 2.6) + 1.4, rows * max(width, 2.6) / ratios[0] + 1.1)
    else:
        rows, columns = len(panels), 3
        ratios = [max(r, 0.45 * max(ratios)) for r in ratios]
        size = (12.0, rows * 10.0 / sum(ratios) + 1.2)
    figure, axes = plt.subplots(
        rows,
        columns,
        figsize=size,
        squeeze=False,
        layout="compressed",
        gridspec_kw={"width_ratios": ratios} if mask.ndim == 3 else None,
    )
    artist = None
    for p, (title, values) in enumerate(panels):
        for c, fixed in enumerate(slices):
            ax = axes[p, c] if mask.ndim == 3 else axes.flat[p]
            artist = _map(ax, edges, values, mask, fixed, norm, cmap, length_unit)
            _mark(ax, edges, places, fixed)
            if fixed is None:
                ax.set_title(title)
            elif p == 0:
                ax.set_title(f"{AXES[fixed]} = {_middle(edges, fixed):.3g} {length_unit}")
            if fixed is not None and p < rows - 1:
                ax.set_xlabel("")
        if mask.ndim == 3:
            axes[p, 0].set_ylabel(f"$\\bf{{{title}}}$\n{axes[p, 0].get_ylabel()}")
    bar = figure.colorbar(artist, ax=axes, label=label, aspect=28, pad=0.02)
    bar.outline.set_linewidth(0.5)
    if log:
        _short_log_ticks(bar.ax.yaxis, *limits)
    if places is not None:
        axes.flat[0].plot([], [], **_marker(), label=points_name)
        figure.legend(
            *axes.flat[0].get_legend_handles_labels(), loc="outside lower center", handletextpad=0.2
        )
    return figure


def _short_log_ticks(axis, low: float, high: float) -> None:
    """Plain numbers in place of powers of ten where they are short."""
    if low >= 1e-3 and high < 1e5:
        axis.set_major_formatter(lambda x, _: f"{x:g}")
        axis.set_minor_formatter(
            lambda x, _: f"{x:.1g}" if high < 30 * low and f"{x:e}"[0] in "235" else ""
        )


def _plane(edges: Sequence[np.ndarray], fixed: int | None) -> tuple[np.ndarray, np.ndarray]:
    kept = [np.asarray(e) for d, e in enumerate(edges) if d != fixed]
    return kept[0], kept[1]


def _middle(edges: Sequence[np.ndarray], axis: int) -> float:
    i = (len(edges[axis]) - 1) // 2
    return float(edges[axis][i] + edges[axis][i + 1]) / 2


def _map(ax, edges, values, mask, fixed, norm, cmap, length_unit):
    if fixed is not None:
        cut = [slice(None)] * 3
        cut[fixed] = (values.shape[fixed] - 1) // 2
        values, mask = values[tuple(cut)], mask[tuple(cut)]
    x, y = _plane(edges, fixed)
    steps = [max(1, -(-n // MAX_CELLS)) for n in values.shape]
    x, y = (np.append(e[:-1:s], e[-1]) for e, s in zip((x, y), steps, strict=True))
    thin = (slice(None, None, steps[0]), slice(None, None, steps[1]))
    shown = np.ma.masked_array(values[thin], ~mask[thin] | ~np.isfinite(values[thin]))
    ax.set_facecolor("#e3e3e3")
    artist = ax.pcolormesh(x, y, shown.T, norm=norm, cmap=cmap, rasterized=True)
    names = [a for d, a in enumerate(AXES) if d != fixed]
    ax.set(xlabel=f"{names[0]} [{length_unit}]", ylabel=f"{names[1]} [{length_unit}]")
    ratio = (x[-1] - x[0]) / (y[-1] - y[0])
    ax.set_aspect("equal" if 0.2 < ratio < 5 else "auto")
    if ratio < 0.5:
        ax.set_xticks([x[0], x[-1]])
    ax.spines[:].set_visible(True)
    return artist


def _marker() -> dict[str, Any]:
    return {"marker": "o", "ls": "none", "mfc": "white", "mec": "black", "mew": 0.7, "ms": 4.0}


def _mark(ax, edges, places, fixed) -> None:
    if places is None:
        return
    if fixed is not None:
        near = np.ptp(edges[fixed]) * 0.05
        places = np.delete(
            places[abs(places[:, fixed] - _middle(edges, fixed)) <= near], fixed, axis=1
        )
    ax.plot(*places.T[:2], **_marker() | {"ms": 4.0 if len(places) < 150 else 2.5}, clip_on=False)

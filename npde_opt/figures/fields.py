"""A field that was found, beside the true one and the error, or its standard deviation: lines,
maps, or the three orthogonal middle slices of a box."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np

from npde_opt.aliases import FilePath
from npde_opt.errors import InputError
from npde_opt.figures.marks import Marks, legend, line_marks, mark, mark_sides, shown_on
from npde_opt.figures.scales import Scale, around, scale_of, short_log_ticks
from npde_opt.figures.style import FAINT, FIRST, SECOND, amount, labelled, save, style
from npde_opt.grids import AXES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_CELLS = 800
WIDE = 1.8
"""Width over height from which maps stand below each other."""
DIVERGING = "RdBu_r"


@dataclass(frozen=True, eq=False)
class Panel:
    """One map, or one line.

    Args:
        values: [i, j, k].
        bar: the text beside its scale of colours.
        shares: whether it is in the field's own units, and shares their scale.
    """

    title: str
    values: np.ndarray
    scale: Scale
    cmap: str
    bar: str
    shares: bool


@dataclass(frozen=True, eq=False)
class Setting:
    """What all panels of a figure have in common."""

    edges: Sequence[np.ndarray]
    mask: np.ndarray
    length_unit: str
    marks: Sequence[Marks]
    sides: Mapping[str, str]
    axes: Sequence[str]


def plot_fields(
    path: FilePath,
    edges: Sequence[np.ndarray],
    recovered: np.ndarray,
    true: np.ndarray | None = None,
    *,
    title: str = "recovered",
    name: str = "parameter",
    unit: str = "",
    length_unit: str = "m",
    active: np.ndarray | None = None,
    deviation: np.ndarray | None = None,
    marks: Sequence[Marks] = (),
    sides: Mapping[str, str] | None = None,
    axes: Sequence[str] = AXES,
    log: bool = False,
    cmap: str = "viridis",
) -> Path:
    """The recovered field; beside the true one, in one scale of colours, and the error, where it
    is known; beside its standard deviation, where that is given.

    Args:
        edges: cell edges along each axis. 1-D gives lines, 2-D maps, 3-D the three orthogonal
            middle slices.
        recovered, true, deviation: arrays [i, j, k].
        title: of the recovered field.
        active: bool [i, j, k]; inactive cells are left grey.
        marks: places to mark; in 3-D those near each slice.
        sides: side ('x-') to what is prescribed there ('u = 1').
        axes: their names.
        log: logarithmic colours; the error is then the ratio recovered / true.
    """
    shape = tuple(len(e) - 1 for e in edges)
    given = {"true": true, title: recovered, "standard deviation": deviation}
    fields = {key: np.asarray(v) for key, v in given.items() if v is not None}
    for label, values in fields.items():
        if values.shape != shape:
            said = f"shape {values.shape}"
            raise InputError(
                f"figure of the {label} field", said, f"shape {shape} of the edges"
            )
    mask = np.ones(shape, bool) if active is None else np.asarray(active, bool)
    panels = _panels(fields, title, mask, name, unit, log, cmap)
    setting = Setting(edges, mask, length_unit, marks, sides or {}, axes)
    with style() as plt:
        draw = _lines if len(shape) == 1 else _maps
        return save(plt, draw(plt, panels, setting), path)


def _panels(
    fields: Mapping[str, np.ndarray],
    title: str,
    mask: np.ndarray,
    name: str,
    unit: str,
    log: bool,
    cmap: str,
) -> list[Panel]:
    label = labelled(name, unit)
    own = {key: v for key, v in fields.items() if key != "standard deviation"}
    scale = scale_of([v[mask] for v in own.values()], log)
    found = [Panel(key, v, scale, cmap, label, True) for key, v in own.items()]
    if "true" in fields:
        found.append(_error(fields[title], fields["true"], title, mask, label, log))
    if (deviation := fields.get("standard deviation")) is not None:
        spread = scale_of([deviation[mask]])
        bar = f"standard deviation of {label}"
        found.append(
            Panel("standard deviation", deviation, spread, "magma", bar, False)
        )
    return found


def _error(
    recovered: np.ndarray,
    true: np.ndarray,
    title: str,
    mask: np.ndarray,
    label: str,
    log: bool,
) -> Panel:
    """The difference, or of a logarithmic scale the ratio."""
    with np.errstate(divide="ignore", invalid="ignore"):
        values = recovered / true if log else recovered - true
    scale = around(values[mask], 1.0 if log else 0.0, log)
    said = f"{title} / true" if log else f"{title} $-$ true"
    bar = f"{label.split(' [')[0]}, {said}" if log else f"error of {label}"
    return Panel(said, values, scale, DIVERGING, bar, False)


# ---- lines --------------------------------------------------------------------------------------


def _lines(plt: ModuleType, panels: Sequence[Panel], setting: Setting) -> Figure:
    """The fields in one graph, the error or the deviation below it."""
    shared = [p for p in panels if p.shares]
    below = [p for p in panels if not p.shares]
    figure: Figure
    figure, axes = plt.subplots(
        1 + len(below),
        1,
        figsize=(7, 4 + 1.6 * len(below)),
        squeeze=False,
        sharex=True,
        layout="constrained",
        height_ratios=[3, *[1.2] * len(below)],
    )
    top, edges = axes[0, 0], setting.edges[0]
    for p in shared:
        look = (
            {"color": FAINT, "lw": 3.5}
            if p.title == "true"
            else {"color": FIRST, "lw": 1.8}
        )
        values = np.where(setting.mask, p.values, np.nan)
        top.stairs(values, edges, label=p.title, baseline=None, **look)
    top.set(ylabel=shared[0].bar, xlim=(edges[0], edges[-1]))
    if shared[0].scale.log:
        top.set_yscale("log")
    for ax, p in zip(axes[1:, 0], below, strict=True):
        values = np.where(setting.mask, p.values, np.nan)
        ax.stairs(values, edges, color=SECOND, baseline=None)
        ax.axhline(float(p.scale.log), color=FAINT, lw=0.8)
        ax.set(ylabel=p.title, yscale="log" if p.scale.log else "linear")
    axes[-1, 0].set_xlabel(labelled(setting.axes[0], setting.length_unit))
    line_marks(top, setting.marks, setting.sides)
    if len(shared) > 1:
        figure.legend(
            *top.get_legend_handles_labels(), loc="outside upper right", ncols=3
        )
    legend(figure, setting.marks, setting.sides)
    return figure


# ---- maps ---------------------------------------------------------------------------------------


def _maps(plt: ModuleType, panels: Sequence[Panel], setting: Setting) -> Figure:
    """A panel a map, or in 3-D a row of slices a panel."""
    if setting.mask.ndim == 3:
        figure, axes = _slices(plt, panels, setting)
    else:
        figure, axes = _beside(plt, panels, setting)
    _bars(figure, panels, axes)
    legend(figure, setting.marks, setting.sides)
    return figure


def _beside(
    plt: ModuleType, panels: Sequence[Panel], setting: Setting
) -> tuple[Figure, list[list[Axes]]]:
    """Maps beside each other, wide ones below each other; the axes by panel."""
    edges, count = setting.edges, len(panels)
    ratio = float(np.clip(np.ptp(edges[0]) / np.ptp(edges[1]), 0.25, 4.0))
    below = ratio > WIDE
    width = 7.0 if below else max(3.7 * (ratio if ratio <= 1 else 1.25), 2.6)
    rows, columns = (count, 1) if below else (1, count)
    bars = 1.4 if below else 0.9 * len({p.bar for p in panels}) + 0.5
    size = (columns * width + bars, rows * width / ratio + 1.1)
    figure, axes = plt.subplots(
        rows, columns, figsize=size, squeeze=False, layout="compressed"
    )
    for i, (ax, panel) in enumerate(zip(axes.flat, panels, strict=True)):
        _map(ax, panel, setting, None, shown_on(setting.marks, i))
        ax.set_title(panel.title)
        if i and not below:
            ax.set_ylabel("")
            ax.set_yticklabels([])
        if i < count - 1 and below:
            ax.set_xlabel("")
            ax.set_xticklabels([])
    return figure, [[ax] for ax in axes.flat]


def _slices(
    plt: ModuleType, panels: Sequence[Panel], setting: Setting
) -> tuple[Figure, list[list[Axes]]]:
    """A row of the three middle slices for every panel; the axes by panel."""
    edges, cuts = setting.edges, (2, 1, 0)
    planes = [_plane(edges, cut) for cut in cuts]
    ratios = [float(np.clip(np.ptp(x) / np.ptp(y), 0.25, 4.0)) for x, y in planes]
    ratios = [max(r, 0.45 * max(ratios)) for r in ratios]
    rows = len(panels)
    figure, axes = plt.subplots(
        rows,
        3,
        figsize=(12.0, rows * 10.0 / sum(ratios) + 1.2),
        squeeze=False,
        layout="compressed",
        gridspec_kw={"width_ratios": ratios},
    )
    for p, (row, panel) in enumerate(zip(axes, panels, strict=True)):
        for ax, cut in zip(row, cuts, strict=True):
            _map(ax, panel, setting, cut, shown_on(setting.marks, p))
            if p == 0:
                at = amount(f"{_middle(edges, cut):.3g}", setting.length_unit)
                ax.set_title(f"{setting.axes[cut]} = {at}")
            if p < rows - 1:
                ax.set_xlabel("")
        row[0].set_ylabel(f"{panel.title}\n{row[0].get_ylabel()}")
    return figure, [list(row) for row in axes]


def _bars(
    figure: Figure, panels: Sequence[Panel], axes: Sequence[Sequence[Axes]]
) -> None:
    """One scale of colours for the panels that share it, and one for every other."""
    shared = [i for i, p in enumerate(panels) if p.shares]
    others = [[i] for i, p in enumerate(panels) if not p.shares]
    for group in [shared, *others]:
        panel = panels[group[0]]
        beside = [ax for i in group for ax in axes[i]]
        artist = beside[0].collections[0]
        bar = figure.colorbar(
            artist,
            ax=beside,
            label=panel.bar,
            aspect=28,
            pad=0.02,
            extend=panel.scale.extend,
        )
        bar.outline.set_linewidth(0.5)
        if panel.scale.log:
            short_log_ticks(bar.ax.yaxis, panel.scale.low, panel.scale.high)


def _plane(
    edges: Sequence[np.ndarray], fixed: int | None
) -> tuple[np.ndarray, np.ndarray]:
    kept = [np.asarray(e) for d, e in enumerate(edges) if d != fixed]
    return kept[0], kept[1]


def _middle(edges: Sequence[np.ndarray], axis: int) -> float:
    i = (len(edges[axis]) - 1) // 2
    return float(edges[axis][i] + edges[axis][i + 1]) / 2


def _map(
    ax: Axes, panel: Panel, setting: Setting, fixed: int | None, marks: Sequence[Marks]
) -> None:
    """One map, a slice where an axis is fixed, with what is marked on it."""
    values, mask, edges = panel.values, setting.mask, setting.edges
    if fixed is not None:
        cut: list[slice | int] = [slice(None)] * 3
        cut[fixed] = (values.shape[fixed] - 1) // 2
        values, mask = values[tuple(cut)], mask[tuple(cut)]
    _mesh(ax, _plane(edges, fixed), values, mask, panel)
    kept = [d for d in range(len(edges)) if d != fixed]
    unit, names = setting.length_unit, [setting.axes[d] for d in kept]
    ax.set(xlabel=labelled(names[0], unit), ylabel=labelled(names[1], unit))
    mark(ax, edges, marks, fixed, 0.0 if fixed is None else _middle(edges, fixed))
    mark_sides(ax, [AXES[d] for d in kept], setting.sides)


def _mesh(
    ax: Axes,
    plane: tuple[np.ndarray, np.ndarray],
    values: np.ndarray,
    mask: np.ndarray,
    panel: Panel,
) -> None:
    """Values [i, j] as coloured cells, of many every second, third, ... one."""
    steps = [max(1, -(-n // MAX_CELLS)) for n in values.shape]
    x, y = (np.append(e[:-1:s], e[-1]) for e, s in zip(plane, steps, strict=True))
    thin = (slice(None, None, steps[0]), slice(None, None, steps[1]))
    shown = np.ma.masked_array(values[thin], ~mask[thin] | ~np.isfinite(values[thin]))
    ax.set_facecolor("#e3e3e3")
    ax.pcolormesh(
        x, y, shown.T, norm=panel.scale.norm(), cmap=panel.cmap, rasterized=True
    )
    ratio = (x[-1] - x[0]) / (y[-1] - y[0])
    ax.set_aspect("equal" if 0.2 < ratio < 5 else "auto")
    if ratio < 0.5:
        ax.set_xticks([x[0], x[-1]])
    ax.spines[:].set_visible(True)
    ax.set(xlim=(x[0], x[-1]), ylim=(y[0], y[-1]))

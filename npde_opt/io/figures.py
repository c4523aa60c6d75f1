"""Figures of an identification: fields side by side, data fit, convergence, choice of the regularization weight.

All functions take plain arrays and lists, draw without a display and write one PNG (or what the suffix says), whole or
not at all. Call them on one rank.
"""

from __future__ import annotations

import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from npde_opt.errors import InputError
from npde_opt.io.files import whole_file

INK, FAINT, FIRST, SECOND, THIRD = "#222222", "#8a8a8a", "#1f5fa8", "#c8501e", "#3a8f5c"
STYLE: dict[Any, Any] = {"font.size": 10, "axes.titlesize": 11, "axes.labelsize": 10, "axes.edgecolor": "#555555",
         "axes.linewidth": 0.8, "xtick.color": "#444444", "ytick.color": "#444444", "axes.spines.top": False,
         "axes.spines.right": False, "legend.frameon": False, "legend.fontsize": 9, "figure.dpi": 100,
         "savefig.dpi": 200, "axes.titlelocation": "left", "lines.linewidth": 1.6}
MAX_CELLS = 800
AXES = "xyz"


def plot_fields(path: str | os.PathLike, edges: Sequence[np.ndarray], recovered: np.ndarray,
                true: np.ndarray | None = None, *, name: str = "parameter", unit: str = "", length_unit: str = "m",
                active: np.ndarray | None = None, points: np.ndarray | None = None, points_name: str = "observations",
                log: bool = False, cmap: str = "viridis") -> Path:
    """The recovered field, beside the true one where it is known, in one colour scale.

    Args:
        edges: cell edges along each axis. 1-D gives lines, 2-D maps, 3-D the three orthogonal middle slices.
        recovered, true: arrays [i, j, k].
        active: bool [i, j, k]; inactive cells are left grey.
        points: (n, dim) coordinates to mark (electrodes, wells, sensors); in 3-D those near each slice.
        log: logarithmic colours; the fields have to be positive.
    """
    panels = ([("true", np.asarray(true))] if true is not None else []) + [("recovered", np.asarray(recovered))]
    shape = tuple(len(e) - 1 for e in edges)
    for label, values in panels:
        if values.shape != shape:
            raise InputError(f"figure of the {label} field", f"shape {values.shape}", f"shape {shape} of the edges")
    mask = np.ones(shape, bool) if active is None else np.asarray(active, bool)
    known = np.concatenate([v[mask & np.isfinite(v) & ((v > 0) | (not log))] for _, v in panels])
    limits = (float(known.min()), float(known.max())) if known.size else (0.0, 1.0)
    if limits[0] == limits[1]:
        limits = (limits[0] * 0.99 - 1e-12, limits[1] * 1.01 + 1e-12) if not log else (limits[0] / 1.1, limits[1] * 1.1)
    label = f"{name} [{unit}]" if unit else name
    places = None if points is None else np.asarray(points, float).reshape(-1, len(shape))
    with _style() as plt:
        if len(shape) == 1:
            figure = _lines(plt, edges[0], panels, mask, label, length_unit, places, points_name, log)
        else:
            figure = _maps(plt, edges, panels, mask, label, length_unit, places, points_name, limits, log, cmap)
        return _save(plt, figure, path)


def _lines(plt, edges, panels, mask, label, length_unit, places, points_name, log):
    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    for title, values in panels:
        style = {"color": FAINT, "lw": 3.5} if title == "true" else {"color": FIRST, "lw": 1.8}
        axes.stairs(np.where(mask, values, np.nan), edges, label=title, baseline=None, **style)
    if places is not None:
        axes.plot(places[:, 0], np.zeros(len(places)), "v", color=SECOND, ms=6, clip_on=False, label=points_name,
                  transform=axes.get_xaxis_transform())
    if log:
        axes.set_yscale("log")
    axes.set(xlabel=f"x [{length_unit}]", ylabel=label, xlim=(edges[0], edges[-1]))
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper right", ncols=3)
    return figure


def _maps(plt, edges, panels, mask, label, length_unit, places, points_name, limits, log, cmap):
    norm = _norm(limits, log)
    slices = [None] if mask.ndim == 2 else [2, 1, 0]
    extents = [_plane(edges, s) for s in slices]
    ratios = [min(max((e[0][-1] - e[0][0]) / (e[1][-1] - e[1][0]), 0.25), 4.0) for e in extents]
    if mask.ndim == 2:
        rows, columns = (len(panels), 1) if ratios[0] > 1.8 else (1, len(panels))
        width = 3.7 * (ratios[0] if ratios[0] <= 1 else 1.25) if columns > 1 or len(panels) == 1 else 7.0
        size = (columns * max(width, 2.6) + 1.4, rows * max(width, 2.6) / ratios[0] + 1.1)
    else:
        rows, columns = len(panels), 3
        ratios = [max(r, 0.45 * max(ratios)) for r in ratios]
        size = (12.0, rows * 10.0 / sum(ratios) + 1.2)
    figure, axes = plt.subplots(rows, columns, figsize=size, squeeze=False, layout="compressed",
                                gridspec_kw={"width_ratios": ratios} if mask.ndim == 3 else None)
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
        figure.legend(*axes.flat[0].get_legend_handles_labels(), loc="outside lower center", handletextpad=0.2)
    return figure


def _short_log_ticks(axis, low: float, high: float) -> None:
    """Plain numbers in place of powers of ten where they are short."""
    if low >= 1e-3 and high < 1e5:
        axis.set_major_formatter(lambda x, _: f"{x:g}")
        axis.set_minor_formatter(lambda x, _: f"{x:.1g}" if high < 30 * low and f"{x:e}"[0] in "235" else "")


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
        places = np.delete(places[abs(places[:, fixed] - _middle(edges, fixed)) <= near], fixed, axis=1)
    ax.plot(*places.T[:2], **_marker() | {"ms": 4.0 if len(places) < 150 else 2.5}, clip_on=False)


def plot_data_fit(path: str | os.PathLike, observed: np.ndarray, predicted: np.ndarray,
                  sigma: float | np.ndarray | None = None, *, name: str = "data", unit: str = "") -> Path:
    """Observed against predicted data with the band of 2 sigma, and the residuals against their expected law.

    NaN in `observed` is data that were not observed.
    """
    d, p = np.ravel(np.asarray(observed, float)), np.ravel(np.asarray(predicted, float))
    if d.shape != p.shape:
        raise InputError("figure of the data fit", f"{p.size} predictions", f"{d.size}, one for each observation")
    seen = np.isfinite(d) & np.isfinite(p)
    s = None if sigma is None else np.broadcast_to(np.ravel(np.asarray(sigma, float)), d.shape)[seen]
    d, p = d[seen], p[seen]
    label = f" {name} [{unit}]" if unit else f" {name}"
    with _style() as plt:
        figure, (left, right) = plt.subplots(1, 2, figsize=(9.6, 4.3), layout="constrained", width_ratios=(1, 1.05))
        low, high = (min(d.min(), p.min()), max(d.max(), p.max())) if d.size else (0.0, 1.0)
        pad = 0.04 * (high - low or 1.0)
        line = np.array([low - pad, high + pad])
        left.plot(line, line, color=FAINT, lw=1, zorder=1)
        if s is not None and s.size:
            width = 2 * float(np.median(s))
            left.fill_between(line, line - width, line + width, color=FAINT, alpha=0.25, lw=0, zorder=0,
                              label=r"$\pm 2\sigma$")
            left.legend(loc="upper left")
        left.plot(d, p, "o", color=FIRST, ms=4 if d.size < 500 else 2, alpha=0.65, mec="none", zorder=2)
        left.set(xlabel="observed" + label, ylabel="predicted" + label, xlim=line, ylim=line,
                 title=f"{d.size:,} observations")
        left.set_aspect("equal")
        _residuals(right, p - d, s, unit)
        return _save(plt, figure, path)


def _residuals(ax, residual: np.ndarray, sigma: np.ndarray | None, unit: str) -> None:
    scaled = residual if sigma is None else residual / sigma
    spread = float(np.percentile(abs(scaled), 99.5)) if scaled.size else 1.0
    reach = max(spread, 3.5 if sigma is not None else spread) or 1.0
    bins = np.linspace(-reach, reach, int(np.clip(np.sqrt(scaled.size) * 1.6, 11, 61)) | 1)
    ax.hist(np.clip(scaled, -reach, reach), bins=bins, density=True, color=FIRST, alpha=0.75, edgecolor="white", lw=0.5)
    if sigma is not None:
        t = np.linspace(-reach, reach, 300)
        ax.plot(t, np.exp(-t**2 / 2) / np.sqrt(2 * np.pi), color=SECOND, label="standard normal")
        ax.legend(loc="upper right")
        chi2 = float(np.mean(scaled**2)) if scaled.size else float("nan")
        ax.set(xlabel=r"(predicted $-$ observed) / $\sigma$", title=rf"mean $\chi^2$ = {chi2:.3g}")
    else:
        rms = float(np.sqrt(np.mean(scaled**2))) if scaled.size else float("nan")
        ax.set(xlabel=r"predicted $-$ observed" + (f" [{unit}]" if unit else ""), title=f"root mean square {rms:.3g}")
    ax.set_ylabel("density")


def plot_convergence(path: str | os.PathLike, history: Sequence[Mapping[str, Any]], *,
                     gradient_rtol: float | None = None, levels: Sequence[str] | None = None) -> Path:
    """Objective, misfit and gradient norm by iteration, the gradient norm by cumulative solves; one colour a level.

    Args:
        history: rows of history.csv, in order.
        gradient_rtol: the tolerance, drawn as a line.
        levels: names of the levels (their grids), coarsest first.
    """
    if not history:
        raise InputError("figure of convergence", "an empty history", "at least one row")
    level = _column(history, "level", 0).astype(int)
    steps = np.arange(len(history))
    work = _column(history, "forward_solves", 0) + _column(history, "adjoint_solves", 0)
    norm = _column(history, "gradient_norm")
    first = np.array([norm[np.argmax(level == k)] for k in level])
    with _style() as plt:
        figure, (left, middle, right) = plt.subplots(1, 3, figsize=(13, 4.0), layout="constrained")
        shades = plt.get_cmap("plasma")(np.linspace(0.0, 0.78, int(np.ptp(level)) + 1))
        for k in np.unique(level):
            on, color = level == k, shades[k - level.min()]
            named = levels[k] if levels is not None and k < len(levels) else f"level {k}"
            left.plot(steps[on], _column(history, "objective")[on], "o-", color=color, ms=4, label=named)
            left.plot(steps[on], _column(history, "misfit")[on], "s--", color=color, ms=3.5, lw=1, mfc="white")
            for ax, x in ((middle, steps), (right, work)):
                ax.plot(x[on], norm[on] / first[on], "o-", color=color, ms=4)
        left.plot([], [], "o-", color=FAINT, ms=4, label="objective")
        left.plot([], [], "s--", color=FAINT, ms=3.5, lw=1, mfc="white", label="misfit")
        for ax in (middle, right):
            if gradient_rtol:
                ax.axhline(gradient_rtol, color=FAINT, lw=1, ls=":")
            ax.set(yscale="log", ylabel="gradient norm / its start")
        _log_where_it_helps(left, np.concatenate([_column(history, c) for c in ("objective", "misfit")]))
        left.set(xlabel="iteration", ylabel="objective and misfit")
        middle.set(xlabel="iteration")
        right.set(xlabel="forward + adjoint solves")
        for ax in (left, middle):
            ax.xaxis.get_major_locator().set_params(integer=True)
        handles, names = left.get_legend_handles_labels()
        chosen = [i for i, n in enumerate(names) if len(set(level)) > 1 or n in ("objective", "misfit")]
        figure.legend([handles[i] for i in chosen], [names[i] for i in chosen], loc="outside upper left",
                      ncols=len(chosen))
        for ax in (left, middle, right):
            ax.grid(True, which="major", color="#e8e8e8", lw=0.6)
        return _save(plt, figure, path)


def _column(history: Sequence[Mapping[str, Any]], key: str, missing: float = np.nan) -> np.ndarray:
    return np.array([missing if row.get(key) is None else row[key] for row in history], float)


def _log_where_it_helps(ax, values: np.ndarray) -> None:
    values = values[np.isfinite(values)]
    if values.size and values.min() > 0 and values.max() > 5 * values.min():
        ax.set_yscale("log")


def plot_weights(path: str | os.PathLike, weights: Sequence[float], misfits: Sequence[float],
                 regularizations: Sequence[float], chosen: float, *, target: float | None = None,
                 method: str = "discrepancy principle") -> Path:
    """Misfit against unweighted regularization (the L-curve) and against the weight, with the chosen weight marked.

    Args:
        weights, misfits, regularizations: one value a trial, in any order, all positive.
        chosen: the weight that was taken; one of `weights`.
        target: the misfit that the noise explains.
    """
    order = np.argsort(np.asarray(weights, float))
    w, f, r = (np.asarray(v, float)[order] for v in (weights, misfits, regularizations))
    pick = int(np.argmin(abs(np.log(w / chosen))))
    with _style() as plt:
        figure, (left, right) = plt.subplots(1, 2, figsize=(9.8, 4.3), layout="constrained")
        for ax, x, y in ((left, f, r), (right, w, f)):
            ax.loglog(x, y, "o-", color=FIRST, ms=5)
            ax.loglog(x[pick], y[pick], "o", ms=13, mfc="none", mec=SECOND, mew=2)
            ax.grid(True, which="major", color="#e8e8e8", lw=0.6)
        for i in [pick, *(i for i in (0, len(w) - 1) if abs(i - pick) > 1)]:
            left.annotate(f"{w[i]:.2g}", (f[i], r[i]), xytext=(9, 7), textcoords="offset points", fontsize=9,
                          color=SECOND if i == pick else INK)
        if target is not None:
            left.axvline(target, color=THIRD, lw=1.2, ls="--", label="misfit of the noise")
            right.axhline(target, color=THIRD, lw=1.2, ls="--")
            left.legend(loc="upper right")
        left.set(xlabel="misfit", ylabel="regularization (without weight)",
                 title=f"weight {chosen:.3g} by the {method}")
        right.set(xlabel="weight", ylabel="misfit")
        for ax in (left, right):
            ax.margins(0.12)
        return _save(plt, figure, path)


class _style:
    """Matplotlib's Agg pyplot in the style of these figures, for the length of a block."""

    def __enter__(self):
        try:
            import matplotlib
        except ImportError:
            raise InputError("figures", "no matplotlib package",
                             "pip install 'npde_opt[plot]' (or matplotlib)") from None
        matplotlib.use("Agg")
        import matplotlib.pyplot as plt

        self.context = plt.rc_context(STYLE)
        self.context.__enter__()
        return plt

    def __exit__(self, *error) -> None:
        self.context.__exit__(*error)


def _norm(limits: tuple[float, float], log: bool):
    from matplotlib.colors import LogNorm, Normalize

    return LogNorm(*limits) if log else Normalize(*limits)


def _save(plt, figure, path: str | os.PathLike) -> Path:
    target = Path(path)
    content = io.BytesIO()
    figure.savefig(content, format=target.suffix[1:] or "png", bbox_inches="tight")
    plt.close(figure)
    try:
        with whole_file(target) as file:
            file.write(content.getvalue())
    except OSError as error:
        raise InputError(str(target), error.strerror or str(error), "a place where files can be written") from error
    return target

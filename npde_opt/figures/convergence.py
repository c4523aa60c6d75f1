"""Convergence of an optimization, and the choice of the regularization weight."""

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


def plot_convergence(
    path: FilePath,
    history: Sequence[Mapping[str, Plain]],
    *,
    gradient_rtol: float | None = None,
    levels: Sequence[str] | None = None,
) -> Path:
    """Objective, misfit and gradient norm by iteration, the gradient norm by solves; one
    colour a level.

    Args:
        history: rows of history.csv, in order.
        gradient_rtol: the tolerance, drawn as a line.
        levels: names of the levels (their grids), coarsest first.
    """
    if not history:
        raise InputError(
            "figure of convergence", "an empty history", "at least one row"
        )
    level = _column(history, "level", 0).astype(int)
    steps = np.arange(len(history))
    work = _column(history, "forward_solves", 0) + _column(history, "adjoint_solves", 0)
    norm = _column(history, "gradient_norm")
    first = np.array([norm[np.argmax(level == k)] for k in level])
    with style() as plt:
        figure, (left, middle, right) = plt.subplots(
            1, 3, figsize=(13, 4.0), layout="constrained"
        )
        shades = plt.get_cmap("plasma")(np.linspace(0.0, 0.78, int(np.ptp(level)) + 1))
        for k in np.unique(level):
            on, color = level == k, shades[k - level.min()]
            named = (
                levels[k] if levels is not None and k < len(levels) else f"level {k}"
            )
            left.plot(
                steps[on],
                _column(history, "objective")[on],
                "o-",
                color=color,
                ms=4,
                label=named,
            )
            left.plot(
                steps[on],
                _column(history, "misfit")[on],
                "s--",
                color=color,
                ms=3.5,
                lw=1,
                mfc="white",
            )
            for ax, x in ((middle, steps), (right, work)):
                ax.plot(x[on], norm[on] / first[on], "o-", color=color, ms=4)
        left.plot([], [], "o-", color=FAINT, ms=4, label="objective")
        left.plot([], [], "s--", color=FAINT, ms=3.5, lw=1, mfc="white", label="misfit")
        for ax in (middle, right):
            if gradient_rtol:
                ax.axhline(gradient_rtol, color=FAINT, lw=1, ls=":")
            ax.set(yscale="log", ylabel="gradient norm / its start")
        _log_where_it_helps(
            left, np.concatenate([_column(history, c) for c in ("objective", "misfit")])
        )
        left.set(xlabel="iteration", ylabel="objective and misfit")
        middle.set(xlabel="iteration")
        right.set(xlabel="forward + adjoint solves on its grid")
        for ax in (left, middle):
            ax.xaxis.get_major_locator().set_params(integer=True)
        handles, names = left.get_legend_handles_labels()
        chosen = [
            i
            for i, n in enumerate(names)
            if len(set(level)) > 1 or n in ("objective", "misfit")
        ]
        figure.legend(
            [handles[i] for i in chosen],
            [names[i] for i in chosen],
            loc="outside upper left",
            ncols=len(chosen),
        )
        for ax in (left, middle, right):
            ax.grid(True, which="major", color="#e8e8e8", lw=0.6)
        return save(plt, figure, path)


def _column(
    history: Sequence[Mapping[str, Plain]], key: str, missing: float = np.nan
) -> np.ndarray:
    return np.array(
        [missing if row.get(key) is None else row[key] for row in history], float
    )


def _log_where_it_helps(ax: Axes, values: np.ndarray) -> None:
    values = values[np.isfinite(values)]
    if values.size and values.min() > 0 and values.max() > 5 * values.min():
        ax.set_yscale("log")


def plot_weights(
    path: FilePath,
    weights: Sequence[float],
    misfits: Sequence[float],
    regularizations: Sequence[float],
    chosen: float,
    *,
    target: float | None = None,
    method: str = "discrepancy principle",
) -> Path:
    """Misfit against unweighted regularization (the L-curve) and against the weight, with the
    chosen weight marked.

    Args:
        weights, misfits, regularizations: one value a trial, in any order, all positive.
        chosen: the weight that was taken; one of `weights`.
        target: the misfit that the noise explains.
    """
    order = np.argsort(np.asarray(weights, float))
    w, f, r = (np.asarray(v, float)[order] for v in (weights, misfits, regularizations))
    pick = int(np.argmin(abs(np.log(w / chosen))))
    with style() as plt:
        figure, (left, right) = plt.subplots(
            1, 2, figsize=(9.8, 4.3), layout="constrained"
        )
        for ax, x, y in ((left, f, r), (right, w, f)):
            ax.loglog(x, y, "o-", color=FIRST, ms=5)
            ax.loglog(x[pick], y[pick], "o", ms=13, mfc="none", mec=SECOND, mew=2)
            ax.grid(True, which="major", color="#e8e8e8", lw=0.6)
        for i in [pick, *(i for i in (0, len(w) - 1) if abs(i - pick) > 1)]:
            left.annotate(
                f"{w[i]:.2g}",
                (f[i], r[i]),
                xytext=(9, 7),
                textcoords="offset points",
                fontsize=9,
                color=SECOND if i == pick else INK,
            )
        if target is not None:
            left.axvline(
                target, color=THIRD, lw=1.2, ls="--", label="misfit of the noise"
            )
            right.axhline(target, color=THIRD, lw=1.2, ls="--")
            left.legend(loc="upper right")
        left.set(
            xlabel="misfit",
            ylabel="regularization (without weight)",
            title=f"weight {chosen:.3g} by the {method}",
        )
        right.set(xlabel="weight", ylabel="misfit")
        for ax in (left, right):
            ax.margins(0.12)
        return save(plt, figure, path)

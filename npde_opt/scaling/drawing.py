"""Figures of a study: speed-up, stages, iterations, memory, prediction, and where the time goes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from npde_opt.figures.style import FAINT, FIRST, SECOND, THIRD, save, style
from npde_opt.scaling.collect import Row
from npde_opt.scaling.predict import Curve

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SIZE = (6.4, 4.2)
COLOURS = (FIRST, SECOND, THIRD, "#7b4ea3", "#b8860b", "#3b8ea5", "#a23b5d")
NARROW = 0.004
"""Of the width: calls that are shorter have no box."""
Stacks = Mapping[tuple[str, ...], float]


def lines(rows: Sequence[Row]) -> Iterator[tuple[str, list[Row]]]:
    """Runs that belong to one line of a figure, the fastest of each number of ranks."""

    def key(r: Row) -> tuple[str, tuple[int, ...], int]:
        return r.run.kind, r.run.grid if r.run.kind == "strong" else (), r.run.groups

    for (kind, grid, groups), found in groupby(sorted(rows, key=key), key):
        best: dict[int, Row] = {}
        for r in found:
            if r.run.ranks not in best or r.solve < best[r.run.ranks].solve:
                best[r.run.ranks] = r
        name = " ".join([kind, "x".join(map(str, grid))]).strip()
        if groups > 1:
            name += f", {groups} groups"
        yield name, [best[p] for p in sorted(best)]


def efficiency(row: Row, first: Row) -> float:
    """Of a run against the one with the fewest ranks: seconds a solve and unknown of a rank."""
    own = row.solve / (row.load * row.work / row.run.groups)
    base = first.solve / (first.load * first.work / first.run.groups)
    return base / own


def draw_speed(rows: Sequence[Row], path: Path) -> Path:
    """Seconds and efficiency by ranks, with the ideal."""
    with style() as plt:
        figure, (left, right) = plt.subplots(
            1, 2, figsize=(10, 4.2), layout="constrained"
        )
        for (name, found), colour in zip(
            lines(rows), COLOURS * len(rows), strict=False
        ):
            ranks = [r.run.ranks for r in found]
            left.plot(ranks, [r.solve for r in found], "o-", color=colour, label=name)
            perfect = [found[0].solve] * len(found)
            if found[0].run.kind == "strong":
                perfect = [found[0].solve * ranks[0] / p for p in ranks]
            left.plot(ranks, perfect, ":", color=colour, lw=1)
            right.plot(
                ranks, [efficiency(r, found[0]) for r in found], "o-", color=colour
            )
        right.axhline(1, color=FAINT, lw=1, ls=":")
        _ranks(left, rows)
        _ranks(right, rows)
        left.set(yscale="log", ylabel="seconds of the solve (dots: ideal)")
        right.set(ylim=(0, 1.25), ylabel="efficiency of an iteration")
        left.legend()
        return save(plt, figure, path)


def draw_stages(rows: Sequence[Row], path: Path) -> Path:
    """The share of every stage of PETSc's log, a bar a run."""
    known = [r for r in rows if r.stages]
    names = list(dict.fromkeys(n for r in known for n in r.stages))
    with style() as plt:
        size = (SIZE[0], 1.4 + 0.32 * max(1, len(known)))
        figure, ax = plt.subplots(figsize=size, layout="constrained")
        start = [0.0] * len(known)
        for name, colour in zip(names, COLOURS * len(names), strict=False):
            share = []
            for r in known:
                total = sum(s.seconds for s in r.stages.values())
                own = r.stages[name].seconds if name in r.stages else 0.0
                share.append(100 * own / max(total, 1e-12))
            labels = [r.run.name for r in known]
            ax.barh(labels, share, left=start, color=colour, label=name)
            start = [a + b for a, b in zip(start, share, strict=True)]
        ax.invert_yaxis()
        ax.set(xlabel="share of the seconds [%]", xlim=(0, 100))
        figure.legend(loc="outside upper center", ncols=4)
        return save(plt, figure, path)


def draw_work(rows: Sequence[Row], path: Path) -> Path:
    """Iterations of a solve beside seconds of one, and memory of a rank."""
    wanted: list[tuple[str, Callable[[Row], float]]] = [
        ("Krylov iterations of a solve", lambda r: r.krylov),
        ("seconds of a solve", lambda r: r.solve / max(1, r.solves)),
        ("memory of a rank [MB]", lambda r: r.memory / 1e6),
    ]
    with style() as plt:
        figure, axes = plt.subplots(1, 3, figsize=(13, 4.0), layout="constrained")
        for (label, value), ax in zip(wanted, axes, strict=True):
            for (name, found), colour in zip(
                lines(rows), COLOURS * len(rows), strict=False
            ):
                ranks = [r.run.ranks for r in found]
                ax.plot(
                    ranks, [value(r) for r in found], "o-", color=colour, label=name
                )
            _ranks(ax, rows)
            ax.set(ylabel=label)
            ax.set_ylim(bottom=0)
        axes[0].legend()
        return save(plt, figure, path)


def draw_curves(curves: Sequence[Curve], path: Path) -> Path:
    """Predicted efficiency with its band."""
    with style() as plt:
        figure, ax = plt.subplots(figsize=SIZE, layout="constrained")
        for curve, colour in zip(curves, COLOURS, strict=False):
            points = curve.points
            ranks = [p.size.ranks for p in points]
            ideal = [p.efficiency * p.seconds for p in points]
            high = [i / max(p.low, 1e-300) for i, p in zip(ideal, points, strict=True)]
            low = [i / max(p.high, 1e-300) for i, p in zip(ideal, points, strict=True)]
            ax.fill_between(ranks, low, high, color=colour, alpha=0.18, lw=0)
            label = f"{curve.kind}, {points[0].size.load:,.0f} unknowns on the first"
            ax.plot(
                ranks, [p.efficiency for p in points], "-", color=colour, label=label
            )
        ax.axhline(0.5, color=FAINT, lw=1, ls=":")
        ax.set(
            xscale="log", xlabel="ranks", ylabel="predicted efficiency", ylim=(0, 1.1)
        )
        ax.legend(loc="lower left")
        return save(plt, figure, path)


def draw_flames(stacks: Stacks, title: str, path: Path) -> Path:
    """Calls below their callers, as wide as their seconds."""
    total = sum(stacks.values())
    width = _inclusive(stacks)
    depth = max(len(s) for s in stacks)
    with style() as plt:
        size = (11, 1.2 + 0.28 * depth)
        figure, ax = plt.subplots(figsize=size, layout="constrained")
        starts: dict[tuple[str, ...], float] = {(): 0.0}
        for stack in sorted(width):
            left = starts[stack[:-1]]
            share = width[stack] / total
            starts[stack[:-1]] = left + share
            starts[stack] = left
            if share < NARROW:
                continue
            colour = COLOURS[sum(map(ord, stack[-1])) % len(COLOURS)]
            ax.barh(-len(stack), share, 0.92, left, color=colour, alpha=0.75)
            if share > 0.012 * len(stack[-1]) * 0.7:
                middle = left + share / 2
                ax.text(
                    middle, -len(stack), stack[-1], ha="center", va="center", fontsize=7
                )
        ax.set(xlim=(0, 1), yticks=[], xlabel="share of the seconds", title=title)
        return save(plt, figure, path)


def _inclusive(stacks: Stacks) -> dict[tuple[str, ...], float]:
    """Seconds of every call with what it calls."""
    found: dict[tuple[str, ...], float] = {}
    for stack, seconds in stacks.items():
        for k in range(1, len(stack) + 1):
            found[stack[:k]] = found.get(stack[:k], 0.0) + seconds
    return found


def _ranks(ax: Axes, rows: Sequence[Row]) -> None:
    ticks = sorted({r.run.ranks for r in rows})
    ax.set_xscale("log", base=2)
    ax.set_xticks(ticks, [str(t) for t in ticks])
    ax.set_xlabel("ranks")

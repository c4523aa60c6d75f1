"""Progress of a run as text: a live table on a terminal, fixed-width lines in a log, a closing
summary."""

from __future__ import annotations

import io
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from npde_opt.aliases import Plain
from npde_opt.io.history import Row
from npde_opt.io.results import Summary
from npde_opt.runs import noise, starts, told
from npde_opt.runs.columns import Column
from npde_opt.runs.meanings import AT_MINIMUM, OF_NO_MINIMUM
from npde_opt.uncertainty import chances

if TYPE_CHECKING:
    from rich.table import Table

HEADER_EVERY = 20


@dataclass(frozen=True)
class Level:
    """A grid of a nested iteration: `level` 0 is the coarsest of `levels`."""

    level: int = 0
    levels: int = 1
    shape: tuple[int, ...] = ()

    def __str__(self) -> str:
        size = "x".join(str(n) for n in self.shape)
        return (
            f"{self.level + 1}/{self.levels} {size}" if self.levels > 1 else size or "-"
        )


@dataclass(frozen=True)
class Progress:
    """One completed iteration: the history row, where it was and the times in seconds."""

    row: Row
    elapsed: float
    left: float | None
    at_most: bool
    relative: float
    level: Level = Level()

    def number(self, key: str, pattern: str) -> str:
        value = self.row.get(key)
        return (
            "-" if value is None or not math.isfinite(value) else format(value, pattern)
        )


Shown = tuple[str, int, Callable[[Progress], str]]
"""Head, width and text of a column."""

COLUMNS: tuple[Shown, ...] = (
    ("grid", 16, lambda p: str(p.level)),
    ("iter", 5, lambda p: p.number("iteration", "d")),
    ("objective", 14, lambda p: p.number("objective", ".7e")),
    ("misfit", 11, lambda p: p.number("misfit", ".4e")),
    ("gradient", 10, lambda p: p.number("gradient_norm", ".2e")),
    ("rel.grad", 9, lambda p: "-" if math.isnan(p.relative) else f"{p.relative:.1e}"),
    ("step", 8, lambda p: p.number("step", ".1e")),
    ("solves", 7, lambda p: solves(p.row)),
    ("krylov", 7, lambda p: p.number("krylov_iterations", "d")),
    ("elapsed", 9, lambda p: clock(p.elapsed)),
    (
        "left",
        9,
        lambda p: "-" if p.left is None else ("<" if p.at_most else "") + clock(p.left),
    ),
)


TIMES = 2
"""The last columns."""
DROPPED_FIRST = ("krylov", "rel.grad", "step", "grid", "elapsed", "misfit", "solves")


def shown(own: Sequence[Column]) -> list[Shown]:
    """The common columns, with those of a run's own before the times."""
    more = [
        (c.name, c.width, partial(Progress.number, key=c.name, pattern=c.pattern))
        for c in own
    ]
    return [*COLUMNS[:-TIMES], *more, *COLUMNS[-TIMES:]]


def fitting(width: int, own: Sequence[Column] = ()) -> list[Shown]:
    """The columns that fit into so many characters, the less telling ones left out first."""
    kept = shown(own)
    for name in (*DROPPED_FIRST, *(c.name for c in own)):
        if sum(w for _, w, _ in kept) <= width:
            break
        kept = [c for c in kept if c[0] != name]
    return kept


def solves(row: Row) -> str:
    counts = [
        row[k] for k in ("forward_solves", "adjoint_solves") if row.get(k) is not None
    ]
    return str(sum(counts)) if counts else "-"


def clock(seconds: float) -> str:
    """1.2s, 3:04, 5:06:07, 2d 03h"""
    if seconds < 10:
        return f"{seconds:.1f}s"
    whole = int(round(seconds))
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02d}"
    if whole < 86400:
        return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"
    return f"{whole // 86400}d {whole // 3600 % 24:02d}h"


class PlainLines:
    """One flushed line an iteration, with the header every 20 lines."""

    def __init__(self, stream: TextIO, own: Sequence[Column] = ()):
        self.stream, self.count, self.columns = stream, 0, shown(own)

    def add(self, progress: Progress) -> None:
        if self.count % HEADER_EVERY == 0:
            head = [name.rjust(width) for name, width, _ in self.columns]
            print("".join(head), file=self.stream)
        self.count += 1
        cells = [text(progress).rjust(width) for _, width, text in self.columns]
        print("".join(cells), file=self.stream, flush=True)

    def say(self, text: str) -> None:
        print(text, file=self.stream, flush=True)

    def close(self) -> None:
        self.stream.flush()


class Kept(PlainLines):
    """Plain lines that are kept until they are taken, for run.log."""

    def __init__(self, own: Sequence[Column] = ()) -> None:
        super().__init__(io.StringIO(), own)

    def take(self) -> str:
        """All that was said since the last time."""
        text = self.stream.getvalue()  # type: ignore[attr-defined]
        self.stream = io.StringIO()
        return str(text)


class LiveTable:
    """A table that is redrawn at every iteration; the last rows that fit on the screen."""

    def __init__(self, stream: TextIO, width: int = 0, own: Sequence[Column] = ()):
        from rich.console import Console
        from rich.live import Live

        self.console = Console(file=stream, force_terminal=True, width=width or None)
        self.live = Live(
            console=self.console,
            auto_refresh=False,
            redirect_stderr=False,
            redirect_stdout=False,
        )
        self.columns = fitting(self.console.width, own)
        self.progress: list[Progress] = []

    def add(self, progress: Progress) -> None:
        if not self.live.is_started:
            self.live.start()
        self.progress = [*self.progress, progress][-max(self.console.height - 6, 4) :]
        self.live.update(self._render(), refresh=True)

    def _render(self) -> Table:
        from rich import box
        from rich.table import Table

        table = Table(
            box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 0)
        )
        for name, width, _ in self.columns:
            table.add_column(
                name,
                justify="right",
                no_wrap=True,
                width=width - 1,
                style={"objective": "bold", "left": "green"}.get(name, ""),
            )
        for i, p in enumerate(self.progress):
            new_grid = i > 0 and p.level != self.progress[i - 1].level
            if new_grid:
                table.add_section()
            table.add_row(*[text(p) for _, _, text in self.columns])
        return table

    def say(self, text: str) -> None:
        self.console.print(text, highlight=False, markup=False)

    def close(self) -> None:
        self.live.stop()


def terminal_width(stream: TextIO) -> int:
    """Columns of the terminal that a person watches, 0 where the stream goes to a file or pipe.

    mpirun gives its children a pseudo-terminal of no size even where its own output goes to a file;
    then its own output decides.
    """
    if os.environ.get("TERM", "dumb") == "dumb":
        return 0
    try:
        descriptor = stream.fileno()
    except (OSError, ValueError, AttributeError):
        return 0
    if not os.isatty(descriptor):
        return 0
    columns = os.get_terminal_size(descriptor).columns
    return columns or _parent_width()


def _parent_width() -> int:
    try:
        with open(f"/proc/{os.getppid()}/fd/1", "rb", buffering=0) as output:
            return (
                os.get_terminal_size(output.fileno()).columns if output.isatty() else 0
            )
    except OSError:
        return 0


def closing_text(summary: Summary, out: Path | None = None) -> str:
    """What a person reads at the end of a run."""
    s, per = summary, summary.krylov_iterations_mean
    reduction = (
        f" ({s.gradient_norm / s.gradient_norm_initial:.1e} of the start)"
        if s.gradient_norm_initial
        else ""
    )
    ranks = "1 rank" if s.ranks == 1 else f"{s.ranks} ranks"
    lines = [
        "",
        *unfinished(s),
        f"{s.driver}, {s.case}: {s.status.replace('_', ' ')} after {s.iterations} iterations on "
        f"{ranks}",
        f"  grid         {' x '.join(f'{n:,}' for n in s.grid)} cells, {s.unknowns:,} unknowns, "
        f"{s.parameters:,} parameters",
        f"  objective    {s.objective_initial:.6g} -> {s.objective:.8g}"
        + _meaning(s.metrics, "objective"),
        f"  gradient     {s.gradient_norm_initial:.3g} -> {s.gradient_norm:.3g}{reduction}"
        + _meaning(s.metrics, "gradient_norm"),
        f"  solves       {s.forward_solves:,} forward, {s.adjoint_solves:,} adjoint"
        + (
            f", {per:.1f} Krylov iterations each"
            if per is not None and math.isfinite(per)
            else ""
        ),
        f"  time         {clock(s.seconds.total)} (setup {clock(s.seconds.setup)}, solve "
        f"{clock(s.seconds.solve)})",
        f"  memory       {s.peak_memory_mb:,.0f} MB at the peak, all ranks together",
    ]
    lines += residuals(s.metrics)
    apart = {*FINDINGS, *RESIDUALS, *STARTS, MEANINGS, noise.TABLE}
    apart |= {told.NUMBERS, told.SAMPLED, told.PLACES, told.SECTION}
    lines += [
        f"  {name.replace('_', ' '):<12} {_metric(value, name)}{_meaning(s.metrics, name)}"
        for name, value in s.metrics.items()
        if name not in apart
    ]
    if noise.TABLE in s.metrics:
        lines += noise.lines(s.metrics[noise.TABLE])
    lines += told.lines(s.metrics)
    if "starts" in s.metrics:
        lines += starts.lines(s.metrics["starts"], s.metrics["best_start"])
    if s.status not in AT_MINIMUM and any(n.endswith("_interval") for n in s.metrics):
        lines.append(f"  INTERVALS    are {OF_NO_MINIMUM}")
    lines += advice(s.metrics)
    return "\n".join([*lines, *([f"  results in   {out}"] if out else [])])


FINDINGS = {
    "minima": "MORE THAN ONE MINIMUM",
    "at_bound": "AT A BOUND",
    "undetermined": "NOT DETERMINED",
    "moved": "FAR FROM START",
}
TRAINED = "trained"
"""The status of a run that was asked for so many epochs, and went through them."""
STARTS = ("starts", "best_start")
MEANINGS = "meanings"
"""Of the metrics: what some of them mean, by name."""
RESIDUALS = [
    f"{kind}_{what}"
    for kind in ("state", "newton")
    for what in ("residual_true", "systems", "iterations_mean", "tolerance")
]
HEADLINES = {
    "stopped_at_tolerance": "stopped at the gradient tolerance that was asked for",
    "max_iterations": "stopped at the last iteration",
    "discrepancy": "stopped at the noise level",
    "stopped_early": "stopped where the data set aside were fitted best",
}
"""Statuses that are no sentence by themselves."""
LEAST_BAND = 0.1
UNLIKELY = 1.35e-3
"""Probability, of three standard deviations of a normal variable, below which a chi^2 is no
chance."""


def residuals(metrics: Mapping[str, Plain]) -> list[str]:
    """How good the solves of the answer are, beside what they cost and what was asked of them."""
    lines = []
    for kind, title, system in (
        ("state", "residual", "system"),
        ("newton", "in Newton", "linear system"),
    ):
        worst = metrics.get(f"{kind}_residual_true")
        if worst is None:
            continue
        count, asked = metrics[f"{kind}_systems"], metrics[f"{kind}_tolerance"]
        which = f"the largest of {count:,} {system}s" if count > 1 else f"of 1 {system}"
        nonlinear = kind == "state" and "newton_systems" in metrics
        method = "Newton" if nonlinear else "Krylov"
        mean = metrics[f"{kind}_iterations_mean"]
        cost = f"{mean:.1f} {method} iterations each, tolerance {asked}"
        lines.append(
            f"  {title:<12} {worst:.2g} = |b - A u| / |b| (2-norm), {which} at the answer; "
            + (str(asked) if str(asked).startswith("direct") else cost)
        )
    return lines


def unfinished(s: Summary) -> list[str]:
    """The line that nobody overlooks, where the answer is not a converged one."""
    if s.status in ("converged", TRAINED):
        return []
    headline = HEADLINES.get(s.status, s.status.replace("_", " "))
    reason = s.metrics.get("reason", "")
    return [f"NOT CONVERGED: {headline}, after {s.iterations} iterations: {reason}"]


def advice(metrics: Mapping[str, Plain]) -> list[str]:
    """The fit against the noise, and what should be known of the parameters, as lines to act on."""
    lines = [
        f"  {title:<12} {'; '.join(metrics[key])}"
        for key, title in FINDINGS.items()
        if metrics.get(key)
    ]
    chi, count = metrics.get("chi_squared"), metrics.get("data")
    if chi is None or not count or not math.isfinite(chi):
        return lines
    # What replicates tell of the noise goes before what sigma says of it.
    known = metrics.get("noise_chi_squared")
    level = known or 1.0
    # sigma is seldom known better than LEAST_BAND
    total = count * chi / level
    below = chi < level * (1 - LEAST_BAND) and chances.below(total, count) < UNLIKELY
    above = chi > level * (1 + LEAST_BAND) and chances.above(total, count) < UNLIKELY
    of_noise = f", of the noise {known:.3g}" if known else ""
    seen = f"(chi^2 {chi:.3g}{of_noise}, with {count:,} data)"
    regularized = bool(metrics.get("regularization"))
    if above:
        weight = (
            ", the regularization too strong (lower its weight)" if regularized else ""
        )
        text = (
            f"ABOVE the noise level {seen}: the model leaves something out"
            f"{'' if known else ', sigma is too small'}{weight}, or this is not the "
            "minimum; look at the data's fit (--plot)"
        )
    elif below:
        weight = " (raise the regularization's weight)" if regularized else ""
        why = f"sigma is too large, or the fit follows the noise{weight}"
        if known:
            why = f"the fit follows the noise: fewer unknowns would do{weight}"
        text = f"below the noise level {seen}: {why}"
    else:
        text = f"at the noise level {seen}"
    return [*lines, f"  {'fit':<12} {text}"]


def _metric(value: Plain, name: str = "") -> str:
    if value is None and name.endswith("_interval"):
        return "not determined by the data"
    if isinstance(value, list):
        return (
            "["
            + ", ".join(
                "open" if v is None and _is_pair(value) else _metric(v, name)
                for v in value
            )
            + "]"
        )
    return f"{value:.5g}" if isinstance(value, float) else str(value)


def _meaning(metrics: Mapping[str, Plain], name: str) -> str:
    """What a number means, in brackets behind it."""
    known = metrics.get(MEANINGS)
    said = known.get(name) if isinstance(known, Mapping) else None
    return f" ({said})" if said else ""


def _is_pair(value: list[Plain]) -> bool:
    """Whether this is one interval, not the list of several, of which one is not determined."""
    return len(value) == 2 and any(isinstance(end, int | float) for end in value)

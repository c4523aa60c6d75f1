"""What a run tells while it goes on, and how it stops: table or log lines, history, checkpoints,
signals. forecast.py has the time left."""

from __future__ import annotations

import contextlib
import math
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from types import FrameType, SimpleNamespace
from typing import NoReturn, TextIO

import numpy as np
from mpi4py import MPI
from petsc4py import PETSc

from npde_opt import reductions
from npde_opt.aliases import Plain
from npde_opt.compiling import Say, announced_by
from npde_opt.errors import InputError, Interrupted
from npde_opt.io.checkpoint import Checkpoint, Space, State, save_checkpoint
from npde_opt.io.history import Row
from npde_opt.io.results import Summary
from npde_opt.optimizers.iterations import COUNTED
from npde_opt.restarts import FAILED, Outcome
from npde_opt.runs.columns import Column, filled
from npde_opt.runs.folder import HISTORY, RunDirectory
from npde_opt.runs.forecast import Forecast, Outlook
from npde_opt.runs.progress import (
    Kept,
    Level,
    LiveTable,
    PlainLines,
    Progress,
    closing_text,
    terminal_width,
)
from npde_opt.runs.starts import keep
from npde_opt.signals import BATCH

SIGNALS = (*BATCH, signal.SIGINT)
SPECTRUM = "spectrum"
Place = tuple[int | None, ...]
"""Start, level and iteration."""
SLOW_SECONDS, SLOW_RATIO = 1.0, 10.0
WITHIN_SECONDS = 60.0
"""Least time between two checkpoints inside an iteration."""


class Monitor:
    """Called by an optimizer after every completed iteration: `monitor(row, state)`. Collective.

    Writes the row to history.csv and a checkpoint, prints on rank 0, and raises Interrupted on
    every rank after SIGTERM, SIGUSR1, SIGHUP or a first SIGINT reached any rank (a second SIGINT
    ends at once). A context manager: signal handlers are installed inside the block only.

    Args:
        out: the run's folder; None keeps nothing.
        space: parameter space of the first level, for checkpoints.
        identity: of the run, compared on resume (see runs/identity.py).
        misfit_target: ask the optimizer to stop ('stop:discrepancy') where the misfit is no larger.
        checkpoint_seconds: least time between checkpoints; 0 writes one an iteration, None none.
            One that takes more than a second (large fields) is followed by a pause of ten times as
            long.
        stream: where rank 0 prints, None nowhere. A terminal gets a live table, anything else plain
            lines.
        live: True or False overrides that choice.
        world: ranks that stop together, where `comm` is one group of an ensemble.
        across: the ranks of equal position in the groups of an ensemble, whose counters a
            checkpoint holds, and of whose work a row tells.
        columns: of the history beside the common ones.
    """

    def __init__(
        self,
        comm: MPI.Intracomm = MPI.COMM_WORLD,
        out: RunDirectory | None = None,
        *,
        space: Space | None = None,
        identity: Mapping[str, str] | None = None,
        misfit_target: float | None = None,
        checkpoint_seconds: float | None = 0.0,
        stream: TextIO | None = sys.stdout,
        live: bool | None = None,
        world: MPI.Intracomm | None = None,
        across: MPI.Intracomm = MPI.COMM_SELF,
        columns: Sequence[Column] = (),
    ):
        self.comm, self.out, self.space, self.identity = (
            comm,
            out,
            space,
            dict(identity or {}),
        )
        self.world, self.across = world or comm, across
        self.weight: Mapping[str, Plain] | None = None
        self._reference: float | None = None
        self._spent: Mapping[str, int] = {}
        self.misfit_target, self.checkpoint_seconds = misfit_target, checkpoint_seconds
        self.columns, self.rows = columns, 0
        if out is not None:
            out.begin_history([c.name for c in columns])
        self.start: int | None = None
        self._repeated: Place | None = None
        self._place: Place = (None, None, None)
        self._outlook, self._level = Outlook(), Level()
        self._levels: int | None = None
        """Of the nested iteration, once it has begun."""
        self._start = self._saved = time.monotonic()
        self._rest = 0.0
        self._signal = 0
        self._announced_before: Say | None = None
        self._handlers: dict[signal.Signals, signal._HANDLER] = {}
        self.stream = stream if comm.rank == 0 else None
        self._table: LiveTable | PlainLines | None = None
        self._log = Kept(columns)
        if self.stream is not None:
            width = terminal_width(self.stream)
            self._table = (
                LiveTable(self.stream, width, columns)
                if (width > 0 if live is None else live)
                else PlainLines(self.stream, columns)
            )

    def __enter__(self) -> Monitor:
        if threading.current_thread() is threading.main_thread():
            self._handlers = {s: signal.signal(s, self._on_signal) for s in SIGNALS}
        self._announced_before = announced_by(self.say)
        return self

    def __exit__(self, *_: object) -> None:
        announced_by(self._announced_before)
        self._give_back_signals()

    def _give_back_signals(self) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers = {}

    def _on_signal(self, number: int, _: FrameType | None) -> None:
        if number == signal.SIGINT and self._signal == signal.SIGINT:
            raise KeyboardInterrupt
        self._signal = number

    def start_level(
        self,
        shape: Sequence[int],
        *,
        space: Space | None = None,
        level: int = 0,
        levels: int = 1,
        gradient_rtol: float = 0.0,
        gradient_atol: float = 0.0,
        gradient_reference: float | None = None,
        max_iterations: int | None = None,
        spent: Mapping[str, int] | None = None,
        cells: Sequence[int] | None = None,
    ) -> None:
        """Says which grid is worked on from now on, of how many (nested iteration), and when it
        stops: at max(gradient_atol, gradient_rtol * gradient_reference), by default the gradient
        norm at the level's start. `spent`: what the levels before counted. `cells`: of all grids.
        Collective: a signal that came between two grids ends the run here."""
        self.stop_if_asked()
        self.space = space or self.space
        self._reference, self._spent = gradient_reference, dict(spent or {})
        self._level, self._levels = Level(level, levels, tuple(shape)), levels
        grid = Forecast(
            gradient_rtol, gradient_atol, max_iterations, gradient_reference
        )
        self._outlook.begin(grid, level, cells or [math.prod(shape)] * levels)

    def resume(self, checkpoint: Checkpoint) -> None:
        """Continues the count and history of a run from a checkpoint; rows after it are dropped.
        Collective."""
        extra = checkpoint.extra
        self.rows = extra.get("rows", checkpoint.number + 1)
        self._repeated = tuple(
            extra.get(key) for key in ("start", "level", "iteration")
        )
        self._place = self._repeated
        if self.out is not None:
            problem = self.out.restore_history(
                checkpoint.attachments.get(HISTORY, b""), self.rows
            )
            if problem:
                self.say(
                    f"{HISTORY} {problem}: its rows are restored from {checkpoint.path.name}"
                )

    def restart(self) -> None:
        """Begins the history of a run that has no checkpoint again. Collective."""
        if self.out is not None:
            self.out.restart_history()

    def __call__(self, row: Row, state: State) -> str | None:
        work = self._work_of_groups(row)
        row = filled({"level": self._level.level, **row, **work}, state, self.columns)
        place = (self.start, row["level"], row.get("iteration"))
        repeated = place == self._repeated
        if repeated:
            number = self.rows - 1
        else:
            number, self.rows = self.rows, self.rows + 1
            if self.out is not None:
                self.out.append(row)
        self._repeated, self._place = None, place
        self._show(row, state.meta.get("gradient_norm_initial"))
        self._write_log()
        stop, due = self._agree()
        saved = None
        if self.checkpoint_seconds is not None and (due or stop):
            if repeated and self.out is not None:
                saved = str(self.out.file(f"checkpoint-{number}"))
            else:
                saved = self._kept(number, state)
        if stop:
            self._leave(stop, f"after iteration {row.get('iteration')}", saved)
        reached = (
            self.misfit_target is not None
            and row.get("misfit", math.inf) <= self.misfit_target
        )
        return "stop:discrepancy" if reached else None

    def _work_of_groups(self, row: Row) -> dict[str, int]:
        """Solves and iterations of a row, which its group counted, of all groups. Collective."""
        names = [name for name in COUNTED if row.get(name) is not None]
        own = np.array([row[name] for name in names], float)
        every = reductions.total(self.across, own)
        return {name: int(n) for name, n in zip(names, every, strict=True)}

    def between(self, state: State) -> None:
        """Called by optimizers of which an iteration has many steps, after one of them: looks for
        signals as `__call__` does, and keeps a checkpoint where the last one is old. Collective."""
        stop, due = self._agree(WITHIN_SECONDS)
        saved = None
        if self.checkpoint_seconds is not None and (due or stop):
            saved = self._kept(self.rows - 1, state)
        if stop:
            self._leave(stop, f"within the iteration after {self._place[2]}", saved)

    def _kept(self, number: int, state: State) -> str | None:
        """Writes a checkpoint; where, in the group that has the folder."""
        counted = self._of_groups(
            counters=state.meta.get("counters", {}), spent=self._spent
        )
        return (
            None
            if self.out is None
            else self._save(number, self._place, state, counted)
        )

    def _leave(self, stop: int, when: str, saved: str | None) -> NoReturn:
        """Ends the run by a signal."""
        kept = (
            f"{saved} holds it: continue with --resume"
            if saved
            else "no checkpoint was kept"
        )
        raise Interrupted(f"stopped by {signal.Signals(stop).name} {when}; {kept}")

    def stop_if_asked(self) -> None:
        """Raises Interrupted on every rank where a signal reached any, after an iteration that is
        written. Collective."""
        stop, _ = self._agree()
        if stop:
            raise Interrupted(
                f"stopped by {signal.Signals(stop).name} between two iterations: continue with "
                "--resume"
            )

    @contextlib.contextmanager
    def interruptible(self) -> Iterator[None]:
        """Inside, where no iteration can be completed, signals end the run at once, as they do
        outside the monitor."""
        self.stop_if_asked()
        mine = {number: signal.getsignal(number) for number in self._handlers}
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        try:
            yield
        finally:
            for number, handler in mine.items():
                signal.signal(number, handler)

    def _agree(self, least: float = 0.0) -> tuple[int, bool]:
        """The signal that any rank received (0: none), and whether a checkpoint is due by rank 0's
        clock, at least so many seconds after the last one."""
        due = (
            self.comm.rank == 0
            and self.checkpoint_seconds is not None
            and time.monotonic() - self._saved
            >= max(self.checkpoint_seconds, self._rest, least)
        )
        agreed = reductions.largest(
            self.world, np.array([self._signal, due], dtype="i4")
        )
        return int(agreed[0]), bool(agreed[1])

    def _save(
        self, number: int, place: Place, state: State, counted: Mapping[str, Plain]
    ) -> str:
        if self.out is None or self.space is None:
            raise InputError(
                "monitor.space", None, "the parameter space, for checkpoints"
            )
        extra = {
            "identity": self.identity,
            "ranks": self.world.size,
            "start": place[0],
            "level": place[1],
            "levels": self._levels,
            "iteration": place[2],
            "gradient_reference": self._reference,
            "weight": self.weight,
            **counted,
        }
        rows = {HISTORY: self.out.history_copy(number + 1)}
        before = time.monotonic()
        path = save_checkpoint(
            self.out.path,
            self.comm,
            self.space,
            state,
            number,
            extra,
            attachments=rows,
            check=self.out.check,
        )
        self._saved = time.monotonic()
        took = self._saved - before
        self._rest = SLOW_RATIO * took if took > SLOW_SECONDS else 0.0
        return str(path)

    def _of_groups(
        self, **counted: Mapping[str, int]
    ) -> dict[str, list[dict[str, int]]]:
        """What every group counted. Collective."""
        return {name: self.across.allgather(dict(own)) for name, own in counted.items()}

    def begin_start(self, number: int, count: int) -> None:
        """Says that a start begins, of so many. Collective: a signal ends the run here."""
        self.stop_if_asked()
        self.start = number
        more = count - number - 1
        self._outlook.begin_start(more, time.monotonic())
        self.say(f"start {number}" + (f", {more} more to come" if more else ""))

    def keep_start(
        self, outcome: Outcome, space: Space | None, m: PETSc.Vec | None
    ) -> None:
        """Writes how a start ended, for a resumed run. Collective."""
        counted = self._of_groups(counters=outcome.counters, work=outcome.work)
        told = f": {outcome.reason}" if outcome.status == FAILED else ""
        self.say(
            f"start {outcome.start}: objective {outcome.objective:.8g}, {outcome.status}{told}"
        )
        space = space or self.space
        if (
            self.out is not None
            and self.checkpoint_seconds is not None
            and space is not None
        ):
            extra = {
                "identity": self.identity,
                "levels": self._levels,
                "weight": self.weight,
                **counted,
            }
            keep(self.out, space, outcome, m, self.rows, extra)

    def keep_spectrum(
        self, space: Space, vectors: Sequence[PETSc.Vec], level: int
    ) -> None:
        """Writes the vectors of a spectrum learnt on a level, for a resumed run on a finer one.
        Collective."""
        if self.out is not None and self.checkpoint_seconds is not None:
            state = SimpleNamespace(
                vectors={f"v_{i:03d}": v for i, v in enumerate(vectors)}, meta={}
            )
            save_checkpoint(
                self.out.folder(SPECTRUM),
                self.comm,
                space,
                state,
                level,
                {
                    "identity": self.identity,
                    "start": self.start,
                    "level": level,
                    "levels": self._levels,
                },
                check=self.out.check,
            )

    def _show(self, row: Row, reference: float | None) -> None:
        now = time.monotonic()
        grid = self._outlook.grid
        grid.reference = grid.reference or reference
        norm = float(row.get("gradient_norm", math.nan))
        grid.add(int(row.get("iteration", 0)), norm, now)
        left, bound = self._outlook.seconds_left(now)
        shown = Progress(
            row=row,
            elapsed=now - self._start,
            left=left,
            at_most=bound,
            relative=grid.reduction(),
            level=replace(self._level, level=row["level"]),
        )
        self._log.add(shown)
        if self._table is not None:
            self._table.add(shown)

    def say(self, text: str) -> None:
        """One line on rank 0, and in run.log."""
        self._log.say(text)
        if self._table is not None:
            self._table.say(text)

    def _write_log(self) -> None:
        """What was said since the last time goes to run.log. Collective."""
        text = self._log.take()
        if self.out is not None:
            self.out.log(text)

    def finish(self, summary: Summary) -> None:
        """Writes summary.json and prints the closing summary. Collective."""
        text = closing_text(summary, self.out.path if self.out else None)
        self._log.say(text)
        self._write_log()
        if self.out is not None:
            self.out.write_summary(summary)
        self.close()
        if self.stream is not None:
            print(text, file=self.stream, flush=True)

    def close(self) -> None:
        """Ends the table and gives the signals and the folder back."""
        self._give_back_signals()
        if self._table is not None:
            self._table.close()
        if self.out is not None:
            self.out.close()

"""What runs that learn by least squares share: their folder, what is said, and their summary."""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Self

from mpi4py import MPI

from npde_opt.aliases import Plain
from npde_opt.errors import collective
from npde_opt.io.results import (
    Seconds,
    Summary,
    peak_memory_mb,
    peak_memory_mb_of_a_rank,
)
from npde_opt.runs.folder import RunDirectory
from npde_opt.runs.rehearsal import require_figures


class SolvedRun:
    """One run of a driver; a context that gives its folder back. All methods are collective.

    Args:
        options: see runs/options.py.
        started: seconds of time.monotonic() at the program's first line.
    """

    driver = "train_pseudoinverse"
    can_resume = False
    """Whether it goes on, with --resume, with what is in the folder."""

    def __init__(
        self, options: argparse.Namespace, world: MPI.Intracomm, started: float
    ):
        self.options, self.world, self.started = options, world, started
        # Seconds at which data were there, and the answer was.
        self.ready = self.solved = started
        with collective(world):
            self.check()
            if options.plot:
                require_figures(False)
        mode = "overwrite" if options.overwrite else "new"
        if self.can_resume and options.resume:
            mode = "resume"
        self.out = RunDirectory(options.out, world, mode, self.can_resume)

    def check(self) -> None:
        """Raises InputError for options that cannot be."""

    def prepare(self) -> None:
        """Reads what is learnt from."""

    def train(self) -> None:
        """Finds the readouts."""

    def report(self) -> None:
        """Writes what the run leaves."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.out.close()

    def say(self, text: str) -> None:
        """On rank 0."""
        if self.world.rank == 0:
            print(text, flush=True)

    def write_summary(
        self,
        case: str,
        *,
        grid: Sequence[int],
        unknowns: int,
        parameters: int,
        objective: float,
        metrics: Mapping[str, Plain],
        objective_initial: float = 1.0,
    ) -> None:
        """Writes summary.json, of an answer that no iteration found: counts of iterations and
        solves are 0."""
        now = time.monotonic()
        setup, solve = self.ready - self.started, self.solved - self.ready
        self.out.write_summary(
            Summary(
                driver=self.driver,
                case=case,
                ranks=self.world.size,
                grid=grid,
                unknowns=unknowns,
                parameters=parameters,
                status="converged",
                iterations=0,
                objective=objective,
                objective_initial=objective_initial,
                gradient_norm=0.0,
                gradient_norm_initial=0.0,
                forward_solves=0,
                adjoint_solves=0,
                krylov_iterations_mean=0.0,
                seconds=Seconds(setup, solve, now - self.started),
                peak_memory_mb=peak_memory_mb(self.world),
                peak_memory_mb_of_a_rank=peak_memory_mb_of_a_rank(self.world),
                metrics=metrics,
            )
        )

"""What runs that learn by least squares share: their folder, and what is said."""

from __future__ import annotations

import argparse
from types import TracebackType
from typing import Self

from mpi4py import MPI

from npde_opt.errors import collective
from npde_opt.runs.folder import RunDirectory
from npde_opt.runs.rehearsal import require_figures


class SolvedRun:
    """One run of a driver; a context that gives its folder back. All methods are collective.

    Args:
        options: see runs/options.py.
        started: seconds of time.monotonic() at the program's first line.
    """

    resumes = False
    """Whether it goes on with what is in the folder."""

    def __init__(
        self, options: argparse.Namespace, world: MPI.Intracomm, started: float
    ):
        self.options, self.world, self.started = options, world, started
        with collective(world):
            self.check()
            if options.plot:
                require_figures(False)
        mode = "overwrite" if options.overwrite else "new"
        if self.resumes:
            mode = "resume"
        self.out = RunDirectory(options.out, world, mode)

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

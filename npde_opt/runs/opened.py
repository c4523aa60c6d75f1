"""A case at work in its folder: what every driver opens, and gives back at its end."""

from __future__ import annotations

import argparse
from types import TracebackType
from typing import Generic, Self, TypeVar

from mpi4py import MPI

from npde_opt.ensemble import Ensemble
from npde_opt.errors import collective
from npde_opt.runs.folder import RunDirectory

C = TypeVar("C")


class Opened(Generic[C]):
    """A context that gives the folder back.

    Args:
        options: see options.py.
        case: read and checked.
        ensemble: the groups of ranks that share its experiments.
        world: all ranks.

    Attributes:
        out: the folder; None in groups that do not write.
    """

    can_resume = True
    """Whether the driver has --resume."""

    def __init__(
        self,
        options: argparse.Namespace,
        case: C,
        ensemble: Ensemble,
        world: MPI.Intracomm,
    ):
        self.options, self.case, self.ensemble, self.world = (
            options,
            case,
            ensemble,
            world,
        )
        mode = (
            "resume" if options.resume else "overwrite" if options.overwrite else "new"
        )
        self.out: RunDirectory | None = None
        with collective(world):
            if ensemble.across.rank == 0:
                comm = ensemble.space
                self.out = RunDirectory(options.out, comm, mode, self.can_resume)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.out is not None:
            self.out.close()

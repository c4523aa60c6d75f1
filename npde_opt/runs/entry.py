"""How every driver begins: signals are kept from its first line on, then come its options, PETSc
with those that are PETSc's, and its work, of which an error ends all ranks.

Nothing is imported before it is needed: what drivers work with takes seconds to load, in which a
batch system may end the run, and PETSc wants its options when it is loaded.
"""

from __future__ import annotations

import argparse
import functools
import importlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from npde_opt import alone, signals
from npde_opt.lazily import loading

if TYPE_CHECKING:
    from mpi4py import MPI

WORKS_WITH = {
    "identification": "npde_opt.runs.run",
    "simulation": "npde_opt.runs.simulation",
    "training": "npde_opt.training.run",
    "readout": "npde_opt.training.stored",
    "discovery": "npde_opt.runs.discovery",
}
"""What drivers of a kind load first, and with it most of what they need."""


@dataclass(frozen=True)
class Call:
    """One call of a driver.

    Attributes:
        options: of its command line, see options.py.
        world: all ranks.
        started: seconds of time.monotonic() at its beginning.
    """

    options: argparse.Namespace
    world: MPI.Intracomm
    started: float


def start(
    work: Callable[[Call], int], kind: str, about: str | None, case: str = ""
) -> None:
    """Runs a driver, and ends the program with its exit code. Collective.

    Args:
        work: all that the driver does; its exit code.
        kind: of its options, a name in options.PARSERS.
        about: the driver's docstring, for --help.
        case: the file of its case, where none is given and it has a default.
    """
    started = time.monotonic()
    signals.remember()
    with loading():
        alone.start_mpi()

        from npde_opt.runs.options import PARSERS, read_options

        options = read_options(
            PARSERS[kind](about, *([case] if case else []))
        )  # starts PETSc

        from mpi4py import MPI

        from npde_opt import errors
        from npde_opt.compiling import announced_by
        from npde_opt.runs.early import act_on_signals

    def main() -> int:
        act_on_signals(MPI.COMM_WORLD)
        if MPI.COMM_WORLD.rank == 0:
            announced_by(functools.partial(print, flush=True))
        with loading():
            importlib.import_module(WORKS_WITH[kind])
        return work(Call(options, MPI.COMM_WORLD, started))

    errors.run(main, MPI.COMM_WORLD)

"""Signals from a process's first line on: what comes before MPI can be asked is remembered, then ends all ranks together.

Nothing but the standard library is imported here, so that a driver can call `remember` before what takes seconds to load.
"""

from __future__ import annotations

import signal
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mpi4py import MPI

ENDING = (signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)
# nohup lets a process ignore that its terminal went away.
BATCH = tuple(number for number in ENDING if signal.getsignal(number) != signal.SIG_IGN)
"""What batch systems, and terminals that close, send to end a run."""

_received: list[int] = []


def remember() -> None:
    """From now on the signals that end a run are kept for `act`."""
    for number in BATCH:
        signal.signal(number, _keep)


def _keep(number: int, _: FrameType | None) -> None:
    _received.append(number)


def act(comm: MPI.Intracomm) -> None:
    """Raises Interrupted on every rank where any has received a signal so far. Collective."""
    from npde_opt import reductions
    from npde_opt.errors import Interrupted

    number = int(reductions.largest(comm, max(_received, default=0)))
    if number:
        raise Interrupted(f"stopped by {signal.Signals(number).name} before it began; start it again")

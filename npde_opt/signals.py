"""Signals from a process's first line on: what comes before MPI can be asked is remembered, then
ends all ranks together.

Nothing but the standard library is imported here, so that a driver can call `remember` before what
takes seconds to load.
"""

from __future__ import annotations

import signal
from types import FrameType

ENDING = (signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)
# nohup lets a process ignore that its terminal went away.
BATCH = tuple(number for number in ENDING if signal.getsignal(number) != signal.SIG_IGN)
"""What batch systems, and terminals that close, send to end a run."""

_received: list[int] = []


def remember() -> None:
    """From now on the signals that end a run are kept for `runs.early.act_on_signals`."""
    for number in BATCH:
        signal.signal(number, _keep)


def _keep(number: int, _: FrameType | None) -> None:
    _received.append(number)


def received() -> int:
    """The number of the last signal that was kept; 0 for none."""
    return max(_received, default=0)

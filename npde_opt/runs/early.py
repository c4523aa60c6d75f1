"""Signals that came while a driver was still loading."""

from __future__ import annotations

import signal

from mpi4py import MPI

from npde_opt import reductions
from npde_opt.errors import Interrupted
from npde_opt.signals import received


def act_on_signals(comm: MPI.Intracomm) -> None:
    """Raises Interrupted on every rank where any has received a signal so far. Collective."""
    number = int(reductions.largest(comm, received()))
    if number:
        name = signal.Signals(number).name
        raise Interrupted(f"stopped by {name} before it began; start it again")

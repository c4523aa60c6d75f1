"""What a run leaves beside its numbers: where a figure or a file fails, a line says so and the
result stays."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from mpi4py import MPI

from npde_opt.errors import Interrupted, collective

T = TypeVar("T")
Attempt = Callable[[str, Callable[[], T]], T | None]


class Attempts:
    """Tries one thing after the other on the ranks that write. Collective.

    Args:
        comm: ranks that agree on what failed.
        say: takes a line to be shown.
    """

    def __init__(self, comm: MPI.Intracomm, say: Callable[[str], None]):
        self.comm, self.say = comm, say
        self.failed: list[str] = []

    def __call__(self, what: str, work: Callable[[], T]) -> T | None:
        """What `work` returns; None, after a line of warning, where it raises on any rank.

        Signals and interrupts still end the run.
        """
        try:
            with collective(self.comm):
                return work()
        except Interrupted:
            raise
        except Exception as error:
            self.failed.append(what)
            self.say(f"warning: {what} failed ({error}); the result stays")
        return None

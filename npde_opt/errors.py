"""Errors that end all ranks together: one message, one exit code, nobody left waiting."""

from __future__ import annotations

import contextlib
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

from mpi4py import MPI

AGREEMENT_SECONDS = 3.0


class NpdeError(Exception):
    """Base of the errors that npde_opt raises on purpose."""

    exit_code = 1


class InputError(NpdeError):
    """A value that cannot be: names the field, what it was and what is allowed."""

    exit_code = 2

    def __init__(self, field: str, value: Any, allowed: str):
        super().__init__(f"{field}: got {value}; allowed: {allowed}")
        self.field, self.value, self.allowed = field, value, allowed

    def __reduce__(self):
        return InputError, (self.field, str(self.value), self.allowed)


class SolverError(NpdeError):
    """A solve that did not converge: names the options prefix, PETSc's reason and a remedy."""

    exit_code = 3

    def __init__(self, prefix: str, reason: str, remedy: str):
        super().__init__(f"solver '{prefix}' failed: {reason}. {remedy}")
        self.prefix, self.reason, self.remedy = prefix, reason, remedy

    def __reduce__(self):
        return SolverError, (self.prefix, self.reason, self.remedy)


class Interrupted(NpdeError):
    """The batch system or the user asked to stop; a checkpoint was written."""

    exit_code = 75


@contextlib.contextmanager
def collective(comm: MPI.Intracomm) -> Iterator[None]:
    """Raises on every rank what any rank raised inside the block (the lowest failing rank's exception).

    The block must not communicate after a rank-local failure; `run` ends those that do.
    """
    failure: BaseException | None = None
    try:
        yield
    except Exception as error:
        failure = error
    rank = comm.rank if failure is not None else comm.size
    first = comm.allreduce(rank, op=MPI.MIN)
    if first == comm.size:
        return
    shared = comm.bcast(portable(failure) if comm.rank == first else None, root=first)
    raise failure if comm.rank == first and failure is not None else shared


def portable(error: BaseException | None) -> Exception:
    """The error itself where it can be sent to other ranks, else its text."""
    if isinstance(error, NpdeError):
        return error
    return NpdeError(f"{type(error).__name__}: {error}")


def agree(comm: MPI.Intracomm, seconds: float = AGREEMENT_SECONDS) -> bool:
    """True where every rank arrives here within the time; never blocks longer."""
    request, until = comm.Ibarrier(), time.monotonic() + seconds
    while not request.Test():
        if time.monotonic() > until:
            return False
        time.sleep(0.01)
    return True


def interrupt(number: int, _: FrameType | None) -> None:
    ignore_signals()
    raise Interrupted(f"stopped by {signal.Signals(number).name} before the first iteration or after the last; start it "
                      "again, with --resume where it has made its folder")


def ignore_signals() -> None:
    """One is enough: ending together must not be interrupted."""
    for number in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)


def run(main: Callable[[], int | None], comm: MPI.Intracomm = MPI.COMM_WORLD) -> None:
    """Runs a driver's `main` and exits: 0, or the error's exit code on every rank with one message.

    Exit codes: 2 wrong input, 3 a solve that diverged, 75 interrupted with a checkpoint, 1 anything else. A rank
    that fails alone ends the others (MPI_Abort) after 3 seconds. SIGTERM and SIGUSR1 interrupt, where `main` does not handle
    them itself.
    """
    code: int
    for number in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, interrupt)
    try:
        code = int(main() or 0)
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else (0 if stop.code is None else 1)
    except BaseException as error:
        ignore_signals()
        code = getattr(error, "exit_code", 1)
        together = agree(comm)
        if not together or comm.rank == 0:
            where = "" if together else f" (rank {comm.rank} of {comm.size})"
            if not isinstance(error, NpdeError | KeyboardInterrupt):
                traceback.print_exc()
            sys.stdout.flush()
            print(f"error{where}: {error or type(error).__name__}", file=sys.stderr, flush=True)
        if not together:
            comm.Abort(code)
    sys.stdout.flush()
    sys.exit(code)

"""Errors that end all ranks together: one message, one exit code, nobody left waiting.

A block `with collective(comm)` is left by all ranks in the same way. Its end is an agreement (see
agreement.py) of

    the lowest rank that failed,
    and the least and the largest place in the program where the ranks are.

Where a rank failed, all raise what it raised. Where the places differ, ranks have gone different
ways: nothing that they could do together is safe any more, and all end. A rank that failed waits
for the others for a limited time only: where they do not come, they wait inside the block for it,
and it ends all.

The end of a program is such a place too, where it runs on several ranks: see `install`.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import pickle
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from types import FrameType, TracebackType
from typing import NoReturn

from mpi4py import MPI

from npde_opt import agreement
from npde_opt.agreement import Channel
from npde_opt.deadline import exit_after
from npde_opt.signals import BATCH

# A rank that failed waits so long for the others; one that was told to stop, so long.
FAILED_SECONDS, STOPPED_SECONDS = 12.0, 3.0
# What MPI and PETSc do at the very end may wait for messages of a failed run: it is cut off after
# so long.
FINALIZE_SECONDS = 15


class NpdeError(Exception):
    """Base of the errors that npde_opt raises on purpose.

    exit_code: of a run that ends by it. patience: seconds that a rank which raised it waits for the
    others.
    """

    exit_code = 1
    patience = FAILED_SECONDS


class InputError(NpdeError):
    """A value that cannot be: names the field, what it was and what is allowed."""

    exit_code = 2

    def __init__(self, field: str, value: object, allowed: str):
        super().__init__(f"{field}: got {value}; allowed: {allowed}")
        self.field, self.value, self.allowed = field, value, allowed

    def __reduce__(self) -> tuple[type[NpdeError], tuple[str, ...]]:
        return InputError, (self.field, str(self.value), self.allowed)


class SolverError(NpdeError):
    """A solve that did not converge: names the options prefix, PETSc's reason and a remedy."""

    exit_code = 3

    def __init__(self, prefix: str, reason: str, remedy: str):
        super().__init__(f"solver '{prefix}' failed: {reason}. {remedy}")
        self.prefix, self.reason, self.remedy = prefix, reason, remedy

    def __reduce__(self) -> tuple[type[NpdeError], tuple[str, ...]]:
        return SolverError, (self.prefix, self.reason, self.remedy)


class Interrupted(NpdeError):
    """The batch system or the user asked to stop; a checkpoint was written."""

    exit_code = 75


class RankError(NpdeError):
    """What another rank raised, by its text, where the error itself cannot be sent."""

    def __init__(self, text: str, exit_code: int = 1):
        super().__init__(text)
        self.exit_code = exit_code


# All ranks of a group raise these together, and go on from them with the other groups.
RECOVERABLE = (SolverError, Interrupted)


class collective:  # noqa: N801 (it is used like contextlib's functions)
    """A block that raises on every rank what any rank raised inside it (the lowest failing rank's
    exception).

    Collective, the making of it too. Whatever is raised counts, SystemExit and KeyboardInterrupt
    included. A rank that failed waits 12 s for the others (3 s after a signal); where they do not
    come, it ends all of them with its message and exit code.

    Args:
        comm: the ranks that leave the block together.
        within: the group of ranks to which this one belongs, where groups do different work in the
            block. The group agrees first, and waits for the other groups without limit where all
            its ranks raised a SolverError or Interrupted.
        above: calls between the block and the making of it, for the place in the program.
    """

    def __init__(
        self, comm: MPI.Intracomm, within: MPI.Intracomm | None = None, above: int = 0
    ):
        self._channels: Sequence[Channel] = ()
        self._outside: Sequence[int] = ()
        self.code = 0
        self._ranks = comm.size
        if self._ranks == 1:
            # Nobody to agree with: small runs come here a thousand times.
            return
        caller = sys._getframe(1 + above)
        self._site = caller.f_code, caller.f_lineno
        self._group = within
        self._channels = [agreement.channel(comm)]
        if within is not None and within.size > 1:
            self._channels.insert(0, agreement.channel(within))
        self._outside = [c.place for c in self._channels]

    def __enter__(self) -> collective:
        if self._channels:
            place = agreement.place(*self._site)
            for channel in self._channels:
                channel.place = agreement.nested(channel.place, place)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None and not self._channels:
            return
        shared = None if error is None else inside_petsc(error)
        try:
            for channel in self._channels:
                shared = self._agree(channel, shared)
        finally:
            for channel, place in zip(self._channels, self._outside, strict=True):
                channel.place = place
        if shared is None or shared is error:
            return
        try:
            raise shared
        finally:
            # The frame must not hold the error that holds the frame: see `without_frames`.
            del shared, error

    def _agree(
        self, channel: agreement.Channel, error: BaseException | None
    ) -> BaseException | None:
        """What all ranks of the channel raise."""
        size, place, left = channel.size, channel.place, -1
        if isinstance(error, SystemExit):
            left = exit_code(error)
        failed = size if error is None else channel.comm.rank
        mine = [failed, place, -place, left, -left, -self.code]
        # A group that failed as one may be far ahead of the others.
        as_one = (
            self._group is not None
            and size == self._ranks
            and isinstance(error, RECOVERABLE)
        )
        try:
            found = channel.least(
                mine, None if error is None or as_one else patience(error)
            )
        except BaseException as stop:
            # A signal while this rank waited: the others learn of it in the agreement after this
            # one.
            return self._agree(channel, stop)
        if found is None:
            assert error is not None
            end(error)
        first, least, largest, left_least, left_most, returned = found[:6]
        if least != -largest:
            code, line = self._site
            end_apart(
                channel.comm,
                f"ends the block at {code.co_filename}:{line} ({code.co_qualname})",
                error,
                first,
            )
        if first == size:
            self.code = -returned
            return None
        if error is not None and left >= 0 and left_least == -left_most:
            return error  # All left with the same exit code.
        return error_of(channel.comm, error, first)


def check_place(
    comm: MPI.Comm, kind: tuple[object, ...], values: Sequence[int] = ()
) -> list[int]:
    """Ends all ranks where one has failed or is somewhere else in the program; `kind` is what all
    are about to do, with all that tells it from what is done otherwise: where `kind` is the same on
    all ranks, `values` are numbers of one meaning. Collective.

    Without a limit of time: others may be at work yet.

    Args:
        values: 64-bit numbers, agreement.SMALL at most.

    Returns:
        Their minima over the ranks first; what follows means nothing.
    """
    channel = agreement.channel(comm)
    place = agreement.nested(channel.place, agreement.number(kind))
    found = channel.least([channel.size, place, -place, -1, 1, 0, *values], None)
    assert found is not None
    if found[1] != -found[2]:
        frame: FrameType | None = sys._getframe(1)
        while (
            frame is not None
            and frame.f_globals.get("__name__") == "npde_opt.reductions"
        ):
            frame = frame.f_back
        where = (
            ""
            if frame is None
            else f" at {frame.f_code.co_filename}:{frame.f_lineno} ({frame.f_code.co_qualname})"
        )
        end_apart(channel.comm, f"forms a {kind[0]}{where}", None, found[0])
    return found[6:]


def end(error: BaseException) -> NoReturn:
    """Ends all ranks with this error, which this rank alone knows."""
    ignore_signals()
    error = said(error)
    agreement.end_all(lambda: speak(error, alone=True), exit_code(error))
    raise AssertionError("unreachable")


def end_apart(
    comm: MPI.Comm, doing: str, error: BaseException | None, first: int
) -> NoReturn:
    """Ends all ranks, which are at different places of the program; all of `comm` come here.
    `first`: the lowest that failed."""
    all_doing = comm.allgather(doing)
    if first < comm.size:
        failure = error_of(comm, error, first)
    else:
        other = next(
            (r for r, d in enumerate(all_doing) if d != all_doing[0]), comm.size - 1
        )
        failure = RankError(
            f"the ranks went different ways: rank 0 {all_doing[0]}, rank {other} {all_doing[other]}"
        )
    if comm.rank != first % comm.size:
        ignore_signals()
        agreement.finished(lambda: False, agreement.ENDING_SECONDS)
    end(failure)


def without_frames(error: BaseException) -> BaseException:
    """The error to keep beyond its handling: without its traceback and what it came from.

    Their frames hold PETSc objects of the calls that failed, until Python's garbage collector finds
    the circle, on every rank at another time. An object that a rank still holds is not destroyed
    with that of the others; PETSc's tags then differ between the ranks, and the next exchange of
    messages waits for ever.
    """
    error.__traceback__ = error.__context__ = error.__cause__ = None
    return error


def inside_petsc(error: BaseException) -> BaseException:
    """What a callback of PETSc's raised, such as a signal's handler in it, where PETSc raises an
    error of its own for it; else the error itself.

    A SolverError becomes one that nobody recovers from: what PETSc was at is left half done.
    """
    found = error
    while type(found).__module__ == "petsc4py.PETSc" and found.__cause__ is not None:
        found = found.__cause__
    if found is not error and isinstance(found, SolverError):
        return RankError(text_of(found), found.exit_code)
    return found


def patience(error: BaseException) -> float:
    """Seconds that a rank with this error waits for the others."""
    if isinstance(error, KeyboardInterrupt):
        return STOPPED_SECONDS
    return error.patience if isinstance(error, NpdeError) else FAILED_SECONDS


def exit_code(error: BaseException) -> int:
    """Of a run that ends by this error; 0 after sys.exit(0) only."""
    if isinstance(error, SystemExit):
        return (
            within_byte(error.code)
            if isinstance(error.code, int)
            else int(error.code is not None)
        )
    if isinstance(error, KeyboardInterrupt):
        return 130
    with contextlib.suppress(Exception):
        return within_byte(int(getattr(error, "exit_code", 1))) or 1
    return 1


def within_byte(code: int) -> int:
    """The code as the operating system tells it, of which it keeps 8 bits; 1 where these would be 0
    though the code is not."""
    return code & 255 or int(code != 0)


def text_of(error: BaseException) -> str:
    """What the error says, or its type where it says nothing."""
    with contextlib.suppress(Exception):
        return str(error) or type(error).__name__
    return f"{type(error).__name__} (without a text: its str() fails)"


def said(error: BaseException) -> BaseException:
    """The error, or an error in place of the exit of a rank that leaves the others at work."""
    if not isinstance(error, SystemExit):
        return error
    why = (
        f": {error.code}"
        if isinstance(error.code, str)
        else f" (sys.exit({error.code}))"
    )
    return RankError(
        f"rank {MPI.COMM_WORLD.rank} left while others work{why}", exit_code(error) or 1
    )


def error_of(comm: MPI.Comm, error: BaseException | None, first: int) -> BaseException:
    """The error of rank `first` on all ranks; as it is, or a substitute where it cannot be sent.
    Collective."""
    mine = said(error) if error is not None and comm.rank == first else None
    message = (
        None
        if mine is None
        else (packed(mine), text_of(mine), exit_code(mine), trace_of(mine))
    )
    data, text, code, trace = comm.bcast(message, root=first)
    if mine is not None:
        return mine if data is not None else substitute(mine, text, code)
    found: BaseException = RankError(text, code)
    with contextlib.suppress(Exception):
        found = pickle.loads(data) if data is not None else found
    if trace:
        found.add_note(f"On rank {first} of {comm.size}:\n{trace}")
    return found


def packed(error: BaseException) -> bytes | None:
    """The pickled error, or one of its kind that can be pickled; None where there is none."""
    for sent in (error, plain(error)):
        with contextlib.suppress(Exception):
            data = pickle.dumps(sent)
            if isinstance(pickle.loads(data), BaseException):
                return data
    return None


def plain(error: BaseException) -> BaseException | None:
    """An InputError, SolverError or Interrupted without what a subclass or the user added."""
    if isinstance(error, InputError):
        return InputError(str(error.field), str(error.value), str(error.allowed))
    if isinstance(error, SolverError):
        return SolverError(str(error.prefix), str(error.reason), str(error.remedy))
    return Interrupted(text_of(error)) if isinstance(error, Interrupted) else None


def substitute(error: BaseException, text: str, code: int) -> BaseException:
    """What the failing rank itself raises where the others cannot have its error: the same as
    they."""
    found = RankError(text, code)
    found.__cause__ = error
    return found


def trace_of(error: BaseException) -> str:
    """Where an error that is not ours was raised."""
    if isinstance(error, NpdeError | KeyboardInterrupt | SystemExit):
        return ""
    return "".join(traceback.format_exception(error))


def interrupt(number: int, _: FrameType | None) -> None:
    ignore_signals()
    error = Interrupted(
        f"stopped by {signal.Signals(number).name} before the first iteration or after the last; "
        "start it "
        "again, with --resume where it has made its folder"
    )
    error.patience = STOPPED_SECONDS
    raise error


def ignore_signals() -> None:
    """One is enough: ending together must not be interrupted."""
    for number in BATCH:
        signal.signal(number, signal.SIG_IGN)


def speak(error: BaseException, alone: bool = False) -> None:
    """The one message of a run that failed."""
    if isinstance(error, SystemExit) and not isinstance(error.code, str):
        return
    if trace_of(error):
        traceback.print_exception(error)
    sys.stdout.flush()
    where = f" (rank {MPI.COMM_WORLD.rank} of {MPI.COMM_WORLD.size})" if alone else ""
    said_text = error.code if isinstance(error, SystemExit) else text_of(error)
    print(f"error{where}: {said_text}", file=sys.stderr, flush=True)


def run(main: Callable[[], int | None], comm: MPI.Intracomm = MPI.COMM_WORLD) -> None:
    """Runs a driver's `main` as a collective block and exits: with what it returns (the largest of
    all ranks), or with the error's exit code on every rank and one message.

    Exit codes: 2 wrong input, 3 a solve that diverged, 75 interrupted with a checkpoint, 130
    KeyboardInterrupt, n after sys.exit(n) (1 where a rank leaves the others at work with 0), 1
    anything else. A rank that fails alone ends the others after 12 seconds. SIGTERM, SIGUSR1 and
    SIGHUP interrupt, where `main` does not handle them itself.
    """
    for number in BATCH:
        signal.signal(number, interrupt)
    try:
        with collective(comm) as everyone:
            everyone.code = within_byte(int(main() or 0))
        code = everyone.code
    except BaseException as error:
        code = _failed(error, comm)
    sys.stdout.flush()
    sys.exit(code)


def _failed(error: BaseException, comm: MPI.Intracomm) -> int:
    """Says what all ranks raised, once; the exit code."""
    ignore_signals()
    error = inside_petsc(error)
    if comm.rank == 0:
        speak(error)
    code = exit_code(error)
    atexit.register(exit_after, FINALIZE_SECONDS, code)
    return code


def install() -> None:
    """Lets programs that do not use `run` end together too; done when this module is imported on
    several ranks.

    What a rank raises and nobody catches ends all ranks, with one message and the error's exit
    code: at once where the others are in an agreement or a reduction of npde_opt or raise too, else
    after 12 s. A rank that leaves the program, by sys.exit too, ends all where others come to an
    agreement without it. Interactive sessions keep what they have.
    """
    if _hooks or not MPI.Is_initialized() or MPI.COMM_WORLD.size == 1:
        return
    _hooks.append(sys.excepthook)
    process, before = os.getpid(), sys.excepthook

    def here() -> bool:
        return os.getpid() == process and not MPI.Is_finalized()

    def uncaught(
        kind: type[BaseException], error: BaseException, trace: TracebackType | None
    ) -> None:
        if not here() or hasattr(sys, "ps1") or sys.flags.interactive:
            before(kind, error, trace)
        else:
            _end_program(error.with_traceback(trace))

    sys.excepthook = uncaught
    atexit.register(lambda: _leave() if here() else None)


_hooks: list[Callable[..., object]] = []
"""Of `install`: what uncaught errors went to before."""


def _end_program(error: BaseException) -> NoReturn:
    """Ends all ranks with an error that nobody caught."""
    world = MPI.COMM_WORLD
    if agreement.world_channel() is None:
        # Nothing has been done together yet: there is nothing to wait for.
        end(inside_petsc(error))
    try:
        with collective(world):
            raise error
    except BaseException as shared:
        sys.exit(_failed(shared, world))


def _leave() -> None:
    """The last agreement: ends all where others are at work yet and wait for this rank."""
    channel = agreement.world_channel()
    if channel is None:
        return
    place = agreement.number("the end of the program")
    found = channel.least([channel.size, place, -place, -1, 1, 0], None)
    assert found is not None
    if found[1] != -found[2]:
        end_apart(channel.comm, "has left the program", None, found[0])


install()

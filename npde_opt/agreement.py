"""Agreement of ranks: x = min over ranks of x_r, on a communicator of its own and with a limit of
time.

What a block of a program communicates can never pair with an agreement about the block, since each
has its own communicator; and a rank that waits in vain can tell so and end the others, since the
agreement does not block. All agreements have messages of one size: any two can meet, and say that
they are not the same.
"""

from __future__ import annotations

import struct
import sys
import time
import zlib
from array import array
from collections.abc import Callable, Sequence
from types import CodeType

import numpy as np
from mpi4py import MPI

from npde_opt import traffic

# A wait polls without pause for so long, then pauses between polls: ranks may share a core.
SPIN_SECONDS = 2e-3
PAUSES = (1e-4, 1e-3)
# Ranks that end the others at the same time hear of each other in `HEAR_SECONDS`; the lowest speaks
# and ends all, the others wait for that.
HEAR_SECONDS, ENDING_SECONDS = 0.3, 5.0
# What was said before an abort is lost where the launcher has not read it yet.
SAID_SECONDS = 0.5
# Where they have no channel yet, which only all can make together, they hear by a tag that hardly
# anybody uses (MPI has at least those up to 32767).
RARE_TAG = 32_749

# Numbers in every message: who failed and where the ranks are take the first ones (see errors.py),
# and up to `SMALL` values that are reduced the others.
NUMBERS, SMALL = 16, 10

Message = tuple["array[int]", "array[int]"]
"""What is sent, and the answer."""

_PACKED = [struct.Struct(f"{n}q").pack_into for n in range(NUMBERS + 1)]
_KEY = MPI.Comm.Create_keyval()
_places: dict[object, int] = {}


class Channel:
    """The private communicator of a communicator's ranks, and where in the program this rank is.

    `place` is a number that tells the open blocks apart: equal on ranks that opened the same ones
    in the same order.
    """

    def __init__(self, comm: MPI.Comm):
        self.comm = comm.Dup()
        self.size = comm.size
        self.place = 0
        # Messages that nobody waits for any more keep their buffers.
        self._left: list[MPI.Request] = []
        self._made: list[Message] = []
        self._free: Message | None = None

    def least(self, values: Sequence[int], seconds: float | None) -> list[int] | None:
        """Minimum over the ranks, entry by entry; None where not all came within so many seconds
        (None: no limit).

        Signals are handled in the meantime: what their handlers raise is raised here.

        Args:
            values: 64-bit numbers, `NUMBERS` at most.

        Returns:
            `NUMBERS` of them, of which those beyond `values` mean nothing.
        """
        buffers = self._free or self._another()
        # Whatever is raised from here on, a message that may still come has these for itself.
        self._free = None
        mine, found = buffers
        _PACKED[len(values)](mine, 0, *values)
        traffic.summed()
        request = self.comm.Iallreduce(mine, found, MPI.MIN)
        arrived = False
        try:
            arrived = finished(request.Test, seconds)
        finally:
            if not arrived:
                self._left.append(request)
        if not arrived:
            return None
        self._free = buffers
        return found.tolist()

    def _another(self) -> Message:
        """Buffers that live as long as the channel."""
        self._made.append(
            (array("q", bytes(8 * NUMBERS)), array("q", bytes(8 * NUMBERS)))
        )
        return self._made[-1]


_channels: list[Channel] = []


def channel(comm: MPI.Comm) -> Channel:
    """The channel of a communicator's ranks, the same for all communicators of these ranks in this
    order (PETSc has its own).

    The first call is collective. A channel lives as long as the program.
    """
    found = comm.Get_attr(_KEY)
    if isinstance(found, Channel):
        return found
    known = next(
        (c for c in _channels if MPI.Comm.Compare(comm, c.comm) == MPI.CONGRUENT), None
    )
    if known is None:
        known = Channel(comm)
        _channels.append(known)
    comm.Set_attr(_KEY, known)
    return known


def place(code: CodeType, line: int) -> int:
    """A number for a line of the program, the same on all ranks."""
    return number((code.co_qualname, line))


def number(key: object) -> int:
    """31 bits for a key, by its text."""
    if key not in _places:
        _places[key] = zlib.crc32(str(key).encode()) >> 1
    return _places[key]


def nested(outer: int, inner: int) -> int:
    """The place of a block inside another one, 62 bits at most."""
    return (outer * 1_000_003 + inner + 1) & (2**62 - 1)


def finished(test: Callable[[], bool], seconds: float | None) -> bool:
    """Polls until the test is true, or for so many seconds."""
    if test():
        return True
    start = time.monotonic()
    while not test():
        waited = time.monotonic() - start
        if seconds is not None and waited > seconds:
            return False
        if waited > SPIN_SECONDS:
            time.sleep(PAUSES[waited > 1])
    return True


def world_channel() -> Channel | None:
    """The channel of all ranks, None where they have not come to their first agreement yet."""
    found = MPI.COMM_WORLD.Get_attr(_KEY)
    return found if isinstance(found, Channel) else None


def end_all(speak: Callable[[], None], code: int) -> None:
    """Ends all ranks of the program with this exit code; of the ranks that do so at once, one
    speaks. Never returns."""
    world, station = MPI.COMM_WORLD, world_channel()
    if _is_first(world, RARE_TAG) if station is None else _is_first(station.comm, 0):
        speak()
    else:
        time.sleep(ENDING_SECONDS)
    sys.stdout.flush()
    sys.stderr.flush()
    time.sleep(SAID_SECONDS)
    world.Abort(code)


def _is_first(comm: MPI.Comm, tag: int) -> bool:
    """Whether no other rank ends all, or only higher ones that begin now."""
    heard: list[int] = []
    # Messages arrive as the library is called: more than one look is needed.
    finished(lambda: _listen(comm, tag, heard), HEAR_SECONDS / 2)
    if heard:
        return False
    mine = np.array([comm.rank], dtype="i4")
    requests = [
        comm.Isend(mine, dest=r, tag=tag) for r in range(comm.size) if r != comm.rank
    ]
    finished(
        lambda: MPI.Request.Testall(requests) and _listen(comm, tag, heard),
        HEAR_SECONDS,
    )
    return min(heard, default=comm.size) > comm.rank


def _listen(comm: MPI.Comm, tag: int, heard: list[int]) -> bool:
    """Notes the ranks that say that they end all; whether one lower than this does."""
    status = MPI.Status()
    while comm.Iprobe(source=MPI.ANY_SOURCE, tag=tag, status=status):
        comm.Recv(np.empty(1, dtype="i4"), source=status.Get_source(), tag=tag)
        heard.append(status.Get_source())
    return min(heard, default=comm.size) < comm.rank

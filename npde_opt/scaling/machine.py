"""What the machine gives to each of P ranks that work at once: bandwidth, latency, rates.

mpirun -n P python -m npde_opt.scaling.machine FILE

bandwidth      bytes/s of a rank: it copies an array while all others do so too
reduction      seconds of the sum of one number over all ranks
latency        seconds of one message of 8 bytes, half of there and back
message_rate   messages/s of a rank that sends many small ones
link           bytes/s of one message of 1 MB
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from mpi4py import MPI

from npde_opt.io.files import whole_file

COPIED = 1 << 26
"""Bytes that a rank copies at a time: more than its share of any cache."""
REPEATS, ROUNDS, WINDOW = 5, 200, 64


def measured(comm: MPI.Intracomm) -> dict[str, float]:
    """The rates on these ranks. Collective."""
    rates = {
        "ranks": float(comm.size),
        "cores": float(os.cpu_count() or 1),
        "bandwidth": _bandwidth(comm),
        "reduction": 0.0,
        "latency": 0.0,
        "message_rate": 0.0,
        "link": 0.0,
    }
    if comm.size > 1:
        rates["reduction"] = _best(comm, ROUNDS, lambda: _sums(comm))
        rates["latency"] = _best(
            comm, 2 * ROUNDS, lambda: _there_and_back(comm, 8, ROUNDS)
        )
        large = 1 << 20
        seconds = _best(comm, 20, lambda: _there_and_back(comm, large, 10))
        rates["link"] = large / seconds
        rates["message_rate"] = 1 / _best(comm, WINDOW, lambda: _burst(comm))
    return rates


def _best(comm: MPI.Intracomm, count: int, action: Callable[[], None]) -> float:
    """Seconds of one of `count` things that an action does, the shortest of some tries on the
    slowest rank."""
    found = []
    for _ in range(REPEATS):
        comm.Barrier()
        start = time.perf_counter()
        action()
        found.append(comm.allreduce(time.perf_counter() - start, op=MPI.MAX) / count)
    return float(min(found))


def _bandwidth(comm: MPI.Intracomm) -> float:
    """Read and written bytes a second."""
    source = np.ones(COPIED // 8)
    target = np.empty_like(source)
    seconds = _best(comm, 1, lambda: np.copyto(target, source))
    return 2 * COPIED / seconds


def _sums(comm: MPI.Intracomm) -> None:
    one, found = np.ones(1), np.empty(1)
    for _ in range(ROUNDS):
        comm.Allreduce(one, found)


def _there_and_back(comm: MPI.Intracomm, size: int, rounds: int) -> None:
    """Between the first and the last rank, which may be on two hosts."""
    message = np.zeros(size, np.uint8)
    last = comm.size - 1
    for _ in range(rounds):
        if comm.rank == 0:
            comm.Send(message, last)
            comm.Recv(message, last)
        elif comm.rank == last:
            comm.Recv(message, 0)
            comm.Send(message, 0)


def _burst(comm: MPI.Intracomm) -> None:
    """Every rank sends to the next and receives from the one before."""
    sent = np.zeros(WINDOW)
    taken = np.empty(WINDOW)
    after, before = (comm.rank + 1) % comm.size, (comm.rank - 1) % comm.size
    requests = [comm.Irecv(taken[i : i + 1], before) for i in range(WINDOW)]
    requests += [comm.Isend(sent[i : i + 1], after) for i in range(WINDOW)]
    MPI.Request.Waitall(requests)


def main() -> None:
    """Writes the rates as JSON."""
    rates = measured(MPI.COMM_WORLD)
    if MPI.COMM_WORLD.rank == 0:
        with whole_file(Path(sys.argv[1])) as file:
            file.write(json.dumps(rates, indent=2).encode())


if __name__ == "__main__":
    main()

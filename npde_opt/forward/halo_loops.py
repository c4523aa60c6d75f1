"""Agreement of ranks within compiled loops: x = max over ranks of x_r, entry by entry, in
ceil(log2 P) rounds of persistent messages,

    round r    to rank + 2^r,   from rank - 2^r    (modulo P),    x <- max(x, what came),

which is right for any number P of ranks, as a maximum may take a number twice.
"""

from __future__ import annotations

import numpy as np

from npde_opt.compiling import compiled
from npde_opt.linear.planes.mpi_calls import start_all, wait_all

START, WAIT, STATUSES, ROUNDS, REQUESTS, BYTES, DONE = range(7)
RING = 7
"""Numbers of a ring: addresses of MPI_Startall, MPI_Waitall and room for statuses; how many rounds;
the address of two requests a round, and the bytes that a request takes; agreements so far."""


@compiled
def largest(values: np.ndarray, ring: np.ndarray) -> int:
    """0, or what MPI says where it fails. Collective.

    Args:
        values: [2, n] own numbers, and room for those of another rank: where the requests point to.
            Numbers that are NaN do not count.
    """
    ring[DONE] += 1
    for r in range(ring[ROUNDS]):
        pair = ring[REQUESTS] + 2 * r * ring[BYTES]
        failed: int = start_all(ring[START], 2, pair)
        if failed == 0:
            failed = wait_all(ring[WAIT], 2, pair, ring[STATUSES])
        if failed != 0:
            return failed
        for i in range(values.shape[1]):
            if not values[0, i] >= values[1, i]:
                values[0, i] = values[1, i]
    return 0

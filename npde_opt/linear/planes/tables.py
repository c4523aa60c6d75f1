"""What rows of the tables hold that compiled loops read: of levels (whole.py, whole_loops.py), and
of messages (messages.py, message_loops.py); and the numbers of a solve (whole_solve.py,
solve_loops.py)."""

from __future__ import annotations

GEOMETRY, RESTRICTION, PROLONGATION, FIELDS = 0, 20, 40, 60
"""Where in a row of the table a level's geometry, its transfers and its fields begin."""
A, INVERSE, B, X, Y, V, ROW, ROW_BELOW = range(FIELDS, FIELDS + 16, 2)
"""Fields in turn: an address and a size."""
PLANES = FIELDS + 16
"""Couplings to neighbours that A has."""
KIND, DOWN, DOWN_END, UP, UP_END = range(PLANES + 1, PLANES + 6)
"""What is done on a level, and the phases of messages before it on the way down and on the way
up."""
WIDTH = UP_END + 1
SWEPT, GATHERED, INVERTED = range(3)
"""Kinds: sweeps, and transfers to and from the level below; none, as the level goes to fewer ranks,
of which this one, where it is one of them, has the next level; a product with the inverse."""

REQUESTS, COUNT, STATUSES, PACK, PACK_END, PUT, PUT_END = range(7)
SOURCE, SOURCE_SIZE, TARGET, TARGET_SIZE = range(7, 11)
PHASE = 11
"""Numbers of a phase: addresses of requests and statuses; the sides that are packed and put; the
fields that they are packed from and put into."""
STARTS, RUNS, LENGTH, BUFFER = range(4)
SIDE = 4
"""Numbers of a side: the places in a field where as many runs of cells of one length begin."""

ADD, KIND_OF_SUMS, OPERATION, COMM = range(4)
"""Of sums over ranks: the address of MPI_Allreduce, 0 on one rank, and its handles."""

UNIT, GOAL, RR, RZ, NORM, BEFORE, LAST, SMALLEST, SCALE, RTOL, ATOL = range(11)
STATE = 11
"""Of a solve in numbers: what r and b are divided by; the norm to reach; r^T r, r^T z and the norm;
r^T z of the iteration before; r^T r at the residual last formed anew, and the smallest one of
those; what levels hold the values times; tolerances."""
STEP, IDLE, SUMS, CYCLES, RESIDUALS, FAILED = range(6)
COUNTS = 6
"""Iterations; how often a residual formed anew was no smaller; sums over ranks, cycles and
residuals; what MPI says where it fails."""
NATURAL, PRECONDITIONED, UNPRECONDITIONED = range(3)
"""Norms."""
CONVERGED, MANY, STUCK, NOT_FINITE, BAD_CYCLE, BAD_MATRIX, BROKEN = range(7)
"""How a solve ends: at the target; after as many iterations as it may take; where residuals formed
anew become no smaller; where a norm is no number; where the cycle or the matrix is not positive
definite; where MPI fails."""

FRESH = 1e-3
"""A residual in single precision is formed anew where it is so much smaller than the last such."""
FAITHFUL = 1.1
"""What the residual formed anew may be over that of the recurrence where its norm is believed."""
PATIENCE = 3
"""So many residuals formed anew may be no smaller than the ones before."""

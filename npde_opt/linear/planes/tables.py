"""What rows of the tables hold that compiled loops read: of levels (whole.py, whole_loops.py), and
of messages (messages.py, message_loops.py)."""

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

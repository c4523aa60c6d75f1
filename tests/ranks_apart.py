"""Ranks that do different things: python ranks_apart.py FIRST OTHERS

FIRST: what rank 0 does, a name of `THINGS`. OTHERS: what the others do.
"""

import sys

import numpy as np
from mpi4py import MPI

from npde_opt import errors, reductions
from npde_opt.agreement import SMALL

WORLD = MPI.COMM_WORLD


def block():
    with errors.collective(WORLD):
        pass


def inside():
    with errors.collective(WORLD):
        reductions.largest(WORLD, 1.0)


THINGS = {
    "block": block,
    "inside": inside,
    "sum": lambda: reductions.total(WORLD, 1.0),
    "maximum": lambda: reductions.largest(WORLD, 1.0),
    "minimum": lambda: reductions.smallest(WORLD, 1.0),
    "integer": lambda: reductions.largest(WORLD, 1),
    "single": lambda: reductions.largest(WORLD, np.ones(1, "f4")),
    "two": lambda: reductions.largest(WORLD, np.ones(2)),
    "many": lambda: reductions.largest(WORLD, np.ones(SMALL + 1)),
    "everywhere": lambda: reductions.everywhere(WORLD, True),
    "anywhere": lambda: reductions.anywhere(WORLD, True),
    "same": lambda: reductions.same(WORLD, 1.0, "it"),
    "raise": lambda: errors.InputError("D", -1, "it failed"),
}


def main():
    name = sys.argv[1 if WORLD.rank == 0 else 2]
    found = THINGS[name]()
    if isinstance(found, Exception):
        raise found
    # What a rank that failed alone is told at the latest.
    THINGS["maximum"]()
    print(f"rank {WORLD.rank} went on from {name}")


errors.run(main)

"""A script without `errors.run` in which ranks fail: python plain_script.py WHAT WHO BEFORE OTHERS

WHAT: ValueError, InputError, KeyboardInterrupt, exit3. WHO: all, or the number of a rank.
BEFORE: nothing, or block (all have been in a block of npde_opt together).
OTHERS: what they wait in: barrier (of MPI), sum (of npde_opt), end (of the program).
"""

import sys

from mpi4py import MPI

from npde_opt import errors, reductions

WORLD = MPI.COMM_WORLD
WHAT, WHO, BEFORE, OTHERS = sys.argv[1:5]
FAILURES = {
    "ValueError": ValueError("it failed"),
    "InputError": errors.InputError("D", -1, "it failed"),
    "KeyboardInterrupt": KeyboardInterrupt(),
    "exit3": SystemExit(3),
    "none": None,
}

if BEFORE == "block":
    with errors.collective(WORLD):
        pass
failure = FAILURES[WHAT]
if failure is not None and WHO in ("all", str(WORLD.rank)):
    raise failure
if OTHERS == "barrier":
    WORLD.Barrier()
elif OTHERS == "sum":
    reductions.total(WORLD, 1.0)

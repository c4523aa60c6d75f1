"""A rank that is stopped, or fails, in a callback of PETSc's: python inside_petsc.py WHAT RANK"""

import os
import signal
import sys

import numpy as np
from mpi4py import MPI
from petsc4py import PETSc

from npde_opt import errors

WORLD = MPI.COMM_WORLD


class Failing:
    """A matrix whose product does not come to its end on one rank."""

    def mult(self, mat, x, y):
        what, rank = sys.argv[1], int(sys.argv[2])
        if rank != WORLD.rank:
            return
        if what == "solver":
            raise errors.SolverError("inner_", "DIVERGED_MAX_IT", "Look elsewhere.")
        if what == "input":
            raise errors.InputError("k", np.nan, "numbers")
        os.kill(os.getpid(), getattr(signal, what))


def main():
    A = PETSc.Mat().createPython(((1, None),) * 2, Failing(), comm=WORLD)
    A.setUp()
    x, y = A.createVecs()
    try:
        with errors.collective(WORLD):
            A.mult(x, y)
    except errors.SolverError:
        print("went on with what PETSc left half done")


errors.run(main)

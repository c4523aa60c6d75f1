"""Learns to tell classes apart by least squares: fixed features, and a layer that is solved for.

    mpirun -n 2 python drivers/train_pseudoinverse.py --out results/digits --plot
    python drivers/train_pseudoinverse.py --samples mnist --data DIR --features 4000 --repeats 1
        --out results/mnist

Two dashes are this driver's options, one dash goes to PETSc.
"""

import time

STARTED = time.monotonic()

if __name__ == "__main__":
    # First of all: what is imported below takes seconds, in which a batch system may end the run.
    from npde_opt import signals

    signals.remember()

    from npde_opt.runs.options import read_options, readout

    OPTIONS = read_options(readout(__doc__))  # starts PETSc

from mpi4py import MPI  # noqa: E402

from npde_opt import errors  # noqa: E402
from npde_opt.runs.early import act_on_signals  # noqa: E402
from npde_opt.training.readouts import Readouts  # noqa: E402

WORLD = MPI.COMM_WORLD


def main() -> int:
    act_on_signals(WORLD)
    with Readouts(OPTIONS, WORLD, STARTED) as run:
        run.prepare()
        run.train()
        run.report()
    return 0


if __name__ == "__main__":
    errors.run(main, WORLD)

"""Finds the equations that observed states obey, and writes cases that start from them.

    python drivers/discover_equation.py --data DIR --out results/equations --plot
    python drivers/discover_equation.py --data DIR --file AC.mat --noise 0.05 --out results/noisy

Two dashes are this driver's options, one dash goes to PETSc.
"""

import time

STARTED = time.monotonic()

if __name__ == "__main__":
    # First of all: what is imported below takes seconds, in which a batch system may end the run.
    from npde_opt import signals

    signals.remember()

    from npde_opt.runs.options import discovery, read_options

    OPTIONS = read_options(discovery(__doc__))  # starts PETSc

from mpi4py import MPI  # noqa: E402

from npde_opt import errors  # noqa: E402
from npde_opt.runs.discovery import Discovery  # noqa: E402
from npde_opt.runs.early import act_on_signals  # noqa: E402

WORLD = MPI.COMM_WORLD


def main() -> int:
    act_on_signals(WORLD)
    with Discovery(OPTIONS, WORLD, STARTED) as run:
        run.find()
        run.report()
    return 0


if __name__ == "__main__":
    errors.run(main, WORLD)

"""Trains a recurrent network on a series or on sequences, by default the yearly sunspots.

    python drivers/train_sequence.py --out results/sunspots --plot
    mpirun -n 2 python drivers/train_sequence.py --case meshes/japanese_vowels.toml
        --out results/vowels

Two dashes are this driver's options, one dash goes to PETSc (prefix tao_).
"""

import time
from pathlib import Path

STARTED = time.monotonic()
DEFAULT = Path(__file__).resolve().parents[1] / "meshes" / "sunspots.toml"

if __name__ == "__main__":
    # First of all: what is imported below takes seconds, in which a batch system may end the run.
    from npde_opt import signals

    signals.remember()

    from npde_opt.runs.options import read_options, training

    OPTIONS = read_options(training(__doc__, str(DEFAULT)))  # starts PETSc

from mpi4py import MPI  # noqa: E402

from npde_opt import errors  # noqa: E402
from npde_opt.runs.early import act_on_signals  # noqa: E402
from npde_opt.training.run import Training, open_training  # noqa: E402

WORLD = MPI.COMM_WORLD


def main() -> int:
    act_on_signals(WORLD)
    case, ensemble = open_training(OPTIONS, WORLD)
    with Training(OPTIONS, case, ensemble, WORLD, STARTED, "train_sequence") as run:
        if run.goes_on():
            run.prepare()
            run.report(run.train())
    return 0


if __name__ == "__main__":
    errors.run(main, WORLD)

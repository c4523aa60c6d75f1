"""Identifies the parameters of the equation that a case describes.

    mpirun -n 4 python drivers/identify.py --case meshes/brain_slice.toml --out results/brain
        -state_ksp_rtol 1e-8

Two dashes are this driver's options, one dash goes to PETSc (prefixes state_, reg_, tao_).
"""

import time

STARTED = time.monotonic()

if __name__ == "__main__":
    # First of all: what is imported below takes seconds, in which a batch system may end the run.
    from npde_opt import signals

    signals.remember()

    from npde_opt.runs.options import identification, read_options

    OPTIONS = read_options(identification(__doc__))  # starts PETSc

from mpi4py import MPI  # noqa: E402

from npde_opt import errors  # noqa: E402
from npde_opt.runs.early import act_on_signals  # noqa: E402
from npde_opt.runs.run import Run, open_case  # noqa: E402
from npde_opt.runs.verification import verify_case  # noqa: E402

WORLD = MPI.COMM_WORLD


def main() -> int:
    act_on_signals(WORLD)
    case, ensemble = open_case(OPTIONS, WORLD)
    if OPTIONS.verify:
        return verify_case(case, case.grid(ensemble.space), ensemble, WORLD)
    with Run(OPTIONS, case, ensemble, WORLD, STARTED) as run:
        if run.goes_on():
            run.prepare()
            found = run.identify()
            run.report(found)
    return 0


if __name__ == "__main__":
    errors.run(main, WORLD)

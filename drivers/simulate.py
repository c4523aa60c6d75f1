"""Runs the equation that a case describes forward: states, data and an animation.

    mpirun -n 4 python drivers/simulate.py --case meshes/gray_scott.toml --out results/pattern
        --plot

Unknowns have their true values, where the case gives them, else those that they would start from; a
case may have none. Two dashes are this driver's options, one dash goes to PETSc (prefix state_).
"""

if __name__ == "__main__":
    # First of all: what is imported below takes seconds, in which a batch system may end the run.
    from npde_opt import signals

    signals.remember()

    from npde_opt.runs.options import read_options, simulation

    OPTIONS = read_options(simulation(__doc__))  # starts PETSc

from mpi4py import MPI  # noqa: E402

from npde_opt import errors  # noqa: E402
from npde_opt.runs.early import act_on_signals  # noqa: E402
from npde_opt.runs.run import open_case  # noqa: E402
from npde_opt.runs.simulation import Simulation  # noqa: E402

WORLD = MPI.COMM_WORLD


def main() -> int:
    act_on_signals(WORLD)
    case, ensemble = open_case(OPTIONS, WORLD)
    with Simulation(OPTIONS, case, ensemble, WORLD) as run:
        run.solve()
        run.write_states()
        run.write_data()
        if OPTIONS.plot:
            run.draw()
    return 0


if __name__ == "__main__":
    errors.run(main, WORLD)

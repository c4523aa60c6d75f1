"""Runs the equation that a case describes forward: states, data and an animation.

    mpirun -n 4 python drivers/simulate.py --case meshes/gray_scott.toml --out results/pattern
        --plot

Unknowns have their true values, where the case gives them, else those that they would start from; a
case may have none. Two dashes are this driver's options, one dash goes to PETSc (prefix state_).
"""

from npde_opt.runs.entry import Call, start


def simulate(call: Call) -> int:
    # Only here, as PETSc has to be started with the options of the command line.
    from npde_opt.runs.run import open_case
    from npde_opt.runs.simulation import Simulation

    case, ensemble = open_case(call.options, call.world)
    with Simulation(call.options, case, ensemble, call.world) as run:
        run.solve()
        run.write_states()
        run.write_data()
        if call.options.plot:
            run.draw()
    return 0


if __name__ == "__main__":
    start(simulate, "simulation", __doc__)

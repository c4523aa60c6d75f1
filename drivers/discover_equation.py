"""Finds the equations that observed states obey, and writes cases that start from them.

    python drivers/discover_equation.py --data DIR --out results/equations --plot
    python drivers/discover_equation.py --data DIR --file AC.mat --noise 0.05 --out results/noisy

Two dashes are this driver's options, one dash goes to PETSc.
"""

from npde_opt.runs.entry import Call, start


def discover(call: Call) -> int:
    # Only here, as PETSc has to be started with the options of the command line.
    from npde_opt.runs.discovery import Discovery

    with Discovery(call.options, call.world, call.started) as run:
        run.find()
        run.report()
    return 0


if __name__ == "__main__":
    start(discover, "discovery", __doc__)

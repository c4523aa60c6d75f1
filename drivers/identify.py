"""Identifies the parameters of the equation that a case describes.

    mpirun -n 4 python drivers/identify.py --case meshes/brain_slice.toml --out results/brain
        -state_ksp_rtol 1e-8

Two dashes are this driver's options, one dash goes to PETSc (prefixes state_, reg_, tao_).
"""

from npde_opt.runs.entry import Call, start


def identify(call: Call) -> int:
    # Only here, as PETSc has to be started with the options of the command line.
    from npde_opt.runs.run import Run, open_case

    case, ensemble = open_case(call.options, call.world)
    if call.options.verify:
        from npde_opt.runs.verification import verify_case

        return verify_case(case, case.grid(ensemble.space), ensemble, call.world)
    with Run(call.options, case, ensemble, call.world, call.started) as run:
        if run.goes_on():
            run.prepare()
            found = run.identify()
            run.report(found)
    return 0


if __name__ == "__main__":
    start(identify, "identification", __doc__)

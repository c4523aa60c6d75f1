"""Learns by least squares, to tell classes apart or to predict a series: fixed features and a
layer that is solved for.

    mpirun -n 2 python drivers/train_pseudoinverse.py --out results/digits --plot
    python drivers/train_pseudoinverse.py --samples mnist --data DIR --features 4000 --repeats 1
        --out results/mnist
    mpirun -n 2 python drivers/train_pseudoinverse.py --samples H.npy T.npy --data DIR
        --out results/rows --resume
    python drivers/train_pseudoinverse.py --case meshes/sunspots_reservoir.toml
        --out results/sunspots_reservoir --plot

Two dashes are this driver's options, one dash goes to PETSc.
"""

from npde_opt.runs.entry import Call, start


def learn(call: Call) -> int:
    # Only here, as PETSc has to be started with the options of the command line.
    from npde_opt.training.stored import kind_of

    kind = kind_of(call.options, call.world)
    with kind(call.options, call.world, call.started) as run:
        run.prepare()
        run.train()
        run.report()
    return 0


if __name__ == "__main__":
    start(learn, "readout", __doc__)

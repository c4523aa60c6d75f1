"""A small training in one process: its data, its case and a run of it."""

import argparse
import time

import numpy as np
from mpi4py import MPI

from npde_opt.ensemble import Ensemble
from npde_opt.training.case import load_training
from npde_opt.training.problem import Problem
from npde_opt.training.run import Training, open_training

COMM = MPI.COMM_WORLD
LAYERS = """
[[layer]]
kind = "convolution"
channels = 3
stride = 2
activation = "tanh"
[[layer]]
kind = "dense"
channels = 3
"""
CASE = """
[data]
kind = "arrays"
file = "a.npz"
test = 0.25
{data}
{layers}
[[regularization]]
weight = {weight}
[optimizer]
method = "lbfgs"
max_iterations = {most}
"""


def samples(count=36):
    """Pictures with a bright column, row or none, in noise; the class says which."""
    rng = np.random.default_rng(0)
    labels = np.arange(count) % 3
    inputs = 0.7 * rng.standard_normal((count, 6, 5))
    inputs[labels == 0, 2] += 1.0
    inputs[labels == 1, :, 3] += 1.0
    return inputs, labels


def written(tmp_path, data="", layers=LAYERS, most=5, arrays=None, weight=0.5):
    """The case's file, the same on every rank, beside its data."""
    folder = COMM.bcast(tmp_path, root=0)
    if COMM.rank == 0:
        inputs, labels = samples()
        np.savez(folder / "a.npz", **(arrays or {"inputs": inputs, "labels": labels}))
        (folder / "case.toml").write_text(
            CASE.format(data=data, layers=layers, most=most, weight=weight)
        )
    COMM.barrier()
    return folder / "case.toml"


def problem(tmp_path, groups=1, **keys):
    case = load_training(written(tmp_path, **keys))
    count = case.data.parts().train.count
    return Problem(case, Ensemble.split(COMM, groups, count))


def trained(file, out, **options):
    """Runs a training to its end."""
    given = {
        "case": file,
        "out": COMM.bcast(out, root=0),
        "data": None,
        "seed": 0,
        "variables": {},
        "sample_groups": None,
        "resume": False,
        "overwrite": False,
        "plot": False,
    }
    chosen = argparse.Namespace(**(given | options))
    case, ensemble = open_training(chosen, COMM)
    with Training(chosen, case, ensemble, COMM, time.monotonic(), "train") as run:
        if run.goes_on():
            run.prepare()
            run.report(run.train())
    COMM.barrier()  # rank 0 has written
    return chosen.out
